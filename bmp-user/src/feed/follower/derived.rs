//! Statistics Reports on relayed peers whose daemon sends none, from the RIBs beside the relay.

use std::{collections::VecDeque, sync::Arc};

use bytes::BytesMut;

use super::{
    super::{
        InputId, PEERS_AT_ONCE, incarnation::Incarnation, peers::LivePeer, piece::Piece, rib::Rib, selection::Selection,
    },
    Follower,
};
use crate::wire::bmp::{
    MessageType, PeerHeader, PeerType, RibView, Statistic, StatisticType, peer_flags,
    statistics::{StatisticValue, statistics_report},
};

/// The types of the gauges of one view: of all its families, and of each.
struct GaugeTypes {
    all: StatisticType,
    of_family: StatisticType,
}

impl Follower {
    /// Has [`Follower::take`] append a Statistics Report about each relayed peer that the station
    /// was told and whose daemon sends no reports. Does nothing while the reports of the last call
    /// are on their way.
    pub fn report_derived(&mut self) {
        if self.derived.is_empty() {
            let is_relayed = |life: &Arc<Incarnation>| matches!(life.input, InputId::Relay(_) | InputId::Router(_));
            self.derived.extend(self.told.values().filter(|life| is_relayed(life)).cloned());
            self.derived.make_contiguous().sort_unstable_by_key(|life| life.number);
        }
    }

    /// Takes derived reports of some peers.
    pub(super) fn take_derived(&mut self, max_bytes: usize, out: &mut VecDeque<Piece>) {
        let store = Arc::clone(&self.store);
        let feed = store.lock();
        let mut room = max_bytes;
        for _ in 0..PEERS_AT_ONCE {
            let Some(life) = self.derived.pop_front() else { return };
            let is_told = self.is_told(&life);
            let peer = feed.peers.of_life(&life).filter(|_| is_told);
            let Some(report) = peer.and_then(|peer| derived_report(peer, &self.selection)) else { continue };
            room = room.saturating_sub(report.len());
            out.push_back(Piece::of(MessageType::StatisticsReport, report.freeze()));
            if room == 0 {
                return;
            }
        }
    }
}

/// Returns what the RIBs of a peer prove. `None` if they prove nothing, or if the daemon reports on
/// the peer itself: a station could not tell the two apart.
fn derived_report(peer: &LivePeer, selection: &Selection) -> Option<BytesMut> {
    if peer.statistics.is_some() || peer.is_away() || peer.repeats() || peer.lacks_families {
        return None;
    }
    let mut statistics = Vec::new();
    for view in RibView::ALL {
        let is_of_view = |rib: &&Rib| rib.view == view && rib.is_in_use();
        let ribs: Vec<_> = peer.ribs.iter().filter(is_of_view).collect();
        // A station that is told a part of the view could not check the numbers.
        let is_proof = |rib: &&Rib| rib.is_whole_table() && selection.has_rib(&peer.life, view, rib.family);
        if ribs.is_empty() || !ribs.iter().all(is_proof) {
            continue;
        }
        let all = ribs.iter().map(|rib| rib.len() as u64).sum();
        for GaugeTypes { all: kind, of_family } in types_of(view) {
            statistics.push(Statistic { kind, value: StatisticValue::Gauge(all) });
            let of_families = ribs.iter().map(|rib| StatisticValue::OfFamily(rib.family, rib.len() as u64));
            statistics.extend(of_families.map(|value| Statistic { kind: of_family, value }));
        }
    }
    if statistics.is_empty() {
        return None;
    }
    let mut report = BytesMut::new();
    statistics_report(&mut report, &header_of(peer), &statistics);
    Some(report)
}

/// The per-peer header of a report, which is about no view. Zero is an unknown time (RFC 7854
/// §4.2).
fn header_of(peer: &LivePeer) -> PeerHeader {
    let header = peer.life.header;
    let of_peer = peer_flags::IPV6 | peer_flags::TWO_BYTE_AS;
    let flags = if header.key.peer_type == PeerType::LOC_RIB { header.flags } else { header.flags & of_peer };
    PeerHeader { flags, seconds: 0, microseconds: 0, ..header }
}

fn types_of(view: RibView) -> Vec<GaugeTypes> {
    let types = |all, of_family| GaugeTypes { all, of_family };
    match view {
        RibView::AdjRibInPre => vec![
            types(StatisticType::ADJ_RIB_IN, StatisticType::ADJ_RIB_IN_OF_FAMILY),
            types(StatisticType::ADJ_RIB_IN_PRE, StatisticType::ADJ_RIB_IN_PRE_OF_FAMILY),
        ],
        RibView::AdjRibInPost => vec![types(StatisticType::ADJ_RIB_IN_POST, StatisticType::ADJ_RIB_IN_POST_OF_FAMILY)],
        RibView::AdjRibOutPre => vec![types(StatisticType::ADJ_RIB_OUT_PRE, StatisticType::ADJ_RIB_OUT_PRE_OF_FAMILY)],
        RibView::AdjRibOutPost => {
            vec![types(StatisticType::ADJ_RIB_OUT_POST, StatisticType::ADJ_RIB_OUT_POST_OF_FAMILY)]
        }
        RibView::LocRib => vec![types(StatisticType::LOC_RIB, StatisticType::LOC_RIB_OF_FAMILY)],
    }
}
