//! The work of a pass: what is left to be told about each peer, and which RIBs are not told yet.

use std::{collections::HashMap, sync::Arc};

use super::super::{
    compose::FrameWriter,
    incarnation::Incarnation,
    rib::{Rib, WalkMark},
    selection::Selection,
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
    /// Withdraw everything that the station may have of a RIB.
    TakeBack(RibWalk),
    /// Send the statistics, and say that mirrored messages were lost.
    Latest(LatestMessages),
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
        }
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
            PassTask::Send(walk) | PassTask::TakeBack(walk) => Some(walk),
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
        if let PassTask::Send(mut walk) | PassTask::TakeBack(mut walk) = self.task
            && let Some(peer) = state.peers.of_life_mut(&self.life)
            && let Some(rib) = peer.ribs.get_mut(walk.rib)
        {
            walk.unmark(rib);
        }
    }
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
        let new = UnfinishedRib { walks: 0, is_held: false, end_of_rib_since: walk.since };
        let rib = self.ribs.entry((life.number, walk.view, walk.family)).or_insert(new);
        rib.walks += 1;
        rib.end_of_rib_since = rib.end_of_rib_since.min(walk.since);
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
