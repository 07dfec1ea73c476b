//! What a session knows of its pin, and what it asks of the keeper.
//!
//! The keeper ([`super::run`]) changes the kernel first and publishes a [`PinView`] after that. A
//! session that reads [`PinState::Ready`] therefore finds its pin in force. All parts of a view
//! belong to one moment. In the other direction a session sends a [`PinRequest`].
//!
//! ```text
//!              one PinView (watch)
//!   keeper ──────────────────────────▶ session, BGP peer, display
//!      ▲                                  │
//!      └──────────── PinRequest ──────────┘
//!
//!   kernel events ── KernelConnections (watch) ──▶ adopted session, display
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bmp_ebpf::Counters;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    connections::{KernelConnection, KernelConnections},
    earlier_connection::EarlierConnection,
    guarded::{GuardedPlaces, ListenerState},
    kernel::{Datapath, PinSlot, PinTarget, SocketEvent},
    plan::{Grant, Pinned},
    reason::DownCause,
};

/// What a session may use now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinState {
    /// The keeper has not decided yet.
    Pending,
    /// The session may connect from this source. Under another [`Grant::line`] it connects again.
    Ready(Arc<Grant>),
    /// The host cannot give the session what is configured. The kernel denies it until that is
    /// mended.
    Down(Arc<DownCause>),
}

/// Everything that the keeper publishes about one pin, as of one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct PinView {
    /// What the session may use.
    pub state: PinState,
    /// What the kernel enforces for new connections, a denial included. `None` where it enforces
    /// nothing.
    pub enforced: Option<EnforcedPin>,
    /// Set while the way is lost and `hold-down` keeps the pin all the same. The session opens no
    /// connection meanwhile.
    pub hold_down: Option<HoldDown>,
    /// [`Host::routes_epoch`](crate::link::Host::routes_epoch) of the host that the state follows
    /// from. Another number means that a missing route may exist now.
    pub routes_epoch: u64,
    /// Other processes' connections to the station that are older than the pin, so that nothing
    /// holds them to it. Always empty for an adopted session.
    pub earlier_connections: Arc<[EarlierConnection]>,
    /// The interfaces and ports at which the guard keeps strangers from a passive session.
    pub guarded: Arc<GuardedPlaces>,
}

impl PinView {
    fn undecided() -> Self {
        Self {
            state: PinState::Pending,
            enforced: None,
            hold_down: None,
            routes_epoch: 0,
            earlier_connections: Arc::default(),
            guarded: Arc::default(),
        }
    }

    /// True if a session acts in the same way on both views. RouteLookup and the parts for displays
    /// do not count.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        self.state == other.state && self.enforced == other.enforced && self.hold_down == other.hold_down
    }

    /// Returns the grant that a session may open a connection under: none while the way is lost.
    pub fn usable_grant(&self) -> Option<&Arc<Grant>> {
        match &self.state {
            PinState::Ready(grant) if self.hold_down.is_none() => Some(grant),
            _ => None,
        }
    }

    /// True if connections that were made under `grant` go on.
    pub fn continues(&self, grant: &Grant) -> bool {
        matches!(&self.state, PinState::Ready(now) if now.line == grant.line)
    }
}

/// Why a session whose way is lost is not down yet: `hold-down`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldDown {
    /// What the session will be down for.
    pub cause: DownCause,
    /// When, unless the cause is mended before.
    pub until: Instant,
}

/// What the kernel enforces for new connections of a session, a denial included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnforcedPin {
    /// The connections that it is for.
    pub target: PinTarget,
    /// The slot that holds the pin.
    pub slot: PinSlot,
}

/// What a session asks of the keeper.
#[derive(Clone, Debug)]
pub(super) enum PinRequest {
    /// The way is lost and no connection is left to hold: take the session down at once.
    EndHoldDown,
    /// A passive session opened or closed its listener.
    Listener(ListenerState),
}

/// A request and the pin that it is about.
#[derive(Debug)]
pub(super) struct AddressedRequest {
    pub(super) pinned: Pinned,
    pub(super) request: PinRequest,
}

/// The pin of one session, or of the connections of a BGP peer, over all its changes.
#[derive(Debug)]
pub struct SessionPin {
    pinned: Pinned,
    view: watch::Sender<PinView>,
    /// Written by the task that follows the kernel's events.
    connections: watch::Sender<KernelConnections>,
    ledger: Mutex<CounterLedger>,
    requests: mpsc::UnboundedSender<AddressedRequest>,
}

/// What the kernel counted for one session.
#[derive(Debug, Default)]
struct CounterLedger {
    /// The sum over the slots that were freed.
    freed: Counters,
    /// The slots that still count: of the pin, of its denial, and those that linger.
    slots: Vec<PinSlot>,
}

impl SessionPin {
    pub(super) fn new(pinned: Pinned, requests: mpsc::UnboundedSender<AddressedRequest>) -> Self {
        Self {
            pinned,
            view: watch::Sender::new(PinView::undecided()),
            connections: watch::Sender::default(),
            ledger: Mutex::default(),
            requests,
        }
    }

    /// Follows the pin.
    pub fn view(&self) -> watch::Receiver<PinView> {
        self.view.subscribe()
    }

    /// Returns what the session may use now.
    pub fn state(&self) -> PinState {
        self.view.borrow().state.clone()
    }

    /// Returns why the session is held although its way is lost, if it is.
    pub fn hold_down(&self) -> Option<HoldDown> {
        self.view.borrow().hold_down.clone()
    }

    /// Returns the connections of other processes that are older than the pin.
    pub fn earlier_connections(&self) -> Arc<[EarlierConnection]> {
        Arc::clone(&self.view.borrow().earlier_connections)
    }

    pub(super) fn guarded(&self) -> Arc<GuardedPlaces> {
        Arc::clone(&self.view.borrow().guarded)
    }

    /// Follows what the kernel reports of the session's connections.
    pub fn connections(&self) -> watch::Receiver<KernelConnections> {
        self.connections.subscribe()
    }

    /// Asks the keeper to take the session down now, rather than at the end of its hold-down. For a
    /// session without a connection: it must not open one by a way that is lost.
    pub fn end_hold_down(&self) {
        self.request(PinRequest::EndHoldDown);
    }

    /// Tells the keeper whether a passive session has its listener. The guard keeps strangers away
    /// only then.
    pub fn set_listener(&self, listener: ListenerState) {
        self.request(PinRequest::Listener(listener));
    }

    fn request(&self, request: PinRequest) {
        // Without a keeper nobody acts on requests.
        let _ = self.requests.send(AddressedRequest { pinned: self.pinned.clone(), request });
    }

    /// Publishes a changed view, unless nothing in it changed.
    pub(super) fn publish(&self, change: impl FnOnce(&mut PinView)) {
        self.view.send_if_modified(|view| {
            let before = view.clone();
            change(view);
            *view != before
        });
    }

    pub(super) fn record_open(&self, cookie: u64, connection: KernelConnection) {
        self.connections.send_modify(|connections| connections.open(cookie, connection));
    }

    pub(super) fn record_move(&self, cookie: u64, to: &PinSlot) {
        self.connections.send_if_modified(|connections| connections.moved(cookie, to));
    }

    pub(super) fn record_end(&self, cookie: u64) {
        self.connections.send_if_modified(|connections| connections.gone(cookie));
    }

    pub(super) fn record_destroyed(&self, cookie: u64) {
        self.connections.send_if_modified(|connections| connections.destroyed(cookie));
    }

    pub(super) fn record_event(&self, event: &SocketEvent) {
        self.connections.send_modify(|connections| connections.record(event));
    }

    pub(super) fn record_loss(&self) {
        self.connections.send_modify(|connections| connections.lost += 1);
    }

    /// True if the connection is known to be established.
    pub(super) fn has_connection(&self, cookie: u64) -> bool {
        self.connections.borrow().open.contains_key(&cookie)
    }

    /// True if the slot counts for the session.
    pub(super) fn has_slot(&self, slot: &PinSlot) -> bool {
        self.ledger().slots.contains(slot)
    }

    /// Counts a slot among the session's.
    pub(super) fn add_slot(&self, slot: &PinSlot) {
        self.ledger().slots.push(slot.clone());
    }

    /// Forgets the slots that were handed out while no program was loaded.
    pub(super) fn forget_slots(&self) {
        self.ledger().slots.clear();
    }

    /// Adds what slots of an earlier bmpd counted for the session.
    pub(super) fn add_counted(&self, counted: &Counters) {
        self.ledger().freed += *counted;
    }

    /// Frees a slot. What it counted stays with the session.
    pub(super) fn free_slot(&self, slot: &PinSlot, datapath: &Datapath) {
        let mut ledger = self.ledger();
        ledger.slots.retain(|known| known != slot);
        ledger.freed += datapath.free(slot.clone());
    }

    /// Sums what the kernel counted for the session, over all slots that it has had.
    pub(super) fn counters(&self, datapath: &Datapath) -> Counters {
        let ledger = self.ledger();
        let mut sum = ledger.freed;
        for slot in &ledger.slots {
            sum += datapath.counters(slot);
        }
        sum
    }

    fn ledger(&self) -> MutexGuard<'_, CounterLedger> {
        // No code that holds this lock panics half-way through a change, so a poisoned ledger is
        // whole.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns when the view asks something else of the session than `known`. With `or_routes`, also
/// when routes have changed since.
pub async fn pin_changed(view: &mut watch::Receiver<PinView>, known: &PinView, or_routes: bool) {
    let differs = |now: &PinView| !now.asks_the_same(known) || (or_routes && now.routes_epoch != known.routes_epoch);
    // An error means that nobody decides any more: the pin stays as it is.
    if view.wait_for(differs).await.is_err() {
        std::future::pending::<()>().await;
    }
}
