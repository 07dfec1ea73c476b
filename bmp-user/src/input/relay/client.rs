//! Who a connection is from: a daemon that connects itself, or one behind a proxy.

use std::{fmt, net::SocketAddr};

use tracing::field::{DisplayValue, display};

use crate::visitors::ClientOrigin;

/// The daemon of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RelayClient {
    /// The daemon's end: the far end of the TCP connection, or what the PROXY header names.
    pub(super) address: SocketAddr,
    pub(super) origin: ClientOrigin,
    /// The proxy that the connection comes by.
    pub(super) proxy: Option<RelayProxy>,
}

/// A load balancer that connects in place of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayProxy {
    /// Its end of the TCP connection.
    pub address: SocketAddr,
    /// The number of the user of this host that it runs as; `None` for another host.
    pub user: Option<u32>,
}

impl RelayProxy {
    pub(super) fn origin(self) -> ClientOrigin {
        self.user.map_or_else(|| ClientOrigin::Host(self.address.ip().to_canonical()), ClientOrigin::User)
    }

    /// True if this is the proxy's end of the TCP connection.
    pub(super) fn is_at(self, address: SocketAddr) -> bool {
        (self.address.ip().to_canonical(), self.address.port()) == (address.ip().to_canonical(), address.port())
    }
}

impl RelayClient {
    /// Returns the proxy for a field of a log line.
    pub(super) fn proxy_field(&self) -> Option<DisplayValue<SocketAddr>> {
        self.proxy.map(|proxy| display(proxy.address))
    }
}

/// As displays name it: `192.0.2.1:50000`, or `192.0.2.1:50000 by 198.51.100.1:40000`.
impl fmt::Display for RelayClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        self.proxy.iter().try_for_each(|proxy| write!(f, " by {}", proxy.address))
    }
}

/// Why a client may not connect, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShutOut {
    /// `allow PREFIX` does not name its host.
    Host,
    /// `allow user` does not name its user, and the user is no system account.
    User,
    /// `allow proxy` does not name the proxy that the connection comes by.
    Proxy,
    /// `allow proxy` names its address, and the connection had no PROXY header.
    NoHeader,
}
