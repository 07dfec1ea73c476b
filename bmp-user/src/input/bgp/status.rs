//! The status of BGP peers for `display bgp peer`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{fsm::BgpState, reason::BgpDownReason, updates::UpdateCounters};
use crate::{
    feed::{Feed, InputId},
    pin,
    wire::{
        bgp::{Family, MessageType},
        bmp::RibView,
    },
};

/// The configured BGP peers. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct BgpPeers(Arc<PeerRegistry>);

#[derive(Debug, Default)]
struct PeerRegistry {
    peers: Mutex<BTreeMap<IpAddr, Arc<PeerEntry>>>,
    listener: Mutex<ListenerStatus>,
}

/// Message counts by type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounts([u64; MessageType::ALL.len()]);

impl MessageCounts {
    /// Returns the number of messages of a type.
    pub fn count(&self, message: MessageType) -> u64 {
        self.0[usize::from(message.code()) - 1]
    }

    /// Returns the number of all messages.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// The status of one peer at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The address of the peer.
    pub address: IpAddr,
    /// The configured AS number.
    pub asn: Option<u32>,
    /// The state of the more advanced connection.
    pub state: BgpState,
    /// How long the peer has been established, or not established.
    pub age: Duration,
    /// Why the peer is not established, or why the previous session ended.
    pub reason: Option<BgpDownReason>,
    /// The same reason in words.
    pub last_error: Option<String>,
    /// Messages received since the peer was configured, on all connections.
    pub received: MessageCounts,
    /// Messages sent since the peer was configured, on all connections.
    pub sent: MessageCounts,
    /// Routes in the Adj-RIB-In of each family.
    pub routes: Vec<(Family, usize)>,
    /// The established session.
    pub session: Option<EstablishedSession>,
    /// How often a session has been established.
    pub established_count: u64,
    /// How often a session was closed because the peer had more routes than `maximum-routes`.
    pub closed_for_routes: u64,
    /// How often a session was closed because of `memory-limit`.
    pub closed_for_memory: u64,
    /// The time until the next attempt, if the peer is waiting after a failure.
    pub retry_in: Option<Duration>,
    /// The rest of the restart time (RFC 4724), if the peer is restarting.
    pub restart_left: Option<Duration>,
    /// Routes that the peer has not announced again since a restart or the start of a route
    /// refresh.
    pub stale: usize,
    /// UPDATEs whose routes were treated as withdrawn (RFC 7606 §2), in this session or the
    /// previous one.
    pub treated_as_withdraw: u32,
    /// The routes that those UPDATEs announced.
    pub prefixes_treated_as_withdraw: u32,
    /// UPDATEs with discarded attributes (RFC 7606 §2), in this session or the previous one.
    pub attributes_discarded: u64,
    /// The error in the last of those UPDATEs.
    pub last_fault: Option<String>,
    /// UPDATEs with routes of families that were not negotiated, in this session or the previous
    /// one. Those routes are not passed on.
    pub not_negotiated: u64,
}

/// The progress of a peer after a change of its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// The state of the more advanced connection.
    pub state: BgpState,
    /// A number that changes each time the peer is started again, after a change of configuration
    /// or pin.
    pub started: u64,
    /// How often a session has been established.
    pub established_count: u64,
    /// The failure since the last start, if there was one.
    pub failure: Option<String>,
    /// The time until the next attempt, if the peer is waiting after a failure.
    pub retry_in: Option<Duration>,
}

/// An established session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EstablishedSession {
    /// The negotiated hold time. Zero means none.
    pub hold: Duration,
    /// The interval of our KEEPALIVEs. Zero means none.
    pub keepalive: Duration,
    /// The BGP identifier of the peer.
    pub bgp_id: Ipv4Addr,
    /// The capabilities in the peer's OPEN, in words.
    pub capabilities: Vec<String>,
    /// The negotiated families.
    pub families: Vec<Family>,
    /// The local end of the connection.
    pub local: SocketAddr,
    /// The peer's end of the connection.
    pub remote: SocketAddr,
}

/// The status of the listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerStatus {
    /// The configured `listen-port`.
    pub port: Option<u16>,
    /// True if a socket of any IP version listens.
    pub listens: bool,
    /// Why the listener does not work, or works only in part.
    pub trouble: Option<String>,
    /// Connections that were closed at once, for example from addresses of no peer.
    pub refused: u64,
}

impl BgpPeers {
    /// Returns the status of all configured peers, by address. `feed` is the feed with their
    /// routes.
    pub fn snapshot(&self, feed: &Feed) -> Vec<PeerStatus> {
        let peers: Vec<Arc<PeerEntry>> = lock(&self.0.peers).values().cloned().collect();
        peers.iter().map(|shown| shown.status(feed)).collect()
    }

    /// Returns the addresses of the configured peers, in order.
    pub fn addresses(&self) -> Vec<IpAddr> {
        lock(&self.0.peers).keys().copied().collect()
    }

    /// Returns the status of one peer, or `None` if it is not configured.
    pub fn peer(&self, address: IpAddr, feed: &Feed) -> Option<PeerStatus> {
        let shown = lock(&self.0.peers).get(&address).cloned()?;
        Some(shown.status(feed))
    }

    /// Returns the progress of one peer, or `None` if it is not configured.
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

    /// Closes the session of a peer, or of all peers, and opens it again. Returns false if no such
    /// peer is configured.
    pub fn reset(&self, only: Option<IpAddr>) -> bool {
        let peers = lock(&self.0.peers);
        let mut named = peers.values().filter(|peer| only.is_none_or(|only| only == peer.address)).peekable();
        let is_there = named.peek().is_some();
        named.for_each(|peer| peer.resets.send_modify(|resets| *resets += 1));
        is_there
    }

    /// Returns the status of the listener.
    pub fn listener(&self) -> ListenerStatus {
        lock(&self.0.listener).clone()
    }

    pub(super) fn change_listener(&self, change: impl FnOnce(&mut ListenerStatus)) {
        change(&mut lock(&self.0.listener));
    }

    /// Registers a peer until the returned value is dropped.
    pub(super) fn register(&self, address: IpAddr, asn: Option<u32>) -> PeerRegistration {
        let (received, sent) = Default::default();
        let resets = watch::channel(0).0;
        let shown = Arc::new(PeerEntry { address, asn, now: Mutex::default(), received, sent, resets });
        lock(&self.0.peers).insert(address, Arc::clone(&shown));
        PeerRegistration { peers: self.clone(), shown: PeerStatusHandle(shown) }
    }
}

type AtomicMessageCounts = [AtomicU64; MessageType::ALL.len()];

#[derive(Debug)]
struct PeerEntry {
    address: IpAddr,
    asn: Option<u32>,
    now: Mutex<LivePeerStatus>,
    received: AtomicMessageCounts,
    sent: AtomicMessageCounts,
    /// How often an operator has reset the peer.
    resets: watch::Sender<u64>,
}

/// How many peers have been started. Each start gets a number of its own, even if a peer is
/// replaced by another of its address.
static STARTS: AtomicU64 = AtomicU64::new(0);

/// The changing part of a peer's status.
#[derive(Clone, Debug)]
pub(super) struct LivePeerStatus {
    pub(super) state: BgpState,
    pub(super) since: Instant,
    pub(super) reason: Option<BgpDownReason>,
    pub(super) last_error: Option<String>,
    /// True if `last_error` occurred after the last start.
    pub(super) has_failed: bool,
    /// True if a message of the peer explains `last_error`, since the last start or session: a
    /// NOTIFICATION, or a message that bmpd refused.
    pub(super) is_explained: bool,
    pub(super) started: u64,
    pub(super) session: Option<EstablishedSession>,
    pub(super) established_count: u64,
    pub(super) closed_for_routes: u64,
    pub(super) closed_for_memory: u64,
    pub(super) retry_at: Option<Instant>,
    pub(super) restart_until: Option<Instant>,
    pub(super) stale: usize,
    pub(super) counters: UpdateCounters,
}

impl Default for LivePeerStatus {
    fn default() -> Self {
        Self {
            state: BgpState::Idle,
            since: Instant::now(),
            reason: None,
            last_error: None,
            has_failed: false,
            is_explained: false,
            started: 0,
            session: None,
            established_count: 0,
            closed_for_routes: 0,
            closed_for_memory: 0,
            retry_at: None,
            restart_until: None,
            stale: 0,
            counters: UpdateCounters::default(),
        }
    }
}

impl LivePeerStatus {
    /// Notes that the peer is started again.
    pub(super) fn begin(&mut self) {
        self.started = STARTS.fetch_add(1, Ordering::Relaxed) + 1;
        self.has_failed = false;
        self.is_explained = false;
    }

    /// Notes that a session is established.
    pub(super) fn establish(&mut self, session: EstablishedSession) {
        self.session = Some(session);
        self.established_count += 1;
        self.is_explained = false;
    }

    /// Notes a failure.
    ///
    /// A peer that refuses a session often says why once, and resets or closes its next
    /// connections. Such an end says less than the message before it, whose reason stays.
    pub(super) fn fail(&mut self, reason: BgpDownReason, why: String) {
        let is_plain = matches!(reason, BgpDownReason::PeerClosed | BgpDownReason::Pin(pin::Reason::ConnectionReset));
        if is_plain && self.is_explained {
            return;
        }
        self.is_explained = matches!(
            reason,
            BgpDownReason::NotificationReceived
                | BgpDownReason::OpenError
                | BgpDownReason::UpdateError
                | BgpDownReason::MessageError
        );
        self.reason = Some(reason);
        self.last_error = Some(why);
        self.has_failed = true;
    }
}

/// Returns the time until `at`.
fn left(at: Option<Instant>) -> Option<Duration> {
    at.map(|at| at.saturating_duration_since(tokio::time::Instant::now().into_std()))
}

impl PeerEntry {
    fn status(&self, feed: &Feed) -> PeerStatus {
        let now = lock(&self.now).clone();
        let load =
            |counts: &AtomicMessageCounts| MessageCounts(counts.each_ref().map(|count| count.load(Ordering::Relaxed)));
        let ribs =
            feed.ribs(&InputId::BgpPeer(self.address)).into_iter().filter(|rib| rib.view == RibView::AdjRibInPre);
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
            closed_for_routes: now.closed_for_routes,
            closed_for_memory: now.closed_for_memory,
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

/// The registration of a configured peer. It outlives the peer's tasks.
#[derive(Debug)]
pub(super) struct PeerRegistration {
    peers: BgpPeers,
    pub(super) shown: PeerStatusHandle,
}

/// The handle by which a peer's task updates its status.
#[derive(Clone, Debug)]
pub(super) struct PeerStatusHandle(Arc<PeerEntry>);

impl PeerStatusHandle {
    pub(super) fn change(&self, change: impl FnOnce(&mut LivePeerStatus)) {
        change(&mut lock(&self.0.now));
    }

    /// Follows the resets of the peer from now on.
    pub(super) fn resets(&self) -> watch::Receiver<u64> {
        self.0.resets.subscribe()
    }

    pub(super) fn received(&self, message: MessageType, messages: u64) {
        self.0.received[usize::from(message.code()) - 1].fetch_add(messages, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, message: MessageType) {
        self.0.sent[usize::from(message.code()) - 1].fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for PeerRegistration {
    fn drop(&mut self) {
        let (mut peers, PeerStatusHandle(own)) = (lock(&self.peers.0.peers), &self.shown);
        if peers.get(&own.address).is_some_and(|shown| Arc::ptr_eq(shown, own)) {
            peers.remove(&own.address);
        }
    }
}

/// Locks a value for display. After a panic of another holder the value is still good enough to
/// show.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const TOLD: &str = "the peer sent a NOTIFICATION: Cease, Connection Rejected";

    fn session() -> EstablishedSession {
        let end = (Ipv4Addr::LOCALHOST, 179).into();
        EstablishedSession {
            hold: Duration::ZERO,
            keepalive: Duration::ZERO,
            bgp_id: Ipv4Addr::LOCALHOST,
            capabilities: Vec::new(),
            families: Vec::new(),
            local: end,
            remote: end,
        }
    }

    #[test]
    fn a_plain_end_does_not_hide_the_notification_of_an_earlier_attempt() {
        let plain = [BgpDownReason::PeerClosed, pin::Reason::ConnectionReset.into()];
        let mut status = LivePeerStatus::default();
        status.begin();
        status.fail(plain[0], "the peer closed the connection".to_owned());
        for told in [BgpDownReason::NotificationReceived, BgpDownReason::OpenError] {
            status.fail(told, TOLD.to_owned());
            for reason in plain {
                status.fail(reason, "an end without a word".to_owned());
                assert_eq!(status.reason, Some(told));
                assert_eq!((status.last_error.as_deref(), status.has_failed), (Some(TOLD), true));
            }
        }
        // Another failure is news.
        status.fail(pin::Reason::ConnectRefused.into(), "refused".to_owned());
        assert_eq!(status.last_error.as_deref(), Some("refused"));
        status.fail(plain[1], "reset".to_owned());
        assert_eq!(status.last_error.as_deref(), Some("reset"));
    }

    #[test]
    fn after_a_session_or_a_new_start_a_plain_end_is_the_reason() {
        let mut status = LivePeerStatus::default();
        for renew in [|status: &mut LivePeerStatus| status.establish(session()), LivePeerStatus::begin] {
            status.fail(BgpDownReason::NotificationReceived, TOLD.to_owned());
            renew(&mut status);
            status.fail(BgpDownReason::PeerClosed, "closed".to_owned());
            assert_eq!(
                (status.reason, status.last_error.as_deref()),
                (Some(BgpDownReason::PeerClosed), Some("closed"))
            );
        }
    }
}
