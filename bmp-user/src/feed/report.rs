//! What displays show of the peers of the feed.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    InputId,
    incarnation::{ConnectionId, Incarnation},
    peers::LivePeer,
    rib::Rib,
    selection::Selection,
};
use crate::wire::{
    bgp::{Family, Reading},
    bmp::{PeerHeader, PeerKey, RibView},
};

/// A peer that a station is not told: it could not tell the peer from one of another input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenPeer {
    /// The input that the peer belongs to.
    pub input: InputId,
    /// What it has in common with the peer of the other input.
    pub key: PeerKey,
}

/// What peers hold, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PeerHoldings {
    /// Announced peers.
    pub(super) peers: usize,
    pub(super) ribs: usize,
    pub(super) routes: usize,
    /// Memory of routes, in bytes.
    pub(super) route_bytes: usize,
    /// Memory of groups of routes, in bytes.
    pub(super) group_bytes: usize,
}

impl PeerHoldings {
    pub(super) fn add(&mut self, peer: &LivePeer) {
        self.peers += usize::from(peer.is_announced());
        for rib in &peer.ribs {
            self.ribs += usize::from(rib.is_in_use());
            self.routes += rib.len();
            self.route_bytes += rib.route_memory();
            self.group_bytes += rib.group_memory();
        }
    }
}

/// One RIB, and how many routes it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RibRoutes {
    /// The view of the RIB.
    pub view: RibView,
    /// The family of its routes.
    pub family: Family,
    /// The number of routes, as far as they can be told apart.
    pub routes: usize,
    /// How the feed reads its NLRI.
    pub reading: Reading,
    /// Whether that reading is certain. If not, the feed keeps fields of UPDATEs whole.
    pub is_decided: bool,
    /// Fields of UPDATEs that were dropped, because too many were to be kept whole. A late station
    /// lacks their routes.
    pub not_kept: u64,
}

impl RibRoutes {
    fn of(rib: &Rib) -> Self {
        Self {
            view: rib.view,
            family: rib.family,
            routes: rib.len(),
            reading: rib.reading(),
            is_decided: rib.is_decided(),
            not_kept: rib.not_kept,
        }
    }
}

/// A peer and its RIBs at one moment.
#[derive(Clone, Debug)]
pub struct PeerRibs {
    life: Arc<Incarnation>,
    connection: ConnectionId,
    is_away: bool,
    is_incomplete: bool,
    ribs: Vec<RibRoutes>,
}

impl PeerRibs {
    pub(super) fn of(peer: &LivePeer) -> Self {
        Self {
            life: Arc::clone(&peer.life),
            connection: peer.ownership.connection,
            is_away: peer.is_away(),
            is_incomplete: peer.is_incomplete(),
            ribs: peer.ribs.iter().filter(|rib| rib.is_in_use()).map(RibRoutes::of).collect(),
        }
    }

    /// Its place in the order in which peers came up.
    pub(super) fn number(&self) -> u64 {
        self.life.number
    }

    /// Its input.
    pub fn input(&self) -> &InputId {
        &self.life.input
    }

    /// The connection that owns it.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The per-peer header of its first frame.
    pub fn header(&self) -> &PeerHeader {
        &self.life.header
    }

    /// The name of its VRF or table, if a Peer Up had one (RFC 9069 §5.2.1, RFC 9736 §4.2).
    pub fn table(&self) -> Option<&str> {
        self.life.table.as_deref()
    }

    /// True if there was a Peer Up.
    pub fn is_announced(&self) -> bool {
        self.life.up.is_some()
    }

    /// True if the peer is held: its input went away and is not back.
    pub fn is_away(&self) -> bool {
        self.is_away
    }

    /// True if late stations lack routes of it: it has too many routes in one RIB, or too many
    /// families.
    pub fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }

    /// Its RIBs.
    pub fn ribs(&self) -> &[RibRoutes] {
        &self.ribs
    }

    /// True if a station with this selection is told the peer.
    pub fn is_selected_by(&self, selection: &Selection) -> bool {
        selection.has_peer(&self.life)
    }

    /// The rules of a selection that select the peer, by their place among the rules.
    pub fn selecting_rules(&self, selection: &Selection) -> impl Iterator<Item = usize> {
        let rules = selection.rules.iter().enumerate();
        rules.filter(|(_, rule)| rule.peers.has(&self.life)).map(|(number, _)| number)
    }

    /// The families of the RIBs that a station with this selection is told, each once.
    pub fn families_selected_by(&self, selection: &Selection) -> BTreeSet<Family> {
        let selected = self.ribs.iter().filter(|rib| selection.has_rib(&self.life, rib.view, rib.family));
        selected.map(|rib| rib.family).collect()
    }

    /// For each of [`PeerRibs::ribs`], whether a station with this selection is told it.
    pub fn ribs_selected_by(&self, selection: &Selection) -> Vec<bool> {
        self.ribs.iter().map(|rib| selection.has_rib(&self.life, rib.view, rib.family)).collect()
    }
}
