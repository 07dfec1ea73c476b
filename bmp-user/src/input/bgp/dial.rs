//! Opening a connection to a peer.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::connection::Link;
use crate::sys;

/// The port of BGP (RFC 4271 §8.2.1).
pub(super) const PORT: u16 = 179;

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// Of TCP MD5 (RFC 2385).
    pub(super) password: Option<String>,
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

/// Connects.
pub(super) async fn dial(target: Target) -> io::Result<Link> {
    let peer = SocketAddr::new(target.address, target.port);
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if let Some(password) = &target.password {
        sys::set_md5_secret(&socket, peer, password).map_err(|error| explain(&error))?;
    }
    link(TcpSocket::from_std_stream(socket.into()).connect(peer).await?)
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
