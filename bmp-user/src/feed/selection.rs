//! What one station is told.

use std::net::IpAddr;

use super::{InputId, incarnation::Incarnation};
use crate::wire::{
    bgp::Family,
    bmp::{PeerHeader, PeerType, RibView},
};

/// What a station is told: everything, or what at least one rule selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Empty: everything.
    pub rules: Vec<SelectionRule>,
    /// Whether mirrored messages pass.
    pub mirroring: Mirroring,
}

/// Whether mirrored messages (RFC 7854 §4.7) pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mirroring {
    /// They pass.
    #[default]
    Passed,
    /// They are left out.
    LeftOut,
}

/// Selects RIBs of some peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectionRule {
    /// The peers.
    pub peers: PeerFilter,
    /// The RIBs of these peers; empty: all.
    pub ribs: Vec<(Family, RibView)>,
}

/// Selects peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerFilter {
    /// Peers of no VPN instance.
    Public,
    /// Peers of any VPN instance.
    AllVpnInstances,
    /// Peers of one VPN instance, by the name of its table (RFC 9069 §5.2.1, RFC 9736 §4.2) or by
    /// its route distinguisher.
    VpnInstance(String),
    /// The peers with one address.
    Peer {
        /// `None`: in no VPN instance. Otherwise as for [`PeerFilter::VpnInstance`].
        vpn_instance: Option<String>,
        /// The address.
        address: IpAddr,
    },
    /// Peers of one input.
    Input(InputId),
    /// Peers of the `bgp` view.
    Bgp,
}

impl Selection {
    /// True if everything is selected.
    pub(super) fn is_everything(&self) -> bool {
        self.rules.is_empty() && self.mirroring == Mirroring::Passed
    }

    /// True if anything of a peer is selected.
    pub(super) fn has_peer(&self, life: &Incarnation) -> bool {
        self.rules.is_empty() || self.rules.iter().any(|rule| rule.peers.has(life))
    }

    /// True if all RIBs of a peer are selected.
    pub(super) fn has_all_ribs(&self, life: &Incarnation) -> bool {
        self.rules.is_empty() || self.rules.iter().any(|rule| rule.ribs.is_empty() && rule.peers.has(life))
    }

    /// True if one RIB of a peer is selected.
    pub(super) fn has_rib(&self, life: &Incarnation, view: RibView, family: Family) -> bool {
        self.rules.is_empty()
            || self
                .rules
                .iter()
                .any(|rule| (rule.ribs.is_empty() || rule.ribs.contains(&(family, view))) && rule.peers.has(life))
    }
}

impl PeerFilter {
    pub(super) fn has(&self, life: &Incarnation) -> bool {
        match self {
            Self::Public => !is_in_vpn(&life.header),
            Self::AllVpnInstances => is_in_vpn(&life.header),
            Self::VpnInstance(name) => is_in_instance(life, name),
            Self::Peer { vpn_instance, address } => {
                life.header.address() == *address
                    && vpn_instance.as_ref().map_or(!is_in_vpn(&life.header), |name| is_in_instance(life, name))
            }
            Self::Input(input) => life.input == *input,
            Self::Bgp => matches!(life.input, InputId::BgpPeer(_)),
        }
    }
}

/// True for a peer of another instance than the global one (RFC 7854 §4.2, RFC 9069 §4.1).
fn is_in_vpn(header: &PeerHeader) -> bool {
    match header.key.peer_type {
        PeerType::GLOBAL => false,
        PeerType::LOC_RIB => !header.key.distinguisher.is_zero(),
        _ => true,
    }
}

fn is_in_instance(life: &Incarnation, name: &str) -> bool {
    is_in_vpn(&life.header)
        && (life.table.as_deref() == Some(name) || life.header.key.distinguisher.to_string() == name)
}
