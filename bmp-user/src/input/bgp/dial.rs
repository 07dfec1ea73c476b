//! Opens and accepts connections within the grant of a peer. The grant holds the result of the
//! peer's connect-interface, as for a station.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::watch,
};

use super::connection::{BgpSocket, Duplex};
use crate::{
    config::{Config, Secret},
    link::Interface,
    pin::{Datapath, Grant},
    signing::{ConnectionKeys, ListenerPeer, SignedStream},
    sys::{self, tcp_ao::KeyScope},
};

/// The address of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PeerTarget {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// The password for TCP MD5 (RFC 2385).
    pub(super) password: Option<Secret>,
    /// The key chain, instead of a password.
    pub(super) keychain: Option<String>,
}

impl PeerTarget {
    /// Returns what connections with the peer are signed with.
    pub(super) fn signing(&self) -> Option<ListenerPeer> {
        let chain = self.keychain.clone().map(ListenerPeer::Chain);
        chain.or_else(|| self.password.clone().map(ListenerPeer::Password))
    }

    /// Returns the probable cause if the peer does not answer.
    pub(super) fn hint(&self) -> &'static str {
        match (&self.keychain, &self.password) {
            (Some(_), _) => ": it is not there, or its keys are other ones",
            (None, Some(_)) => ": it is not there, or its password is another one",
            (None, None) => ": it is not there, or wants a password",
        }
    }
}

/// Displayed as `192.0.2.1 port 179`.
impl fmt::Display for PeerTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} port {}", self.address, self.port)
    }
}

/// Opens connections to a peer.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    pub(super) target: PeerTarget,
    pub(super) grant: Arc<Grant>,
    pub(super) datapath: Datapath,
    /// The configuration in force, with the key chains.
    pub(super) config: watch::Receiver<Arc<Config>>,
}

impl Dialer {
    /// Connects with the interface and source of the grant.
    pub(super) async fn dial(self) -> io::Result<BgpSocket> {
        let peer = SocketAddr::new(self.target.address, self.target.port);
        let socket = Socket::new(Domain::for_address(peer), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        let keys = match (&self.target.keychain, &self.target.password) {
            (Some(chain), _) => {
                let config = Arc::clone(&self.config.borrow());
                Some(ConnectionKeys::install(&socket, peer.ip(), chain, &config)?)
            }
            (None, Some(password)) => {
                let set = password.reveal().and_then(|password| sys::set_md5_secret(&socket, peer, password));
                set.map_err(|error| explain(&error))?;
                None
            }
            (None, None) => None,
        };
        self.grant
            .bind(&socket, &self.datapath, None)
            .map_err(|unbound| io::Error::new(unbound.error.kind(), unbound.to_string()))?;
        let stream = TcpSocket::from_std_stream(socket.into()).connect(self.grant.far_end()).await?;
        let confirmed = self.datapath.confirm(&stream, &self.grant.target);
        confirmed.map_err(|error| io::Error::other(format!("{error:#}")))?;
        link(stream, keys, self.config)
    }
}

/// Accepts connections that a peer opens, within its grant.
#[derive(Clone, Debug)]
pub(super) struct AcceptGrant {
    pub(super) grant: Arc<Grant>,
    pub(super) datapath: Datapath,
    /// The key chain that the peer signs with.
    pub(super) keychain: Option<String>,
    /// The configuration in force, with the key chains.
    pub(super) config: watch::Receiver<Arc<Config>>,
}

impl AcceptGrant {
    /// Holds a connection to the grant. The kernel programs have already checked it; without them,
    /// this is the only check.
    ///
    /// # Errors
    ///
    /// Fails if the connection came to another address than the grant's source, or if it cannot be
    /// bound.
    pub(super) fn admit(&self, stream: &TcpStream) -> io::Result<()> {
        let own = stream.local_addr()?.ip().to_canonical();
        let resolved = &self.grant.resolved;
        if let Some(source) = resolved.source.filter(|source| *source != own) {
            return Err(io::Error::other(format!("it came to {own}, and connect-interface of the peer is {source}")));
        }
        if let Some(Interface { index, name }) = &resolved.device {
            sys::bind_to_interface(stream, *index)
                .map_err(|error| io::Error::new(error.kind(), format!("bind to interface {name}: {error}")))?;
        }
        let key = self.datapath.key(&self.grant.target);
        self.datapath.admit(stream, &key).map_err(|error| io::Error::other(format!("{error:#}")))
    }

    /// Wraps a connection that the peer opened, with the keys that its listener gave it.
    ///
    /// # Errors
    ///
    /// Fails if the connection is not signed as the key chain of the peer says, or is closed
    /// already.
    pub(super) fn link(&self, stream: TcpStream) -> io::Result<BgpSocket> {
        let peer = self.grant.target.station.ip();
        let keys = match &self.keychain {
            Some(chain) => {
                let config = Arc::clone(&self.config.borrow());
                Some(ConnectionKeys::of_accepted(&stream, peer, KeyScope::Host(peer), chain, &config)?)
            }
            None => None,
        };
        link(stream, keys, self.config.clone())
    }
}

/// Wraps an open connection, whoever opened it.
fn link(
    stream: TcpStream,
    keys: Option<ConnectionKeys>,
    config: watch::Receiver<Arc<Config>>,
) -> io::Result<BgpSocket> {
    stream.set_nodelay(true)?;
    let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
    let stream: Box<dyn Duplex> = match keys {
        Some(keys) => Box::new(SignedStream::new(stream, keys, config)),
        None => Box::new(stream),
    };
    Ok(BgpSocket { stream, local, remote })
}

/// Explains why a password cannot be set, and what to do.
pub(super) fn explain(error: &io::Error) -> io::Error {
    let mend = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => ": it takes CAP_NET_ADMIN, start bmpd with it",
        Some(libc::ENOPROTOOPT) => {
            ": this kernel has no TCP MD5 (CONFIG_TCP_MD5SIG), remove `password` or take another kernel"
        }
        _ => ": see `password` of the peer",
    };
    io::Error::new(error.kind(), format!("cannot set the TCP MD5 password: {error}{mend}"))
}
