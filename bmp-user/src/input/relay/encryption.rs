//! The TLS profile of a relay.

use std::sync::Arc;

use tokio::{net::TcpStream, sync::watch};
use tracing::{info, warn};

use super::{
    connection::{RelayLinks, serve},
    signing::AcceptedKeys,
};
use crate::{
    config::Config,
    feed::Input,
    tls::{TlsError, TlsProfiles, TlsReport, TlsStream},
};

/// The TLS of a relay's connections.
#[derive(Clone)]
pub(super) struct RelayTls {
    profile: String,
    profiles: TlsProfiles,
    config: watch::Receiver<Arc<Config>>,
}

impl RelayTls {
    pub(super) fn new(profile: String, profiles: TlsProfiles, config: watch::Receiver<Arc<Config>>) -> Self {
        Self { profile, profiles, config }
    }

    /// Does the handshake with a daemon, and serves it. The connection counts towards the limits of
    /// the relay from its begin.
    pub(super) async fn serve(self, stream: TcpStream, keys: Option<AcceptedKeys>, input: Input, links: RelayLinks) {
        let (relay, client) = (links.status.relay_name().to_owned(), links.status.client());
        let proxy = links.status.proxy_field();
        let stream = match self.accept(stream).await {
            Ok(stream) => stream,
            Err(error) => {
                warn!(relay, %client, proxy, reason = %error.reason, "closed a connection: {error}");
                return links.status.closed(&error.to_string());
            }
        };
        let TlsReport { profile, cipher, peer, .. } = stream.report();
        match peer {
            Some(peer) => info!(relay, %client, proxy, profile, cipher, "TLS 1.3, with the certificate of {peer}"),
            None => info!(relay, %client, proxy, profile, cipher, "TLS 1.3"),
        }
        match keys {
            Some(keys) => serve(keys.of_stream(stream), input, links).await,
            None => serve(stream, input, links).await,
        }
    }

    async fn accept(&self, stream: TcpStream) -> Result<TlsStream, TlsError> {
        let config = Arc::clone(&self.config.borrow());
        let profile = self.profiles.get(&self.profile, &config).await?;
        TlsStream::accept(stream, &profile).await
    }
}
