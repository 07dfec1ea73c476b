//! The property that all is made for: whatever happens, every station ends with exactly what the feed has. It is told so in an order that can
//! be believed (no routes of an announced peer outside its Peer Up and Peer Down), and memory stays within its bounds.
//!
//! The truth is kept by the test itself, in numbers; the stations read bytes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    super::*,
    histories::{CONNECTIONS, STATIONS, Said, Step, selection, selects, step},
    world::{self, FAMILIES, LOOK_ALIKE_PEER, Part, Peer, Reader, Route, UNANNOUNCED_PEER, view_of_peer},
};
use crate::{feed::Piece, wire::bgp::Family};

/// What is so.
#[derive(Default)]
struct Truth {
    peers: BTreeMap<(&'static str, u8), Known>,
    /// The number of each connection, which no other had before.
    connections: [u64; CONNECTIONS.len()],
    last: u64,
    /// Connections that are gone without anybody having noticed.
    lost: BTreeSet<u64>,
    /// By connection and key, the peers that it may not speak of.
    refused: BTreeSet<(u64, u8)>,
    /// Connections that claimed a peer of another one that is there.
    rivals: BTreeSet<(u64, u64)>,
}

/// A claim that the feed is to find: how many bytes of what is said come before it, who owns the peer, and whether that is gone.
#[derive(Debug, PartialEq, Eq)]
struct Expected {
    at: usize,
    owner: u64,
    is_gone: bool,
}

/// What stations tell peers apart by.
fn key_of(peer: u8) -> u8 {
    if peer == LOOK_ALIKE_PEER { 0 } else { peer }
}

type Stale = BTreeSet<(View, Family, world::Name)>;

/// Whether what a station knows of a peer is so. A RIB with fields that are kept whole loses what is stale as soon as its peer is back, others later.
fn agrees(found: &Peer, expected: &Peer, stale: &Stale) -> bool {
    let none = BTreeMap::new();
    let rib = |peer: &Peer, rib: &(View, Family)| peer.ribs.get(rib).unwrap_or(&none).clone();
    (&found.ups, &found.ends, &found.statistics) == (&expected.ups, &expected.ends, &expected.statistics)
        && found.ribs.keys().chain(expected.ribs.keys()).all(|at| {
            let (found, expected) = (rib(found, at), rib(expected, at));
            let is_stale = |name: &world::Name| stale.contains(&(at.0, at.1, *name));
            found.iter().all(|(name, said)| expected.get(name) == Some(said))
                && expected.keys().all(|name| found.contains_key(name) || is_stale(name))
        })
}

#[derive(Clone, Default)]
struct Known {
    peer: Peer,
    owner: u64,
    /// Its input went away and is held.
    away: bool,
    /// It came back, after the connection of this number went away.
    back: Option<u64>,
    /// What it has not said again since.
    stale: Stale,
    /// What was stale already when it went away once more.
    long_stale: Stale,
    /// RIBs that had a route, or End-of-RIB.
    made: BTreeSet<(View, Family)>,
    /// RIBs that had routes which are written otherwise than the others.
    mixed: BTreeSet<(View, Family)>,
}

impl Known {
    fn set_stale(&mut self) {
        self.long_stale.append(&mut self.stale);
        let ribs = self.peer.ribs.iter();
        self.stale =
            ribs.flat_map(|((view, family), routes)| routes.keys().map(|name| (*view, *family, *name))).collect();
    }

    /// It says something of a route.
    fn says(&mut self, route: &(View, Family, world::Name)) {
        self.stale.remove(route);
        self.long_stale.remove(route);
    }

    fn all_stale(&self) -> Stale {
        self.stale.union(&self.long_stale).copied().collect()
    }

    fn comes_back(&mut self, connection: u64) {
        if std::mem::take(&mut self.away) {
            self.back = Some(self.owner);
        }
        self.owner = connection;
    }

    /// What it has not said again is gone.
    fn sweep(&mut self, swept: impl Fn(View, Family) -> bool) {
        for (view, family, name) in self.stale.extract_if(.., |(view, family, _)| swept(*view, *family)) {
            self.peer.ribs.entry((view, family)).or_default().remove(&name);
            self.long_stale.remove(&(view, family, name));
        }
    }
}

impl Truth {
    fn connect(&mut self, connection: usize) -> u64 {
        self.last += 1;
        std::mem::replace(&mut self.connections[connection], self.last)
    }

    /// The peers of an input that look like this one and are not held, or all of them.
    fn alike(&self, input: &'static str, peer: u8, with_held: bool) -> Vec<u8> {
        let all = self.peers.iter().filter(|((its, other), known)| {
            *its == input && key_of(*other) == key_of(peer) && (with_held || !known.away)
        });
        all.map(|((_, other), _)| *other).collect()
    }

    /// Whether a connection may say this of a peer. What it claims is decided at once.
    fn may_say(
        &mut self,
        number: u64,
        input: &'static str,
        peer: u8,
        said: &Said,
        before: usize,
        claims: &mut Vec<Expected>,
    ) -> bool {
        let is_up = matches!(said, Said::Up { .. });
        let is_refused = self.refused.contains(&(number, key_of(peer)));
        let alike = self.alike(input, peer, false);
        if let Some(owner) =
            alike.first().map(|other| self.peers[&(input, *other)].owner).filter(|owner| *owner != number)
        {
            let is_announced = alike.iter().any(|other| !self.peers[&(input, *other)].peer.ups.is_empty());
            let is_route = matches!(said, Said::Routes { .. } | Said::EndOfRib { .. });
            if (is_up || is_route && !is_announced && !is_refused) && !self.rivals.contains(&(number, owner)) {
                let is_gone = self.lost.remove(&owner);
                claims.push(Expected { at: before, owner, is_gone });
                if is_gone {
                    self.notice(owner);
                    return self.may_say(number, input, peer, said, before, claims);
                }
                self.rivals.insert((number, owner));
            }
            self.refused.insert((number, key_of(peer)));
            return false;
        }
        if is_up {
            self.refused.remove(&(number, key_of(peer)));
        }
        is_up || !is_refused
    }

    /// What the connection says: its bytes; nothing if it could not say that. `before` is how many bytes it said before.
    fn say(&mut self, connection: usize, said: &Said, before: usize, claims: &mut Vec<Expected>) -> Vec<u8> {
        let (input, peers) = CONNECTIONS[connection];
        let number = self.connections[connection];
        let pick = |peer: usize| peers[peer % peers.len()];
        let (Said::Up { peer, .. }
        | Said::Down { peer, .. }
        | Said::Routes { peer, .. }
        | Said::EndOfRib { peer, .. }
        | Said::Statistics { peer, .. }
        | Said::Mirrored { peer }) = said;
        let peer = pick(*peer);
        let id = (input, peer);
        if peer == UNANNOUNCED_PEER && matches!(said, Said::Up { .. }) {
            return vec![];
        }
        let may_say = self.may_say(number, input, peer, said, before, claims);
        if let Said::Up { port, view, time, .. } = said {
            let up = world::up_at(peer, *port, *view, *time);
            if !may_say {
                return up;
            }
            let is_new = self.peers.get(&id).is_none_or(|known| known.peer.clone().comes_up(&up));
            if is_new {
                for other in self.alike(input, peer, true) {
                    if self.peers[&(input, other)].away {
                        self.peers.remove(&(input, other));
                    }
                }
            }
            let known = self.peers.entry(id).or_default();
            if known.peer.comes_up(&up) {
                *known = Known { peer: std::mem::take(&mut known.peer), owner: number, ..Known::default() };
            } else {
                known.comes_back(number);
            }
            return up;
        }
        if let Said::Routes { .. } | Said::EndOfRib { .. } = said
            && peer == UNANNOUNCED_PEER
            && may_say
        {
            self.peers.entry(id).or_default().comes_back(number);
        }
        // What is said of a peer of others, or of one that looks like another one, is about something that nobody knows.
        let is_of_other = !may_say || !self.peers.contains_key(&id) && !self.alike(input, peer, true).is_empty();
        if !is_of_other && self.peers.get(&id).is_none_or(|known| known.away) {
            return vec![];
        }
        let is_its_own = !is_of_other;
        let mut other = self.peers.get(&id).cloned().unwrap_or_default();
        let known = if is_its_own { self.peers.get_mut(&id).unwrap() } else { &mut other };
        match said {
            Said::Up { .. } => unreachable!("said above"),
            Said::Down { code, .. } => {
                if is_its_own {
                    self.peers.remove(&id);
                }
                world::down(peer, *code)
            }
            Said::Routes { view, time, set, parts, otherwise, .. } => {
                let view = view_of_peer(peer, *view);
                let mut update = Vec::new();
                for (family, withdrawn, announced) in parts {
                    let family = FAMILIES[*family];
                    let name = |route: &Route| world::name(peer, family, *route, *otherwise);
                    // Nobody says a route twice in one UPDATE.
                    let once = |routes: &[Route]| -> Vec<Route> {
                        let by_name: BTreeMap<_, _> = routes.iter().map(|route| (name(route), *route)).collect();
                        by_name.into_values().collect()
                    };
                    let (withdrawn, announced) = (once(withdrawn), once(announced));
                    withdrawn.iter().chain(&announced).for_each(|route| known.says(&(view, family, name(route))));
                    let routes = known.peer.ribs.entry((view, family)).or_default();
                    withdrawn.iter().for_each(|route| drop(routes.remove(&name(route))));
                    if !announced.is_empty() {
                        known.made.insert((view, family));
                    }
                    if *otherwise {
                        known.mixed.insert((view, family));
                    }
                    for route in &announced {
                        routes.insert(name(route), world::said(*set, family, route.variant));
                    }
                    update.push(Part { family, withdrawn, announced });
                }
                if update.iter().all(|part| part.withdrawn.is_empty() && part.announced.is_empty()) {
                    known.peer.ends.insert((view, Family::IPV4_UNICAST));
                    known.sweep(|its, family| (its, family) == (view, Family::IPV4_UNICAST));
                }
                world::update_otherwise(peer, view, *time, *set, &update, *otherwise)
            }
            Said::EndOfRib { view, family, .. } => {
                let (view, family) = (view_of_peer(peer, *view), FAMILIES[*family]);
                known.peer.ends.insert((view, family));
                known.sweep(|its, other| (its, other) == (view, family));
                world::end_of_rib(peer, view, family)
            }
            Said::Statistics { value, .. } => {
                let frame = world::statistics(peer, *value);
                known.peer.statistics = Some(frame.clone());
                frame
            }
            Said::Mirrored { .. } => world::mirrored(peer),
        }
    }

    fn quiet(&mut self, connection: usize) {
        let number = self.connections[connection];
        for known in self.peers.values_mut().filter(|known| known.owner == number && !known.peer.ups.is_empty()) {
            known.peer.ends.extend(&known.made);
        }
    }

    fn disconnect(&mut self, connection: usize) {
        let before = self.connect(connection);
        self.peers.retain(|_, known| known.owner != before);
    }

    /// The number of the connection that went away.
    fn hold(&mut self, connection: usize) -> u64 {
        let before = self.connect(connection);
        for known in self.peers.values_mut().filter(|known| known.owner == before) {
            known.away = true;
            known.back = None;
            known.set_stale();
        }
        before
    }

    /// It is known now that the connection of this number is gone.
    fn notice(&mut self, gone: u64) {
        self.lost.remove(&gone);
        self.peers.retain(|_, known| known.owner != gone);
        self.release(gone);
    }

    fn release(&mut self, gone: u64) {
        self.peers.retain(|_, known| !known.away || known.owner != gone);
        for known in self.peers.values_mut().filter(|known| known.back == Some(gone)) {
            known.back = None;
            known.sweep(|_, _| true);
        }
    }

    /// What a station with a selection may know of a peer: of which input is its own choice.
    fn candidates(&self, selection: usize, number: u8) -> Vec<(Peer, Stale)> {
        let of = |input: &'static str| {
            let known = self.peers.get(&(input, number))?;
            if !selects(selection, input, number, None) {
                return None;
            }
            let mut peer = known.peer.clone();
            peer.ribs.retain(|rib, _| selects(selection, input, number, Some(*rib)));
            peer.ends.retain(|rib| selects(selection, input, number, Some(*rib)));
            Some((peer, known.all_stale()))
        };
        ["frr", "gobgp"].into_iter().filter_map(of).collect()
    }

    /// How many routes the feed has to count in a RIB; `None` if what it counts are fields, or may be fewer.
    fn routes(&self, input: &str, number: u8, rib: &RibRoutes) -> Option<usize> {
        let known =
            self.peers.iter().find(|((its, peer), _)| (*its, *peer) == (input, number)).map(|(_, known)| known)?;
        let at = (rib.view, rib.family);
        let counts =
            rib.is_decided && !known.mixed.contains(&at) && !known.all_stale().iter().any(|(v, f, _)| (*v, *f) == at);
        counts.then(|| known.peer.ribs.get(&at).map_or(0, BTreeMap::len))
    }
}

struct Station {
    follower: Follower,
    reader: Reader,
    selection: usize,
}

impl Station {
    fn new(feed: &Feed, number: usize) -> Self {
        Self { follower: feed.attach(selection(number)), reader: Reader::default(), selection: number }
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
        }
        !pieces.is_empty()
    }
}

fn check(stations: &mut [Station], truth: &Truth) {
    for (number, station) in stations.iter_mut().enumerate() {
        while station.take(2000) {}
        assert_eq!(station.follower.lag_bytes(), 0);
        for peer in 0..7 {
            let mut known = station.reader.peers.get(&peer).cloned().map(Peer::tidy);
            // What was selected once may have ended; that cannot be taken back.
            let selected = |rib: &(View, Family)| {
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
fn append(input: &mut Input, mut bytes: Bytes, claims: Vec<Expected>, lost: &mut [Option<(Input, u64)>]) {
    let (mut offset, block) = (0, bytes.len());
    let mut expected = claims.into_iter();
    while let Some(claim) = input.offer(bytes.clone(), block).unwrap() {
        let Expected { at, owner, is_gone } = expected.next().expect("no such claim");
        offset += claim.at;
        assert_eq!((offset, claim.owner), (at, owner));
        if is_gone {
            let of_owner = |lost: &&mut Option<(Input, u64)>| lost.as_ref().is_some_and(|(_, number)| *number == owner);
            *lost.iter_mut().find(of_owner).expect("it is lost") = None;
        } else {
            input.refuse(&claim);
        }
        bytes = bytes.slice(claim.at..);
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
        let mut inputs = CONNECTIONS.map(|(name, _)| feed.input(name));
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
                    inputs[*connection] = feed.input(CONNECTIONS[*connection].0);
                }
                Step::Hold { connection } => {
                    let away = std::mem::replace(&mut inputs[*connection], feed.input(CONNECTIONS[*connection].0)).hold();
                    let number = truth.hold(*connection);
                    let before = held[*connection].replace((away, number));
                    before.into_iter().for_each(|(_, number)| truth.release(number));
                }
                Step::Cut { connection } => {
                    let before = std::mem::replace(&mut inputs[*connection], feed.input(CONNECTIONS[*connection].0));
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
                check(&mut stations, &truth);
            }
        }
        check(&mut stations, &truth);
        for peer in feed.peers() {
            for rib in peer.ribs() {
                if let Some(routes) = truth.routes(peer.input(), world::peer_number(peer.header()), rib) {
                    prop_assert_eq!(rib.routes, routes, "{:?}", rib);
                }
            }
        }
        drop(inputs);
        drop(lost);
        drop(held);
        check(&mut stations, &Truth::default());
        // What nobody needs any more is forgotten when something else is said.
        let said = world::statistics(9, 0);
        let block = said.len();
        feed.input("last").append(Bytes::from(said), block).unwrap();
        let stats = feed.stats();
        prop_assert_eq!((stats.routes, stats.attribute_sets, stats.withdrawals, stats.peers), (0, 0, 0, 0));
    }
}
