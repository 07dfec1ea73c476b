//! Which sessions may have connections of other processes that were there before their pin.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Demand, Keeper, Pinned, Role, Tracked, Wanted};

impl Keeper {
    /// After something was put in force. An adopted session's own task takes such connections in, or closes them; a BGP peer's pin is for bmpd's
    /// connections alone.
    pub(super) async fn look_for_unheld(&mut self, demands: &BTreeMap<Pinned, Demand>) {
        let mut wanted = Vec::new();
        for (id, tracked) in &mut self.sessions {
            let is_new = std::mem::take(&mut tracked.is_new);
            if demands.get(id).is_some_and(|demand| demand.adopted) {
                tracked.pin.set_unheld(Vec::new());
            } else if is_new {
                wanted.extend(wanted_of(id, tracked));
            }
        }
        self.foreign.look_for_unheld(&wanted).await;
    }

    /// Those that there were may be gone.
    pub(super) async fn look_again_for_unheld(&self) {
        let with = self.sessions.iter().filter(|(_, tracked)| !tracked.pin.unheld().is_empty());
        let wanted: Vec<_> = with.filter_map(|(id, tracked)| wanted_of(id, tracked)).collect();
        self.foreign.look_for_unheld(&wanted).await;
    }
}

fn wanted_of(id: &Pinned, tracked: &Tracked) -> Option<Wanted> {
    let installed = tracked.installed.as_ref()?;
    let is_about_all = !tracked.own_only && installed.target.role == Role::Connect;
    is_about_all.then(|| (id.clone(), installed.target, Arc::clone(&tracked.pin)))
}
