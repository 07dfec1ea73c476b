//! The pins of all sessions and BGP peers, and how far the keeper has got with them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bmp_ebpf::Counters;
use tokio::sync::{mpsc, watch};

use super::{
    guarded::GuardReport,
    kernel::{Datapath, SocketEvent},
    plan::Pinned,
    view::{AddressedRequest, SessionPin},
};
use crate::{
    config::{Config, SessionId},
    sandbox::ApartThread,
};

/// The pins of all sessions and BGP peers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pins {
    datapath: Datapath,
    /// Works on the BPF file system, for the keeper.
    mender: ApartThread,
    /// The session and the keeper keep a pin alive. Both have the same one, however often the
    /// session is configured anew.
    pins: Arc<Mutex<BTreeMap<Pinned, Weak<SessionPin>>>>,
    requests: mpsc::UnboundedSender<AddressedRequest>,
    /// Until the keeper takes it.
    inbox: Arc<Mutex<Option<mpsc::UnboundedReceiver<AddressedRequest>>>>,
    progress: Arc<watch::Sender<KeeperProgress>>,
    /// True once a connection that is older than its pin is held to it.
    holds_earlier: Arc<watch::Sender<bool>>,
}

/// How far the keeper has got.
#[derive(Debug, Default)]
struct KeeperProgress {
    /// Every session of the first configuration has its pin.
    is_settled: bool,
    /// The configuration that the pins follow from.
    applied: Option<Arc<Config>>,
}

impl Pins {
    /// Starts without pins. The keeper writes them through `datapath`.
    pub fn new(datapath: Datapath) -> Self {
        let (requests, inbox) = mpsc::unbounded_channel();
        Self {
            datapath,
            mender: ApartThread::in_runtime(),
            pins: Arc::default(),
            requests,
            inbox: Arc::new(Mutex::new(Some(inbox))),
            progress: Arc::default(),
            holds_earlier: Arc::default(),
        }
    }

    /// Lets the keeper mend losses on this thread.
    pub(crate) fn mended_by(self, mender: ApartThread) -> Self {
        Self { mender, ..self }
    }

    /// Returns the thread that mends losses.
    pub(in crate::pin) fn mender(&self) -> &ApartThread {
        &self.mender
    }

    /// Returns the kernel side.
    pub fn datapath(&self) -> &Datapath {
        &self.datapath
    }

    /// Returns the pin of a `bmp-session`, as [`Pins::pin`] does.
    pub fn session(&self, id: &SessionId) -> Arc<SessionPin> {
        self.pin(&Pinned::Session(id.clone()))
    }

    /// Returns a pin. It is [`PinState::Pending`](super::PinState::Pending) until [`super::run`]
    /// has decided about it.
    pub fn pin(&self, pinned: &Pinned) -> Arc<SessionPin> {
        let mut pins = lock(&self.pins);
        if let Some(pin) = pins.get(pinned).and_then(Weak::upgrade) {
            return pin;
        }
        pins.retain(|_, pin| pin.strong_count() > 0);
        let pin = Arc::new(SessionPin::new(pinned.clone(), self.requests.clone()));
        pins.insert(pinned.clone(), Arc::downgrade(&pin));
        pin
    }

    /// Returns when every session of the first configuration has its pin.
    pub async fn settled(&self) {
        // An error means that nobody decides any more: nothing is left to wait for.
        let _ = self.progress.subscribe().wait_for(|progress| progress.is_settled).await;
    }

    /// Returns when the pins follow from a configuration that `is_wanted` accepts. Returns at once
    /// where no keeper runs.
    pub async fn follow(&self, is_wanted: impl Fn(&Arc<Config>) -> bool) {
        if lock(&self.inbox).is_some() {
            return;
        }
        let follows = |progress: &KeeperProgress| progress.applied.as_ref().is_some_and(&is_wanted);
        // An error means that nobody decides any more: nothing is left to wait for.
        let _ = self.progress.subscribe().wait_for(follows).await;
    }

    /// Returns true if every session of the first configuration has its pin.
    pub fn is_settled(&self) -> bool {
        self.progress.borrow().is_settled
    }

    /// Returns true if the pins follow from this configuration.
    pub fn follows(&self, config: &Arc<Config>) -> bool {
        let progress = self.progress.borrow();
        progress.is_settled && progress.applied.as_ref().is_some_and(|applied| Arc::ptr_eq(applied, config))
    }

    /// Hands the sessions' requests to the keeper. Only the first call returns them.
    pub(super) fn take_inbox(&self) -> Option<mpsc::UnboundedReceiver<AddressedRequest>> {
        lock(&self.inbox).take()
    }

    pub(super) fn set_settled(&self) {
        self.progress.send_modify(|progress| progress.is_settled = true);
    }

    pub(super) fn set_applied(&self, config: &Arc<Config>) {
        self.progress.send_if_modified(|progress| {
            let is_known = progress.applied.as_ref().is_some_and(|applied| Arc::ptr_eq(applied, config));
            progress.applied = Some(Arc::clone(config));
            !is_known
        });
    }

    /// Becomes true when a connection that is older than its pin is held to it.
    pub(super) fn holds_earlier(&self) -> watch::Receiver<bool> {
        self.holds_earlier.subscribe()
    }

    pub(super) fn set_holds_earlier(&self) {
        self.holds_earlier.send_replace(true);
    }

    /// Records an event with the session whose connection it is about.
    pub(super) fn record_event(&self, event: &SocketEvent) {
        let pins = self.all();
        let slot = event.under();
        // A slot can be freed before the last of its connections ends, so look for the cookie
        // first.
        let by_cookie = pins.iter().find(|pin| pin.has_connection(event.cookie));
        if let Some(pin) = by_cookie.or_else(|| pins.iter().find(|pin| pin.has_slot(&slot))) {
            pin.record_event(event);
        }
    }

    /// Records that the kernel has destroyed a socket.
    pub(super) fn record_destroyed(&self, cookie: u64) {
        self.all().iter().for_each(|pin| pin.record_destroyed(cookie));
    }

    /// Records that events were lost.
    pub(super) fn record_loss(&self) {
        self.all().iter().for_each(|pin| pin.record_loss());
    }

    fn all(&self) -> Vec<Arc<SessionPin>> {
        lock(&self.pins).values().filter_map(Weak::upgrade).collect()
    }

    /// Returns where the guard keeps strangers from a passive session, and what it dropped.
    pub fn guard(&self, pin: &SessionPin) -> GuardReport {
        pin.guarded().report(&self.datapath)
    }

    /// Returns what the kernel counted for a session, over all slots that it has had.
    pub fn counters(&self, pin: &SessionPin) -> Counters {
        pin.counters(&self.datapath)
    }
}

/// No code that holds these locks panics half-way through a change, so a poisoned value is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pin::kernel::{DatapathMode, DatapathOptions};

    #[test]
    fn every_count_of_a_freed_slot_stays_with_its_session() {
        let datapath =
            Datapath::load(&DatapathOptions { mode: DatapathMode::Socket, ..DatapathOptions::default() }).unwrap();
        let pins = Pins::new(datapath);
        let pin = pins.session(&SessionId { vpn_instance: None, station: [192, 0, 2, 7].into(), alias: None });
        let counted = Counters { denied_mark: 1, retransmits: 2, events_lost: 3, logged_ns: 4, ..Counters::default() };
        pin.add_counted(&counted);
        assert_eq!(pins.counters(&pin), counted);
    }
}
