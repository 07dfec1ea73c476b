//! Which slot a key leads to: the pin's, that of the session's denial, or none.

use std::sync::Arc;

use bmp_ebpf::Pin;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Current, Installed, Keeper, LINGER, Lingering, SessionPin, Slot, Target, Tracked, denies};

impl Keeper {
    /// Lets the key lead to the pin. Where that fails, it leads to a denial.
    pub(super) fn put(&mut self, tracked: &mut Tracked, target: Target, pin: Pin) -> anyhow::Result<()> {
        let key = self.pins.datapath().key(&target);
        let same = |installed: &Installed| installed.key == key && installed.pin == pin;
        if tracked.installed.as_ref().is_some_and(same) && !tracked.shares_a_denial() {
            return Ok(());
        }
        if !std::mem::replace(&mut tracked.begun, true) {
            tracked.pin.add_counted(&self.pins.datapath().history(&key));
        }
        // An earlier bmpd may have left this very pin in force: it goes on, with its sockets and counters.
        if let Some(slot) = self.pins.datapath().adopt(&key, &pin) {
            tracked.pin.add_slot(&slot);
            if denies(&pin) {
                tracked.denial = Some((slot.clone(), pin));
            }
            self.replace(tracked, Some(Installed { target, key, slot, pin }));
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
        self.lead(tracked, Installed { target, key, slot, pin })
    }

    pub(super) fn deny(&mut self, tracked: &mut Tracked, target: Target) -> anyhow::Result<()> {
        let key = self.pins.datapath().key(&target);
        let pin = tracked.denial_pin();
        if tracked.denial.as_ref().is_none_or(|(_, denied_so)| *denied_so != pin) {
            let placed = match self.revive(tracked, pin) {
                Some(slot) => Ok(slot),
                None => self.place(tracked, pin),
            };
            // A denial needs no slot.
            if let Ok(slot) = placed
                && let Some((slot, pin)) = tracked.denial.replace((slot, pin))
            {
                self.linger(tracked, slot, pin);
            }
        }
        let own = tracked.denial.as_ref().map(|(slot, _)| slot.clone());
        let slot = own.unwrap_or_else(|| Slot::shared_denial(tracked.own_only));
        self.lead(tracked, Installed { target, key, slot, pin })
    }

    /// Gives a pin a slot that counts for the session. Where none is free, one goes that denies a session which is not denied now.
    pub(super) fn place(&mut self, tracked: &Tracked, pin: Pin) -> anyhow::Result<Slot> {
        if !self.pins.datapath().has_free_slot() {
            let is_idle = |tracked: &Tracked| {
                let leads_to =
                    |slot: &Slot| tracked.installed.as_ref().is_some_and(|installed| installed.slot == *slot);
                tracked.denial.as_ref().is_some_and(|(slot, _)| !leads_to(slot))
            };
            if let Some(other) = self.sessions.values_mut().find(|tracked| is_idle(tracked))
                && let Some((slot, _)) = other.denial.take()
            {
                other.pin.free_slot(&slot, self.pins.datapath());
            }
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

    pub(super) fn lead(&mut self, tracked: &mut Tracked, new: Installed) -> anyhow::Result<()> {
        if let Err(error) = self.pins.datapath().point(&new.key, &new.slot) {
            if !denies(&new.pin) {
                self.linger(tracked, new.slot, new.pin);
            }
            return Err(error);
        }
        self.replace(tracked, Some(new));
        Ok(())
    }

    /// The slot in which this very pin lingers: a way that is lost and comes back within seconds is the same way.
    pub(super) fn revive(&mut self, tracked: &Tracked, pin: Pin) -> Option<Slot> {
        let ours = |session: &Arc<SessionPin>| Arc::ptr_eq(session, &tracked.pin);
        let same = |lingering: &Lingering| lingering.pin == Some(pin) && lingering.session.as_ref().is_some_and(ours);
        let index = self.lingering.iter().position(same)?;
        self.lingering.remove(index).map(|lingering| lingering.slot)
    }

    pub(super) fn uninstall(&mut self, tracked: &mut Tracked) {
        self.replace(tracked, None);
    }

    /// The slot that was in force lingers. Its key goes too, unless it leads to another slot by now.
    pub(super) fn replace(&mut self, tracked: &mut Tracked, new: Option<Installed>) {
        let current = new.as_ref().map(|new| Current { target: new.target, slot: new.slot.clone() });
        let old = std::mem::replace(&mut tracked.installed, new);
        tracked.pin.set_current(current);
        let Some(old) = old else { return };
        if let Err(error) = self.pins.datapath().remove(&old.key, &old.slot) {
            warn!("cannot take a pin out of the kernel table: {error:#}");
        }
        if !denies(&old.pin) {
            self.linger(tracked, old.slot, old.pin);
        }
    }

    pub(super) fn linger(&mut self, tracked: &Tracked, slot: Slot, pin: Pin) {
        let (until, session) = (Instant::now() + LINGER, Some(Arc::clone(&tracked.pin)));
        self.lingering.push_back(Lingering { until, session, slot, pin: Some(pin) });
    }
}
