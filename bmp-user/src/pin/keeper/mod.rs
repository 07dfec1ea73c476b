//! The task that keeps the pins.
//!
//! It compares the configuration with the host, writes the result into the kernel tables, and
//! publishes it to the sessions. It is the only writer of the tables.
//!
//! ```text
//!   configuration ─┐                          ┌─▶ kernel tables (slots, apply)
//!   host ──────────┼─▶ decide ─▶ step (pure) ─┤
//!   requests ──────┘   (plan)                 └─▶ PinView, after the tables
//! ```
//!
//! - [`reconcile`]: one round over all pins
//! - [`step`] and [`hold_down`]: what follows from a decision, pure
//! - [`apply`]: puts a decision in force
//! - [`slots`]: which slot a key leads to
//! - [`tracked`]: what is known of one pin
//! - [`earlier`]: connections that are older than their pin
//! - [`mending`]: what was lost in the kernel

mod apply;
mod earlier;
mod hold_down;
mod mending;
mod reconcile;
mod slots;
mod step;
mod tracked;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, Interval, MissedTickBehavior},
};

use super::{
    foreign::ForeignSockets,
    guard::{GuardKeeper, PassiveSession},
    kernel::{AGAIN, LOOK},
    pins::Pins,
    plan::{PinDecision, PinDemand, Pinned, demands},
    source_choices::SourceChoices,
    steering::NextHopRoutes,
    view::{AddressedRequest, PinRequest},
    vrfs::Vrfs,
};
use crate::{
    config::{Config, Transport},
    link::{Host, RouteLookup},
    tasks,
};
use tracked::{LingeringSlot, TrackedPin};

/// Keeps the pins, and the routes of sessions with a next hop, in step with configuration and host
/// until either of them ends.
pub fn run(
    pins: Pins,
    next_hop_routes: NextHopRoutes,
    source_choices: SourceChoices,
    foreign: ForeignSockets,
    config: watch::Receiver<Arc<Config>>,
    host: watch::Receiver<Arc<Host>>,
    routes: RouteLookup,
) -> impl Future<Output = ()> {
    // Before the first poll, so that a commit from now on waits for the first decisions.
    let inbox = pins.take_inbox();
    let keeper = PinKeeper {
        pins,
        next_hop_routes,
        source_choices,
        foreign,
        lines: 0,
        routes,
        vrfs: Vrfs::default(),
        guards: GuardKeeper::default(),
        sessions: BTreeMap::new(),
        unusable_links: BTreeSet::new(),
        lingering: VecDeque::new(),
        is_short_of_slots: false,
    };
    async move {
        // A second keeper would have no inbox, and two writers would undo each other's tables.
        if let Some(inbox) = inbox {
            let mut look = tokio::time::interval(LOOK);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            keeper.keep(KeeperSources { config, host, inbox, look }).await;
        }
    }
}

/// What the keeper waits for.
struct KeeperSources {
    config: watch::Receiver<Arc<Config>>,
    host: watch::Receiver<Arc<Host>>,
    inbox: mpsc::UnboundedReceiver<AddressedRequest>,
    /// When the kernel is checked for what other programs removed.
    look: Interval,
}

/// Why the keeper woke up.
enum KeeperWakeup {
    /// Configuration, host, a trial or a deadline: decide anew.
    Changed,
    /// A session asks for something.
    Requested(AddressedRequest),
    /// Time to check the kernel.
    Look,
    /// Something was found lost in the kernel.
    Lost,
    /// Time to try again to load the programs.
    LoadAgain,
    /// Configuration or host ended.
    Ended,
}

struct PinKeeper {
    pins: Pins,
    /// The last [`Grant::line`](super::plan::Grant::line). No line is given twice, not even to a
    /// session that was removed and configured again.
    lines: u64,
    /// Moves connections of any process from one slot to another.
    foreign: ForeignSockets,
    next_hop_routes: NextHopRoutes,
    source_choices: SourceChoices,
    routes: RouteLookup,
    vrfs: Vrfs,
    guards: GuardKeeper,
    sessions: BTreeMap<Pinned, TrackedPin>,
    /// Indexes of the interfaces that were not usable in the last round.
    unusable_links: BTreeSet<u32>,
    /// Earliest deadline first.
    lingering: VecDeque<LingeringSlot>,
    /// True if the last pin found no slot.
    is_short_of_slots: bool,
}

impl PinKeeper {
    async fn keep(mut self, mut sources: KeeperSources) {
        self.next_hop_routes.begin().await;
        let mut is_first = true;
        loop {
            let config = Arc::clone(&sources.config.borrow_and_update());
            let host = Arc::clone(&sources.host.borrow_and_update());
            let demands = demands(&config);
            self.reconcile(&demands, &host).await;
            if std::mem::take(&mut is_first) {
                self.retire_inherited(&demands).await;
                self.pins.set_settled();
            }
            self.look_for_earlier(&demands).await;
            self.pins.set_applied(&config);
            self.update_guards(&demands, &host);
            let due = self.next_deadline().into_iter().chain(self.next_hop_routes.deadline().await).min();
            let load_again = self.pins.datapath().is_tried_again().then(|| Instant::now() + AGAIN);
            // While nothing changes, nothing is decided anew.
            loop {
                match self.next(&mut sources, due, load_again).await {
                    KeeperWakeup::Changed => break,
                    KeeperWakeup::Requested(request) => {
                        self.accept(request);
                        while let Ok(request) = sources.inbox.try_recv() {
                            self.accept(request);
                        }
                        break;
                    }
                    KeeperWakeup::Look => {
                        self.look_again_for_earlier().await;
                        if self.mend(&demands).await | self.look_for_redirects().await {
                            break;
                        }
                    }
                    KeeperWakeup::Lost => {
                        if self.mend(&demands).await {
                            break;
                        }
                    }
                    KeeperWakeup::LoadAgain => {
                        is_first = self.load_again().await;
                        break;
                    }
                    KeeperWakeup::Ended => return,
                }
            }
            self.free_expired();
            self.next_hop_routes.expire().await;
        }
    }

    async fn next(
        &mut self,
        sources: &mut KeeperSources,
        due: Option<Instant>,
        load_again: Option<Instant>,
    ) -> KeeperWakeup {
        let KeeperSources { config, host, inbox, look } = sources;
        let changed = |result: Result<(), _>| if result.is_ok() { KeeperWakeup::Changed } else { KeeperWakeup::Ended };
        tokio::select! {
            result = config.changed() => changed(result),
            result = host.changed() => changed(result),
            () = until(due) => KeeperWakeup::Changed,
            // The keeper holds a sender itself, so the inbox never closes.
            Some(request) = inbox.recv() => KeeperWakeup::Requested(request),
            () = self.source_choices.trial_changed() => KeeperWakeup::Changed,
            _ = look.tick() => KeeperWakeup::Look,
            () = self.pins.datapath().lost() => KeeperWakeup::Lost,
            () = until(load_again) => KeeperWakeup::LoadAgain,
            never = tasks::until_woken() => match never {},
        }
    }

    fn accept(&mut self, AddressedRequest { pinned, request }: AddressedRequest) {
        // A session that is not configured any more has no pin.
        let Some(tracked) = self.sessions.get_mut(&pinned) else { return };
        match request {
            PinRequest::EndHoldDown => tracked.in_force.hold_down.end(),
            PinRequest::Listener(state) => tracked.guard.set_listener(state),
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let held = self.sessions.values().filter_map(|tracked| tracked.in_force.hold_down.deadline());
        held.chain(self.lingering.front().map(|lingering| lingering.until)).min()
    }

    fn update_guards(&mut self, demands: &BTreeMap<Pinned, PinDemand>, host: &Host) {
        let is_passive = |pinned: &Pinned| {
            let transport = demands.get(pinned).and_then(|demand| demand.settings.transport);
            matches!((pinned, transport), (Pinned::Session(_), Some(Transport::Listen(_))))
        };
        let passive = self.sessions.iter_mut().filter(|(pinned, _)| is_passive(pinned)).map(|(_, tracked)| {
            let grant = match &tracked.in_force.decision {
                Some(PinDecision::Ready(grant)) => Some(grant),
                _ => None,
            };
            PassiveSession { pin: &tracked.pin, guard: &mut tracked.guard, grant }
        });
        self.guards.update(self.pins.datapath(), host, passive.collect());
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
