//! The RIBs that a follower has to look at, because their routes are filtered.
//!
//! The journal has frames as they came. A filter decides about the routes that the state has. So a
//! follower passes such frames over in the journal, notes their RIBs, and has a small pass tell
//! what changed in these.

use std::{collections::HashSet, sync::Arc};

use super::incarnation::Incarnation;
use crate::wire::{bgp::Family, bmp::RibView};

/// A RIB of one life of a peer.
#[derive(Clone, Debug)]
pub(super) struct ChangedRib {
    pub(super) life: Arc<Incarnation>,
    pub(super) view: RibView,
    pub(super) family: Family,
}

/// RIBs whose frames a follower has passed over, each once, in their order.
#[derive(Debug, Default)]
pub(super) struct ChangedRibs {
    ribs: Vec<ChangedRib>,
    known: HashSet<(u64, RibView, Family)>,
}

impl ChangedRibs {
    pub(super) fn is_empty(&self) -> bool {
        self.ribs.is_empty()
    }

    pub(super) fn add(&mut self, life: &Arc<Incarnation>, view: RibView, family: Family) {
        if self.known.insert((life.number, view, family)) {
            self.ribs.push(ChangedRib { life: Arc::clone(life), view, family });
        }
    }

    /// Takes all of them.
    pub(super) fn take(&mut self) -> Vec<ChangedRib> {
        self.known.clear();
        std::mem::take(&mut self.ribs)
    }
}
