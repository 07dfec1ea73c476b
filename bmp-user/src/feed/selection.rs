//! What one station is told.

use std::{net::IpAddr, sync::Arc};

use super::{InputId, RouterId, incarnation::Incarnation, route_filter::RouteFilter};
use crate::wire::{
    bgp::Family,
    bmp::{PeerHeader, PeerType, RibView},
};

/// What a station is told: everything, or what at least one rule selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Empty: everything.
    pub rules: Vec<SelectionRule>,
    /// The inputs whose peers are told, if the rules select them.
    pub inputs: SelectedInputs,
    /// Whether mirrored messages pass.
    pub mirroring: Mirroring,
}

/// The inputs whose peers a station is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SelectedInputs {
    /// All inputs.
    #[default]
    All,
    /// One router of a divided relay.
    Router(Arc<RouterId>),
    /// The routers of all divided relays, or of one.
    Routers(Option<Arc<str>>),
}

impl SelectedInputs {
    fn has(&self, input: &InputId) -> bool {
        match (self, input.router()) {
            (Self::All, _) => true,
            (Self::Router(router), Some(its)) => is_same(its, router),
            (Self::Routers(relay), Some(its)) => relay.as_ref().is_none_or(|relay| *relay == its.relay),
            (Self::Router(_) | Self::Routers(_), None) => false,
        }
    }
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
    /// Which routes of these RIBs; `None`: all.
    pub filter: Option<Arc<RouteFilter>>,
}

/// What a station is told of one RIB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RibShare {
    /// Nothing.
    Nothing,
    /// The routes that a filter permits.
    Filtered,
    /// Everything.
    Everything,
}

/// The filters of one RIB. A route passes that one of them permits.
pub(super) type RibFilters = Arc<[Arc<RouteFilter>]>;

/// What a station is told of one RIB, with the filters.
#[derive(Clone, Debug)]
pub(super) enum RibPart {
    /// Nothing.
    Nothing,
    /// The routes that one of these filters permits.
    Filtered(RibFilters),
    /// Everything.
    Everything,
}

impl RibPart {
    /// What is in this part or in another one.
    pub(super) fn joined(&self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, other) => other,
            (_, Self::Nothing) => self.clone(),
            (Self::Everything, _) | (_, Self::Everything) => Self::Everything,
            (Self::Filtered(one), Self::Filtered(other)) => {
                let is_new = |filter: &&Arc<RouteFilter>| !one.iter().any(|known| Arc::ptr_eq(known, filter));
                Self::Filtered(one.iter().chain(other.iter().filter(is_new)).cloned().collect())
            }
        }
    }

    /// True if a station with the one part and a station with the other are told the same routes.
    /// False if that is not known for certain.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nothing, Self::Nothing) | (Self::Everything, Self::Everything) => true,
            (Self::Filtered(one), Self::Filtered(other)) => {
                one.len() == other.len() && one.iter().zip(&**other).all(|(one, other)| Arc::ptr_eq(one, other))
            }
            _ => false,
        }
    }
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
        self.rules.is_empty() && self.inputs == SelectedInputs::All && self.mirroring == Mirroring::Passed
    }

    /// True if anything of a peer is selected.
    pub(super) fn has_peer(&self, life: &Incarnation) -> bool {
        self.inputs.has(&life.input) && (self.rules.is_empty() || self.rules.iter().any(|rule| rule.peers.has(life)))
    }

    /// True if all routes of all RIBs of a peer are selected.
    pub(super) fn has_all_ribs(&self, life: &Incarnation) -> bool {
        let has_all = |rule: &SelectionRule| rule.ribs.is_empty() && rule.filter.is_none() && rule.peers.has(life);
        self.inputs.has(&life.input) && (self.rules.is_empty() || self.rules.iter().any(has_all))
    }

    /// True if a rule has a filter.
    pub(super) fn has_filters(&self) -> bool {
        self.rules.iter().any(|rule| rule.filter.is_some())
    }

    /// True if one RIB of a peer is selected.
    pub(super) fn has_rib(&self, life: &Incarnation, view: RibView, family: Family) -> bool {
        self.share_of(life, view, family) != RibShare::Nothing
    }

    /// How much of one RIB of a peer is selected. Allocates nothing.
    pub(super) fn share_of(&self, life: &Incarnation, view: RibView, family: Family) -> RibShare {
        if !self.inputs.has(&life.input) {
            return RibShare::Nothing;
        }
        if self.rules.is_empty() {
            return RibShare::Everything;
        }
        self.rules_of(life, view, family).fold(RibShare::Nothing, |share, rule| match rule.filter {
            Some(_) if share != RibShare::Everything => RibShare::Filtered,
            _ => RibShare::Everything,
        })
    }

    /// Which part of one RIB of a peer is selected.
    pub(super) fn part_of(&self, life: &Incarnation, view: RibView, family: Family) -> RibPart {
        match self.share_of(life, view, family) {
            RibShare::Nothing => RibPart::Nothing,
            RibShare::Everything => RibPart::Everything,
            RibShare::Filtered => {
                let mut filters: Vec<Arc<RouteFilter>> = Vec::new();
                for filter in self.rules_of(life, view, family).filter_map(|rule| rule.filter.as_ref()) {
                    if !filters.iter().any(|known| Arc::ptr_eq(known, filter)) {
                        filters.push(Arc::clone(filter));
                    }
                }
                RibPart::Filtered(filters.into())
            }
        }
    }

    /// The rules that select one RIB of a peer.
    fn rules_of<'a>(
        &'a self,
        life: &'a Incarnation,
        view: RibView,
        family: Family,
    ) -> impl Iterator<Item = &'a SelectionRule> {
        let has_rib = move |rule: &&SelectionRule| rule.ribs.is_empty() || rule.ribs.contains(&(family, view));
        self.rules.iter().filter(has_rib).filter(|rule| rule.peers.has(life))
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
            Self::Input(input) => input.has(&life.input),
            Self::Bgp => matches!(life.input, InputId::BgpPeer(_)),
        }
    }
}

/// True for one router. Most often the two are the same in memory.
fn is_same(one: &Arc<RouterId>, other: &Arc<RouterId>) -> bool {
    Arc::ptr_eq(one, other) || (one.address == other.address && one == other)
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
