//! Random histories against a model that keeps everything: what stations are sent must always be a piece of the one history,
//! and what they make of it must be the feed's own set of peers.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::wire::bmp::PeerKey;

const FOLLOWERS: usize = 3;
/// The input of each connection. Peers of different inputs have different numbers, as a station needs it.
const CONNECTIONS: [&str; 3] = ["frr", "frr", "gobgp"];

#[derive(Clone, Debug)]
enum Said {
    Up(u8, u16),
    Down(u8),
    Route(u8, usize),
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize, Vec<Said>, usize),
    Reconnect(usize),
    Take(usize, usize),
    Attach(usize),
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        (0u8..4, 0u16..3).prop_map(|(peer, port)| Said::Up(peer, port)),
        (0u8..4).prop_map(Said::Down),
        (0u8..4, 0usize..300).prop_map(|(peer, padding)| Said::Route(peer, padding)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..CONNECTIONS.len(), prop::collection::vec(said(), 1..8), 1usize..5)
            .prop_map(|(connection, said, block)| Step::Append(connection, said, block)),
        1 => (0..CONNECTIONS.len()).prop_map(Step::Reconnect),
        4 => (0..FOLLOWERS, 0usize..2000).prop_map(|(follower, max)| Step::Take(follower, max)),
        1 => (0..FOLLOWERS).prop_map(Step::Attach),
    ]
}

/// What the feed should be.
#[derive(Default)]
struct Model {
    history: Vec<Vec<u8>>,
    /// Owner, order and Peer Up.
    peers: BTreeMap<(&'static str, u8), (ConnectionId, u64, Vec<u8>)>,
    order: u64,
    connections: u64,
}

impl Model {
    fn connect(&mut self) -> ConnectionId {
        self.connections += 1;
        self.connections
    }

    fn in_order(&self) -> Vec<&(ConnectionId, u64, Vec<u8>)> {
        let mut peers: Vec<_> = self.peers.values().collect();
        peers.sort_by_key(|peer| peer.1);
        peers
    }

    fn say(&mut self, input: &'static str, connection: ConnectionId, said: &Said) {
        let number = |peer: u8| if input == "frr" { peer } else { peer + 100 };
        let bytes = match *said {
            Said::Up(peer, port) => {
                self.order += 1;
                let up = peer_up(number(peer), port);
                let entry = self.peers.entry((input, peer)).or_insert((connection, self.order, Vec::new()));
                *entry = (entry.0.max(connection), entry.1, up.clone());
                up
            }
            Said::Down(peer) => {
                self.peers.remove(&(input, peer));
                peer_down(number(peer))
            }
            Said::Route(peer, padding) => route(number(peer), padding),
        };
        self.history.push(bytes);
    }

    fn disconnect(&mut self, connection: ConnectionId) {
        let downs: Vec<_> =
            self.in_order().into_iter().filter(|peer| peer.0 == connection).map(|peer| down_of(&peer.2)).collect();
        self.history.extend(downs);
        self.peers.retain(|_, peer| peer.0 != connection);
    }

    fn peer_ups(&self) -> Vec<Vec<u8>> {
        self.in_order().into_iter().map(|peer| peer.2.clone()).collect()
    }
}

/// A station, and the follower that it is written from.
struct Station {
    follower: Follower,
    up: BTreeMap<PeerKey, Vec<u8>>,
}

impl Station {
    fn attach(feed: &Feed, model: &Model) -> Self {
        let Attachment { opening, follower, .. } = feed.attach();
        assert_eq!(opening, model.peer_ups());
        let mut station = Self { follower, up: BTreeMap::new() };
        station.read(&opening.concat());
        station
    }

    fn read(&mut self, bytes: &[u8]) {
        for frame in frames(bytes) {
            let frame = frame.unwrap();
            match (PeerKey::of(&frame), frame.message_type()) {
                (Some(key), Some(MessageType::PeerUp)) => self.up.insert(key, frame.bytes().to_vec()),
                (Some(key), Some(MessageType::PeerDown)) => self.up.remove(&key),
                _ => None,
            };
        }
    }

    fn take(&mut self, feed: &Feed, model: &Model, max_bytes: usize) {
        let cursor = self.follower.cursor();
        let missing = &model.history[usize::try_from(cursor).unwrap()..];
        assert_eq!(self.follower.lag_bytes(), missing.concat().len() as u64);
        let mut chunks = VecDeque::new();
        let taken = self.follower.take(max_bytes, &mut chunks);
        assert_eq!(taken.is_err(), cursor < feed.stats().tail, "lost exactly when what is needed is gone");
        if taken.is_ok() {
            let mut expected = model.history.iter().skip(usize::try_from(cursor).unwrap());
            let mut next = cursor;
            for chunk in &chunks {
                assert_eq!(chunk.first, next, "nothing is skipped");
                assert_eq!(u64::from(chunk.frames), chunk.counts.total());
                let frames: Vec<_> = expected.by_ref().take(usize::try_from(chunk.frames).unwrap()).cloned().collect();
                assert_eq!(chunk.bytes, frames.concat());
                next += u64::from(chunk.frames);
            }
            assert_eq!(self.follower.cursor(), next);
            assert_eq!(chunks.is_empty(), missing.is_empty());
            self.read(&bytes_of(chunks.make_contiguous()));
        } else {
            let opening = self.follower.rejoin().opening;
            let downs: Vec<_> = self.up.values().map(|up| down_of(up)).collect();
            assert_eq!(
                opening,
                [downs, model.peer_ups()].concat(),
                "exactly the peers that it was told are taken back"
            );
            self.read(&opening.concat());
            assert_eq!(self.follower.cursor(), model.history.len() as u64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_station_is_sent_the_one_history_and_knows_the_peers_in_force(
        limit in 0usize..8000, steps in prop::collection::vec(step(), 1..120),
    ) {
        let feed = Feed::new(limit);
        let mut model = Model::default();
        let mut inputs = CONNECTIONS.map(|name| (feed.input(name), model.connect()));
        let mut stations: Vec<_> = (0..FOLLOWERS).map(|_| Station::attach(&feed, &model)).collect();
        let mut newest = 0;
        for step in steps {
            let before = model.history.len() as u64;
            match step {
                Step::Append(connection, said, block) => {
                    let (input, id) = &mut inputs[connection];
                    let start = model.history.len();
                    said.iter().for_each(|said| model.say(CONNECTIONS[connection], *id, said));
                    let bytes = Bytes::from(model.history[start..].concat());
                    let block = bytes.len() * block;
                    input.append(bytes, block).unwrap();
                }
                Step::Reconnect(connection) => {
                    let (input, id) = &mut inputs[connection];
                    model.disconnect(*id);
                    *input = feed.input(CONNECTIONS[connection]);
                    *id = model.connect();
                }
                Step::Take(follower, max_bytes) => stations[follower].take(&feed, &model, max_bytes),
                Step::Attach(follower) => stations[follower] = Station::attach(&feed, &model),
            }
            let stats = feed.stats();
            prop_assert_eq!(stats.head, model.history.len() as u64);
            prop_assert_eq!(stats.peers, model.peers.len());
            if stats.head > before {
                newest = before;
            }
            prop_assert!(stats.journal_bytes <= limit || stats.tail >= newest, "only one chunk may be too large");
        }
        for station in &mut stations {
            while station.follower.cursor() < station.follower.head() {
                station.take(&feed, &model, 1);
            }
            let known: Vec<_> = station.up.values().cloned().collect();
            let mut in_force = model.peer_ups();
            in_force.sort_by_key(|up| PeerKey::of(&frames(up).next().unwrap().unwrap()));
            prop_assert_eq!(known, in_force);
        }
    }
}
