//! What was taken out of the kernel is put back, and what could not be loaded is tried again.

use std::collections::BTreeMap;

use tracing::warn;

use super::{Decision, Demand, Keeper, Mended, Pinned, Vrfs};
use crate::tasks;

impl Keeper {
    /// Returns when somebody has found something lost in the kernel.
    pub(super) fn lost(&self) -> impl Future<Output = ()> + use<> {
        let datapath = self.pins.datapath().clone();
        async move { datapath.lost().await }
    }

    /// Looks whether all is in the kernel that was put there, and puts it back. True if something was.
    ///
    /// What other processes have connected meanwhile no program has seen: it is held to its pin now, or closed. bmpd's own sockets see to
    /// themselves ([`super::Datapath::confirm`]).
    pub(super) async fn mend(&mut self, demands: &BTreeMap<Pinned, Demand>) -> bool {
        match self.pins.datapath().mend() {
            Mended::Nothing | Mended::NotYet => return false,
            Mended::Pins => return true,
            Mended::Enforcement => {}
        }
        for (id, tracked) in &self.sessions {
            let (Pinned::Session(session), Some(installed)) = (id, &tracked.installed) else { continue };
            // The task of an adopted session would not know of it.
            let is_adopted = demands.get(id).is_some_and(|demand| demand.adopted);
            // What was there before the pin is shown, and goes on.
            let left_alone = if is_adopted { Vec::new() } else { tracked.pin.unheld() };
            let swept = match &tracked.decision {
                Some(Decision::Ready(grant)) => {
                    self.foreign.take_in(session, &tracked.pin, grant, &installed.slot, &left_alone).await.map(drop)
                }
                _ if is_adopted => Ok(()),
                _ => {
                    let why = "it was connected while the kernel did not enforce";
                    self.foreign.close_all(session, &tracked.pin, installed.target, None, &left_alone, why).await
                }
            };
            if let Err(error) = swept {
                warn!("{id}: connections that were made while the kernel did not enforce are not found: {error:#}");
            }
        }
        true
    }

    /// Asks whether a redirect leads a session past its next hop, or does so no more. True if that has changed since it was decided about.
    pub(super) async fn look_for_redirects(&mut self) -> bool {
        let mut has_changed = false;
        for tracked in self.sessions.values_mut() {
            if let Some(ruling) = &tracked.ruling
                && ruling.is_outdated(&self.routes).await
            {
                (tracked.ruling, has_changed) = (None, true);
            }
        }
        has_changed
    }

    /// Tries once more to load the programs. True if they are: then everything is put in force anew, and the sessions connect again.
    pub(super) async fn load_again(&mut self) -> bool {
        let datapath = self.pins.datapath().clone();
        let loaded = tasks::blocking(move || datapath.try_again()).await.unwrap_or_default();
        if loaded {
            self.vrfs = Vrfs::default();
            self.lingering.clear();
            for tracked in self.sessions.values_mut() {
                tracked.pin.forget_slots();
                (tracked.decision, tracked.installed, tracked.denial, tracked.begun) = (None, None, None, false);
            }
        }
        loaded
    }
}
