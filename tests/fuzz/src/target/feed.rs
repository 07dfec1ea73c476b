//! The feed as a whole. Two daemons send anything, come and go. Others claim their peers on the
//! same relays. Stations follow live, late and slowly.

use std::collections::BTreeMap;

use bmp_user::{
    feed::{Claim, Feed, HeldPeers, Input, InputId},
    input::relay::BmpReceiver,
    wire::bmp::{PeerIdentity, PeerKey},
};

use crate::{
    lab::{FollowingStation, send_claiming},
    memory::within,
    station::{KnownPeer, RibReadings},
};

const NAMES: [&str; 2] = ["frr", "gobgp"];
/// Number of daemons: two on each relay.
const DAEMONS: usize = 2 * NAMES.len();
/// Bit of a step's first byte: the step is about the second daemon of a relay.
const SECOND: u8 = 0x10;
/// Bit of a step's first byte: the owner of claimed peers is gone.
const GONE: u8 = 0x20;
/// Bytes of the journal: so few that even a short history exceeds them.
const JOURNAL: usize = 4000;
/// Bytes of the withdrawals, few for the same reason.
const WITHDRAWALS: usize = 1000;

/// Plays a history of [`HistoryStep`]s. At its end, all stations that follow the same daemon must
/// know the same.
pub fn feed(history: &[u8]) {
    // Each daemon has buffers, each RIB has tables, and each route has its place in them. A few
    // bytes of UPDATE may have many routes.
    within(4 << 20, 4096, history.len(), || play(history));
}

/// A step of a history.
#[derive(Debug, PartialEq, Eq)]
pub enum HistoryStep<'a> {
    /// A daemon sends bytes. Two bytes of length precede them.
    Send(usize, &'a [u8]),
    /// A daemon sends bytes, and the owner of peers that it claims is gone.
    Claim(usize, &'a [u8]),
    /// A daemon's connection ends, and a new one begins.
    Reconnect(usize),
    /// A daemon's connection ends, and its peers are held. Earlier held ones are released.
    Hold(usize),
    /// A daemon's held peers are released.
    Release(usize),
    /// A daemon has been quiet.
    Quiet(usize),
    /// The slow station reads about this many bytes.
    Take(usize),
    /// The slow station loses its connection and connects again.
    Return,
}

impl<'a> HistoryStep<'a> {
    /// Takes the next step from a history.
    fn take(history: &mut &'a [u8]) -> Option<Self> {
        let (&first, rest) = history.split_first()?;
        *history = rest;
        let daemon = usize::from(first & 1) + if first & SECOND == 0 { 0 } else { NAMES.len() };
        Some(match first >> 1 & 7 {
            0 => Self::Reconnect(daemon),
            1 => Self::Hold(daemon),
            2 => Self::Release(daemon),
            3 if first & 1 == 1 => Self::Return,
            3 => {
                let (&bytes, rest) = history.split_first()?;
                *history = rest;
                Self::Take(16 * usize::from(bytes))
            }
            7 => Self::Quiet(daemon),
            _ => {
                let (&[high, low], rest) = history.split_first_chunk()?;
                let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
                let (sent, rest) = rest.split_at(length);
                *history = rest;
                if first & GONE == 0 { Self::Send(daemon, sent) } else { Self::Claim(daemon, sent) }
            }
        })
    }

    /// Appends the step to a history.
    pub fn put(&self, history: &mut Vec<u8>) {
        let byte = |daemon: usize, what: u8| {
            u8::from(daemon % NAMES.len() == 1) | what << 1 | if daemon < NAMES.len() { 0 } else { SECOND }
        };
        let gone = if matches!(self, Self::Claim(..)) { GONE } else { 0 };
        match *self {
            Self::Reconnect(daemon) => history.push(byte(daemon, 0)),
            Self::Hold(daemon) => history.push(byte(daemon, 1)),
            Self::Release(daemon) => history.push(byte(daemon, 2)),
            Self::Quiet(daemon) => history.push(byte(daemon, 7)),
            Self::Return => history.push(byte(1, 3)),
            Self::Take(bytes) => history.extend([byte(0, 3), u8::try_from(bytes / 16).unwrap_or(u8::MAX)]),
            Self::Send(daemon, sent) | Self::Claim(daemon, sent) => {
                for piece in sent.chunks(usize::from(u16::MAX)) {
                    history.push(byte(daemon, 4) | gone);
                    history.extend(u16::try_from(piece.len()).unwrap_or(u16::MAX).to_be_bytes());
                    history.extend(piece);
                }
            }
        }
    }
}

/// One connection of a daemon, and the held peers of the one before.
struct FuzzDaemon {
    input: Input,
    receiver: BmpReceiver,
    held: Option<HeldPeers>,
}

impl FuzzDaemon {
    fn connect(feed: &Feed, number: usize) -> Self {
        Self {
            input: feed.input(InputId::relay(NAMES[number % NAMES.len()])),
            receiver: BmpReceiver::default(),
            held: None,
        }
    }

    /// Ends the connection as the relay does, and begins a new one.
    fn reconnect(&mut self, feed: &Feed, number: usize, hold: bool) {
        let before = std::mem::replace(&mut self.input, feed.input(InputId::relay(NAMES[number % NAMES.len()])));
        self.receiver = BmpReceiver::default();
        if hold {
            self.held = Some(before.hold());
        }
    }
}

/// Sends bytes of a daemon. Returns false if its connection must be closed. `is_gone` says whether
/// the owners of claimed peers are gone.
fn send(feed: &Feed, daemons: &mut [FuzzDaemon; DAEMONS], number: usize, bytes: &[u8], is_gone: bool) -> bool {
    let mut sender = std::mem::replace(&mut daemons[number], FuzzDaemon::connect(feed, number));
    let mut is_alive = |claim: &Claim| {
        let owner = daemons.iter_mut().enumerate().find(|(_, daemon)| daemon.input.connection() == claim.owner);
        let (owner, daemon) = owner.expect("the owner of a peer is connected");
        if is_gone {
            daemon.reconnect(feed, owner, false);
        }
        !is_gone
    };
    let sent = send_claiming(bytes, &mut sender.receiver, &mut sender.input, &mut is_alive);
    daemons[number] = sender;
    match sent {
        Ok(None) => return true,
        Ok(Some(goodbye)) => assert!(!goodbye.to_string().is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    false
}

fn play(mut history: &[u8]) {
    let feed = Feed::new(JOURNAL, WITHDRAWALS);
    let mut daemons: [FuzzDaemon; DAEMONS] = std::array::from_fn(|number| FuzzDaemon::connect(&feed, number));
    let mut early = NAMES.map(|name| FollowingStation::of(&feed, Some(InputId::relay(name))));
    let mut slow = FollowingStation::of(&feed, None);
    while let Some(step) = HistoryStep::take(&mut history) {
        let is_gone = matches!(step, HistoryStep::Claim(..));
        match step {
            HistoryStep::Send(number, bytes) | HistoryStep::Claim(number, bytes) => {
                if !send(&feed, &mut daemons, number, bytes, is_gone) {
                    daemons[number].reconnect(&feed, number, false);
                }
            }
            HistoryStep::Reconnect(number) => daemons[number].reconnect(&feed, number, false),
            HistoryStep::Hold(number) => daemons[number].reconnect(&feed, number, true),
            HistoryStep::Release(number) => drop(daemons[number].held.take()),
            HistoryStep::Quiet(number) => {
                let since = daemons[number].input.applied();
                daemons[number].input.end_quiet_ribs(since);
                assert_eq!(daemons[number].input.end_quiet_ribs(since), 0, "a quiet RIB ended twice");
            }
            HistoryStep::Take(bytes) => drop(slow.take(bytes)),
            HistoryStep::Return => slow = FollowingStation::of(&feed, None),
        }
        for station in &mut early {
            station.take_all();
        }
        assert!(feed.stats().withdrawal_bytes <= WITHDRAWALS, "{:?}", feed.stats());
    }
    agree(&feed, &mut early, &mut slow);
    for daemon in &mut daemons {
        daemon.held = None;
    }
    agree(&feed, &mut early, &mut slow);
    drop(daemons);
    agree(&feed, &mut early, &mut slow);
    let stats = feed.stats();
    assert_eq!((stats.peers, stats.routes, stats.attribute_sets), (0, 0, 0));
}

/// Checks the replica property: an early station knows what a new one knows and what the feed
/// counts. The slow station knows each peer as one daemon has it.
fn agree(feed: &Feed, early: &mut [FollowingStation; 2], slow: &mut FollowingStation) {
    let mut readings = Vec::new();
    for (station, name) in early.iter_mut().zip(NAMES) {
        let early = station.take_all();
        let as_early = early.readings();
        let mut late = FollowingStation::of(feed, Some(InputId::relay(name)));
        let (live, dumped) = (early.knows(), late.take_all().knows_as(&as_early));
        for key in live.keys().chain(dumped.keys()) {
            assert_eq!(live.get(key), dumped.get(key), "live and late differ: {key:?} of {name}");
        }
        let (live_strict, late_strict) = (station.strict().knows_as(&as_early), late.strict().knows_as(&as_early));
        for key in live_strict.keys().chain(late_strict.keys()) {
            let (live, late) = (live_strict.get(key), late_strict.get(key));
            assert_eq!(live, late, "live and late differ by RFC 7854: {key:?} of {name}");
        }
        for peer in feed.peers().iter().filter(|peer| *peer.input() == InputId::relay(name)) {
            let known = live.get(&peer.header().identity());
            for rib in peer.ribs().iter().filter(|rib| rib.is_decided) {
                let routes = known.and_then(|known| known.ribs.get(&(rib.view, rib.family)));
                assert_eq!(routes.map_or(0, BTreeMap::len), rib.routes, "{rib:?} of {name}");
            }
        }
        readings.push(as_early);
    }
    // A peer without Peer Up and routes still exists: the feed reports no other daemon's peer that
    // looks the same beside it. Of peers that look the same, the slow station must know all of one
    // daemon's.
    let by_key = |peers: BTreeMap<PeerIdentity, KnownPeer>| {
        let mut all: BTreeMap<PeerKey, BTreeMap<PeerIdentity, KnownPeer>> = BTreeMap::new();
        for (identity, peer) in peers {
            all.entry(identity.key).or_default().insert(identity, peer.tidy());
        }
        all
    };
    let slow = slow.take_all().clone();
    let both = |(station, readings): (&FollowingStation, &RibReadings)| {
        (by_key(station.station().all_as(readings)), by_key(slow.all_as(readings)))
    };
    let by_station: Vec<_> = early.iter().zip(&readings).map(both).collect();
    let without_empty = |peers: &BTreeMap<PeerIdentity, KnownPeer>| {
        let mut peers = peers.clone();
        peers.retain(|_, peer| *peer != KnownPeer::default());
        peers
    };
    for key in by_station.iter().flat_map(|(early, slow)| early.keys().chain(slow.keys())) {
        let fits = |(early, slow): &(BTreeMap<PeerKey, _>, BTreeMap<PeerKey, _>)| {
            let slow = slow.get(key).map(without_empty).unwrap_or_default();
            early.get(key).is_some_and(|known| without_empty(known) == slow)
        };
        let found = || by_station.iter().map(|(one, two)| (one.get(key), two.get(key))).collect::<Vec<_>>();
        assert!(by_station.iter().any(fits), "{key:?}: {:?}", found());
    }
}
