//! Opens and accepts connections within the grant of a peer. The grant holds the result of the
//! peer's connect-interface, as for a station.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::connection::BgpSocket;
use crate::{
    config::Secret,
    link::Interface,
    pin::{Datapath, Grant},
    sys,
};

/// The address of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PeerTarget {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// The password for TCP MD5 (RFC 2385).
    pub(super) password: Option<Secret>,
}

impl PeerTarget {
    /// Returns the probable cause if the peer does not answer.
    pub(super) fn hint(&self) -> &'static str {
        match self.password {
            Some(_) => ": it is not there, or its password is another one",
            None => ": it is not there, or wants a password",
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
}

impl Dialer {
    /// Connects with the interface and source of the grant.
    pub(super) async fn dial(self) -> io::Result<BgpSocket> {
        let peer = SocketAddr::new(self.target.address, self.target.port);
        let socket = Socket::new(Domain::for_address(peer), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        if let Some(password) = &self.target.password {
            sys::set_md5_secret(&socket, peer, password.reveal()).map_err(|error| explain(&error))?;
        }
        self.grant
            .bind(&socket, &self.datapath)
            .map_err(|unbound| io::Error::new(unbound.error.kind(), unbound.to_string()))?;
        let stream = TcpSocket::from_std_stream(socket.into()).connect(self.grant.far_end()).await?;
        let confirmed = self.datapath.confirm(&stream, &self.grant.target);
        confirmed.map_err(|error| io::Error::other(format!("{error:#}")))?;
        link(stream)
    }
}

/// Accepts connections that a peer opens, within its grant.
#[derive(Clone, Debug)]
pub(super) struct AcceptGrant {
    pub(super) grant: Arc<Grant>,
    pub(super) datapath: Datapath,
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
}

/// Wraps an open connection, whoever opened it.
pub(super) fn link(stream: TcpStream) -> io::Result<BgpSocket> {
    stream.set_nodelay(true)?;
    let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
    Ok(BgpSocket { stream: Box::new(stream), local, remote })
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
