//! What `display bgp peer` shows.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Reason, fsm::State, updates::Counters};
use crate::{
    feed::{Feed, View, names},
    wire::bgp::{Family, MessageType},
};

/// The BGP peers; clones show the same peers.
#[derive(Clone, Debug, Default)]
pub struct Peers(Arc<Registry>);

#[derive(Debug, Default)]
struct Registry {
    peers: Mutex<BTreeMap<IpAddr, Arc<Shown>>>,
    listener: Mutex<ListenerStatus>,
}

/// Messages by type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounts([u64; MessageType::ALL.len()]);

impl MessageCounts {
    /// How many there are of a type.
    pub fn of(&self, message: MessageType) -> u64 {
        self.0[usize::from(message.code()) - 1]
    }

    /// How many there are in all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// One peer at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its address.
    pub address: IpAddr,
    /// Its AS number, if one is configured.
    pub asn: Option<u32>,
    /// The state of the connection that has come farthest.
    pub state: State,
    /// How long it has been established, or has not been.
    pub age: Duration,
    /// Why it is not established, or how the session before ended, in a word.
    pub reason: Option<Reason>,
    /// The same in words.
    pub last_error: Option<String>,
    /// Messages that came, on all connections since the peer was configured.
    pub received: MessageCounts,
    /// Messages that were sent.
    pub sent: MessageCounts,
    /// Routes in the Adj-RIB-In of each family.
    pub routes: Vec<(Family, usize)>,
    /// What the session has that is established, if one is.
    pub session: Option<Session>,
    /// How often it has been established.
    pub established_count: u64,
    /// How long it takes until the peer is tried again, if it is left alone for now.
    pub retry_in: Option<Duration>,
    /// How long the routes of a peer that is restarting stay (RFC 4724), if one is.
    pub restart_left: Option<Duration>,
    /// Routes that it has not announced again since it restarted, or since a route refresh began.
    pub stale: usize,
    /// UPDATEs of this session, or the one before, whose routes were treated as withdrawn (RFC 7606
    /// §2).
    pub treated_as_withdraw: u32,
    /// Routes that these announced.
    pub prefixes_treated_as_withdraw: u32,
    /// UPDATEs of this session, or the one before, of which attributes were discarded (RFC 7606
    /// §2).
    pub attributes_discarded: u64,
    /// What was wrong with the last UPDATE of either kind.
    pub last_fault: Option<String>,
    /// UPDATEs of this session, or the one before, for families that were not negotiated, which are not passed on.
    pub not_negotiated: u64,
}

/// Where a peer is by now, as far as a change of its configuration is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// The state of the connection that has come farthest.
    pub state: State,
    /// Another number each time that it is begun anew, by changes of its configuration or of its pins.
    pub started: u64,
    /// How often it has been established.
    pub established_count: u64,
    /// What has failed since it was begun anew, if anything has.
    pub failure: Option<String>,
    /// How long it takes until the peer is tried again, if it is left alone for now.
    pub retry_in: Option<Duration>,
}

/// What an established session has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Negotiated hold time; zero for none.
    pub hold: Duration,
    /// Time between the KEEPALIVEs that are sent; zero for none.
    pub keepalive: Duration,
    /// The peer's BGP identifier.
    pub bgp_id: Ipv4Addr,
    /// The capabilities of its OPEN, in words.
    pub capabilities: Vec<String>,
    /// The families that both ends have.
    pub families: Vec<Family>,
    /// This end of the connection.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
}

/// How the listener does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerStatus {
    /// `listen-port N`.
    pub port: Option<u16>,
    /// Whether a socket of either IP version listens.
    pub listens: bool,
    /// Why it does not listen, or not for all, if that is so.
    pub trouble: Option<String>,
    /// Connections that were closed at once, because they were from nobody's peer.
    pub refused: u64,
}

impl Peers {
    /// The peers that are configured, by address. `feed` is the feed that they feed.
    pub fn snapshot(&self, feed: &Feed) -> Vec<PeerStatus> {
        let peers: Vec<Arc<Shown>> = lock(&self.0.peers).values().cloned().collect();
        peers.iter().map(|shown| shown.status(feed)).collect()
    }

    /// Which peers are configured, in order.
    pub fn addresses(&self) -> Vec<IpAddr> {
        lock(&self.0.peers).keys().copied().collect()
    }

    /// One of them; `None` where there is none of that address by now.
    pub fn peer(&self, address: IpAddr, feed: &Feed) -> Option<PeerStatus> {
        let shown = lock(&self.0.peers).get(&address).cloned()?;
        Some(shown.status(feed))
    }

    /// Where one peer is; `None` where there is none.
    pub fn progress(&self, address: IpAddr) -> Option<PeerProgress> {
        let shown = lock(&self.0.peers).get(&address).cloned()?;
        let now = lock(&shown.now);
        Some(PeerProgress {
            state: now.state,
            started: now.started,
            established_count: now.established_count,
            failure: now.last_error.clone().filter(|_| now.has_failed),
            retry_in: left(now.retry_at),
        })
    }

    /// How the listener does.
    pub fn listener(&self) -> ListenerStatus {
        lock(&self.0.listener).clone()
    }

    pub(super) fn change_listener(&self, change: impl FnOnce(&mut ListenerStatus)) {
        change(&mut lock(&self.0.listener));
    }

    /// Shows a peer for as long as what this gives lives.
    pub(super) fn register(&self, address: IpAddr, asn: Option<u32>) -> Registered {
        let (received, sent) = Default::default();
        let shown = Arc::new(Shown { address, asn, now: Mutex::default(), received, sent });
        lock(&self.0.peers).insert(address, Arc::clone(&shown));
        Registered { peers: self.clone(), shown: Handle(shown) }
    }
}

type Counts = [AtomicU64; MessageType::ALL.len()];

#[derive(Debug)]
struct Shown {
    address: IpAddr,
    asn: Option<u32>,
    now: Mutex<Now>,
    received: Counts,
    sent: Counts,
}

/// How often any peer was begun: each time has a number of its own, also where a peer is configured as another one.
static STARTS: AtomicU64 = AtomicU64::new(0);

/// What changes with the state.
#[derive(Clone, Debug)]
pub(super) struct Now {
    pub(super) state: State,
    pub(super) since: Instant,
    pub(super) reason: Option<Reason>,
    pub(super) last_error: Option<String>,
    /// Whether that is of what was begun last, and not of what was before.
    pub(super) has_failed: bool,
    pub(super) started: u64,
    pub(super) session: Option<Session>,
    pub(super) established_count: u64,
    pub(super) retry_at: Option<Instant>,
    pub(super) restart_until: Option<Instant>,
    pub(super) stale: usize,
    pub(super) counters: Counters,
}

impl Default for Now {
    fn default() -> Self {
        Self {
            state: State::Idle,
            since: Instant::now(),
            reason: None,
            last_error: None,
            has_failed: false,
            started: 0,
            session: None,
            established_count: 0,
            retry_at: None,
            restart_until: None,
            stale: 0,
            counters: Counters::default(),
        }
    }
}

impl Now {
    /// The peer is begun anew.
    pub(super) fn begin(&mut self) {
        self.started = STARTS.fetch_add(1, Ordering::Relaxed) + 1;
        self.has_failed = false;
    }

    pub(super) fn fail(&mut self, reason: Reason, why: String) {
        self.reason = Some(reason);
        self.last_error = Some(why);
        self.has_failed = true;
    }
}

/// How long it is until then.
fn left(at: Option<Instant>) -> Option<Duration> {
    at.map(|at| at.saturating_duration_since(tokio::time::Instant::now().into_std()))
}

impl Shown {
    fn status(&self, feed: &Feed) -> PeerStatus {
        let now = lock(&self.now).clone();
        let load = |counts: &Counts| MessageCounts(counts.each_ref().map(|count| count.load(Ordering::Relaxed)));
        let ribs = feed.ribs(&names::of_bgp_peer(self.address)).into_iter().filter(|rib| rib.view == View::AdjRibInPre);
        PeerStatus {
            address: self.address,
            asn: self.asn,
            state: now.state,
            age: now.since.elapsed(),
            reason: now.reason,
            last_error: now.last_error,
            received: load(&self.received),
            sent: load(&self.sent),
            routes: ribs.map(|rib| (rib.family, rib.routes)).collect(),
            session: now.session,
            established_count: now.established_count,
            retry_in: left(now.retry_at),
            restart_left: left(now.restart_until),
            stale: now.stale,
            treated_as_withdraw: now.counters.treated_as_withdraw,
            prefixes_treated_as_withdraw: now.counters.prefixes_treated_as_withdraw,
            attributes_discarded: now.counters.attributes_discarded,
            last_fault: now.counters.last_fault.map(|problem| problem.to_string()),
            not_negotiated: now.counters.not_negotiated,
        }
    }
}

/// A peer that is configured. Its tasks come and go.
#[derive(Debug)]
pub(super) struct Registered {
    peers: Peers,
    pub(super) shown: Handle,
}

/// A peer as its task sees it.
#[derive(Clone, Debug)]
pub(super) struct Handle(Arc<Shown>);

impl Handle {
    pub(super) fn change(&self, change: impl FnOnce(&mut Now)) {
        change(&mut lock(&self.0.now));
    }

    pub(super) fn received(&self, message: MessageType, messages: u64) {
        self.0.received[usize::from(message.code()) - 1].fetch_add(messages, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, message: MessageType) {
        self.0.sent[usize::from(message.code()) - 1].fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let (mut peers, Handle(own)) = (lock(&self.peers.0.peers), &self.shown);
        if peers.get(&own.address).is_some_and(|shown| Arc::ptr_eq(shown, own)) {
            peers.remove(&own.address);
        }
    }
}

/// These hold values for display: a holder that panicked left one that is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
