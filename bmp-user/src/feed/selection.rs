//! What of the feed one station is told.

use std::net::IpAddr;

use super::{InputId, peers::Incarnation};
use crate::wire::{
    bgp::Family,
    bmp::{PeerHeader, PeerType, RibView},
};

/// What a station is told: everything, or what at least one of these selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Empty: everything.
    pub monitors: Vec<Monitor>,
    /// Whether mirrored messages are passed on.
    pub mirroring: Mirroring,
}

/// Whether mirrored messages (RFC 7854 §4.7) are passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mirroring {
    /// They are.
    #[default]
    Passed,
    /// They are left out.
    LeftOut,
}

/// Some peers, and RIBs of theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitor {
    /// Which peers.
    pub peers: Peers,
    /// Which of their RIBs; empty: all.
    pub ribs: Vec<(Family, RibView)>,
}

/// Which peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Those of no VPN instance.
    Public,
    /// Those of every VPN instance.
    AllVpnInstances,
    /// Those of one VPN instance, by the name of its table (RFC 9069 §5.2.1, RFC 9736 §4.2) or by its route distinguisher.
    VpnInstance(String),
    /// One, in no VPN instance or in this one.
    Peer {
        /// See [`Peers::VpnInstance`].
        vpn_instance: Option<String>,
        /// Its address.
        address: IpAddr,
    },
    /// Those of one input.
    Input(InputId),
    /// Those of the `bgp` view.
    Bgp,
}

impl Selection {
    /// Whether all that there is is selected.
    pub(super) fn is_everything(&self) -> bool {
        self.monitors.is_empty() && self.mirroring == Mirroring::Passed
    }

    /// Whether anything of a peer is selected.
    pub(super) fn peer(&self, life: &Incarnation) -> bool {
        self.monitors.is_empty() || self.monitors.iter().any(|monitor| monitor.peers.have(life))
    }

    /// Whether all RIBs of a peer are.
    pub(super) fn all_ribs(&self, life: &Incarnation) -> bool {
        self.monitors.is_empty()
            || self.monitors.iter().any(|monitor| monitor.ribs.is_empty() && monitor.peers.have(life))
    }

    /// Whether one RIB of a peer is.
    pub(super) fn rib(&self, life: &Incarnation, view: RibView, family: Family) -> bool {
        self.monitors.is_empty()
            || self.monitors.iter().any(|monitor| {
                (monitor.ribs.is_empty() || monitor.ribs.contains(&(family, view))) && monitor.peers.have(life)
            })
    }
}

impl Peers {
    fn have(&self, life: &Incarnation) -> bool {
        match self {
            Self::Public => !is_vpn(&life.header),
            Self::AllVpnInstances => is_vpn(&life.header),
            Self::VpnInstance(name) => is_in(life, name),
            Self::Peer { vpn_instance, address } => {
                life.header.address() == *address
                    && vpn_instance.as_ref().map_or(!is_vpn(&life.header), |name| is_in(life, name))
            }
            Self::Input(input) => life.input == *input,
            Self::Bgp => matches!(life.input, InputId::BgpPeer(_)),
        }
    }
}

/// A peer of another instance than the global one (RFC 7854 §4.2, RFC 9069 §4.1).
fn is_vpn(header: &PeerHeader) -> bool {
    match header.key.peer_type {
        PeerType::GLOBAL => false,
        PeerType::LOC_RIB => header.key.distinguisher != [0; 8],
        _ => true,
    }
}

fn is_in(life: &Incarnation, name: &str) -> bool {
    is_vpn(&life.header)
        && (life.table.as_deref() == Some(name) || route_distinguisher(life.header.key.distinguisher) == name)
}

/// A route distinguisher as it is usually written (RFC 4364 §4.2): `65000:1`, `192.0.2.1:1`.
pub fn route_distinguisher(bytes: [u8; 8]) -> String {
    let [k0, k1, a, b, c, d, e, f] = bytes;
    match u16::from_be_bytes([k0, k1]) {
        1 => format!("{a}.{b}.{c}.{d}:{}", u16::from_be_bytes([e, f])),
        2 => format!("{}:{}", u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f])),
        _ => format!("{}:{}", u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f])),
    }
}
