//! What the keeper knows of one pin.

use std::{net::IpAddr, sync::Arc};

use bmp_ebpf::{Pin, PinKey};
use tokio::time::Instant;

use super::step::PinInForce;
use crate::pin::{
    guard::SessionGuard,
    kernel::{PinSlot, PinTarget},
    plan::{PinDecision, RouteAnswer, denial, denies},
    steering::NextHopAnswer,
    view::{EnforcedPin, SessionPin},
};

/// What was decided about one pin, and what the kernel tables hold for it.
pub(super) struct TrackedPin {
    pub(super) pin: Arc<SessionPin>,
    pub(super) in_force: PinInForce,
    /// [`PinSettings::own_only`](crate::pin::plan::PinSettings::own_only), which never changes.
    pub(super) own_only: bool,
    /// [`Grant::line`](crate::pin::plan::Grant::line) of the last grant.
    pub(super) line: u64,
    /// The source that the rule chose. It is kept while it is valid.
    pub(super) source: Option<IpAddr>,
    pub(super) installed: Option<InstalledPin>,
    /// The slot that denies the session. It is kept, so that a session that goes down often needs
    /// no new slot each time.
    pub(super) denial: Option<PlacedPin>,
    /// True once the session has had a key.
    pub(super) has_begun: bool,
    /// True if connections that are older than the pin are to be looked for.
    pub(super) is_new: bool,
    pub(super) route: Option<RouteAnswer>,
    pub(super) next_hop: Option<NextHopAnswer>,
    /// The mark of a session whose next hop is overruled. It is kept, so that the session is back
    /// as soon as nothing overrules the next hop.
    pub(super) overruled_mark: Option<u32>,
    /// Indexes of the interfaces that lead to a link-local station. `None` for any other station.
    pub(super) station_links: Option<Vec<u32>>,
    pub(super) guard: SessionGuard,
}

/// A pin in a slot of its own.
#[derive(Clone)]
pub(super) struct PlacedPin {
    pub(super) slot: PinSlot,
    pub(super) pin: Pin,
}

/// What a key leads to.
pub(super) struct InstalledPin {
    pub(super) target: PinTarget,
    pub(super) key: PinKey,
    pub(super) slot: PinSlot,
    pub(super) pin: Pin,
}

/// A slot that no key leads to any more.
pub(super) struct LingeringSlot {
    pub(super) until: Instant,
    /// `None` for the slot of an earlier bmpd whose session does not exist any more.
    pub(super) session: Option<Arc<SessionPin>>,
    pub(super) slot: PinSlot,
    /// `None` for the slot of an earlier bmpd: no session goes back to it.
    pub(super) pin: Option<Pin>,
}

impl TrackedPin {
    pub(super) fn new(pin: Arc<SessionPin>, own_only: bool) -> Self {
        Self {
            pin,
            in_force: PinInForce::default(),
            own_only,
            line: 0,
            source: None,
            installed: None,
            denial: None,
            has_begun: false,
            is_new: false,
            route: None,
            next_hop: None,
            overruled_mark: None,
            station_links: None,
            guard: SessionGuard::default(),
        }
    }

    /// Forgets the kernel's side, which was not loaded until now.
    pub(super) fn forget_kernel(&mut self) {
        self.pin.forget_slots();
        self.in_force.decision = None;
        (self.installed, self.denial, self.has_begun) = (None, None, false);
    }

    /// Returns what the kernel enforces for new connections.
    pub(super) fn enforced(&self) -> Option<EnforcedPin> {
        let InstalledPin { target, slot, .. } = self.installed.as_ref()?;
        Some(EnforcedPin { target: *target, slot: slot.clone() })
    }

    /// Returns the pin that denies the session. It names the source that was chosen.
    pub(super) fn denial_pin(&self) -> Pin {
        denial(self.source, self.own_only, self.station_links.as_deref().unwrap_or_default())
    }

    /// True if there is something to deny. A link-local station cannot be reached while its
    /// interface is absent.
    pub(super) fn is_deniable(&self) -> bool {
        self.station_links.as_ref().is_none_or(|links| !links.is_empty())
    }

    /// True if the session is denied without a slot of its own, so that nothing counts what is
    /// denied.
    pub(super) fn shares_a_denial(&self) -> bool {
        self.installed.as_ref().is_some_and(|installed| installed.slot.is_shared_denial())
    }

    /// True if the denial in force names another source or other interfaces than it should.
    pub(super) fn is_denied_otherwise(&self) -> bool {
        match &self.installed {
            Some(installed) => denies(&installed.pin) && (installed.pin != self.denial_pin() || !self.is_deniable()),
            None => {
                let is_denied = matches!(self.in_force.decision, Some(PinDecision::Down { target: Some(_), .. }));
                is_denied && self.is_deniable()
            }
        }
    }

    /// True if a slot denies the session that no key leads to now.
    pub(super) fn has_idle_denial(&self) -> bool {
        let leads_to = |slot: &PinSlot| self.installed.as_ref().is_some_and(|installed| installed.slot == *slot);
        self.denial.as_ref().is_some_and(|denial| !leads_to(&denial.slot))
    }
}
