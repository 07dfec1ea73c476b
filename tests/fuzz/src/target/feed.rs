//! The feed as a whole: two daemons that send whatever they send, come and go, and stations that are told of it live, late and slowly.

use std::collections::BTreeMap;

use bmp_user::{
    feed::{Feed, Held, Input},
    input::relay::Receiver,
};

use crate::{
    lab::{Told, send},
    memory::within,
    station::Peer,
};

const NAMES: [&str; 2] = ["frr", "gobgp"];
/// Small, so that even a short history falls off it.
const JOURNAL: usize = 4000;
const WITHDRAWALS: usize = 1000;

/// A history: see [`Step`]. At its end every station knows what every other does that was told of the same daemon.
pub fn feed(history: &[u8]) {
    // Each daemon has buffers, each RIB tables, and each route, of which an UPDATE of few bytes may have many, its place in them.
    within(4 << 20, 4096, history.len(), || play(history));
}

/// What happens next, as the first byte says it.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A daemon sends: the two bytes of length, and as many.
    Send(usize, &'a [u8]),
    /// It goes away, and another connection comes.
    Reconnect(usize),
    /// It goes away and is held; what was held of it before is not any more.
    Hold(usize),
    /// What is held of it is not any more.
    Release(usize),
    /// It has been quiet.
    Quiet(usize),
    /// The slow station reads about so many bytes.
    Take(usize),
    /// The slow station loses its connection and comes back.
    Return,
}

impl<'a> Step<'a> {
    /// Takes the next step off a history.
    fn take(history: &mut &'a [u8]) -> Option<Self> {
        let (&first, rest) = history.split_first()?;
        *history = rest;
        let daemon = usize::from(first & 1);
        Some(match first >> 1 & 7 {
            0 => Self::Reconnect(daemon),
            1 => Self::Hold(daemon),
            2 => Self::Release(daemon),
            3 if daemon == 1 => Self::Return,
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
                Self::Send(daemon, sent)
            }
        })
    }

    /// Appends it to a history.
    pub fn put(&self, history: &mut Vec<u8>) {
        let byte = |daemon: usize, what: u8| u8::from(daemon == 1) | what << 1;
        match *self {
            Self::Reconnect(daemon) => history.push(byte(daemon, 0)),
            Self::Hold(daemon) => history.push(byte(daemon, 1)),
            Self::Release(daemon) => history.push(byte(daemon, 2)),
            Self::Quiet(daemon) => history.push(byte(daemon, 7)),
            Self::Return => history.push(byte(1, 3)),
            Self::Take(bytes) => history.extend([byte(0, 3), u8::try_from(bytes / 16).unwrap_or(u8::MAX)]),
            Self::Send(daemon, sent) => {
                for piece in sent.chunks(usize::from(u16::MAX)) {
                    history.push(byte(daemon, 4));
                    history.extend(u16::try_from(piece.len()).unwrap_or(u16::MAX).to_be_bytes());
                    history.extend(piece);
                }
            }
        }
    }
}

/// One connection of a daemon, and what is held of the one before.
struct Daemon {
    input: Input,
    receiver: Receiver,
    held: Option<Held>,
}

impl Daemon {
    fn connect(feed: &Feed, number: usize) -> Self {
        Self { input: feed.input(NAMES[number]), receiver: Receiver::default(), held: None }
    }

    /// Its connection is closed, as the relay does it, and another comes.
    fn reconnect(&mut self, feed: &Feed, number: usize, hold: bool) {
        let before = std::mem::replace(&mut self.input, feed.input(NAMES[number]));
        self.receiver = Receiver::default();
        if hold {
            self.held = Some(before.hold());
        }
    }

    /// False if the connection has to be closed.
    fn send(&mut self, bytes: &[u8]) -> bool {
        match send(bytes, &mut self.receiver, &mut self.input) {
            Ok(None) => return true,
            Ok(Some(goodbye)) => assert!(!goodbye.to_string().is_empty()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        false
    }
}

fn play(mut history: &[u8]) {
    let feed = Feed::new(JOURNAL, WITHDRAWALS);
    let mut daemons = [0, 1].map(|number| Daemon::connect(&feed, number));
    let mut early = NAMES.map(|name| Told::of(&feed, Some(name)));
    let mut slow = Told::of(&feed, None);
    while let Some(step) = Step::take(&mut history) {
        match step {
            Step::Send(number, bytes) => {
                if !daemons[number].send(bytes) {
                    daemons[number].reconnect(&feed, number, false);
                }
            }
            Step::Reconnect(number) => daemons[number].reconnect(&feed, number, false),
            Step::Hold(number) => daemons[number].reconnect(&feed, number, true),
            Step::Release(number) => drop(daemons[number].held.take()),
            Step::Quiet(number) => {
                let since = daemons[number].input.applied();
                daemons[number].input.end_quiet_ribs(since);
                assert_eq!(daemons[number].input.end_quiet_ribs(since), 0, "once");
            }
            Step::Take(bytes) => drop(slow.take(bytes)),
            Step::Return => slow = Told::of(&feed, None),
        }
        for told in &mut early {
            told.take_all();
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

/// Whoever was there from the beginning knows what one does who comes now, and what the feed counts; and the slow one knows each peer as
/// one of the daemons has it.
fn agree(feed: &Feed, early: &mut [Told; 2], slow: &mut Told) {
    let mut routes = 0;
    for (told, name) in early.iter_mut().zip(NAMES) {
        let early = told.take_all();
        let mut late = Told::of(feed, Some(name));
        let late = late.take_all();
        let (live, dumped) = (early.knows(), late.knows());
        for key in live.keys().chain(dumped.keys()) {
            assert_eq!(live.get(key), dumped.get(key), "live and late: {key:?} of {name}");
        }
        routes += late.routes();
    }
    assert_eq!(routes, feed.stats().routes);
    // A peer that was never announced and has no routes is there all the same: another daemon's that looks the same is not told beside it.
    let heard_of: Vec<BTreeMap<_, _>> = early
        .iter()
        .map(|told| told.station().peers.iter().map(|(key, peer)| (*key, peer.clone().tidy())).collect())
        .collect();
    let told = slow.take_all().knows();
    let nothing = Peer::default();
    for key in heard_of.iter().flat_map(|heard| heard.keys()).chain(told.keys()) {
        let candidates: Vec<_> = heard_of.iter().filter_map(|heard| heard.get(key)).collect();
        let told = told.get(key).unwrap_or(&nothing);
        assert!(candidates.contains(&told), "{key:?}: {told:?}, and not one of {candidates:?}");
    }
}
