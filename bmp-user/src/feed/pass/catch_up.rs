//! Tells what changed in RIBs whose routes are filtered, in place of the journal.
//!
//! The journal waits for it, so it is a part of what is live: it does not wait for a dump, and goes
//! between two steps of one. Like the journal, it tells nothing that a walk of the dump tells.

use std::{collections::VecDeque, sync::Arc};

use super::{
    super::{
        catch_up::ChangedRib,
        compose::FrameWriter,
        incarnation::Incarnation,
        selection::{RibFilters, RibPart, Selection},
        state::{FeedState, PeerAndTables},
    },
    DumpPass, PassProgress,
    filtered::FilteredGroup,
    work::{PassStep, RibWalk},
};

/// See the module.
#[derive(Debug)]
pub(in crate::feed) struct CatchUpPass {
    work: VecDeque<CatchUpWork>,
    group: FilteredGroup,
}

/// A RIB to look at.
#[derive(Debug)]
struct CatchUpWork {
    life: Arc<Incarnation>,
    walk: RibWalk,
    filters: RibFilters,
    /// Whether the End-of-RIB is told with it, and not by a dump.
    tells_end_of_rib: bool,
}

impl CatchUpPass {
    /// Looks at what changed in some RIBs after `since` and up to `until`. `dump` is under way.
    pub(in crate::feed) fn new(
        state: &FeedState,
        [since, until]: [u64; 2],
        selection: &Selection,
        changed: Vec<ChangedRib>,
        dump: Option<&DumpPass>,
    ) -> Self {
        let work = |ChangedRib { life, view, family }: ChangedRib| {
            let ribs = &state.peers.of_life(&life)?.ribs;
            let (place, rib) = ribs.iter().enumerate().find(|(_, rib)| (rib.view, rib.family) == (view, family))?;
            let RibPart::Filtered(filters) = selection.part_of(&life, view, family) else { return None };
            let walk = RibWalk::at_once(place, rib, since, until);
            let tells_end_of_rib = dump.is_none_or(|dump| !dump.has_to_tell(&life, view, family));
            Some(CatchUpWork { life, walk, filters, tells_end_of_rib })
        };
        Self { work: changed.into_iter().filter_map(work).collect(), group: FilteredGroup::default() }
    }

    /// True if everything is sent.
    pub(in crate::feed) fn is_over(&self) -> bool {
        self.work.is_empty()
    }

    /// Sends more, up to a step. Returns the lives that have to be told anew: nothing else can mend
    /// what the station knows about them.
    pub(in crate::feed) fn step(
        &mut self,
        state: &mut FeedState,
        step: PassStep,
        out: &mut FrameWriter,
    ) -> Vec<Arc<Incarnation>> {
        let mut lost = Vec::new();
        self.group.begin_step();
        while !step.is_reached(out)
            && self.group.has_time()
            && let Some(mut work) = self.work.pop_front()
        {
            let CatchUpWork { life, walk, filters, tells_end_of_rib } = &mut work;
            // A peer that went down took its RIBs and their marks with it.
            let Some(PeerAndTables { peer, tables }) = state.peer_and_tables(life) else { continue };
            let Some(rib) = peer.ribs.get_mut(walk.rib) else { continue };
            match self.group.send(rib, walk, filters, &tables.attributes, step, out) {
                PassProgress::More => self.work.push_front(work),
                PassProgress::Lost => lost.push(work.life),
                PassProgress::Done => {
                    let is_new = |changed: u64| (walk.since + 1..=walk.until).contains(&changed);
                    if let Some(end) = rib.end_of_rib.filter(|end| *tells_end_of_rib && is_new(end.changed)) {
                        out.end_of_rib(rib, end.time, end.variant);
                    }
                }
            }
        }
        lost
    }

    /// Removes the marks from the RIBs, because the pass will not be finished.
    pub(in crate::feed) fn abandon(self, state: &mut FeedState) {
        for CatchUpWork { life, mut walk, .. } in self.work {
            if let Some(rib) = state.peers.of_life_mut(&life).and_then(|peer| peer.ribs.get_mut(walk.rib)) {
                walk.unmark(rib);
            }
        }
    }
}
