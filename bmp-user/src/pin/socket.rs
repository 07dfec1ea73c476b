//! Sockets that bmpd opens itself: they are bound here as well as by the kernel programs, so that a host without these gets the source and the
//! interface that it was told all the same.

use std::{fmt, io, net::SocketAddr};

use socket2::Socket;

use super::{Datapath, Grant};
use crate::sys;

/// What could not be done with a socket, and why.
#[derive(Debug)]
pub struct Unbound {
    step: String,
    /// What the kernel said.
    pub error: io::Error,
}

impl fmt::Display for Unbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.error)
    }
}

impl Grant {
    /// Makes a socket that is not connected yet one of the grant's: it comes from its source, leaves as it says, and is counted as bmpd's own.
    ///
    /// # Errors
    ///
    /// The kernel does not take one of these.
    pub fn bind(&self, socket: &Socket, datapath: &Datapath) -> Result<(), Unbound> {
        let unbound = |step: String| move |error| Unbound { step, error };
        datapath
            .claim(socket)
            .map_err(|error| io::Error::other(format!("{error:#}")))
            .map_err(unbound("tag the session's own socket".to_owned()))?;
        if self.mark != 0 {
            sys::set_mark(socket, self.mark).map_err(unbound("mark the socket for its next hop".to_owned()))?;
        }
        if let Some((index, name)) = &self.resolved.device {
            sys::bind_to_interface(socket, *index).map_err(unbound(format!("bind to interface {name}")))?;
        }
        if let Some(source) = self.resolved.source {
            sys::bind_address_no_port(socket)
                .and_then(|()| socket.bind(&SocketAddr::new(source, 0).into()))
                .map_err(unbound(format!("bind to source address {source}")))?;
        }
        Ok(())
    }

    /// The far end as a socket is connected to it: a link-local one is reached by the pinned interface, whose index is the scope (RFC 4007 §6).
    pub fn far_end(&self) -> SocketAddr {
        let mut far = self.target.station;
        if let (SocketAddr::V6(far), Some((index, _))) = (&mut far, &self.resolved.device)
            && far.ip().is_unicast_link_local()
        {
            far.set_scope_id(*index);
        }
        far
    }
}
