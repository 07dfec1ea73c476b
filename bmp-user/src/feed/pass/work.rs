//! The work of a pass: what is left to be told about each peer, and which RIBs are not told yet.

use std::{collections::HashMap, sync::Arc};

use super::super::{
    compose::FrameWriter,
    incarnation::Incarnation,
    rib::{Rib, WalkMark},
    selection::{RibFilters, RibPart, Selection},
    state::FeedState,
};
use crate::wire::{bgp::Family, bmp::RibView};

/// A piece of work for one peer.
#[derive(Debug)]
pub(super) struct PassWork {
    pub(super) life: Arc<Incarnation>,
    pub(super) task: PassTask,
    /// Routes of this work that progress does not count as told yet.
    pub(super) routes_left: u64,
}

#[derive(Debug)]
pub(super) enum PassTask {
    /// Send what changed in a RIB.
    Send(RibWalk),
    /// Send what changed in a RIB, as far as the filters permit it.
    SendFiltered(RibWalk, RibFilters),
    /// Send the difference between what the station had of a RIB and what it is to have.
    SendDifference(RibWalk, PartDifference),
    /// Withdraw everything that the station may have of a RIB.
    TakeBack(RibWalk),
    /// Send the statistics, and say that mirrored messages were lost.
    Latest(LatestMessages),
}

/// Two parts of a RIB. The walk with it goes along all routes first, and then along what changed
/// meanwhile.
#[derive(Debug)]
pub(super) struct PartDifference {
    /// What the station has, as of `since`.
    pub(super) before: RibPart,
    pub(super) after: RibPart,
    pub(super) since: u64,
    /// False if the station may lack some of what it is said to have, or may have it newer: a walk
    /// was not finished.
    pub(super) is_certain: bool,
}

/// Which statistics and mirrored messages a pass is about. Later ones are in the journal.
#[derive(Debug)]
pub(super) struct LatestMessages {
    /// The statistics are sent if they came after this.
    pub(super) since: u64,
    /// Mirrored messages that came after this were lost. `None`: the station was not promised any.
    pub(super) mirrored_since: Option<u64>,
    /// Both came no later than this.
    pub(super) until: u64,
}

/// A walk along the list of a RIB.
#[derive(Debug)]
pub(super) struct RibWalk {
    /// The place of the RIB among those of its peer.
    pub(super) rib: usize,
    view: RibView,
    family: Family,
    /// The station knows what changed up to here.
    pub(super) since: u64,
    /// The journal tells what changes after this.
    pub(super) until: u64,
    /// The station needs the withdrawals after this. `None`: it needs none.
    pub(super) needs_after: Option<u64>,
    /// Whether the journal is silent about the RIB until the walk is over.
    pub(super) is_held: bool,
    /// Where the walk is; `None` before it begins.
    pub(super) mark: Option<WalkMark>,
    /// When the last route that it met changed.
    pub(super) position: u64,
    /// Whether withdrawals are sent: the station knows something, or is told whole fields.
    pub(super) withdrawals: bool,
    /// How often the RIB had been converted when the walk began.
    conversions: u32,
    /// The station knows the End-of-RIB up to here.
    pub(super) end_of_rib_since: u64,
}

impl RibWalk {
    /// A walk along the routes that changed after `since` and up to `until`.
    ///
    /// Order counts among whole fields. So the journal is silent about a RIB that may have some.
    pub(super) fn new(place: usize, rib: &Rib, since: u64, until: u64) -> Self {
        Self {
            rib: place,
            view: rib.view,
            family: rib.family,
            since,
            until,
            needs_after: (since > 0).then_some(since),
            is_held: rib.may_have_whole() || rib.last_whole > until,
            mark: None,
            position: 0,
            withdrawals: since > 0,
            conversions: 0,
            end_of_rib_since: since,
        }
    }

    /// A walk that the journal waits for.
    pub(super) fn at_once(place: usize, rib: &Rib, since: u64, until: u64) -> Self {
        Self { is_held: true, ..Self::new(place, rib, since, until) }
    }

    /// The first walk for a difference: along all routes. What is to be told of the routes that
    /// change meanwhile depends on both parts, so the journal is silent about the RIB.
    fn for_difference(place: usize, rib: &Rib, until: u64, difference: &PartDifference) -> Self {
        let needs_after = Some(difference.since);
        let is_held = !matches!(difference.after, RibPart::Nothing);
        Self { needs_after, is_held, end_of_rib_since: difference.since, ..Self::new(place, rib, 0, until) }
    }

    /// Has the walk, which has not begun, go on to `until`. The journal told what changed between
    /// the end so far and `known`, unless it was silent about the RIB.
    pub(super) fn extend(&mut self, rib: &Rib, known: u64, until: u64) {
        if self.is_outdated(rib) {
            return;
        }
        if !self.is_held {
            self.needs_after.get_or_insert(known);
            self.withdrawals = true;
        }
        self.until = until;
    }

    /// True if the RIB has forgotten withdrawals that the station needs: withdrawals that it does
    /// not know and that the walk has not met.
    pub(super) fn misses_withdrawals(&self, rib: &Rib) -> bool {
        self.needs_after.is_some_and(|after| rib.forgotten > after.max(self.position))
    }

    /// The mark of the walk. Makes one before the first route after `since` if there is none.
    pub(super) fn take_mark(&mut self, rib: &mut Rib, since: u64) -> WalkMark {
        self.mark.take().unwrap_or_else(|| {
            self.conversions = rib.conversions;
            rib.mark(since)
        })
    }

    /// True if nothing can be told on as the walk began: it sent whole fields to a station that
    /// knew nothing, and the RIB has read these fields since; or the journal has told whole fields.
    pub(super) fn is_outdated(&self, rib: &Rib) -> bool {
        let is_converted = self.since == 0 && self.mark.is_some() && self.conversions != rib.conversions;
        is_converted || (!self.is_held && rib.last_whole > self.until)
    }

    /// The walk that follows this one, which is over: along what changed up to `until`.
    pub(super) fn next(&self, rib: &Rib, until: u64) -> Self {
        Self { is_held: self.is_held, ..Self::new(self.rib, rib, self.until, until) }
    }

    /// True if the RIB is selected.
    pub(super) fn is_selected(&self, life: &Incarnation, selection: &Selection) -> bool {
        selection.has_rib(life, self.view, self.family)
    }

    /// Removes the mark from the RIB.
    pub(super) fn unmark(&mut self, rib: &mut Rib) {
        self.mark.take().into_iter().for_each(|mark| rib.unmark(mark));
    }
}

impl PassWork {
    /// The work without a count of routes.
    pub(super) fn new(life: &Arc<Incarnation>, task: PassTask) -> Self {
        Self { life: Arc::clone(life), task, routes_left: 0 }
    }

    pub(super) fn walk(&self) -> Option<&RibWalk> {
        match &self.task {
            PassTask::Send(walk)
            | PassTask::SendFiltered(walk, _)
            | PassTask::SendDifference(walk, _)
            | PassTask::TakeBack(walk) => Some(walk),
            PassTask::Latest(_) => None,
        }
    }

    /// Counts routes as told. Returns how many of them count.
    pub(super) fn credit(&mut self, routes: u64) -> u64 {
        let credit = routes.min(self.routes_left);
        self.routes_left -= credit;
        credit
    }

    /// Removes its mark from the RIB, because the work will not be done.
    pub(super) fn unmark(self, state: &mut FeedState) {
        if let PassTask::Send(mut walk)
        | PassTask::SendFiltered(mut walk, _)
        | PassTask::SendDifference(mut walk, _)
        | PassTask::TakeBack(mut walk) = self.task
            && let Some(peer) = state.peers.of_life_mut(&self.life)
            && let Some(rib) = peer.ribs.get_mut(walk.rib)
        {
            walk.unmark(rib);
        }
    }
}

impl PassTask {
    /// What to do with a RIB of which a station had a part, and is to have another. The station
    /// knows what changed up to `known`. Also returns how many routes that may be.
    pub(super) fn from_part_to_part(
        place: usize,
        rib: &Rib,
        [known, until]: [u64; 2],
        before: RibPart,
        after: RibPart,
    ) -> Option<(Self, u64)> {
        let all = rib.entries() as u64;
        let is_same = before.is_same(&after);
        let walk = |since| RibWalk::new(place, rib, since, until);
        Some(match (before, after) {
            (RibPart::Nothing, RibPart::Nothing) => return None,
            (RibPart::Nothing, RibPart::Everything) => (Self::Send(walk(0)), all),
            (RibPart::Nothing, RibPart::Filtered(filters)) => (Self::SendFiltered(walk(0), filters), all),
            (RibPart::Everything, RibPart::Everything) => (Self::Send(walk(known)), 0),
            (RibPart::Filtered(_), RibPart::Filtered(filters)) if is_same => {
                (Self::SendFiltered(walk(known), filters), 0)
            }
            (RibPart::Everything, RibPart::Nothing) => (Self::TakeBack(walk(known)), all),
            (before, after) => {
                let difference = PartDifference { before, after, since: known, is_certain: true };
                (Self::SendDifference(RibWalk::for_difference(place, rib, until, &difference), difference), all)
            }
        })
    }

    /// What to do with a RIB of which a station was not told a part to the end, and is to have
    /// another.
    pub(super) fn from_untold_part(
        place: usize,
        rib: &Rib,
        until: u64,
        untold: UntoldPart,
        after: RibPart,
    ) -> (Self, u64) {
        let all = rib.entries() as u64;
        let UntoldPart { before, needed, end_of_rib_since } = untold;
        if matches!((&before, &after), (RibPart::Everything, RibPart::Nothing)) {
            return (Self::TakeBack(RibWalk::new(place, rib, needed, until)), all);
        }
        let difference = PartDifference { before, after, since: needed, is_certain: false };
        let walk = RibWalk { end_of_rib_since, ..RibWalk::for_difference(place, rib, until, &difference) };
        (Self::SendDifference(walk, difference), all)
    }

    /// The walk of a task after which the station has its part of the RIB.
    pub(super) fn sending_walk(&self) -> Option<&RibWalk> {
        match self {
            Self::SendDifference(_, PartDifference { after: RibPart::Nothing, .. }) => None,
            Self::Send(walk) | Self::SendFiltered(walk, _) | Self::SendDifference(walk, _) => Some(walk),
            Self::TakeBack(_) | Self::Latest(_) => None,
        }
    }

    /// See [`Self::sending_walk`].
    pub(super) fn sending_walk_mut(&mut self) -> Option<&mut RibWalk> {
        match self {
            Self::SendDifference(_, PartDifference { after: RibPart::Nothing, .. }) => None,
            Self::Send(walk) | Self::SendFiltered(walk, _) | Self::SendDifference(walk, _) => Some(walk),
            Self::TakeBack(_) | Self::Latest(_) => None,
        }
    }
}

/// A part of a RIB that a station was not told to the end.
#[derive(Clone, Debug)]
pub(super) struct UntoldPart {
    /// What the station may have.
    pub(super) before: RibPart,
    /// The station needs the withdrawals after this.
    pub(super) needed: u64,
    /// The station knows the End-of-RIB up to here.
    pub(super) end_of_rib_since: u64,
}

/// A step of a pass: how much it may send.
#[derive(Clone, Copy, Debug)]
pub(in crate::feed) struct PassStep {
    /// The station was told the journal up to here.
    pub(in crate::feed) cursor: u64,
    pub(in crate::feed) bytes: usize,
    pub(in crate::feed) routes: u64,
}

impl PassStep {
    /// True if no more fits. The message that reaches the limit may exceed it.
    pub(super) fn is_reached(self, out: &FrameWriter) -> bool {
        out.len() >= self.bytes || out.pass_routes >= self.routes
    }
}

/// The RIBs of a pass that are not told yet.
#[derive(Debug, Default)]
pub(super) struct UnfinishedRibs {
    ribs: HashMap<(u64, RibView, Family), UnfinishedRib>,
    /// How many of them are held.
    held: usize,
}

#[derive(Clone, Copy, Debug)]
struct UnfinishedRib {
    walks: usize,
    is_held: bool,
    /// The station knows the End-of-RIB up to here.
    end_of_rib_since: u64,
}

impl UnfinishedRibs {
    /// Adds a walk to send a RIB.
    pub(super) fn add(&mut self, life: &Incarnation, walk: &RibWalk) {
        let new = UnfinishedRib { walks: 0, is_held: false, end_of_rib_since: walk.end_of_rib_since };
        let rib = self.ribs.entry((life.number, walk.view, walk.family)).or_insert(new);
        rib.walks += 1;
        rib.end_of_rib_since = rib.end_of_rib_since.min(walk.end_of_rib_since);
        if walk.is_held && !rib.is_held {
            rib.is_held = true;
            self.held += 1;
        }
    }

    /// Notes that a walk is over, or will not be made. If it was the last one of its RIB, returns
    /// up to when the station knows the End-of-RIB.
    pub(super) fn remove(&mut self, life: &Incarnation, walk: &RibWalk) -> Option<u64> {
        let key = (life.number, walk.view, walk.family);
        let rib = self.ribs.get_mut(&key)?;
        rib.walks -= 1;
        if rib.walks > 0 {
            return None;
        }
        let rib = self.ribs.remove(&key)?;
        self.held -= usize::from(rib.is_held);
        Some(rib.end_of_rib_since)
    }

    /// Up to when the station knows the End-of-RIB of the RIB of a walk.
    pub(super) fn end_of_rib_since(&self, life: &Incarnation, walk: &RibWalk) -> u64 {
        let rib = self.ribs.get(&(life.number, walk.view, walk.family));
        rib.map_or(walk.end_of_rib_since, |rib| rib.end_of_rib_since)
    }

    pub(super) fn has(&self, life: &Incarnation, view: RibView, family: Family) -> bool {
        self.ribs.contains_key(&(life.number, view, family))
    }

    pub(super) fn is_held(&self, life: &Incarnation, view: RibView, family: Family) -> bool {
        self.held > 0 && self.ribs.get(&(life.number, view, family)).is_some_and(|rib| rib.is_held)
    }

    /// True if a RIB of one view of a peer is held.
    pub(super) fn has_held(&self, life: &Incarnation, view: RibView) -> bool {
        let is_of_view = |(number, of): (u64, RibView)| number == life.number && of == view;
        self.held > 0 && self.ribs.iter().any(|((number, of, _), rib)| rib.is_held && is_of_view((*number, *of)))
    }
}
