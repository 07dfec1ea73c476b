//! The parts of a pass that are about RIBs whose routes are filtered.
//!
//! A station with a filter has a view of its own of a RIB. The walk announces the routes that the
//! filter permits, and withdraws those that the station may have and is not to have any more.

use super::{
    super::{
        attributes::AttributeSets,
        blocks::NONE,
        compose::FrameWriter,
        rib::{GroupKey, MetGroup, ReceiveTime, Rib, RibJudge},
        selection::{RibFilters, RibPart},
    },
    PassProgress,
    work::{PartDifference, PassStep, RibWalk},
};

/// How many routes a step may look at. It holds the lock of the state, and a filter may deny most.
const MOST_LOOKED_AT: usize = 20_000;

/// The numbers of routes that leave in one announcement and in one withdrawal. Empty between two
/// groups; kept for its memory.
#[derive(Debug, Default)]
pub(super) struct FilteredGroup {
    met: Vec<u32>,
    announced: Vec<u32>,
    withdrawn: Vec<u32>,
    /// How many routes the step has looked at.
    looked_at: usize,
}

/// What a station had of a RIB, or is to have.
enum PartJudge {
    Nothing,
    Everything,
    Filtered(RibJudge),
}

impl PartJudge {
    fn new(part: &RibPart, rib: &mut Rib) -> Self {
        match part {
            RibPart::Nothing => Self::Nothing,
            RibPart::Everything => Self::Everything,
            RibPart::Filtered(filters) => Self::Filtered(rib.judge(filters)),
        }
    }

    fn begin_group(&mut self, key: GroupKey, rib: &Rib, attributes: &AttributeSets) {
        if let Self::Filtered(judge) = self {
            judge.begin_group(Rib::set_of(key.attributes, attributes), rib);
        }
    }

    /// True if an announced route belongs to the part.
    fn has(&self, rib: &mut Rib, number: u32) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Filtered(judge) => rib.is_permitted(judge, number),
        }
    }

    /// True if a route belonged to the part before it changed, after `since`.
    fn had(&self, rib: &Rib, number: u32, since: u64) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => since > 0,
            Self::Filtered(judge) => rib.was_permitted(judge, number, since),
        }
    }
}

impl FilteredGroup {
    pub(super) fn begin_step(&mut self) {
        self.looked_at = 0;
    }

    /// True if the step may look at more routes.
    pub(super) fn has_time(&self) -> bool {
        self.looked_at < MOST_LOOKED_AT
    }

    /// Writes the announcement and the withdrawal.
    fn put(&mut self, rib: &Rib, key: GroupKey, attributes: &AttributeSets, out: &mut FrameWriter) {
        if !self.withdrawn.is_empty() {
            let key = GroupKey { attributes: NONE, ..key };
            out.routes(rib, key, attributes, self.withdrawn.iter().map(|number| rib.kept_nlri(*number)));
            out.pass_routes += self.withdrawn.len() as u64;
            self.withdrawn.clear();
        }
        if !self.announced.is_empty() {
            out.routes(rib, key, attributes, self.announced.iter().map(|number| rib.kept_nlri(*number)));
            out.pass_routes += self.announced.len() as u64;
            self.announced.clear();
        }
    }

    /// Sends what changed in a RIB, as far as the filters permit it.
    pub(super) fn send(
        &mut self,
        rib: &mut Rib,
        walk: &mut RibWalk,
        filters: &RibFilters,
        attributes: &AttributeSets,
        step: PassStep,
        out: &mut FrameWriter,
    ) -> PassProgress {
        // Whole fields are filtered by their family alone. The station has to be told what it may
        // have of these as routes.
        let is_converted = walk.since > 0 && (walk.since + 1..=walk.until).contains(&rib.converted_at);
        if is_converted || walk.misses_withdrawals(rib) || walk.is_outdated(rib) {
            walk.unmark(rib);
            return PassProgress::Lost;
        }
        let mut judge = rib.judge(filters);
        let mark = walk.take_mark(rib, walk.since);
        let mut place = mark.place();
        while !step.is_reached(out) && self.has_time() {
            let Some(route) = rib.next(place, walk.until) else {
                rib.unmark(mark);
                return PassProgress::Done;
            };
            place = route;
            walk.position = rib.changed(route);
            self.looked_at += 1;
            let Some(MetGroup { key, place: last }) = rib.numbers_from(route, walk.since, walk.until, &mut self.met)
            else {
                continue;
            };
            self.looked_at += self.met.len();
            // A permitted whole field may name the route, and came before it.
            let may_be_named = rib.has_whole() && judge.permits_whole;
            let is_gone = key.attributes == NONE;
            judge.begin_group(Rib::set_of(key.attributes, attributes), rib);
            for number in &self.met {
                if !is_gone && rib.is_permitted(&judge, *number) {
                    self.announced.push(*number);
                    continue;
                }
                let is_told = match (key.whole, is_gone) {
                    // A withdrawn field may name routes that the station has.
                    (true, true) => judge.permits_whole || rib.is_decided(),
                    (true, false) => false,
                    (false, _) => {
                        let was_permitted = |after| rib.was_permitted(&judge, *number, after);
                        may_be_named || walk.needs_after.is_some_and(was_permitted)
                    }
                };
                if is_told {
                    self.withdrawn.push(*number);
                }
            }
            self.put(rib, key, attributes, out);
            place = last;
            walk.position = rib.changed(place);
        }
        rib.advance(&mark, place);
        walk.mark = Some(mark);
        PassProgress::More
    }

    /// Sends the difference between two parts of a RIB: what changed, what the station lacks, and
    /// the withdrawals of what it is not to have any more.
    ///
    /// The first walk goes along all routes. The walks that follow it go along those that changed
    /// after the one before, up to the cursor.
    pub(super) fn send_difference(
        &mut self,
        rib: &mut Rib,
        walk: &mut RibWalk,
        difference: &PartDifference,
        attributes: &AttributeSets,
        step: PassStep,
        out: &mut FrameWriter,
    ) -> PassProgress {
        let PartDifference { before, after, since, is_certain } = difference;
        // Nobody knows which routes a whole field names.
        if walk.misses_withdrawals(rib) || rib.has_whole() || rib.not_kept > 0 || rib.converted_at > *since {
            walk.unmark(rib);
            return PassProgress::Lost;
        }
        let (mut had, mut has) = (PartJudge::new(before, rib), PartJudge::new(after, rib));
        let mark = walk.take_mark(rib, walk.since);
        let mut place = mark.place();
        while !step.is_reached(out) && self.has_time() {
            let Some(route) = rib.next(place, walk.until) else {
                if !walk.is_held || walk.until >= step.cursor {
                    // Routes that changed later are behind the end, and what the station had of
                    // them by the part before is only known here. They go at one go: the walk would
                    // not catch up with routes that keep changing.
                    self.take_back_behind(rib, place, walk.until, &had, *since, attributes, out);
                }
                rib.unmark(mark);
                return PassProgress::Done;
            };
            place = route;
            walk.position = rib.changed(route);
            self.looked_at += 1;
            let Some(MetGroup { key, place: last }) = rib.numbers_from(route, walk.since, walk.until, &mut self.met)
            else {
                continue;
            };
            self.looked_at += self.met.len();
            had.begin_group(key, rib, attributes);
            has.begin_group(key, rib, attributes);
            for number in &self.met {
                let is_new = rib.changed(*number) > *since;
                let is_there = key.attributes != NONE;
                // A walk before this one may have told the station the route as it was then.
                let is_told_before = walk.since > 0 && has.had(rib, *number, walk.since);
                // A walk that was not finished may have told it, although it is new.
                let may_be_told = is_there && (!is_new || !is_certain) && had.has(rib, *number);
                let had = is_told_before || may_be_told || (is_new && had.had(rib, *number, *since));
                if is_there && has.has(rib, *number) {
                    if is_new || !had || !is_certain {
                        self.announced.push(*number);
                    }
                } else if had {
                    self.withdrawn.push(*number);
                }
            }
            self.put(rib, key, attributes, out);
            place = last;
            walk.position = rib.changed(place);
        }
        rib.advance(&mark, place);
        walk.mark = Some(mark);
        PassProgress::More
    }

    /// Withdraws the routes behind the end of a walk that the station may have.
    #[expect(clippy::too_many_arguments, reason = "the parts of one walk")]
    fn take_back_behind(
        &mut self,
        rib: &Rib,
        mut place: u32,
        until: u64,
        had: &PartJudge,
        since: u64,
        attributes: &AttributeSets,
        out: &mut FrameWriter,
    ) {
        while let Some(route) = rib.next(place, u64::MAX) {
            place = route;
            let Some(MetGroup { key, place: last }) = rib.numbers_from(route, until, u64::MAX, &mut self.met) else {
                continue;
            };
            self.withdrawn.extend(self.met.iter().filter(|number| had.had(rib, **number, since)));
            // In bmpd's own name.
            self.put(rib, GroupKey { attributes: NONE, time: ReceiveTime::default(), ..key }, attributes, out);
            place = last;
        }
    }
}
