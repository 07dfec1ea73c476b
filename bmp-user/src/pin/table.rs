//! The pins of all sessions, and what the kernel counted for each.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bmp_ebpf::Counters;
use tokio::sync::watch;

use super::{Datapath, Resolved, Slot, Target, Unresolved};
use crate::config::SessionId;

/// What a session may use now.
#[derive(Clone, Debug)]
pub enum State {
    /// Not decided yet.
    Pending,
    /// Connect, from this source. Another `Arc` is another pin: the session connects again.
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
}

/// The pin of one session over all its changes.
#[derive(Debug)]
pub struct SessionPin {
    state: watch::Sender<State>,
    /// [`crate::link::Host::routes_epoch`] as far as it matters to the session.
    routes: watch::Sender<u64>,
    ledger: Mutex<Ledger>,
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
    sessions: Arc<Mutex<BTreeMap<SessionId, Weak<SessionPin>>>>,
}

impl Pins {
    /// No pins yet; they are written through `datapath`.
    pub fn new(datapath: Datapath) -> Self {
        Self { datapath, sessions: Arc::default() }
    }

    /// The kernel side.
    pub fn datapath(&self) -> &Datapath {
        &self.datapath
    }

    /// The pin of one session, [`State::Pending`] until [`super::run`] has decided about it.
    pub fn session(&self, id: &SessionId) -> Arc<SessionPin> {
        let mut sessions = lock(&self.sessions);
        if let Some(pin) = sessions.get(id).and_then(Weak::upgrade) {
            return pin;
        }
        sessions.retain(|_, pin| pin.strong_count() > 0);
        let pin = Arc::new(SessionPin {
            state: watch::Sender::new(State::Pending),
            routes: watch::Sender::new(0),
            ledger: Mutex::default(),
        });
        sessions.insert(id.clone(), Arc::downgrade(&pin));
        pin
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

    pub(super) fn tell(&self, state: State) {
        self.state.send_replace(state);
    }

    pub(super) fn tell_routes(&self, epoch: u64) {
        self.routes.send_if_modified(|known| std::mem::replace(known, epoch) != epoch);
    }

    /// Counts a slot among the session's.
    pub(super) fn add_slot(&self, slot: &Slot) {
        lock(&self.ledger).slots.push(slot.clone());
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
fn add(sum: &mut Counters, more: &Counters) {
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
    sum.denied_no_pin += more.denied_no_pin;
    sum.retransmits += more.retransmits;
}

/// Nothing that holds these locks can panic half-way through a change, so a poisoned one is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
