//! Which input a peer belongs to.

use std::{fmt, net::IpAddr, sync::Arc};

/// An input of the configuration. Clones are cheap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InputId {
    /// `bmp-relay NAME`.
    Relay(Arc<str>),
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
}

/// As displays and logs show it: `frr`, `mrt-replay rrc00`, `bgp 192.0.2.1`. The name of a relay
/// has no blanks, so no two inputs look the same.
impl fmt::Display for InputId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relay(name) => f.write_str(name),
            Self::Replay(name) => write!(f, "mrt-replay {name}"),
            Self::BgpPeer(address) => write!(f, "bgp {address}"),
        }
    }
}
