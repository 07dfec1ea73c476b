//! Puts a decision in force: the kernel's side of it, and the end of slots that are replaced.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    PinKeeper,
    tracked::{LingeringSlot, TrackedPin},
};
use crate::pin::{
    linger::LINGER,
    plan::{PinDecision, PinDemand, Pinned, in_words, pin_of},
    reason::{DownCause, Reason},
    view::PinState,
};

impl PinKeeper {
    /// Writes a decision into the kernel tables, and returns the state to publish after that.
    ///
    /// With `connections_go_on` the existing connections move to the new slot. `None` where the
    /// kernel refused the pin and the session is down already.
    pub(super) async fn apply(
        &mut self,
        pinned: &Pinned,
        tracked: &mut TrackedPin,
        mut decision: PinDecision,
        connections_go_on: bool,
    ) -> Option<PinState> {
        let before = tracked.enforced();
        let wanted = match &decision {
            PinDecision::Ready(grant) => Some((grant.target, pin_of(grant))),
            PinDecision::Down { target, .. } => {
                target.filter(|_| tracked.is_deniable()).map(|target| (target, tracked.denial_pin()))
            }
        };
        let written = match wanted {
            None => {
                self.uninstall(tracked);
                Ok(())
            }
            Some((target, pin)) => self.put(tracked, target, pin),
        };
        if let Err(error) = written {
            let is_known_down = tracked.in_force.decision.is_none() && matches!(tracked.pin.state(), PinState::Down(_));
            // Without a decision the next change tries again: a slot that is freed, for one.
            tracked.in_force.decision = None;
            let why = format!("the kernel tables do not take the pin: {error:#}");
            let cause = DownCause::without_mend(Reason::NotPermitted, why);
            return (!is_known_down).then(|| PinState::Down(Arc::new(cause)));
        }
        tracked.is_new = true;
        let has_moved = match (before, tracked.enforced()) {
            (Some(before), Some(now)) if connections_go_on => {
                match self.foreign.move_all(&tracked.pin, now.target, &before.slot, &now.slot).await {
                    Ok(()) => true,
                    Err(error) => {
                        warn!(of = %pinned, "cannot move its connections to the new pin, so they connect again: {error:#}");
                        false
                    }
                }
            }
            _ => false,
        };
        if let PinDecision::Ready(grant) = &mut decision {
            if !has_moved {
                self.lines += 1;
                tracked.line = self.lines;
            }
            grant.line = tracked.line;
        }
        let state = match &decision {
            PinDecision::Ready(grant) => {
                info!(of = %pinned, "{}", in_words(&grant.resolved));
                PinState::Ready(Arc::new(grant.clone()))
            }
            PinDecision::Down { cause, .. } => PinState::Down(Arc::new(cause.clone())),
        };
        tracked.in_force.decision = Some(decision);
        Some(state)
    }

    /// Lets the slots of an earlier bmpd linger that no session has taken over. What such a slot
    /// counted stays with the session that has its key.
    ///
    /// Connections of other processes under such a slot are closed while it lingers. The task of an
    /// adopted session does that itself, because it may take them in.
    pub(super) async fn retire_inherited(&mut self, demands: &BTreeMap<Pinned, PinDemand>) {
        for (key, slot) in self.pins.datapath().retire() {
            let has_key =
                |tracked: &TrackedPin| tracked.installed.as_ref().is_some_and(|installed| installed.key == key);
            let found = self.sessions.iter().find(|(_, tracked)| has_key(tracked));
            let is_adopted = |pinned| demands.get(pinned).is_some_and(|demand| demand.adopted);
            let session = found.map(|(_, tracked)| Arc::clone(&tracked.pin));
            if let Some(session) = &session {
                session.add_slot(&slot);
            }
            if let Some(target) = self.pins.datapath().target(&key)
                && !found.is_some_and(|(pinned, _)| is_adopted(pinned))
            {
                self.foreign.close_under(&slot, target).await;
            }
            let until = Instant::now() + LINGER;
            self.lingering.push_back(LingeringSlot { until, session, slot, pin: None });
        }
    }

    /// Frees the slots that have lingered long enough.
    pub(super) fn free_expired(&mut self) {
        let now = Instant::now();
        while let Some(expired) = self.lingering.pop_front_if(|lingering| lingering.until <= now) {
            match expired.session {
                Some(session) => session.free_slot(&expired.slot, self.pins.datapath()),
                None => drop(self.pins.datapath().free(expired.slot)),
            }
        }
    }
}
