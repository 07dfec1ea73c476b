//! Which sessions may have connections of other processes that are older than their pin.

use std::{collections::BTreeMap, sync::Arc};

use super::{PinKeeper, tracked::TrackedPin};
use crate::pin::{
    foreign::EarlierSearch,
    kernel::Role,
    plan::{PinDemand, Pinned},
};

impl PinKeeper {
    /// Looks after each pin that was put in force. The task of an adopted session takes its own
    /// connections in or closes them. The pin of a BGP peer holds bmpd's connections alone.
    pub(super) async fn look_for_earlier(&mut self, demands: &BTreeMap<Pinned, PinDemand>) {
        let mut searches = Vec::new();
        for (pinned, tracked) in &mut self.sessions {
            let is_new = std::mem::take(&mut tracked.is_new);
            if demands.get(pinned).is_some_and(|demand| demand.adopted) {
                tracked.pin.publish(|view| view.earlier_connections = Arc::default());
            } else if is_new {
                searches.extend(search_for(pinned, tracked));
            }
        }
        self.foreign.look_for_earlier(&searches).await;
    }

    /// Looks again where such connections were found: they may have ended.
    pub(super) async fn look_again_for_earlier(&self) {
        let with = self.sessions.iter().filter(|(_, tracked)| !tracked.pin.earlier_connections().is_empty());
        let searches: Vec<_> = with.filter_map(|(pinned, tracked)| search_for(pinned, tracked)).collect();
        self.foreign.look_for_earlier(&searches).await;
    }
}

fn search_for(pinned: &Pinned, tracked: &TrackedPin) -> Option<EarlierSearch> {
    let installed = tracked.installed.as_ref()?;
    let is_about_all = !tracked.own_only && installed.target.role == Role::Connect;
    is_about_all.then(|| EarlierSearch {
        pinned: pinned.clone(),
        target: installed.target,
        pin: Arc::clone(&tracked.pin),
    })
}
