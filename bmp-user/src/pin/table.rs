//! The pins of all sessions, and what the kernel counted for each.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use bmp_ebpf::Counters;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    Connection, Connections, Datapath, Pinned, Resolved, Slot, SocketEvent, Target, Unheld, Unresolved,
    guard::{GuardReport, Listening, SessionGuard},
};
use crate::config::{Config, SessionId};

/// What a session may use now.
#[derive(Clone, Debug)]
pub enum State {
    /// Not decided yet.
    Pending,
    /// Connect, from this source. Under another [`Grant::line`] the session connects again.
    Ready(Arc<Grant>),
    /// The session cannot be what it was told to be; the kernel denies it until this is mended.
    Down(Arc<Unresolved>),
}

/// A resolved connect-interface that the kernel tables hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The connections that it is for.
    pub target: Target,
    /// Source and egress.
    pub resolved: Resolved,
    /// Connections that were made under a grant go on under a later one of the same number: they have been moved to its pin.
    pub line: u64,
    /// Whether it holds bmpd's own sockets alone, and lets other processes' pass.
    pub own_only: bool,
    /// What marks its packets, so that the session's own route is found; 0 where it has none.
    pub mark: u32,
}

/// The pin of one session, or of the connections of a BGP peer, over all its changes.
#[derive(Debug)]
pub struct SessionPin {
    state: watch::Sender<State>,
    /// [`crate::link::Host::routes_epoch`] as far as it matters to the session.
    routes: watch::Sender<u64>,
    ledger: Mutex<Ledger>,
    connections: watch::Sender<Connections>,
    current: Mutex<Option<Current>>,
    standing: watch::Sender<Standing>,
    held: watch::Sender<Option<Held>>,
    /// The session has no connection that its way could be held for.
    given_up: AtomicBool,
    guard: SessionGuard,
    unheld: Mutex<Vec<Unheld>>,
}

/// Why a session whose way is lost is not down yet: `hold-down`.
#[derive(Clone, Debug)]
pub struct Held {
    /// What it will be down for.
    pub unresolved: Unresolved,
    /// When, if that is not mended before.
    pub until: Instant,
}

/// What was decided about a session together with what the kernel enforces for it.
#[derive(Clone, Debug)]
pub struct Standing {
    /// What the session may use.
    pub state: State,
    /// What the kernel enforces for its new connections, a denial included; `None` where nothing is.
    pub current: Option<Current>,
}

/// What the kernel enforces for new connections of a session, a denial included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// The connections that it is for.
    pub target: Target,
    /// The slot that holds the pin.
    pub slot: Slot,
}

/// What the kernel counted for one session.
#[derive(Debug, Default)]
struct Ledger {
    /// The sum over the slots that were freed.
    freed: Counters,
    /// The slots that still count: the current one, that of its denial, and those that linger.
    slots: Vec<Slot>,
}

/// The pins of all sessions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pins {
    datapath: Datapath,
    /// Kept alive by the session and by the task that decides about it: both have the same one, however often it is configured.
    sessions: Arc<Mutex<BTreeMap<Pinned, Weak<SessionPin>>>>,
    settled: Arc<watch::Sender<bool>>,
    /// Whether somebody decides about the pins.
    decided: Arc<AtomicBool>,
    /// The configuration that the pins follow from; `None` until they follow from any.
    applied: Arc<watch::Sender<Option<Arc<Config>>>>,
    late: Arc<watch::Sender<bool>>,
    /// Wakes the task that decides: a session has its listener, or has it no more, or has no connection to hold.
    news: Arc<Notify>,
}

impl Pins {
    /// No pins yet; they are written through `datapath`.
    pub fn new(datapath: Datapath) -> Self {
        let no = || Arc::new(watch::Sender::new(false));
        Self {
            datapath,
            sessions: Arc::default(),
            settled: no(),
            decided: Arc::default(),
            applied: Arc::default(),
            late: no(),
            news: Arc::default(),
        }
    }

    /// The kernel side.
    pub fn datapath(&self) -> &Datapath {
        &self.datapath
    }

    /// The pin of a `bmp-session`, as [`Pins::of`].
    pub fn session(&self, id: &SessionId) -> Arc<SessionPin> {
        self.of(&Pinned::Session(id.clone()))
    }

    /// The pin of a session, [`State::Pending`] until [`super::run`] has decided about it.
    pub fn of(&self, id: &Pinned) -> Arc<SessionPin> {
        let mut sessions = lock(&self.sessions);
        if let Some(pin) = sessions.get(id).and_then(Weak::upgrade) {
            return pin;
        }
        sessions.retain(|_, pin| pin.strong_count() > 0);
        let pin = Arc::new(SessionPin {
            state: watch::Sender::new(State::Pending),
            routes: watch::Sender::new(0),
            ledger: Mutex::default(),
            connections: watch::Sender::default(),
            current: Mutex::default(),
            standing: watch::Sender::new(Standing { state: State::Pending, current: None }),
            held: watch::Sender::new(None),
            given_up: AtomicBool::new(false),
            guard: SessionGuard::default(),
            unheld: Mutex::default(),
        });
        sessions.insert(id.clone(), Arc::downgrade(&pin));
        pin
    }

    /// Returns when every session of the first configuration has its pin.
    pub async fn settled(&self) {
        // An error means that nobody decides any more, with which it stays as it is.
        let _ = self.settled.subscribe().wait_for(|settled| *settled).await;
    }

    /// Follows which configuration the pins follow from; `None` before the first. Returns nothing
    /// where nobody decides about them.
    pub fn applied(&self) -> Option<watch::Receiver<Option<Arc<Config>>>> {
        self.decided.load(Relaxed).then(|| self.applied.subscribe())
    }

    /// Somebody decides about the pins from now on.
    pub(super) fn tell_decided(&self) {
        self.decided.store(true, Relaxed);
    }

    /// What is decided follows from this configuration.
    pub(super) fn tell_applied(&self, config: &Arc<Config>) {
        self.applied.send_if_modified(|applied| {
            let same = applied.as_ref().is_some_and(|applied| Arc::ptr_eq(applied, config));
            *applied = Some(Arc::clone(config));
            !same
        });
    }

    pub(super) fn tell_settled(&self) {
        self.settled.send_replace(true);
    }

    /// Becomes true when a connection is held to a pin that was there before it.
    pub(super) fn late(&self) -> watch::Receiver<bool> {
        self.late.subscribe()
    }

    pub(super) fn tell_late(&self) {
        self.late.send_replace(true);
    }

    /// Adds what the kernel tells to the connections of the session that it is about.
    pub(super) fn tell_event(&self, event: &SocketEvent) {
        let pins = self.all();
        let slot = event.under();
        // A slot can be gone before the last of its connections is.
        let by_cookie = pins.iter().find(|pin| pin.connections.borrow().open.contains_key(&event.cookie));
        let session = by_cookie.or_else(|| pins.iter().find(|pin| lock(&pin.ledger).slots.contains(&slot)));
        if let Some(session) = session {
            session.connections.send_modify(|connections| connections.record(event));
        }
    }

    /// A connection is gone.
    pub(super) fn tell_gone(&self, cookie: u64) {
        self.all().iter().for_each(|pin| pin.tell_gone(cookie));
    }

    /// Events were lost.
    pub(super) fn tell_lost(&self) {
        self.all().iter().for_each(|pin| pin.connections.send_modify(|connections| connections.lost += 1));
    }

    fn all(&self) -> Vec<Arc<SessionPin>> {
        lock(&self.sessions).values().filter_map(Weak::upgrade).collect()
    }

    /// A passive session says whether it has its listener: the guard keeps strangers from it only then.
    pub fn tell_listening(&self, pin: &SessionPin, listening: Listening) {
        pin.guard.set_listening(listening);
        self.news.notify_one();
    }

    /// A session that is held has no connection: it goes down at once rather than open one by a way that is lost.
    pub fn give_up(&self, pin: &SessionPin) {
        pin.given_up.store(true, Relaxed);
        self.news.notify_one();
    }

    /// Returns when a session has told one of these.
    pub(super) async fn told(&self) {
        self.news.notified().await;
    }

    /// Where the guard stands for a passive session, and what it dropped.
    pub fn guard(&self, pin: &SessionPin) -> GuardReport {
        pin.guard.report(&self.datapath)
    }

    /// What the kernel counted for a session, over all the slots it has had.
    pub fn counters(&self, pin: &SessionPin) -> Counters {
        let ledger = lock(&pin.ledger);
        let mut sum = ledger.freed;
        for slot in &ledger.slots {
            add(&mut sum, &self.datapath.counters(slot));
        }
        sum
    }
}

impl SessionPin {
    /// Follows what the session may use.
    pub fn subscribe(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Changes when a route may have appeared that a session without a pinned interface has been missing.
    pub fn routes(&self) -> watch::Receiver<u64> {
        self.routes.subscribe()
    }

    /// Follows what the kernel tells of the session's connections.
    pub fn connections(&self) -> watch::Receiver<Connections> {
        self.connections.subscribe()
    }

    /// Follows what was decided together with what the kernel enforces.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Follows whether its way is lost and the session held all the same. While it is, it opens no connection.
    pub fn held(&self) -> watch::Receiver<Option<Held>> {
        self.held.subscribe()
    }

    /// Each time that it is held anew, what was given up before is forgotten.
    pub(super) fn tell_held(&self, held: Option<Held>) {
        if self.held.borrow().is_none() {
            self.given_up.store(false, Relaxed);
        }
        self.held.send_if_modified(|known| {
            let news = known.is_some() || held.is_some();
            *known = held;
            news
        });
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Relaxed)
    }

    /// What is told with the next [`Self::tell`].
    pub(super) fn set_current(&self, current: Option<Current>) {
        *lock(&self.current) = current;
    }

    pub(super) fn tell_open(&self, cookie: u64, connection: Connection) {
        self.connections.send_modify(|connections| connections.open(cookie, connection));
    }

    pub(super) fn tell_moved(&self, cookie: u64, to: &Slot) {
        self.connections.send_if_modified(|connections| connections.moved(cookie, to));
    }

    pub(super) fn tell_gone(&self, cookie: u64) {
        self.connections.send_if_modified(|connections| connections.gone(cookie));
    }

    /// Other processes' connections to its station that were there before its pin, and that nothing holds to it. Those of an adopted session are
    /// never among them.
    pub fn unheld(&self) -> Vec<Unheld> {
        lock(&self.unheld).clone()
    }

    pub(super) fn set_unheld(&self, unheld: Vec<Unheld>) {
        *lock(&self.unheld) = unheld;
    }

    pub(super) fn guard(&self) -> &SessionGuard {
        &self.guard
    }

    pub(super) fn tell(&self, state: State) {
        self.standing.send_replace(Standing { state: state.clone(), current: lock(&self.current).clone() });
        self.state.send_replace(state);
    }

    pub(super) fn tell_routes(&self, epoch: u64) {
        self.routes.send_if_modified(|known| std::mem::replace(known, epoch) != epoch);
    }

    /// Counts a slot among the session's.
    pub(super) fn add_slot(&self, slot: &Slot) {
        lock(&self.ledger).slots.push(slot.clone());
    }

    /// Forgets slots that were given while nothing was loaded.
    pub(super) fn forget_slots(&self) {
        lock(&self.ledger).slots.clear();
    }

    /// Counts what slots of an earlier bmpd counted for the session.
    pub(super) fn add_counted(&self, counted: &Counters) {
        add(&mut lock(&self.ledger).freed, counted);
    }

    /// Frees a slot; what it counted stays with the session.
    pub(super) fn free_slot(&self, slot: &Slot, datapath: &Datapath) {
        let mut ledger = lock(&self.ledger);
        ledger.slots.retain(|held| held != slot);
        let last = datapath.free(slot.clone());
        add(&mut ledger.freed, &last);
    }
}

/// Adds what one slot counted to a sum.
pub(crate) fn add(sum: &mut Counters, more: &Counters) {
    for (sum, more) in [
        (&mut sum.own_tx, &more.own_tx),
        (&mut sum.own_rx, &more.own_rx),
        (&mut sum.foreign_tx, &more.foreign_tx),
        (&mut sum.foreign_rx, &more.foreign_rx),
    ] {
        sum.bytes += more.bytes;
        sum.packets += more.packets;
        sum.buffers += more.buffers;
        sum.payload_bytes += more.payload_bytes;
    }
    sum.rx_elsewhere_packets += more.rx_elsewhere_packets;
    sum.denied_interface += more.denied_interface;
    sum.denied_source += more.denied_source;
    sum.denied_mark += more.denied_mark;
    sum.denied_no_pin += more.denied_no_pin;
    sum.retransmits += more.retransmits;
}

/// Nothing that holds these locks can panic half-way through a change, so a poisoned one is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
