//! Connections to a peer: opening them, and from where they may come. What its connect-interface comes to is what a grant says, as for a station.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::connection::Link;
use crate::{
    config::Secret,
    pin::{Datapath, Grant},
    sys,
};

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// Of TCP MD5 (RFC 2385).
    pub(super) password: Option<Secret>,
}

impl Target {
    /// What may be the matter if it does not answer.
    pub(super) fn hint(&self) -> &'static str {
        match self.password {
            Some(_) => ": it is not there, or its password is another one",
            None => ": it is not there, or wants a password",
        }
    }
}

/// `192.0.2.1 port 179`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} port {}", self.address, self.port)
    }
}

/// Opens connections to a peer.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    pub(super) target: Target,
    pub(super) grant: Arc<Grant>,
    pub(super) datapath: Datapath,
}

impl Dialer {
    /// Connects from where the grant says.
    pub(super) async fn dial(self) -> io::Result<Link> {
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

/// Takes in the connections that a peer opens.
#[derive(Clone, Debug)]
pub(super) struct Doorkeeper {
    pub(super) grant: Arc<Grant>,
    pub(super) datapath: Datapath,
}

impl Doorkeeper {
    /// Holds a connection to the grant. The kernel programs see to all this where they are; elsewhere nobody does.
    ///
    /// # Errors
    /// If it came to another address than connections to the peer come from, or cannot be bound.
    pub(super) fn admit(&self, stream: &TcpStream) -> io::Result<()> {
        let own = stream.local_addr()?.ip().to_canonical();
        let resolved = &self.grant.resolved;
        if let Some(source) = resolved.source.filter(|source| *source != own) {
            return Err(io::Error::other(format!("it came to {own}, and connect-interface of the peer is {source}")));
        }
        if let Some((index, name)) = &resolved.device {
            sys::bind_to_interface(stream, *index)
                .map_err(|error| io::Error::new(error.kind(), format!("bind to interface {name}: {error}")))?;
        }
        let key = self.datapath.key(&self.grant.target);
        self.datapath.admit(stream, &key).map_err(|error| io::Error::other(format!("{error:#}")))
    }
}

/// A connection that is open, whoever opened it.
pub(super) fn link(stream: TcpStream) -> io::Result<Link> {
    stream.set_nodelay(true)?;
    let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
    Ok(Link { stream: Box::new(stream), local, remote })
}

/// Why a password cannot be set, and what to do.
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
