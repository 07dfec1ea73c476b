//! Puts back what was taken out of the kernel, and tries again what could not be loaded.

use std::collections::BTreeMap;

use tracing::warn;

use super::PinKeeper;
use crate::pin::{
    kernel::Mended,
    plan::{PinDecision, PinDemand, Pinned},
    vrfs::Vrfs,
};

impl PinKeeper {
    /// Puts back what is missing in the kernel. True if something was, so that pins must be decided
    /// anew.
    ///
    /// No program has seen what other processes connected meanwhile: those connections are held to
    /// their pin now, or closed. bmpd's own sockets check that themselves
    /// ([`Datapath::confirm`](crate::pin::kernel::Datapath::confirm)).
    pub(super) async fn mend(&mut self, demands: &BTreeMap<Pinned, PinDemand>) -> bool {
        let datapath = self.pins.datapath().clone();
        // An error means that bmpd ends.
        match self.pins.mender().run(move || datapath.mend()).await.unwrap_or(Mended::Nothing) {
            Mended::Nothing | Mended::NotYet => return false,
            Mended::Pins => return true,
            Mended::Enforcement => {}
        }
        for (pinned, tracked) in &self.sessions {
            let (Pinned::Session(session), Some(installed)) = (pinned, &tracked.installed) else { continue };
            let is_adopted = demands.get(pinned).is_some_and(|demand| demand.adopted);
            // Connections that are older than the pin are shown, and go on. An adopted session has
            // none: its own task takes them in.
            let left_alone = tracked.pin.earlier_connections();
            let left_alone = if is_adopted { &[] } else { &*left_alone };
            let swept = match &tracked.in_force.decision {
                Some(PinDecision::Ready(grant)) => {
                    self.foreign.take_in(session, &tracked.pin, grant, &installed.slot, left_alone).await.map(drop)
                }
                _ if is_adopted => Ok(()),
                _ => {
                    let why = "it was connected while the kernel did not enforce";
                    self.foreign.close_all(session, &tracked.pin, installed.target, None, left_alone, why).await
                }
            };
            if let Err(error) = swept {
                warn!(
                    "{pinned}: cannot look for connections that were made while the kernel did not enforce: {error:#}"
                );
            }
        }
        true
    }

    /// Asks whether an ICMP redirect has come or gone for a session with a next hop. True if so, so
    /// that pins must be decided anew.
    pub(super) async fn look_for_redirects(&mut self) -> bool {
        let mut has_changed = false;
        for tracked in self.sessions.values_mut() {
            if let Some(answer) = &tracked.next_hop
                && answer.is_outdated(&self.routes).await
            {
                (tracked.next_hop, has_changed) = (None, true);
            }
        }
        has_changed
    }

    /// Tries once more to load the programs. True if they are loaded now: then everything is put in
    /// force anew, and the sessions connect again.
    pub(super) async fn load_again(&mut self) -> bool {
        let datapath = self.pins.datapath().clone();
        let is_loaded = self.pins.mender().run(move || datapath.try_again()).await.unwrap_or_default();
        if is_loaded {
            self.pins.datapath().follow_log();
            self.vrfs = Vrfs::default();
            self.lingering.clear();
            self.sessions.values_mut().for_each(super::tracked::TrackedPin::forget_kernel);
        }
        is_loaded
    }
}
