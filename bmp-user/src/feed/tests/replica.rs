//! The property that the feed exists for: whatever happens, every station ends with exactly what
//! the feed has. The order of its frames is valid: no routes of an announced peer come outside its
//! Peer Up and Peer Down. Memory stays within its bounds.
//!
//! The test keeps the truth itself, in numbers. The stations read bytes. A station that keeps to
//! RFC 7854 takes some peers for one. It ends with the same as a late station of its kind.
//!
//! The inputs are the routers of one relay. Some stations are told one router alone.

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    super::*,
    histories::{CONNECTIONS, HistoryEvent, STATIONS, connect, selection, selects, step},
    reader::{PlainReader, StrictReader},
    truth::{ExpectedClaim, FeedTruth, agrees},
    world::{self, NumberedPeer, PEERS, UNANNOUNCED_PEER, key_of},
};
use crate::{
    feed::Piece,
    wire::{
        bgp::Family,
        bmp::{BmpChunk, RibView},
    },
};

struct ReplicaStation {
    follower: Follower,
    reader: PlainReader,
    strict: [StrictReader; 2],
    selection: usize,
    /// How many routes dumps may send each time that it reads.
    pace: Option<u64>,
}

impl ReplicaStation {
    fn new(feed: &Feed, number: usize) -> Self {
        let strict = [false, true].map(StrictReader::new);
        let follower = feed.attach(selection(feed, number));
        Self { follower, reader: PlainReader::default(), strict, selection: number, pace: None }
    }

    /// Loses its connection while data is on its way. What arrives is valid up to its last byte,
    /// which may be inside a frame.
    fn lose(&mut self, arrived: usize) {
        let mut pieces = std::collections::VecDeque::new();
        self.follower.take(2 * arrived, &mut pieces);
        let on_its_way: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect();
        self.reader.read(&on_its_way[..arrived.min(on_its_way.len())]);
    }

    /// Reads until it knows everything.
    fn take_all(&mut self) {
        let pace = self.pace;
        self.pace = pace.map(|routes| routes.max(1));
        while self.take(2000) {}
        self.pace = pace;
        assert!(!self.follower.is_dumping());
    }

    /// Reads once. Returns false if there is nothing more.
    fn take(&mut self, bytes: usize) -> bool {
        let mut pieces = std::collections::VecDeque::new();
        self.follower.allow(self.pace);
        self.follower.take(bytes, &mut pieces);
        for Piece { bytes, counts } in &pieces {
            assert!(!bytes.is_empty() && counts.total() > 0);
            self.reader.read(bytes);
            self.strict.iter_mut().for_each(|strict| strict.read(bytes));
        }
        !pieces.is_empty()
    }
}

/// Checks that a station that keeps to RFC 7854 knows the same as a new one.
fn check_strict(number: usize, early: &ReplicaStation, late: &ReplicaStation, truth: &FeedTruth) {
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

fn check(feed: &Feed, stations: &mut [ReplicaStation], truth: &FeedTruth) {
    for (number, station) in stations.iter_mut().enumerate() {
        station.take_all();
        assert_eq!(station.follower.lag_bytes(), 0);
        let mut late = ReplicaStation::new(feed, station.selection);
        late.take_all();
        check_strict(number, station, &late, truth);
        for peer in 0..PEERS {
            let mut known = station.reader.peers.get(&peer).cloned().map(NumberedPeer::tidy);
            // A RIB that was selected once may have ended. That cannot be taken back.
            let selected = |rib: &(RibView, Family)| {
                ["frr", "gobgp"].iter().any(|input| selects(station.selection, input, peer, Some(*rib)))
            };
            known.iter_mut().for_each(|known| known.ends.retain(selected));
            // A peer that is never announced and has no routes is as good as none.
            let known = known.filter(|known| peer != UNANNOUNCED_PEER || *known != NumberedPeer::default());
            let mut candidates = truth.candidates(feed, station.selection, peer, known.as_ref());
            candidates.retain(|(known, _)| peer != UNANNOUNCED_PEER || known.clone().tidy() != NumberedPeer::default());
            let agrees =
                |known: &NumberedPeer| candidates.iter().any(|(expected, stale)| agrees(known, expected, stale));
            assert!(
                match &known {
                    Some(known) => agrees(known),
                    None => candidates.is_empty() || (peer == UNANNOUNCED_PEER && agrees(&NumberedPeer::default())),
                },
                "station {number} (selection {}) knows of peer {peer}:\n{:?}\nand should:\n{:?}",
                station.selection,
                known.iter().map(NumberedPeer::summary).collect::<Vec<_>>(),
                candidates.iter().map(|(known, _)| known.summary()).collect::<Vec<_>>(),
            );
        }
    }
}

/// Offers bytes to the feed, which has to find these claims and no others. Somebody notices an
/// owner that is gone.
fn append(input: &mut Input, bytes: Bytes, claims: Vec<ExpectedClaim>, lost: &mut [Option<(Input, u64)>]) {
    let (mut offset, block) = (0, bytes.len());
    let mut chunk = BmpChunk::parse(bytes, block).unwrap();
    let mut expected = claims.into_iter();
    while let Some(claim) = input.offer(&chunk) {
        let ExpectedClaim { at, owner, is_gone } = expected.next().expect("no such claim");
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

/// How many histories are played. A long campaign plays many more.
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
        let mut truth = FeedTruth::default();
        for connection in 0..CONNECTIONS.len() {
            truth.connect(connection);
        }
        let mut held: [Option<(HeldPeers, u64)>; CONNECTIONS.len()] = [const { None }; CONNECTIONS.len()];
        let mut lost: [Option<(Input, u64)>; CONNECTIONS.len()] = [const { None }; CONNECTIONS.len()];
        let mut inputs = CONNECTIONS.map(|(name, _)| connect(&feed, name));
        let mut stations: Vec<_> = (0..STATIONS).map(|number| ReplicaStation::new(&feed, number)).collect();
        let mut largest = 0;
        prop_assert_eq!(inputs.each_ref().map(Input::connection), truth.connections);
        for (number, step) in steps.iter().enumerate() {
            match step {
                HistoryEvent::Append { connection, said } => {
                    let (mut bytes, mut claims) = (Vec::new(), Vec::new());
                    for said in said {
                        bytes.extend(truth.say(*connection, said, bytes.len(), &mut claims));
                    }
                    largest = largest.max(bytes.len());
                    append(&mut inputs[*connection], bytes.into(), claims, &mut lost);
                }
                HistoryEvent::Reconnect { connection } => {
                    truth.disconnect(*connection);
                    inputs[*connection] = connect(&feed, CONNECTIONS[*connection].0);
                }
                HistoryEvent::Hold { connection } => {
                    let away = std::mem::replace(&mut inputs[*connection], connect(&feed, CONNECTIONS[*connection].0)).hold();
                    let number = truth.hold(*connection);
                    let before = held[*connection].replace((away, number));
                    before.into_iter().for_each(|(_, number)| truth.release(number));
                }
                HistoryEvent::Cut { connection } => {
                    let before = std::mem::replace(&mut inputs[*connection], connect(&feed, CONNECTIONS[*connection].0));
                    let number = truth.connect(*connection);
                    truth.lost.insert(number);
                    let earlier = lost[*connection].replace((before, number));
                    earlier.into_iter().for_each(|(_, number)| truth.notice(number));
                }
                HistoryEvent::Notice { connection } => lost[*connection].take().into_iter().for_each(|(_, number)| truth.notice(number)),
                HistoryEvent::Release { connection } => held[*connection].take().into_iter().for_each(|(_, number)| truth.release(number)),
                HistoryEvent::Quiet { connection } => {
                    let since = inputs[*connection].applied();
                    inputs[*connection].end_quiet_ribs(since);
                    truth.quiet(*connection);
                }
                HistoryEvent::Take { station, bytes, times } => {
                    for _ in 0..*times {
                        stations[*station].take(*bytes);
                    }
                }
                HistoryEvent::Return { station, selection, arrived } => {
                    stations[*station].lose(*arrived);
                    let pace = stations[*station].pace;
                    stations[*station] = ReplicaStation { pace, ..ReplicaStation::new(&feed, *selection) };
                }
                HistoryEvent::Pace { station, routes } => stations[*station].pace = *routes,
                HistoryEvent::Select { station, selection: number } => {
                    stations[*station].selection = *number;
                    stations[*station].follower.select(selection(&feed, *number));
                }
                HistoryEvent::LimitLag { station, bytes } => stations[*station].follower.limit_lag(*bytes),
            }
            feed.0.lock().check_memory();
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
                let router = peer.input().router().and_then(|router| router.sys_name.clone()).unwrap();
                if let Some(routes) = truth.routes(&router, world::peer_number(peer.header()), rib) {
                    prop_assert_eq!(rib.routes, routes, "{:?}", rib);
                }
            }
        }
        drop(inputs);
        drop(lost);
        drop(held);
        check(&feed, &mut stations, &FeedTruth::default());
        // The next frame makes the feed forget what no station needs.
        let said = world::statistics(9, 0);
        feed.input(InputId::relay("last")).append(BmpChunk::built(said[..].into()));
        let stats = feed.stats();
        prop_assert_eq!((stats.routes, stats.attribute_sets, stats.withdrawals, stats.peers), (0, 0, 0, 0));
        feed.0.lock().check_memory();
        // A connection that is open and has no peer takes nothing.
        prop_assert_eq!(feed.0.lock().tables.meter.bytes(), 0);
    }
}
