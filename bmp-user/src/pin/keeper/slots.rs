//! Which slot a key leads to: that of the pin, that of the session's denial, or none.

use std::sync::Arc;

use bmp_ebpf::Pin;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    PinKeeper,
    tracked::{InstalledPin, LingeringSlot, PlacedPin, TrackedPin},
};
use crate::pin::{
    kernel::{PinSlot, PinTarget},
    linger::LINGER,
    plan::denies,
    view::SessionPin,
};

impl PinKeeper {
    /// Lets the key lead to the pin. Where that fails, it leads to a denial.
    pub(super) fn put(&mut self, tracked: &mut TrackedPin, target: PinTarget, pin: Pin) -> anyhow::Result<()> {
        let key = self.pins.datapath().key(&target);
        let is_same = |installed: &InstalledPin| installed.key == key && installed.pin == pin;
        if tracked.installed.as_ref().is_some_and(is_same) && !tracked.shares_a_denial() {
            return Ok(());
        }
        if !std::mem::replace(&mut tracked.has_begun, true) {
            tracked.pin.add_counted(&self.pins.datapath().history(&key));
        }
        // An earlier bmpd may have left this very pin in force. It goes on, with sockets and
        // counters.
        if let Some(slot) = self.pins.datapath().adopt(&key, &pin) {
            tracked.pin.add_slot(&slot);
            if denies(&pin) {
                tracked.denial = Some(PlacedPin { slot: slot.clone(), pin });
            }
            self.replace(tracked, Some(InstalledPin { target, key, slot, pin }));
            return Ok(());
        }
        if denies(&pin) {
            return self.deny(tracked, target);
        }
        let slot = match self.revive(tracked, pin) {
            Some(slot) => slot,
            None => match self.place(tracked, pin) {
                Ok(slot) => slot,
                Err(error) => {
                    self.deny(tracked, target)?;
                    return Err(error);
                }
            },
        };
        self.lead(tracked, InstalledPin { target, key, slot, pin })
    }

    fn deny(&mut self, tracked: &mut TrackedPin, target: PinTarget) -> anyhow::Result<()> {
        let key = self.pins.datapath().key(&target);
        let pin = tracked.denial_pin();
        if tracked.denial.as_ref().is_none_or(|denial| denial.pin != pin) {
            let placed = match self.revive(tracked, pin) {
                Some(slot) => Ok(slot),
                None => self.place(tracked, pin),
            };
            // Without a slot of its own, the session has the shared denial.
            if let Ok(slot) = placed
                && let Some(before) = tracked.denial.replace(PlacedPin { slot, pin })
            {
                self.linger(tracked, before);
            }
        }
        let own = tracked.denial.as_ref().map(|denial| denial.slot.clone());
        let slot = own.unwrap_or_else(|| PinSlot::shared_denial(tracked.own_only));
        self.lead(tracked, InstalledPin { target, key, slot, pin })
    }

    /// Gives a pin a slot that counts for the session. Where none is free, the idle denial of
    /// another session gives its slot up.
    fn place(&mut self, tracked: &TrackedPin, pin: Pin) -> anyhow::Result<PinSlot> {
        if !self.pins.datapath().has_free_slot()
            && let Some(other) = self.sessions.values_mut().find(|tracked| tracked.has_idle_denial())
            && let Some(denial) = other.denial.take()
        {
            other.pin.free_slot(&denial.slot, self.pins.datapath());
        }
        let placed = self.pins.datapath().place(pin).inspect(|slot| tracked.pin.add_slot(slot));
        if self.is_short_of_slots != placed.is_err() {
            self.is_short_of_slots = placed.is_err();
            match &placed {
                Ok(_) => info!("there are slots for new pins again"),
                Err(error) => warn!("sessions that change are denied for some seconds: {error:#}"),
            }
        }
        placed
    }

    fn lead(&mut self, tracked: &mut TrackedPin, new: InstalledPin) -> anyhow::Result<()> {
        if let Err(error) = self.pins.datapath().point(&new.key, &new.slot) {
            if !denies(&new.pin) {
                self.linger(tracked, PlacedPin { slot: new.slot, pin: new.pin });
            }
            return Err(error);
        }
        self.replace(tracked, Some(new));
        Ok(())
    }

    /// Takes back the slot in which this very pin lingers, if there is one. A way that is lost and
    /// comes back within seconds is the same way.
    fn revive(&mut self, tracked: &TrackedPin, pin: Pin) -> Option<PinSlot> {
        let is_ours = |session: &Arc<SessionPin>| Arc::ptr_eq(session, &tracked.pin);
        let is_same =
            |lingering: &LingeringSlot| lingering.pin == Some(pin) && lingering.session.as_ref().is_some_and(is_ours);
        let index = self.lingering.iter().position(is_same)?;
        self.lingering.remove(index).map(|lingering| lingering.slot)
    }

    /// Takes the pin out of force.
    pub(super) fn uninstall(&mut self, tracked: &mut TrackedPin) {
        self.replace(tracked, None);
    }

    /// Notes what is in force now. The slot before lingers, and its key goes unless it leads to
    /// another slot by now.
    fn replace(&mut self, tracked: &mut TrackedPin, new: Option<InstalledPin>) {
        let Some(old) = std::mem::replace(&mut tracked.installed, new) else { return };
        if let Err(error) = self.pins.datapath().remove(&old.key, &old.slot) {
            warn!("cannot take a pin out of the kernel table: {error:#}");
        }
        if !denies(&old.pin) {
            self.linger(tracked, PlacedPin { slot: old.slot, pin: old.pin });
        }
    }

    /// Lets a slot linger that no key leads to any more.
    pub(super) fn linger(&mut self, tracked: &TrackedPin, PlacedPin { slot, pin }: PlacedPin) {
        let (until, session) = (Instant::now() + LINGER, Some(Arc::clone(&tracked.pin)));
        self.lingering.push_back(LingeringSlot { until, session, slot, pin: Some(pin) });
    }
}
