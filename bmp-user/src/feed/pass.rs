//! One pass over the state: what a station is told that is new to it, or that it was too slow to
//! read in the journal.
//!
//! A pass sends what changed after the cursor of the follower and up to the moment when the pass
//! began. It walks along the lists of the RIBs, which are in the order of change, in small steps.
//! Between the steps the RIBs go on changing: a route that changes moves behind the end of the
//! walk.
//!
//! Once the Peer Downs and Peer Ups are sent, the journal may be told between the steps. It tells
//! what changed after the end of the walks. So no change is in both, and a walk never tells an
//! older state of a route than the journal did. Two things need more:
//!
//! * The End-of-RIB of a RIB waits until the RIB is told.
//! * Order counts among whole fields. The journal is silent about a RIB that may have some, until
//!   walks have told it up to where the journal is (`RibWalk::is_held`).
//!
//! A pass that begins while another one is under way takes over the work that is left.
//!
//! * `work`: the parts of this work, and which RIBs are not told yet.
//! * `take_over`: what is left of the pass before.
//! * `walks`: RIBs of which all routes are told, or taken back.
//! * `filtered`: RIBs whose routes are filtered. `catch_up`: what the journal cannot tell of these.

mod catch_up;
mod filtered;
mod take_over;
mod walks;
mod work;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
    sync::Arc,
};

use bytes::Bytes;

use super::{
    attributes::AttributeSets,
    compose::FrameWriter,
    incarnation::Incarnation,
    journal::JournalPosition,
    peers::LivePeer,
    piece::Piece,
    rib::Rib,
    selection::{Mirroring, RibPart, Selection},
    state::{FeedState, PeerAndTables},
    stored::StoredFrame,
};
use crate::wire::{
    bgp::Family,
    bmp::{MessageType, PeerKey, RibView},
};

pub(super) use catch_up::CatchUpPass;
use filtered::FilteredGroup;
pub(super) use work::PassStep;
use work::{LatestMessages, PassTask, PassWork, UnfinishedRibs};

/// See the module.
#[derive(Debug)]
pub(super) struct DumpPass {
    selection: Arc<Selection>,
    /// Peer Downs and Peer Ups, which come first.
    opening: VecDeque<Piece>,
    work: VecDeque<PassWork>,
    /// The RIBs that `work` sends.
    unfinished: UnfinishedRibs,
    /// Peers that a station may take for one another, by their type, distinguisher and address.
    look_alikes: HashMap<PeerKey, Vec<Arc<Incarnation>>>,
    /// True if the station gets Statistics Reports at times of its own.
    holds_statistics: bool,
    progress: DumpProgress,
    group: FilteredGroup,
}

/// How far a dump is. Counts the routes of RIBs that the station knew nothing of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpProgress {
    /// Routes that were told, or that the journal tells because they changed.
    pub told: u64,
    /// Routes to tell in all.
    pub total: u64,
}

/// How far a piece of work is.
enum PassProgress {
    Done,
    More,
    /// Nothing can mend what the station knows about the peer.
    Lost,
}

/// What a pass begins with.
#[derive(Debug, Default)]
pub(super) struct PassPlan {
    /// Peers that the station was told and that are still up.
    pub(super) told: Vec<Arc<Incarnation>>,
    /// What was selected when it was told these.
    pub(super) selected: Arc<Selection>,
    /// Peers that it is told now.
    pub(super) new: Vec<Arc<Incarnation>>,
    /// The Peer Downs of peers that it was told and that are not up or not selected any more.
    pub(super) peer_downs: Vec<Bytes>,
    /// The station knows what changed up to here.
    pub(super) since: u64,
    /// True if the station gets Statistics Reports at times of its own.
    pub(super) holds_statistics: bool,
}

/// A peer of a plan.
struct PlannedPeer {
    life: Arc<Incarnation>,
    /// Whether the station was told the peer.
    is_told: bool,
}

impl DumpPass {
    /// A pass for the moment `end`. It takes over what is left of the pass `before`, which told the
    /// station everything else up to `plan.since`.
    pub(super) fn new(
        state: &mut FeedState,
        end: JournalPosition,
        selection: &Arc<Selection>,
        plan: PassPlan,
        before: Option<Self>,
    ) -> Self {
        let (until, known) = (end.frames, plan.since);
        let ups = plan.new.iter().filter_map(|life| state.peers.of_life(life)).flat_map(LivePeer::ups).cloned();
        let told_peers = plan.told.iter().filter_map(|life| state.peers.of_life(life));
        let further = told_peers.flat_map(|peer| further_ups(peer, known, until));
        let ups: Vec<_> = ups.chain(further).map(|up| (MessageType::PeerUp, up)).collect();
        let downs = plan.peer_downs.into_iter().map(|down| (MessageType::PeerDown, down));
        let opening = downs.chain(ups).map(|(message, bytes)| Piece::of(message, bytes)).collect();
        let told = plan.told.into_iter().map(|life| PlannedPeer { life, is_told: true });
        let new = plan.new.into_iter().map(|life| PlannedPeer { life, is_told: false });
        let mut peers: Vec<_> = told.chain(new).collect();
        peers.sort_unstable_by_key(|peer| peer.life.number);
        let mut pass = Self {
            selection: Arc::clone(selection),
            opening,
            work: VecDeque::new(),
            unfinished: UnfinishedRibs::default(),
            look_alikes: look_alikes(peers.iter().map(|peer| &peer.life)),
            holds_statistics: plan.holds_statistics,
            progress: DumpProgress::default(),
            group: FilteredGroup::default(),
        };
        let taken_over = before
            .map(|before| pass.take_over(before, state, &peers, &plan.selected, [known, until]))
            .unwrap_or_default();
        for PlannedPeer { life, is_told } in peers {
            let Some(peer) = state.peers.of_life(&life) else { continue };
            for (place, rib) in peer.ribs.iter().enumerate() {
                let had = match is_told {
                    true => plan.selected.part_of(&life, rib.view, rib.family),
                    false => RibPart::Nothing,
                };
                let has = selection.part_of(&life, rib.view, rib.family);
                let task = match taken_over.untold_part(&life, place) {
                    Some(untold) => Some(PassTask::from_untold_part(place, rib, until, untold, has)),
                    None if taken_over.has_walk(&life, place) => None,
                    None => PassTask::from_part_to_part(place, rib, [known, until], had, has),
                };
                if let Some((task, routes)) = task {
                    pass.add(&life, task, routes);
                }
            }
            if !taken_over.has_latest(&life) {
                let mirrored_since = is_told.then_some(known);
                let latest = LatestMessages { since: mirrored_since.unwrap_or(0), mirrored_since, until };
                pass.add(&life, PassTask::Latest(latest), 0);
            }
        }
        pass
    }

    fn add(&mut self, life: &Arc<Incarnation>, task: PassTask, routes: u64) {
        self.push(PassWork::new(life, task), routes);
    }

    fn push(&mut self, work: PassWork, routes: u64) {
        if let Some(walk) = work.task.sending_walk() {
            self.unfinished.add(&work.life, walk);
        }
        self.progress.total += routes;
        self.work.push_back(PassWork { routes_left: routes, ..work });
    }

    /// True if everything is sent.
    pub(super) fn is_over(&self) -> bool {
        self.work.is_empty() && self.opening.is_empty()
    }

    /// True before all Peer Downs and Peer Ups are sent. The journal has to wait.
    pub(super) fn is_opening(&self) -> bool {
        !self.opening.is_empty()
    }

    /// How far the pass is. `None` if it only tells what changed: nobody knows how much that is.
    pub(super) fn progress(&self) -> Option<DumpProgress> {
        Some(self.progress).filter(|progress| progress.total > 0)
    }

    /// True if the journal is silent about a RIB.
    pub(super) fn holds(&self, life: &Incarnation, view: RibView, family: Family) -> bool {
        self.unfinished.is_held(life, view, family)
    }

    /// True if the journal is silent about a RIB of one view of a peer.
    pub(super) fn holds_any(&self, life: &Incarnation, view: RibView) -> bool {
        self.unfinished.has_held(life, view)
    }

    /// True if the pass has not told a RIB yet. It tells its End-of-RIB then.
    pub(super) fn has_to_tell(&self, life: &Incarnation, view: RibView, family: Family) -> bool {
        self.unfinished.has(life, view, family)
    }

    /// The peers of which a RIB was taken back in part, and is selected again.
    pub(super) fn wrongly_taken_back<'a>(&'a self, selection: &'a Selection) -> impl Iterator<Item = PeerKey> + 'a {
        let is_selected = |work: &&PassWork| {
            let is_taken_back = work.task.sending_walk().is_none();
            is_taken_back && work.walk().is_some_and(|walk| walk.is_selected(&work.life, selection))
        };
        self.work.iter().filter(is_selected).map(|work| *work.life.peer.key())
    }

    /// Sends about `max_bytes` of the opening. Does not need the state.
    pub(super) fn open(&mut self, max_bytes: usize, out: &mut VecDeque<Piece>) {
        let mut room = max_bytes;
        while let Some(piece) = self.opening.front()
            && room > 0
        {
            room = room.saturating_sub(piece.bytes.len());
            out.extend(self.opening.pop_front());
        }
    }

    /// Sends more, up to a step.
    pub(super) fn step(&mut self, state: &mut FeedState, step: PassStep, out: &mut FrameWriter) {
        self.group.begin_step();
        while !step.is_reached(out)
            && self.group.has_time()
            && let Some(mut work) = self.work.pop_front()
        {
            let before = out.pass_routes;
            // A peer that went down took its RIBs and their marks with it. Its Peer Down is in the
            // journal.
            let progress = match state.peer_and_tables(&work.life) {
                Some(PeerAndTables { peer, tables }) => self.work_on(peer, &tables.attributes, &mut work, step, out),
                None => {
                    self.forget(&work);
                    PassProgress::Done
                }
            };
            self.progress.told += work.credit(out.pass_routes - before);
            match progress {
                PassProgress::Done => self.progress.told += work.routes_left,
                PassProgress::More => self.work.push_front(work),
                PassProgress::Lost => self.start_over(work, state, step.cursor, out),
            }
        }
    }

    fn work_on(
        &mut self,
        peer: &mut LivePeer,
        attributes: &AttributeSets,
        work: &mut PassWork,
        step: PassStep,
        out: &mut FrameWriter,
    ) -> PassProgress {
        match &mut work.task {
            PassTask::Latest(latest) => {
                self.put_latest(peer, latest, out);
                PassProgress::Done
            }
            PassTask::TakeBack(walk) => match peer.ribs.get_mut(walk.rib) {
                Some(rib) => walks::take_back(rib, walk, step, out),
                None => PassProgress::Done,
            },
            PassTask::Send(_) | PassTask::SendFiltered(..) | PassTask::SendDifference(..) => {
                let place = work.walk().map(|walk| walk.rib);
                match place.and_then(|place| peer.ribs.get_mut(place)) {
                    Some(rib) => self.send_to_the_end(work, rib, attributes, step, out),
                    None => PassProgress::Done,
                }
            }
        }
    }

    /// Sends a RIB. If the journal was silent about it, walks on until the station knows what
    /// changed up to the cursor.
    fn send_to_the_end(
        &mut self,
        work: &mut PassWork,
        rib: &mut Rib,
        attributes: &AttributeSets,
        step: PassStep,
        out: &mut FrameWriter,
    ) -> PassProgress {
        loop {
            let progress = match &mut work.task {
                PassTask::Send(walk) => walks::send(rib, walk, attributes, step, out),
                PassTask::SendFiltered(walk, filters) => self.group.send(rib, walk, filters, attributes, step, out),
                PassTask::SendDifference(walk, difference) => {
                    self.group.send_difference(rib, walk, difference, attributes, step, out)
                }
                PassTask::TakeBack(_) | PassTask::Latest(_) => PassProgress::Done,
            };
            if !matches!(progress, PassProgress::Done) {
                return progress;
            }
            let Some(walk) = work.task.sending_walk_mut() else { return PassProgress::Done };
            if !walk.is_held || walk.until >= step.cursor {
                break;
            }
            *walk = walk.next(rib, step.cursor);
        }
        if let Some(walk) = work.task.sending_walk()
            && let Some(since) = self.unfinished.remove(&work.life, walk)
            && let Some(end) = rib.end_of_rib.filter(|end| (since + 1..=step.cursor).contains(&end.changed))
        {
            out.end_of_rib(rib, end.time, end.variant);
        }
        PassProgress::Done
    }

    fn put_latest(&self, peer: &LivePeer, latest: &LatestMessages, out: &mut FrameWriter) {
        let is_new = |since: u64, changed: u64| (since + 1..=latest.until).contains(&changed);
        if let Some(statistics) = &peer.statistics
            && is_new(latest.since, statistics.changed)
            && !self.holds_statistics
        {
            out.put(MessageType::StatisticsReport, &statistics.frame);
        }
        if let Some(mirrored) = &peer.last_mirrored
            && latest.mirrored_since.is_some_and(|since| is_new(since, mirrored.changed))
            && self.selection.mirroring == Mirroring::Passed
        {
            out.mirrored_messages_lost(&mirrored.header);
        }
    }

    /// Tells the station that a peer is down and up again, and then all its routes. Does the same
    /// for all peers that the station may take for this one. `lost` is the work that found this.
    fn start_over(&mut self, lost: PassWork, state: &mut FeedState, cursor: u64, out: &mut FrameWriter) {
        let life = Arc::clone(&lost.life);
        let lives = self.look_alikes.get(life.peer.key()).cloned().unwrap_or_else(|| vec![life]);
        let is_of_them = |work: &PassWork| lives.iter().any(|life| Arc::ptr_eq(&work.life, life));
        self.work.push_front(lost);
        let (its, others): (VecDeque<_>, _) = mem::take(&mut self.work).into_iter().partition(is_of_them);
        for work in its {
            self.forget(&work);
            self.progress.told += work.routes_left;
            work.unmark(state);
        }
        // The Peer Downs of peers that went down meanwhile are in the journal.
        let still_up = || lives.iter().filter(|life| state.peers.of_life(life).is_some());
        still_up().for_each(|life| out.put_all(MessageType::PeerDown, &life.peer_downs()));
        for life in still_up() {
            let Some(peer) = state.peers.of_life(life) else { continue };
            // Later Peer Ups are in the journal.
            let further = further_ups(peer, 0, cursor);
            life.up.iter().cloned().chain(further).for_each(|up| out.put(MessageType::PeerUp, &up));
            for (place, rib) in peer.ribs.iter().enumerate() {
                let part = self.selection.part_of(life, rib.view, rib.family);
                if let Some((task, routes)) =
                    PassTask::from_part_to_part(place, rib, [0, cursor], RibPart::Nothing, part)
                {
                    self.add(life, task, routes);
                }
            }
            let latest = LatestMessages { since: 0, mirrored_since: None, until: cursor };
            self.add(life, PassTask::Latest(latest), 0);
        }
        // These peers come first, as their work did.
        self.work.extend(others);
    }

    /// Notes that a RIB will not be told by this work.
    fn forget(&mut self, work: &PassWork) {
        if let Some(walk) = work.task.sending_walk() {
            self.unfinished.remove(&work.life, walk);
        }
    }

    /// Removes the marks from the RIBs, because the pass will not be finished.
    pub(super) fn abandon(self, state: &mut FeedState) {
        self.work.into_iter().for_each(|work| work.unmark(state));
    }
}

/// The further Peer Ups of a peer that came after `since` and no later than `until`.
fn further_ups(peer: &LivePeer, since: u64, until: u64) -> impl Iterator<Item = Bytes> + '_ {
    let is_new = move |more: &&StoredFrame| (since + 1..=until).contains(&more.changed);
    peer.more_ups.iter().filter(is_new).map(|more| more.frame.clone())
}

/// The peers that share type, distinguisher and address with others.
fn look_alikes<'a>(
    lives: impl Iterator<Item = &'a Arc<Incarnation>> + Clone,
) -> HashMap<PeerKey, Vec<Arc<Incarnation>>> {
    let mut known = HashSet::new();
    let twice: HashSet<_> = lives.clone().map(|life| life.peer.key()).filter(|key| !known.insert(*key)).collect();
    let mut look_alikes: HashMap<_, Vec<_>> = HashMap::new();
    for life in lives.filter(|life| twice.contains(life.peer.key())) {
        look_alikes.entry(*life.peer.key()).or_default().push(Arc::clone(life));
    }
    look_alikes
}
