//! Sockets that bmpd opens itself, under a pin that is in force.
//!
//! bmpd binds them here, although the kernel programs would bind them too. So a host
//! without the programs still gets the configured source and interface.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use socket2::Socket;

use super::{kernel::Datapath, plan::Grant};
use crate::sys;

/// A step of [`Grant::bind`] that the kernel refused.
#[derive(Debug)]
pub struct BindError {
    step: String,
    /// The kernel's error.
    pub error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.error)
    }
}

impl Grant {
    /// Binds a socket that is not connected yet to the granted source and interface, marks it for
    /// its next hop, and has the kernel count it as bmpd's own.
    ///
    /// Without `local_port`, connect(2) chooses a port.
    ///
    /// # Errors
    ///
    /// The kernel refuses one of these steps, or another socket has the port.
    pub fn bind(&self, socket: &Socket, datapath: &Datapath, local_port: Option<u16>) -> Result<(), BindError> {
        let refused = |step: String| move |error| BindError { step, error };
        datapath
            .claim(socket)
            .map_err(|error| io::Error::other(format!("{error:#}")))
            .map_err(refused("tag the session's own socket".to_owned()))?;
        if self.mark != 0 {
            sys::set_mark(socket, self.mark).map_err(refused("mark the socket for its next hop".to_owned()))?;
        }
        if let Some(device) = &self.resolved.device {
            sys::bind_to_interface(socket, device.index)
                .map_err(refused(format!("bind to interface {}", device.name)))?;
        }
        match (self.resolved.source, local_port) {
            (source, Some(port)) => self.bind_port(socket, source, port),
            (Some(source), None) => sys::bind_address_no_port(socket)
                .and_then(|()| socket.bind(&SocketAddr::new(source, 0).into()))
                .map_err(refused(format!("bind to source address {source}"))),
            (None, None) => Ok(()),
        }
    }

    /// Binds a socket to a port that an earlier connection may have had, which is in TIME_WAIT now
    /// (socket(7), `SO_REUSEADDR`).
    fn bind_port(&self, socket: &Socket, source: Option<IpAddr>, port: u16) -> Result<(), BindError> {
        let any = match self.target.station {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let source = source.unwrap_or(any);
        let bound = socket.set_reuse_address(true).and_then(|()| socket.bind(&SocketAddr::new(source, port).into()));
        bound.map_err(|error| {
            let step = match error.raw_os_error() {
                Some(libc::EADDRINUSE) => format!("another socket of this device has port {port} of {source}"),
                _ => format!("bind to port {port} of {source}"),
            };
            BindError { step, error }
        })
    }

    /// Returns the address to connect a socket to. For a link-local station the scope is the index
    /// of the pinned interface (RFC 4007 §6).
    pub fn far_end(&self) -> SocketAddr {
        let mut far = self.target.station;
        if let (SocketAddr::V6(far), Some(device)) = (&mut far, &self.resolved.device)
            && far.ip().is_unicast_link_local()
        {
            far.set_scope_id(device.index);
        }
        far
    }
}
