//! A connection that a station opened, until the session can use it.

use std::sync::Arc;

use tokio::net::TcpStream;

use super::{connect::StationConnection, listen::accepted_keys, stage::ConnectFuture, transport::StationTransport};
use crate::{
    config::{Config, SessionConfig, SessionId},
    pin::DownCause,
    tls::{TlsProfiles, TlsStream},
};

/// A connection that the station opened.
pub(super) enum AcceptedConnection {
    Open(StationConnection),
    /// The TLS handshake is to be done.
    Opening(ConnectFuture),
}

impl AcceptedConnection {
    /// Takes a connection, if it is signed as the session's key chain says.
    ///
    /// # Errors
    ///
    /// It is not, or the chain cannot sign now.
    pub(super) fn new(
        stream: TcpStream,
        id: &SessionId,
        session: SessionConfig,
        config: Arc<Config>,
        profiles: TlsProfiles,
    ) -> Result<Self, DownCause> {
        let keys = session.keychain.map(|chain| accepted_keys(&stream, id, &chain, &config)).transpose();
        let keys = keys.map_err(|error| error.cause())?;
        let Some(name) = session.tls else {
            return Ok(Self::Open(StationConnection { transport: StationTransport::Plain(stream), keys }));
        };
        let handshake = async move {
            let profile = profiles.get(&name, &config).await.map_err(|error| error.cause())?;
            let tls = TlsStream::accept(stream, &profile).await.and_then(TlsStream::in_kernel);
            let tls = tls.map_err(|error| error.cause())?;
            Ok(StationConnection { transport: StationTransport::Tls(Box::new(tls)), keys })
        };
        Ok(Self::Opening(Box::pin(handshake)))
    }
}
