//! How a pass takes over the work that an earlier pass did not finish.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    super::{
        incarnation::Incarnation,
        selection::{RibPart, Selection},
        state::FeedState,
    },
    DumpPass, DumpProgress, PlannedPeer,
    work::{PassTask, UntoldPart},
};

/// The work that a pass took over from the one before, by the number of the life and the place of
/// the RIB.
#[derive(Debug, Default)]
pub(super) struct TakenOver {
    /// RIBs that need no further walk.
    walks: HashSet<(u64, usize)>,
    /// Lives whose latest messages are to be sent.
    latest: HashSet<u64>,
    /// RIBs of which the station is to have another part, and that were not told to the end.
    untold: HashMap<(u64, usize), UntoldPart>,
}

impl TakenOver {
    pub(super) fn has_walk(&self, life: &Incarnation, place: usize) -> bool {
        self.walks.contains(&(life.number, place))
    }

    pub(super) fn has_latest(&self, life: &Incarnation) -> bool {
        self.latest.contains(&life.number)
    }

    pub(super) fn untold_part(&self, life: &Incarnation, place: usize) -> Option<UntoldPart> {
        self.untold.get(&(life.number, place)).cloned()
    }

    fn leave_out(&mut self, life: &Incarnation, place: usize, untold: UntoldPart) {
        let known = self.untold.entry((life.number, place)).or_insert_with(|| untold.clone());
        known.before = known.before.joined(untold.before);
        known.needed = known.needed.min(untold.needed);
        known.end_of_rib_since = known.end_of_rib_since.min(untold.end_of_rib_since);
    }
}

impl DumpPass {
    /// Takes over the work that an earlier pass, with the selection `selected`, did not finish.
    /// Leaves out the work for peers that are down or told anew, and for RIBs of which another part
    /// is selected. The station was told the journal up to `known`.
    pub(super) fn take_over(
        &mut self,
        before: Self,
        state: &mut FeedState,
        peers: &[PlannedPeer],
        selected: &Selection,
        [known, until]: [u64; 2],
    ) -> TakenOver {
        let staying: HashSet<_> = peers.iter().filter(|peer| peer.is_told).map(|peer| peer.life.number).collect();
        let mut taken_over = TakenOver::default();
        let Self { work: left, unfinished, progress: DumpProgress { told, .. }, .. } = before;
        self.progress = DumpProgress { told, total: told };
        for mut work in left {
            let life = Arc::clone(&work.life);
            let peer = state.peers.of_life(&life).filter(|_| staying.contains(&life.number));
            let Some(peer) = peer else {
                work.unmark(state);
                continue;
            };
            if let PassTask::Latest(latest) = &mut work.task {
                latest.mirrored_since.get_or_insert(known);
                latest.until = until;
                taken_over.latest.insert(life.number);
            }
            let before = match &work.task {
                PassTask::SendDifference(_, difference) => Some((difference.before.clone(), difference.since)),
                _ => None,
            };
            if let Some(walk) = work.task.sending_walk_mut() {
                // An earlier walk of the RIB may be over, and have left the End-of-RIB to this one.
                walk.end_of_rib_since = unfinished.end_of_rib_since(&life, walk);
                let Some(rib) = peer.ribs.get(walk.rib) else { continue };
                let part = selected.part_of(&life, rib.view, rib.family);
                if !part.is_same(&self.selection.part_of(&life, rib.view, rib.family)) {
                    // The journal was silent about a held RIB behind its walk.
                    let untold = if walk.is_held { walk.until } else { known };
                    let needed = walk.needs_after.unwrap_or(untold).min(untold);
                    let (before, since) = before.unwrap_or((RibPart::Nothing, needed));
                    let untold = UntoldPart {
                        before: before.joined(part),
                        needed: needed.min(since),
                        end_of_rib_since: walk.end_of_rib_since,
                    };
                    taken_over.leave_out(&life, walk.rib, untold);
                    work.unmark(state);
                    continue;
                }
                if walk.mark.is_none() {
                    walk.extend(rib, known, until);
                }
                // A walk that has begun keeps its end: it would not meet the rest of a group whose
                // first routes it has sent. Another walk follows it.
                if walk.mark.is_none() || walk.is_held {
                    taken_over.walks.insert((life.number, walk.rib));
                }
            }
            let routes = work.routes_left;
            self.push(work, routes);
        }
        taken_over
    }
}
