//! What the feed shows of its peers.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    InputId,
    peers::{ConnectionId, Hold, Incarnation, Peer},
    rib::Rib,
    selection::Selection,
};
use crate::wire::{
    bgp::{Family, Reading},
    bmp::{PeerHeader, PeerKey, RibView},
};

/// A peer that a station is not told of: it could not tell the peer from one of another input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenPeer {
    /// The input that the peer belongs to.
    pub input: InputId,
    /// What it has in common with the peer of the other input.
    pub key: PeerKey,
}

/// What peers hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Holdings {
    /// Those that were announced.
    pub(super) peers: usize,
    pub(super) ribs: usize,
    pub(super) routes: usize,
    /// Memory that routes take, in bytes.
    pub(super) route_bytes: usize,
    /// Memory that what they have in common takes, in bytes.
    pub(super) group_bytes: usize,
}

impl Holdings {
    pub(super) fn add(&mut self, peer: &Peer) {
        self.peers += usize::from(peer.life.up.is_some());
        for rib in &peer.ribs {
            let (routes, groups) = rib.memory();
            self.ribs += usize::from(rib.is_spoken_of());
            self.routes += rib.len();
            self.route_bytes += routes;
            self.group_bytes += groups;
        }
    }
}

/// How many routes there are in one RIB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RibRoutes {
    /// Which RIB of the peer.
    pub view: RibView,
    /// Of which family.
    pub family: Family,
    /// Routes in it, as far as they can be told apart.
    pub routes: usize,
    /// How its NLRI are read.
    pub reading: Reading,
    /// Whether it is known that they are read so. If not, fields of UPDATEs are kept whole.
    pub is_decided: bool,
    /// Fields of UPDATEs that were dropped because there were too many to be kept whole: a station that comes late lacks their routes.
    pub not_kept: u64,
}

impl RibRoutes {
    fn of(rib: &Rib) -> Self {
        let (view, family, routes) = (rib.view, rib.family, rib.len());
        let (reading, is_decided, not_kept) = (rib.reading(), rib.is_decided(), rib.not_kept);
        Self { view, family, routes, reading, is_decided, not_kept }
    }
}

/// A peer and its RIBs, as they were at one moment.
#[derive(Clone, Debug)]
pub struct PeerRibs {
    life: Arc<Incarnation>,
    owner: ConnectionId,
    away: bool,
    incomplete: bool,
    ribs: Vec<RibRoutes>,
}

impl PeerRibs {
    pub(super) fn of(peer: &Peer) -> Self {
        let ribs = peer.ribs.iter().filter(|rib| rib.is_spoken_of()).map(RibRoutes::of).collect();
        Self {
            life: Arc::clone(&peer.life),
            owner: peer.owner,
            away: peer.hold == Hold::Away,
            incomplete: peer.is_incomplete(),
            ribs,
        }
    }

    /// Its place in the order in which peers came.
    pub(super) fn number(&self) -> u64 {
        self.life.number
    }

    /// The input that it is of.
    pub fn input(&self) -> &InputId {
        &self.life.input
    }

    /// The connection that it came by.
    pub fn connection(&self) -> ConnectionId {
        self.owner
    }

    /// The per-peer header that it was first heard of with.
    pub fn header(&self) -> &PeerHeader {
        &self.life.header
    }

    /// Name of its VRF or table, if it was told (RFC 9069 §5.2.1, RFC 9736 §4.2).
    pub fn table(&self) -> Option<&str> {
        self.life.table.as_deref()
    }

    /// Whether there was a Peer Up.
    pub fn is_announced(&self) -> bool {
        self.life.up.is_some()
    }

    /// Whether its input went away and has not come back: it is held.
    pub fn is_away(&self) -> bool {
        self.away
    }

    /// Whether late stations lack routes of it: of a RIB that has too many, or of families for which there is no room.
    pub fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// Its RIBs.
    pub fn ribs(&self) -> &[RibRoutes] {
        &self.ribs
    }

    /// Whether a station that selects this is told of the peer.
    pub fn is_selected_by(&self, selection: &Selection) -> bool {
        selection.peer(&self.life)
    }

    /// The families of the RIBs that such a station is told of, each once.
    pub fn families_selected_by(&self, selection: &Selection) -> BTreeSet<Family> {
        self.selected_by(selection).map(|rib| rib.family).collect()
    }

    /// Of each of its RIBs, whether such a station is told of it.
    pub fn ribs_selected_by(&self, selection: &Selection) -> Vec<bool> {
        self.ribs.iter().map(|rib| selection.rib(&self.life, rib.view, rib.family)).collect()
    }

    fn selected_by(&self, selection: &Selection) -> impl Iterator<Item = &RibRoutes> {
        self.ribs.iter().filter(|rib| selection.rib(&self.life, rib.view, rib.family))
    }
}
