//! Connections to a peer: opening them, and from where they may come.
//!
//! A peer's connect-interface is what it is for a station, but for the kernel programs, which know nothing of it: the socket is bound
//! to what it resolves to, and that is all.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::connection::Link;
use crate::{
    config::ConnectInterface,
    link::Host,
    pin::{Question, Resolved, resolve},
    sys,
};

/// The port of BGP (RFC 4271 §8.2.1).
pub(super) const PORT: u16 = 179;

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// Of TCP MD5 (RFC 2385).
    pub(super) password: Option<String>,
    /// `connect-interface`, and the names that interfaces have in it.
    pub(super) source: Option<(ConnectInterface, BTreeMap<String, String>)>,
}

impl Target {
    /// The address and the interface of this host that connections to the peer have.
    ///
    /// # Errors
    /// What the host lacks for its connect-interface, and the command that would mend that.
    fn resolve(&self, host: &Host) -> io::Result<Option<Resolved>> {
        let Some((connect, aliases)) = &self.source else { return Ok(None) };
        let question = Question {
            connect: Some(connect),
            vpn_instance: None,
            egress_interfaces: &[],
            next_hop: None,
            station: self.address,
            aliases,
            keep: None,
        };
        resolve(&question, host)
            .map(Some)
            .map_err(|error| io::Error::other(format!("{} (`{}`)", error.why, error.mend)))
    }

    /// Binds a connection that the peer opened to the interface that it has to leave by.
    ///
    /// # Errors
    /// If it came to another address than connections to the peer come from.
    pub(super) fn admit(&self, stream: &TcpStream, host: &Host) -> io::Result<()> {
        let Some(resolved) = self.resolve(host)? else { return Ok(()) };
        let own = stream.local_addr()?.ip().to_canonical();
        match resolved.source {
            Some(source) if source != own => {
                Err(io::Error::other(format!("it came to {own}, and connect-interface of the peer is {source}")))
            }
            _ => bind_device(&SockRef::from(stream), &resolved),
        }
    }

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

fn bind_device(socket: &Socket, resolved: &Resolved) -> io::Result<()> {
    let Some((index, name)) = &resolved.device else { return Ok(()) };
    sys::bind_to_interface(socket, *index)
        .map_err(|error| io::Error::new(error.kind(), format!("bind to interface {name}: {error}")))
}

/// Connects from where the peer's connect-interface says.
pub(super) async fn dial(target: Target, host: Arc<Host>) -> io::Result<Link> {
    let peer = SocketAddr::new(target.address, target.port);
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if let Some(password) = &target.password {
        sys::set_md5_secret(&socket, peer, password).map_err(|error| explain(&error))?;
    }
    if let Some(resolved) = target.resolve(&host)? {
        bind_device(&socket, &resolved)?;
        if let Some(source) = resolved.source {
            sys::bind_address_no_port(&socket)
                .and_then(|()| socket.bind(&SocketAddr::new(source, 0).into()))
                .map_err(|error| io::Error::new(error.kind(), format!("bind to source address {source}: {error}")))?;
        }
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
