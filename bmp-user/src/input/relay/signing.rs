//! The key chain of a relay, whose keys all its daemons have.

use std::{io, net::SocketAddr, os::fd::AsRawFd, sync::Arc};

use tokio::{net::TcpStream, sync::watch, time::Interval};
use tracing::warn;

use crate::{
    config::Config,
    signing::{ConnectionKeys, ListenerKeys, ListenerPeer, SignedStream, SigningError, look_clock, plan_of},
    sys::tcp_ao::KeyScope,
};

/// The keys of a relay's listener.
pub(super) struct RelaySigning {
    chain: String,
    scope: KeyScope,
    config: watch::Receiver<Arc<Config>>,
    keys: ListenerKeys,
    clock: Interval,
    /// What the kernel refused at the last look. It is logged once.
    refused: Option<String>,
}

impl RelaySigning {
    pub(super) fn new(chain: String, listen: SocketAddr, config: watch::Receiver<Arc<Config>>) -> Self {
        let scope = KeyScope::Everyone { ipv6: listen.is_ipv6() };
        Self { chain, scope, config, keys: ListenerKeys::default(), clock: look_clock(), refused: None }
    }

    /// Gives the keys to a socket that does not listen yet.
    ///
    /// # Errors
    ///
    /// The chain cannot sign now, or the kernel refuses a key. The socket must not listen then.
    pub(super) fn prepare(&mut self, socket: &impl AsRawFd) -> io::Result<()> {
        // A socket that was prepared before is closed.
        self.keys = ListenerKeys::default();
        plan_of(&self.chain, &self.config.borrow())?;
        Ok(self.follow(socket)?)
    }

    /// Waits until it is time for the next [`Self::look`].
    pub(super) async fn look_is_due(&mut self) {
        self.clock.tick().await;
    }

    /// Brings the keys of the listener in line with the chain.
    pub(super) fn look(&mut self, socket: &impl AsRawFd, relay: &str) {
        let refused = self.follow(socket).err().map(|error| error.to_string());
        if let Some(error) = refused.as_ref().filter(|_| refused != self.refused) {
            warn!(relay, "{error}");
        }
        self.refused = refused;
    }

    fn follow(&mut self, socket: &impl AsRawFd) -> Result<(), SigningError> {
        let config = Arc::clone(&self.config.borrow());
        self.keys.follow(socket, [(self.scope, &ListenerPeer::Chain(self.chain.clone()))], &config)
    }

    /// Takes over a connection of a daemon.
    ///
    /// # Errors
    ///
    /// It is not signed as the chain says.
    pub(super) fn accept(&self, stream: &TcpStream, client: SocketAddr) -> Result<AcceptedKeys, SigningError> {
        let config = Arc::clone(&self.config.borrow());
        let keys = ConnectionKeys::of_accepted(stream, client.ip(), self.scope, &self.chain, &config)?;
        Ok(AcceptedKeys { keys, config: self.config.clone() })
    }
}

/// The keys of a connection that a daemon opened.
pub(super) struct AcceptedKeys {
    keys: ConnectionKeys,
    config: watch::Receiver<Arc<Config>>,
}

impl AcceptedKeys {
    /// Returns the connection, which follows the chain from now on.
    pub(super) fn of_stream<S>(self, stream: S) -> SignedStream<S> {
        SignedStream::new(stream, self.keys, self.config)
    }
}
