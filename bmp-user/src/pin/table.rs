//! The pins of all sessions, and what the kernel counted for each.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bmp_ebpf::Counters;
use tokio::sync::watch;

use super::{Datapath, Resolved, Slot, Unresolved};
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
    /// The station.
    pub station: SocketAddr,
    /// Source and egress.
    pub resolved: Resolved,
}

/// The pin of one session over all its changes.
#[derive(Debug)]
pub struct SessionPin {
    state: watch::Sender<State>,
    ledger: Mutex<Ledger>,
}

/// What the kernel counted for one session.
#[derive(Debug, Default)]
struct Ledger {
    /// The sum over the slots that were freed.
    freed: Counters,
    /// The slots that still count, oldest first: those that linger, then the current one if there is one.
    slots: VecDeque<Slot>,
}

/// The pins of all sessions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pins {
    datapath: Datapath,
    sessions: Arc<Mutex<BTreeMap<SessionId, Arc<SessionPin>>>>,
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
        Arc::clone(lock(&self.sessions).entry(id.clone()).or_insert_with(|| {
            Arc::new(SessionPin { state: watch::Sender::new(State::Pending), ledger: Mutex::default() })
        }))
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

    pub(super) fn forget(&self, id: &SessionId) {
        lock(&self.sessions).remove(id);
    }
}

impl SessionPin {
    /// Follows what the session may use.
    pub fn subscribe(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub(super) fn tell(&self, state: State) {
        self.state.send_replace(state);
    }

    /// Counts a slot among the session's, as the newest.
    pub(super) fn add_slot(&self, slot: Slot) {
        lock(&self.ledger).slots.push_back(slot);
    }

    /// Frees the oldest slot; what it counted stays with the session.
    pub(super) fn free_oldest(&self, datapath: &Datapath) {
        let mut ledger = lock(&self.ledger);
        if let Some(slot) = ledger.slots.pop_front() {
            let last = datapath.free(slot);
            add(&mut ledger.freed, &last);
        }
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
