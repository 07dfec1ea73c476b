//! One pass over the state: what a station is told that is new to it, or that it was too slow to
//! read in the journal.
//!
//! A pass is made for one moment, its *end*. It sends what changed after the cursor of the follower
//! and up to its end. Later changes are left to the journal, or to the next pass. A pass walks
//! along the lists of the RIBs, which are in the order of change, in small steps. Between the steps
//! the RIBs go on changing: a route that changes moves behind the end.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
    sync::Arc,
};

use bytes::Bytes;

use super::{
    attributes::AttributeSets,
    blocks::NONE,
    compose::FrameWriter,
    incarnation::Incarnation,
    journal::JournalPosition,
    peers::LivePeer,
    piece::Piece,
    rib::{HeaderVariant, Rib, WalkMark},
    selection::{Mirroring, Selection},
    state::{FeedState, PeerAndTables},
    stored::StoredFrame,
};
use crate::wire::{
    bgp::MAX_MESSAGE,
    bmp::{MessageType, PeerKey},
};

/// See the module.
#[derive(Debug)]
pub(super) struct DumpPass {
    pub(super) end: JournalPosition,
    selection: Arc<Selection>,
    /// Peer Downs and Peer Ups, which come first.
    opening: VecDeque<Piece>,
    work: VecDeque<PassWork>,
    /// Peers that a station may take for one another, by their type, distinguisher and address.
    look_alikes: HashMap<PeerKey, Vec<Arc<Incarnation>>>,
    /// True if the station gets Statistics Reports at times of its own.
    holds_statistics: bool,
}

/// A piece of work for one peer.
#[derive(Debug)]
struct PassWork {
    life: Arc<Incarnation>,
    task: PassTask,
}

#[derive(Debug)]
enum PassTask {
    /// Send what changed in a RIB after `walk.since`.
    Send { rib: usize, walk: RibWalk },
    /// Withdraw everything that the station may have of a RIB.
    TakeBack { rib: usize, walk: RibWalk },
    /// Send the further Peer Ups that came after `since`.
    Ups { since: u64 },
    /// Send the statistics, and say that mirrored messages were lost, if these are newer than
    /// `since`.
    Latest { since: u64 },
}

/// A walk along the list of a RIB.
#[derive(Debug)]
struct RibWalk {
    /// The station knows what changed up to here.
    since: u64,
    /// Where the walk is; `None` before it begins.
    mark: Option<WalkMark>,
    /// When the last route that it met changed.
    position: u64,
    /// Whether the station needs withdrawals: it knows something, or is told whole fields.
    withdrawals: bool,
    /// How often the RIB had been converted when the walk began.
    conversions: u32,
}

impl RibWalk {
    fn new(since: u64) -> Self {
        Self { since, mark: None, position: 0, withdrawals: since > 0, conversions: 0 }
    }

    /// True if the RIB has forgotten withdrawals that the station needs: withdrawals that it does
    /// not know and that the walk has not met.
    fn misses_withdrawals(&self, rib: &Rib) -> bool {
        rib.forgotten > self.since.max(self.position)
    }

    /// The mark of the walk. Makes one if the walk has not begun.
    fn take_mark(&mut self, rib: &mut Rib) -> WalkMark {
        self.mark.take().unwrap_or_else(|| {
            self.conversions = rib.conversions;
            rib.mark(self.since)
        })
    }

    /// True if the walk sent whole fields to a station that knew nothing, and the RIB has read
    /// these fields since. The RIB may have forgotten withdrawals of a part of them.
    fn is_outdated(&self, rib: &Rib) -> bool {
        self.since == 0 && self.mark.is_some() && self.conversions != rib.conversions
    }
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
}

/// A peer of a plan.
struct PlannedPeer {
    life: Arc<Incarnation>,
    /// Whether the station was told the peer.
    is_told: bool,
}

impl DumpPass {
    pub(super) fn new(
        state: &FeedState,
        end: JournalPosition,
        selection: &Arc<Selection>,
        plan: PassPlan,
        holds_statistics: bool,
    ) -> Self {
        let ups = plan.new.iter().filter_map(|life| state.peers.of_life(life)).flat_map(LivePeer::ups);
        let ups = ups.map(|up| (MessageType::PeerUp, up.clone()));
        let downs = plan.peer_downs.into_iter().map(|down| (MessageType::PeerDown, down));
        let opening = downs.chain(ups).map(|(message, bytes)| Piece::of(message, bytes)).collect();
        let told = plan.told.into_iter().map(|life| PlannedPeer { life, is_told: true });
        let new = plan.new.into_iter().map(|life| PlannedPeer { life, is_told: false });
        let mut peers: Vec<_> = told.chain(new).collect();
        peers.sort_unstable_by_key(|peer| peer.life.number);
        let look_alikes = look_alikes(peers.iter().map(|peer| &peer.life));
        let mut work = VecDeque::new();
        for PlannedPeer { life, is_told } in peers {
            let Some(peer) = state.peers.of_life(&life) else { continue };
            let since = if is_told { plan.since } else { 0 };
            if is_told && !peer.more_ups.is_empty() {
                work.push_back(PassWork { life: Arc::clone(&life), task: PassTask::Ups { since } });
            }
            for (rib, Rib { view, family, .. }) in peer.ribs.iter().enumerate() {
                let had = is_told && plan.selected.has_rib(&life, *view, *family);
                let task = match (had, selection.has_rib(&life, *view, *family)) {
                    (false, false) => continue,
                    (false, true) => PassTask::Send { rib, walk: RibWalk::new(0) },
                    (true, true) => PassTask::Send { rib, walk: RibWalk::new(plan.since) },
                    (true, false) => PassTask::TakeBack { rib, walk: RibWalk::new(plan.since) },
                };
                work.push_back(PassWork { life: Arc::clone(&life), task });
            }
            work.push_back(PassWork { life, task: PassTask::Latest { since } });
        }
        Self { end, selection: Arc::clone(selection), opening, work, look_alikes, holds_statistics }
    }

    /// True if everything is sent.
    pub(super) fn is_over(&self) -> bool {
        self.work.is_empty() && self.opening.is_empty()
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

    /// Sends about `max_bytes` more.
    pub(super) fn step(&mut self, state: &mut FeedState, max_bytes: usize, out: &mut FrameWriter) {
        while out.len() < max_bytes
            && let Some(mut work) = self.work.pop_front()
        {
            // A peer that went down took its RIBs and their marks with it. Its Peer Down is in the
            // journal.
            let Some(PeerAndTables { peer, tables }) = state.peer_and_tables(&work.life) else { continue };
            match self.work_on(peer, &tables.attributes, &mut work.task, max_bytes, out) {
                PassProgress::Done => {}
                PassProgress::More => self.work.push_front(work),
                PassProgress::Lost => self.start_over(&work.life, state, out),
            }
        }
    }

    fn work_on(
        &self,
        peer: &mut LivePeer,
        attributes: &AttributeSets,
        task: &mut PassTask,
        max_bytes: usize,
        out: &mut FrameWriter,
    ) -> PassProgress {
        match task {
            PassTask::Ups { since } => {
                let is_new = |more: &&StoredFrame| (*since + 1..=self.end.frames).contains(&more.changed);
                peer.more_ups.iter().filter(is_new).for_each(|more| out.put(MessageType::PeerUp, &more.frame));
                PassProgress::Done
            }
            PassTask::Latest { since } => {
                self.put_latest(peer, *since, out);
                PassProgress::Done
            }
            PassTask::Send { rib, walk } => match peer.ribs.get_mut(*rib) {
                Some(rib) => self.send(rib, walk, attributes, max_bytes, out),
                None => PassProgress::Done,
            },
            PassTask::TakeBack { rib, walk } => match peer.ribs.get_mut(*rib) {
                Some(rib) => self.take_back(rib, walk, max_bytes, out),
                None => PassProgress::Done,
            },
        }
    }

    fn send(
        &self,
        rib: &mut Rib,
        walk: &mut RibWalk,
        attributes: &AttributeSets,
        max_bytes: usize,
        out: &mut FrameWriter,
    ) -> PassProgress {
        // A station that knows nothing needs no withdrawals, unless one whole field may take back
        // what another one says.
        if (walk.since > 0 && walk.misses_withdrawals(rib)) || walk.is_outdated(rib) {
            walk.mark.take().into_iter().for_each(|mark| rib.unmark(mark));
            return PassProgress::Lost;
        }
        walk.withdrawals |= rib.has_whole();
        let mark = walk.take_mark(rib);
        let mut place = mark.place();
        while out.len() < max_bytes {
            let Some(route) = rib.next(place, self.end.frames) else {
                rib.unmark(mark);
                let is_new = |changed: u64| (walk.since + 1..=self.end.frames).contains(&changed);
                if let Some(end) = rib.end_of_rib.filter(|end| is_new(end.changed)) {
                    out.end_of_rib(rib, end.time, end.variant);
                }
                return PassProgress::Done;
            };
            place = route;
            walk.position = rib.changed(route);
            if let Some(mut rest) = rib.group_from(route, walk.since, self.end.frames)
                && (rest.key.attributes != NONE || walk.withdrawals)
            {
                out.routes(rib, rest.key, attributes, &mut rest.routes);
                place = rest.routes.place();
                walk.position = rib.changed(place);
            }
        }
        rib.advance(&mark, place);
        walk.mark = Some(mark);
        PassProgress::More
    }

    fn take_back(&self, rib: &mut Rib, walk: &mut RibWalk, max_bytes: usize, out: &mut FrameWriter) -> PassProgress {
        // Dropped fields cannot be withdrawn.
        if walk.misses_withdrawals(rib) || rib.not_kept > 0 {
            walk.mark.take().into_iter().for_each(|mark| rib.unmark(mark));
            return PassProgress::Lost;
        }
        // The station still has routes that were withdrawn meanwhile, so the walk takes all routes.
        let mark = walk.mark.take().unwrap_or_else(|| rib.mark(0));
        let mut place = mark.place();
        let (mut batch, mut bytes, mut variant) = (Vec::new(), 0, HeaderVariant::default());
        // The routes that changed since the pass began are behind its end, and no later pass
        // withdraws them. The last step takes them back at one go: the walk would not catch up with
        // routes that keep changing.
        let mut last = false;
        let over = loop {
            if !last && out.len() + bytes >= max_bytes {
                break false;
            }
            let until = if last { u64::MAX } else { self.end.frames };
            let Some(route) = rib.next(place, until) else {
                if last {
                    break true;
                }
                last = true;
                continue;
            };
            place = route;
            walk.position = rib.changed(route);
            // A withdrawal with labels may be longer than the NLRI that it withdraws.
            let length = rib.nlri(route).len() + 3;
            let room = MAX_MESSAGE - 64;
            let is_whole = rib.is_whole(route);
            if bytes + length > room || rib.group_key(route).variant != variant || is_whole {
                put_withdrawals(rib, &mut batch, variant, out);
                bytes = 0;
            }
            variant = rib.group_key(route).variant;
            bytes += length;
            batch.push(route);
            if is_whole {
                put_withdrawals(rib, &mut batch, variant, out);
                bytes = 0;
            }
        };
        put_withdrawals(rib, &mut batch, variant, out);
        if over {
            rib.unmark(mark);
            return PassProgress::Done;
        }
        rib.advance(&mark, place);
        walk.mark = Some(mark);
        PassProgress::More
    }

    fn put_latest(&self, peer: &LivePeer, since: u64, out: &mut FrameWriter) {
        let is_new = |changed: u64| (since + 1..=self.end.frames).contains(&changed);
        if let Some(latest) = &peer.statistics
            && is_new(latest.changed)
            && !self.holds_statistics
        {
            out.put(MessageType::StatisticsReport, &latest.frame);
        }
        // A station that was not told the peer was not promised mirrored messages.
        if let Some(mirrored) = &peer.last_mirrored
            && since > 0
            && is_new(mirrored.changed)
            && self.selection.mirroring == Mirroring::Passed
        {
            out.mirrored_messages_lost(&mirrored.header);
        }
    }

    /// Tells the station that a peer is down and up again, and then all its routes. Does the same
    /// for all peers that the station may take for this one.
    fn start_over(&mut self, life: &Arc<Incarnation>, state: &mut FeedState, out: &mut FrameWriter) {
        let lives = self.look_alikes.get(life.peer.key()).cloned().unwrap_or_else(|| vec![Arc::clone(life)]);
        let is_of_them = |work: &PassWork| lives.iter().any(|life| Arc::ptr_eq(&work.life, life));
        let (its, others): (VecDeque<_>, _) = mem::take(&mut self.work).into_iter().partition(is_of_them);
        self.work = others;
        its.into_iter().for_each(|work| work.unmark(state));
        // The Peer Downs of peers that went down meanwhile are in the journal.
        let still_up = || lives.iter().filter(|life| state.peers.of_life(life).is_some());
        still_up().for_each(|life| out.put_all(MessageType::PeerDown, &life.peer_downs()));
        let mut work = Vec::new();
        for life in still_up() {
            let Some(peer) = state.peers.of_life(life) else { continue };
            // Later Peer Ups are in the journal.
            let further = peer.more_ups.iter().filter(|more| more.changed <= self.end.frames).map(|more| &more.frame);
            life.up.iter().chain(further).for_each(|up| out.put(MessageType::PeerUp, up));
            for (rib, Rib { view, family, .. }) in peer.ribs.iter().enumerate() {
                if self.selection.has_rib(life, *view, *family) {
                    let task = PassTask::Send { rib, walk: RibWalk::new(0) };
                    work.push(PassWork { life: Arc::clone(life), task });
                }
            }
            work.push(PassWork { life: Arc::clone(life), task: PassTask::Latest { since: 0 } });
        }
        work.into_iter().rev().for_each(|work| self.work.push_front(work));
    }

    /// Removes the marks from the RIBs, because the pass will not be finished.
    pub(super) fn abandon(self, state: &mut FeedState) {
        self.work.into_iter().for_each(|work| work.unmark(state));
    }
}

impl PassWork {
    /// Removes its mark from the RIB, because the work will not be done.
    fn unmark(self, state: &mut FeedState) {
        if let PassTask::Send { rib, walk } | PassTask::TakeBack { rib, walk } = self.task
            && let (Some(mark), Some(peer)) = (walk.mark, state.peers.of_life_mut(&self.life))
            && let Some(rib) = peer.ribs.get_mut(rib)
        {
            rib.unmark(mark);
        }
    }
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

fn put_withdrawals(rib: &Rib, batch: &mut Vec<u32>, variant: HeaderVariant, out: &mut FrameWriter) {
    if !batch.is_empty() {
        out.withdrawal_of(rib, variant, batch);
        batch.clear();
    }
}
