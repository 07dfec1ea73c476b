//! `maximum-routes` of a peer, and `memory-limit`: what happens beyond them, and how the peer comes
//! back.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    super::{
        fsm::{FsmEvent, OutgoingNotification},
        reason::BgpDownReason,
    },
    PeerTask, now,
};
use crate::{
    input::budget::{BudgetNews, ClosingCause, HOLD, RouteExcess, WARNS_AT_PERCENT},
    wire::bgp::{Family, notification::cease},
};

/// A peer that is not spoken to because it was beyond a limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct LimitedPeer {
    pub(super) cause: ClosingCause,
    until: Instant,
}

/// A peer that was closed because of `memory-limit` waits for so long at a time, once its time is
/// over, while the feed still takes too much memory.
const MEMORY_WAIT: Duration = Duration::from_secs(30);

impl PeerTask {
    /// The limit that the peer was beyond, if its wait is not over.
    pub(super) fn limited_by(&self) -> Option<ClosingCause> {
        self.limited.filter(|limited| Instant::now() < limited.until).map(|limited| limited.cause)
    }

    /// Counts the routes of the peer where there may be too many. Beyond the limit, closes the
    /// session.
    pub(super) fn look_at_budget(&mut self) {
        let Some(initiator) = self.pair.established() else { return };
        let Some(news) = self.peer_feed.look(&mut self.budget) else { return };
        let peer = self.plan.target.address;
        let excess = match news {
            BudgetNews::Near(RouteExcess { routes, most }) => {
                warn!(%peer, "the peer has {routes} routes, more than {WARNS_AT_PERCENT} % of its maximum-routes {most}");
                return;
            }
            BudgetNews::Warning(RouteExcess { routes, most }) => {
                warn!(%peer, "the peer has {routes} routes, more than its maximum-routes {most} (warning-only)");
                return;
            }
            BudgetNews::Beyond(excess) => excess,
        };
        let RouteExcess { routes, most } = excess;
        let family = self.peer_feed.largest_family().unwrap_or(Family::IPV4_UNICAST);
        let notice = OutgoingNotification::maximum_prefixes(family, u32::try_from(most).unwrap_or(u32::MAX));
        let why = format!("the peer had {routes} routes, and maximum-routes is {most}");
        self.fail(BgpDownReason::MaximumRoutes, self.left_alone(&why));
        self.status.change(|now| now.closed_for_routes += 1);
        self.limited = Some(LimitedPeer { cause: excess.into(), until: Instant::now() + HOLD });
        self.handle(initiator, FsmEvent::AutomaticStop(notice, HOLD));
    }

    fn left_alone(&self, why: &str) -> String {
        format!(
            "{why}: it is not spoken to for {} s (what ends that: `reset bgp peer {}`, or a higher limit)",
            HOLD.as_secs(),
            self.plan.target.address
        )
    }

    /// Frees the memory of the peer, because the feed takes too much and this peer has grown most.
    pub(super) fn free_memory(&mut self, cause: ClosingCause) {
        if let Some(initiator) = self.pair.established() {
            self.fail(BgpDownReason::MemoryLimit, self.left_alone(&cause.to_string()));
            self.status.change(|now| now.closed_for_memory += 1);
            self.limited = Some(LimitedPeer { cause, until: Instant::now() + HOLD });
            let notice = OutgoingNotification::cease(cease::OUT_OF_RESOURCES);
            self.handle(initiator, FsmEvent::AutomaticStop(notice, HOLD));
        } else if self.peer_feed.restart_until().is_some() {
            warn!(peer = %self.plan.target.address, "the routes that stayed for the restart of the peer go: {cause}");
            self.peer_feed.end_restart();
        }
        self.peer_feed.has_closed();
    }

    /// Has a peer wait on, if its time is over and the feed still takes too much memory.
    pub(super) fn wait_for_memory(&mut self) {
        let Some(limited) = &mut self.limited else { return };
        if Instant::now() < limited.until {
            return;
        }
        if limited.cause.outlasts_its_time(&self.watches.memory.borrow()) {
            limited.until = Instant::now() + MEMORY_WAIT;
            self.pair.idle_for(now(), MEMORY_WAIT);
        } else {
            self.limited = None;
        }
    }

    /// Follows a changed limit: counts at once, or ends the wait of a peer that the new limit
    /// allows.
    pub(super) fn follow_limit(&mut self) {
        let (limit, memory) = (*self.watches.limit.borrow_and_update(), self.watches.memory.borrow_and_update().limit);
        self.budget.set(limit);
        if let Some(cause) = self.limited_by().filter(|cause| !cause.still_holds(limit, memory)) {
            self.limited = None;
            info!(peer = %self.plan.target.address, "{} allows the peer again", cause.as_str());
            let steps = self.pair.end_idle(now());
            self.perform(steps);
        }
        self.look_at_budget();
    }

    /// Closes the session, if there is one, and begins anew.
    pub(super) fn reset(&mut self) {
        info!(peer = %self.plan.target.address, "reset by an operator");
        self.limited = None;
        self.parked = None;
        let steps = self.pair.stop(now(), &OutgoingNotification::cease(cease::RESET));
        self.perform(steps);
        let steps = self.pair.start(now());
        self.perform(steps);
    }
}
