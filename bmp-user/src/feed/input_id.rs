//! Which input a peer belongs to.

use std::{fmt, net::IpAddr, sync::Arc};

use super::RouterId;

/// An input of the configuration. Clones are cheap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InputId {
    /// `bmp-relay NAME`.
    Relay(Arc<str>),
    /// One router of a divided relay.
    Router(Arc<RouterId>),
    /// `mrt-replay NAME`.
    Replay(Arc<str>),
    /// A peer of the `bgp` view, by its address.
    BgpPeer(IpAddr),
}

impl InputId {
    /// The input `bmp-relay NAME`.
    pub fn relay(name: &str) -> Self {
        Self::Relay(name.into())
    }

    /// The input `mrt-replay NAME`.
    pub fn replay(name: &str) -> Self {
        Self::Replay(name.into())
    }

    /// True for this input, and for the routers of this relay.
    pub fn has(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Relay(name), Self::Router(router)) => *name == router.relay,
            _ => self == other,
        }
    }

    /// The router, if the input is one.
    pub fn router(&self) -> Option<&Arc<RouterId>> {
        match self {
            Self::Router(router) => Some(router),
            Self::Relay(_) | Self::Replay(_) | Self::BgpPeer(_) => None,
        }
    }
}

/// As displays and logs show it: `frr`, `front router 192.0.2.1 edge1`, `mrt-replay rrc00`, `bgp
/// 192.0.2.1`. The name of a relay has no blanks, so no two inputs look the same.
impl fmt::Display for InputId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relay(name) => f.write_str(name),
            Self::Router(router) => {
                write!(f, "{} router {}", router.relay, router.address)?;
                router.sys_name.iter().try_for_each(|name| write!(f, " {}", name.escape_debug()))
            }
            Self::Replay(name) => write!(f, "mrt-replay {name}"),
            Self::BgpPeer(address) => write!(f, "bgp {address}"),
        }
    }
}
