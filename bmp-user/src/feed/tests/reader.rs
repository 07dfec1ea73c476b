//! Stations that read bytes. One kind tells peers apart by the whole per-peer header, the other as
//! RFC 7854 does.

use std::collections::BTreeMap;

use super::world::{
    ExpectedMeaning, LOC_RIB_PEER, NumberedPeer, UNANNOUNCED_PEER, attributes_of, flag, is_loc_rib, key_of, name_of,
    names, peer_number, table_of,
};
use crate::wire::{
    bgp::{Family, Update},
    bmp::{COMMON_HEADER, Frame, MessageType, PER_PEER_HEADER, PeerHeader, PeerType, RibView, frames, peer_flags},
};

/// A station that tells peers apart by type, distinguisher, address, AS and BGP identifier.
#[derive(Clone, Debug, Default)]
pub(super) struct PlainReader {
    pub(super) peers: BTreeMap<u8, NumberedPeer>,
    pub(super) lost_mirrored: usize,
    rest: Vec<u8>,
}

impl PlainReader {
    /// Reads a piece of the stream. It may end anywhere.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let mut whole = frames(&all);
        for frame in whole.by_ref() {
            self.frame(&frame.expect("a station is sent BMP"));
        }
        self.rest = all[whole.consumed()..].to_vec();
    }

    fn frame(&mut self, frame: &Frame<'_>) {
        let number = peer_number(&PeerHeader::of(frame).expect("all is about peers"));
        let known = self.peers.contains_key(&number) || number == UNANNOUNCED_PEER;
        match frame.message_type().expect("types are assigned") {
            MessageType::PeerUp => {
                let is_known = self.peers.contains_key(&number);
                let peer = self.peers.entry(number).or_default();
                let news = peer.comes_up(frame.bytes());
                assert!(
                    !is_known || [ExpectedMeaning::None, ExpectedMeaning::Further].contains(&news),
                    "peer {number} has another life without a Peer Down"
                );
                assert!(peer.ups.contains(frame.bytes()), "a Peer Up of peer {number} is new in its time alone");
            }
            MessageType::PeerDown => {
                // A Peer Down also ends a peer that was never announced: nothing else could
                // withdraw its routes. Of a Loc-RIB, each table ends, also one that came up while
                // the station was behind.
                assert!(known || is_loc_rib(number), "a Peer Down for peer {number}, which was not up");
                let Some(peer) = self.peers.get_mut(&number) else { return };
                let (tables, table) = (peer.tables(), table_of(frame.bytes()));
                if tables.len() < 2 || table.is_none() && !tables.contains(&None) {
                    self.peers.remove(&number);
                } else {
                    peer.ups.retain(|up| table_of(up) != table);
                }
            }
            MessageType::StatisticsReport => {
                assert!(known, "statistics of peer {number}, which is not up");
                self.peers.entry(number).or_default().statistics = Some(frame.bytes().to_vec());
            }
            MessageType::RouteMirroring => {
                assert!(known, "mirrored messages of peer {number}, which is not up");
                self.lost_mirrored += usize::from(frame.bytes().ends_with(&[0, 1, 0, 2, 0, 1]));
            }
            MessageType::RouteMonitoring => {
                assert!(known, "routes of peer {number}, which is not up");
                self.routes(number, frame);
            }
            MessageType::Initiation | MessageType::Termination => panic!("the feed does not say that"),
        }
    }

    fn routes(&mut self, number: u8, frame: &Frame<'_>) {
        self.peers.entry(number).or_default().takes(number, frame);
    }
}

impl NumberedPeer {
    /// Keeps the routes of a Route Monitoring.
    fn takes(&mut self, number: u8, frame: &Frame<'_>) {
        let header = PeerHeader::of(frame).unwrap();
        let two_byte = header.flags & peer_flags::TWO_BYTE_AS != 0;
        let view = match (header.key.peer_type, header.flags & !(peer_flags::TWO_BYTE_AS | peer_flags::IPV6)) {
            (PeerType::LOC_RIB, _) => RibView::LocRib,
            (_, 0) => RibView::AdjRibInPre,
            (_, 0x40) => RibView::AdjRibInPost,
            (_, 0x10) => RibView::AdjRibOutPre,
            (_, 0x50) => RibView::AdjRibOutPost,
            other => panic!("nobody has sent {other:?}"),
        };
        let message = &frame.bytes()[COMMON_HEADER + PER_PEER_HEADER..];
        assert!(message.len() <= 4096, "a message of {} bytes", message.len());
        let update = Update::parse(message, 4).expect("an UPDATE");
        if let Some(family) = update.end_of_rib() {
            self.ends.insert((view, family));
            return;
        }
        let gone = [(Family::IPV4_UNICAST, update.withdrawn)].into_iter();
        for (family, items) in gone.chain(update.unreach.map(|unreach| (unreach.family, unreach.nlri))) {
            for (name, _) in names(number, family, items) {
                self.ribs.entry((view, family)).or_default().remove(&name);
            }
        }
        let new = [(Family::IPV4_UNICAST, update.nlri, 0)].into_iter();
        let reach = update.reach.map(|reach| (reach.family, reach.nlri, reach.nlri.len()));
        for (family, items, in_reach) in new.chain(reach) {
            let mut all = attributes_of(update.attributes);
            all.retain(|(_, kind, _)| *kind != 15 && (*kind != 14 || in_reach > 0));
            for (_, kind, value) in &mut all {
                if *kind == 14 {
                    value.truncate(value.len() - in_reach);
                }
            }
            all.push(flag(two_byte));
            all.push(name_of(header.asn));
            let routes = self.ribs.entry((view, family)).or_default();
            for (name, variant) in names(number, family, items) {
                routes.insert(name, (all.clone(), variant));
            }
        }
    }
}

/// A station that tells peers apart as RFC 7854 §4.2 says, by type, distinguisher and address, and
/// the tables of a Loc-RIB by name. A Peer Up of another session ends the one before. A Peer Down
/// ends everything with its header. Everything else is kept by AS and BGP identifier too.
#[derive(Clone, Debug, Default)]
pub(super) struct StrictReader {
    /// True if it ignores the names of tables: a Peer Down of a Loc-RIB ends all tables.
    pub(super) is_blind: bool,
    pub(super) peers: BTreeMap<u8, StrictKnowledge>,
    rest: Vec<u8>,
}

/// What such a station knows about peers that it takes for one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StrictKnowledge {
    ups: NumberedPeer,
    pub(super) contents: BTreeMap<u8, NumberedPeer>,
}

impl StrictReader {
    pub(super) fn new(is_blind: bool) -> Self {
        Self { is_blind, ..Self::default() }
    }

    pub(super) fn read(&mut self, bytes: &[u8]) {
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let mut whole = frames(&all);
        for frame in whole.by_ref() {
            self.frame(&frame.unwrap());
        }
        self.rest = all[whole.consumed()..].to_vec();
    }

    fn frame(&mut self, frame: &Frame<'_>) {
        let number = peer_number(&PeerHeader::of(frame).unwrap());
        let key = key_of(number);
        match frame.message_type().unwrap() {
            MessageType::PeerUp => {
                let known = self.peers.entry(key).or_default();
                let (bytes, table) = (frame.bytes(), table_of(frame.bytes()));
                match known.ups.comes_up(bytes) {
                    ExpectedMeaning::None | ExpectedMeaning::Further => return,
                    ExpectedMeaning::TableAgain => known.ups.ups.retain(|up| table_of(up) != table),
                    ExpectedMeaning::AnotherLife => *known = StrictKnowledge::default(),
                }
                known.ups.ups.insert(bytes.to_vec());
            }
            MessageType::PeerDown => {
                let Some(known) = self.peers.get_mut(&key) else { return };
                known.ups.ups.retain(|up| table_of(up) != table_of(frame.bytes()));
                if key != LOC_RIB_PEER || self.is_blind || known.ups.ups.is_empty() {
                    self.peers.remove(&key);
                }
            }
            MessageType::StatisticsReport => {
                let known = self.peers.entry(key).or_default();
                known.contents.entry(number).or_default().statistics = Some(frame.bytes().to_vec());
            }
            MessageType::RouteMonitoring => {
                self.peers.entry(key).or_default().contents.entry(number).or_default().takes(number, frame);
            }
            _ => {}
        }
    }

    /// What it knows about the peers of a key: their Peer Ups and routes.
    pub(super) fn knows(&self, key: u8, is_selected: impl Fn(u8, &(RibView, Family)) -> bool) -> StrictKnowledge {
        let mut known = self.peers.get(&key).cloned().unwrap_or_default();
        for (number, peer) in &mut known.contents {
            peer.ends.retain(|rib| is_selected(*number, rib));
            *peer = std::mem::take(peer).tidy();
            if key == UNANNOUNCED_PEER {
                peer.statistics = None;
            }
        }
        known.contents.retain(|_, peer| *peer != NumberedPeer::default());
        known
    }
}
