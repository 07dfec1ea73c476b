//! The property that all is made for: whatever happens, every station ends with exactly what the feed has. It is told so in an order that can
//! be believed (no routes of an announced peer outside its Peer Up and Peer Down), and memory stays within its bounds.
//!
//! The truth is kept by the test itself, in numbers; the stations read bytes. A station that keeps to RFC 7854 takes some peers for one: such stations end
//! with what one of their kind has that comes late.

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    super::*,
    histories::{CONNECTIONS, STATIONS, Step, selection, selects, step},
    reader::{Reader, StrictReader},
    truth::{Expected, Truth, agrees},
    world::{self, PEERS, Peer, UNANNOUNCED_PEER, key_of},
};
use crate::{
    feed::Piece,
    wire::{
        bgp::Family,
        bmp::{BmpChunk, RibView},
    },
};

struct Station {
    follower: Follower,
    reader: Reader,
    strict: [StrictReader; 2],
    selection: usize,
}

impl Station {
    fn new(feed: &Feed, number: usize) -> Self {
        let strict = [false, true].map(StrictReader::new);
        Self { follower: feed.attach(selection(number)), reader: Reader::default(), strict, selection: number }
    }

    /// Its connection is lost while more is on its way: what arrives is believable up to its last byte, which may be in the middle of a frame.
    fn lose(&mut self, arrived: usize) {
        let mut pieces = std::collections::VecDeque::new();
        self.follower.take(2 * arrived, &mut pieces);
        let on_its_way: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
        self.reader.read(&on_its_way[..arrived.min(on_its_way.len())]);
    }

    /// Reads once. False if there is nothing more.
    fn take(&mut self, bytes: usize) -> bool {
        let mut pieces = std::collections::VecDeque::new();
        self.follower.take(bytes, &mut pieces);
        for Piece { bytes, counts } in &pieces {
            assert!(!bytes.is_empty() && counts.total() > 0);
            self.reader.read(bytes);
            self.strict.iter_mut().for_each(|strict| strict.read(bytes));
        }
        !pieces.is_empty()
    }
}

/// A station that keeps to RFC 7854 has what one has that comes now.
fn check_strict(number: usize, early: &Station, late: &Station, truth: &Truth) {
    let selected = |peer: u8, rib: &(RibView, Family)| {
        ["frr", "gobgp"].iter().any(|input| selects(early.selection, input, peer, Some(*rib)))
    };
    for key in (0..PEERS).filter(|peer| key_of(*peer) == *peer && !truth.is_of_both(*peer)) {
        for (early, late) in early.strict.iter().zip(&late.strict) {
            let (known, expected) = (early.knows(key, selected), late.knows(key, selected));
            assert_eq!(known, expected, "station {number}, by RFC 7854, blind for tables: {}", early.is_blind);
        }
    }
}

fn check(feed: &Feed, stations: &mut [Station], truth: &Truth) {
    for (number, station) in stations.iter_mut().enumerate() {
        while station.take(2000) {}
        assert_eq!(station.follower.lag_bytes(), 0);
        let mut late = Station::new(feed, station.selection);
        while late.take(2000) {}
        check_strict(number, station, &late, truth);
        for peer in 0..PEERS {
            let mut known = station.reader.peers.get(&peer).cloned().map(Peer::tidy);
            // What was selected once may have ended; that cannot be taken back.
            let selected = |rib: &(RibView, Family)| {
                ["frr", "gobgp"].iter().any(|input| selects(station.selection, input, peer, Some(*rib)))
            };
            known.iter_mut().for_each(|known| known.ends.retain(selected));
            // Who was told only that there is a peer that is never announced was told nothing.
            let known = known.filter(|known| peer != UNANNOUNCED_PEER || *known != Peer::default());
            let mut candidates = truth.candidates(station.selection, peer);
            candidates.retain(|(known, _)| peer != UNANNOUNCED_PEER || known.clone().tidy() != Peer::default());
            let agrees = |known: &Peer| candidates.iter().any(|(expected, stale)| agrees(known, expected, stale));
            assert!(
                match &known {
                    Some(known) => agrees(known),
                    None => candidates.is_empty() || (peer == UNANNOUNCED_PEER && agrees(&Peer::default())),
                },
                "station {number} (selection {}) knows of peer {peer}:\n{:?}\nand should:\n{:?}",
                station.selection,
                known.iter().map(Peer::summary).collect::<Vec<_>>(),
                candidates.iter().map(|(known, _)| known.summary()).collect::<Vec<_>>(),
            );
        }
    }
}

/// Offers what is said to the feed, which is to find these claims and no others. An owner that is gone is noticed then.
fn append(input: &mut Input, bytes: Bytes, claims: Vec<Expected>, lost: &mut [Option<(Input, u64)>]) {
    let (mut offset, block) = (0, bytes.len());
    let mut chunk = BmpChunk::parse(bytes, block).unwrap();
    let mut expected = claims.into_iter();
    while let Some(claim) = input.offer(&chunk) {
        let Expected { at, owner, is_gone } = expected.next().expect("no such claim");
        offset += claim.at;
        assert_eq!((offset, claim.owner), (at, owner));
        if is_gone {
            let of_owner = |lost: &&mut Option<(Input, u64)>| lost.as_ref().is_some_and(|(_, number)| *number == owner);
            *lost.iter_mut().find(of_owner).expect("it is lost") = None;
        } else {
            input.refuse(&claim);
        }
        chunk = chunk.starting_at(claim.at);
    }
    assert_eq!(expected.next(), None, "it was not claimed");
}

/// How many histories are played: in a long campaign, or when something was changed, many more.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let soak = std::env::var("BMPD_SOAK").is_ok_and(|soak| !soak.is_empty() && soak != "0");
    asked.unwrap_or(if soak { 200_000 } else { 3000 })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn every_station_ends_with_exactly_what_the_feed_has(
        journal in 200usize..8000, withdrawals in 0usize..1500, steps in prop::collection::vec(step(), 1..150),
    ) {
        let feed = Feed::new(journal, withdrawals);
        let mut truth = Truth::default();
        for connection in 0..CONNECTIONS.len() {
            truth.connect(connection);
        }
        let mut held: [Option<(Held, u64)>; CONNECTIONS.len()] = [const { None }; CONNECTIONS.len()];
        let mut lost: [Option<(Input, u64)>; CONNECTIONS.len()] = [const { None }; CONNECTIONS.len()];
        let mut inputs = CONNECTIONS.map(|(name, _)| feed.input(InputId::relay(name)));
        let mut stations: Vec<_> = (0..STATIONS).map(|number| Station::new(&feed, number)).collect();
        let mut largest = 0;
        prop_assert_eq!(inputs.each_ref().map(Input::connection), truth.connections);
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::Append { connection, said } => {
                    let (mut bytes, mut claims) = (Vec::new(), Vec::new());
                    for said in said {
                        bytes.extend(truth.say(*connection, said, bytes.len(), &mut claims));
                    }
                    largest = largest.max(bytes.len());
                    append(&mut inputs[*connection], bytes.into(), claims, &mut lost);
                }
                Step::Reconnect { connection } => {
                    truth.disconnect(*connection);
                    inputs[*connection] = feed.input(InputId::relay(CONNECTIONS[*connection].0));
                }
                Step::Hold { connection } => {
                    let away = std::mem::replace(&mut inputs[*connection], feed.input(InputId::relay(CONNECTIONS[*connection].0))).hold();
                    let number = truth.hold(*connection);
                    let before = held[*connection].replace((away, number));
                    before.into_iter().for_each(|(_, number)| truth.release(number));
                }
                Step::Cut { connection } => {
                    let before = std::mem::replace(&mut inputs[*connection], feed.input(InputId::relay(CONNECTIONS[*connection].0)));
                    let number = truth.connect(*connection);
                    truth.lost.insert(number);
                    let earlier = lost[*connection].replace((before, number));
                    earlier.into_iter().for_each(|(_, number)| truth.notice(number));
                }
                Step::Notice { connection } => lost[*connection].take().into_iter().for_each(|(_, number)| truth.notice(number)),
                Step::Release { connection } => held[*connection].take().into_iter().for_each(|(_, number)| truth.release(number)),
                Step::Quiet { connection } => {
                    let since = inputs[*connection].applied();
                    inputs[*connection].end_quiet_ribs(since);
                    truth.quiet(*connection);
                }
                Step::Take { station, bytes, times } => {
                    for _ in 0..*times {
                        stations[*station].take(*bytes);
                    }
                }
                Step::Return { station, selection, arrived } => {
                    stations[*station].lose(*arrived);
                    stations[*station] = Station::new(&feed, *selection);
                }
                Step::Select { station, selection: number } => {
                    stations[*station].selection = *number;
                    stations[*station].follower.select(selection(*number));
                }
            }
            let stats = feed.stats();
            prop_assert!(stats.journal_bytes <= journal + 20_000 + largest, "the journal has {} bytes", stats.journal_bytes);
            prop_assert!(stats.withdrawal_bytes <= withdrawals, "withdrawals have {} bytes", stats.withdrawal_bytes);
            if number % 40 == 39 {
                check(&feed, &mut stations, &truth);
            }
        }
        check(&feed, &mut stations, &truth);
        for peer in feed.peers() {
            for rib in peer.ribs() {
                if let Some(routes) = truth.routes(&peer.input().to_string(), world::peer_number(peer.header()), rib) {
                    prop_assert_eq!(rib.routes, routes, "{:?}", rib);
                }
            }
        }
        drop(inputs);
        drop(lost);
        drop(held);
        check(&feed, &mut stations, &Truth::default());
        // What nobody needs any more is forgotten when something else is said.
        let said = world::statistics(9, 0);
        feed.input(InputId::relay("last")).append(BmpChunk::built(said[..].into()));
        let stats = feed.stats();
        prop_assert_eq!((stats.routes, stats.attribute_sets, stats.withdrawals, stats.peers), (0, 0, 0, 0));
    }
}
