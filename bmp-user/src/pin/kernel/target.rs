//! Which connections a pin is for, and whose a socket is.

use std::net::SocketAddr;

use bmp_ebpf::{InetFamily, PinKey, ROLE_CONNECT, ROLE_LISTEN};

/// The process that has a socket, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketOwner {
    /// bmpd itself: the socket's traffic counts as the session's own.
    Bmpd,
    /// Another process, with this id: the socket's traffic counts as foreign.
    Process(u32),
}

/// The side that opens the connections of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// This host, to the station's port.
    Connect,
    /// The station, to this host's port.
    Listen,
}

/// The connections that a pin is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PinTarget {
    /// The side that opens them.
    pub role: Role,
    /// Interface index of the VRF device; 0 is the default VRF.
    pub vrf: u32,
    /// The station's address, and the port that is connected to: the station's or, for
    /// [`Role::Listen`], this host's.
    pub station: SocketAddr,
}

impl PinTarget {
    /// Returns the key in a network namespace. An IPv4-mapped address is an IPv4 one.
    pub(super) fn key(&self, netns: u64) -> PinKey {
        let station = self.station.ip().to_canonical();
        PinKey {
            netns,
            vrf: self.vrf,
            family: InetFamily::of(station),
            role: match self.role {
                Role::Connect => ROLE_CONNECT,
                Role::Listen => ROLE_LISTEN,
            },
            port: self.station.port(),
            station: station.into(),
        }
    }

    /// Returns the connections of a key; `None` if no bmpd of this version wrote it.
    pub(super) fn of(key: &PinKey) -> Option<Self> {
        let role = match key.role {
            ROLE_CONNECT => Role::Connect,
            ROLE_LISTEN => Role::Listen,
            _ => return None,
        };
        let station = SocketAddr::new(key.station.to_ip(key.family)?, key.port);
        Some(Self { role, vrf: key.vrf, station })
    }
}
