//! One pass over what the feed knows: what a station is told that is new to it, or that it was too slow to read in the journal.
//!
//! A pass is made for one moment, its *end*. What changed after the follower's cursor and up to there is sent; what changes later is left
//! to the journal, or to the next pass. It goes along the lists of the RIBs, which are in the order of change, in small steps between
//! which the RIBs go on changing: a route that changes meanwhile moves behind the end.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
    sync::Arc,
};

use bytes::Bytes;

use super::{
    Piece,
    attributes::Attributes,
    blocks::NONE,
    compose::Frames,
    journal::Position,
    peers::{Incarnation, Latest, Peer},
    rib::{Head, Mark, Rib},
    selection::{Mirroring, Selection},
    state::State,
};
use crate::wire::{
    bgp::MAX_MESSAGE,
    bmp::{MessageType, PeerKey},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) end: Position,
    selection: Arc<Selection>,
    /// Peer Downs and Peer Ups, which come first.
    opening: VecDeque<Piece>,
    work: VecDeque<Work>,
    /// The peers among them that a station may take for one, by their type, distinguisher and address.
    alike: HashMap<PeerKey, Vec<Arc<Incarnation>>>,
}

/// What there is to do for a peer.
#[derive(Debug)]
struct Work {
    life: Arc<Incarnation>,
    what: What,
}

#[derive(Debug)]
enum What {
    /// Send what changed in a RIB after `walk.since`.
    Send { rib: usize, walk: Walk },
    /// Withdraw all that the station may have of a RIB.
    TakeBack { rib: usize, walk: Walk },
    /// Send its further Peer Ups that came after this.
    Ups { since: u64 },
    /// Send its statistics, and say whether mirrored messages were lost, if they are newer.
    Latest { since: u64 },
}

/// A way along the list of a RIB.
#[derive(Debug)]
struct Walk {
    /// What the station knows already: what changed up to here.
    since: u64,
    /// Where the walk is; `None` before it begins.
    mark: Option<Mark>,
    /// When the last route that it met changed.
    position: u64,
    /// Whether the station needs withdrawals: it knows something, or is told of fields that are kept whole.
    withdrawals: bool,
    /// How often the RIB had been converted when the walk began.
    conversions: u32,
}

impl Walk {
    fn new(since: u64) -> Self {
        Self { since, mark: None, position: 0, withdrawals: since > 0, conversions: 0 }
    }

    /// Whether withdrawals that the station needs are no longer known: later ones than it knows of, and not yet met.
    fn misses(&self, rib: &Rib) -> bool {
        rib.forgotten > self.since.max(self.position)
    }

    /// The place where the walk is, or where it begins.
    fn start(&mut self, rib: &mut Rib) -> Mark {
        self.mark.take().unwrap_or_else(|| {
            self.conversions = rib.conversions;
            rib.mark(self.since)
        })
    }

    /// Whether a station that knew nothing was told fields that have been read since: what withdraws a part of them may be forgotten.
    fn is_outdated(&self, rib: &Rib) -> bool {
        self.since == 0 && self.mark.is_some() && self.conversions != rib.conversions
    }
}

/// How far a piece of work got.
enum Progress {
    Done,
    More,
    /// What the station has of the peer cannot be mended.
    Lost,
}

/// What a pass begins with.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What the station was told of and is still up.
    pub(super) told: Vec<Arc<Incarnation>>,
    /// What was selected when it was.
    pub(super) selected: Arc<Selection>,
    /// What it is told of now.
    pub(super) new: Vec<Arc<Incarnation>>,
    /// The Peer Downs of what it was told of and is not up any more, or not selected.
    pub(super) gone: Vec<Bytes>,
    /// What the station knows: what changed up to here.
    pub(super) since: u64,
}

impl Pass {
    pub(super) fn new(state: &State, end: Position, selection: &Arc<Selection>, plan: Plan) -> Self {
        let ups = plan.new.iter().filter_map(|life| state.peer(life)).flat_map(Peer::ups);
        let ups = ups.map(|up| (MessageType::PeerUp, up.clone()));
        let downs = plan.gone.into_iter().map(|down| (MessageType::PeerDown, down));
        let opening = downs.chain(ups).map(|(message, bytes)| Piece::of(message, bytes)).collect();
        let mut work = VecDeque::new();
        let told = plan.told.into_iter().map(|life| (life, true));
        let mut peers: Vec<_> = told.chain(plan.new.into_iter().map(|life| (life, false))).collect();
        peers.sort_unstable_by_key(|(life, _)| life.number);
        let alike = alike(peers.iter().map(|(life, _)| life));
        for (life, told) in peers {
            let Some(peer) = state.peer(&life) else { continue };
            let since = if told { plan.since } else { 0 };
            if told && !peer.more_ups.is_empty() {
                work.push_back(Work { life: Arc::clone(&life), what: What::Ups { since } });
            }
            for (rib, Rib { view, family, .. }) in peer.ribs.iter().enumerate() {
                let had = told && plan.selected.rib(&life, *view, *family);
                let what = match (had, selection.rib(&life, *view, *family)) {
                    (false, false) => continue,
                    (false, true) => What::Send { rib, walk: Walk::new(0) },
                    (true, true) => What::Send { rib, walk: Walk::new(plan.since) },
                    (true, false) => What::TakeBack { rib, walk: Walk::new(plan.since) },
                };
                work.push_back(Work { life: Arc::clone(&life), what });
            }
            work.push_back(Work { life, what: What::Latest { since } });
        }
        Self { end, selection: Arc::clone(selection), opening, work, alike }
    }

    /// Whether all is sent.
    pub(super) fn is_over(&self) -> bool {
        self.work.is_empty() && self.opening.is_empty()
    }

    /// Sends of what comes first about `max_bytes`. That needs no look at the state.
    pub(super) fn open(&mut self, max_bytes: usize, out: &mut VecDeque<Piece>) {
        let mut room = max_bytes;
        while let Some(piece) = self.opening.front()
            && room > 0
        {
            room = room.saturating_sub(piece.bytes.len());
            out.extend(self.opening.pop_front());
        }
    }

    /// Sends more, about `max_bytes`.
    pub(super) fn step(&mut self, state: &mut State, max_bytes: usize, out: &mut Frames) {
        while out.len() < max_bytes
            && let Some(mut work) = self.work.pop_front()
        {
            // A peer that went down took its RIBs with it, and the marks in them. The journal has its Peer Down.
            let Some((peer, attributes)) = state.peer_mut(&work.life) else { continue };
            match self.work_on(peer, attributes, &mut work.what, max_bytes, out) {
                Progress::Done => {}
                Progress::More => self.work.push_front(work),
                Progress::Lost => self.start_over(&work.life, state, out),
            }
        }
    }

    fn work_on(
        &self,
        peer: &mut Peer,
        attributes: &Attributes,
        what: &mut What,
        max_bytes: usize,
        out: &mut Frames,
    ) -> Progress {
        match what {
            What::Ups { since } => {
                let is_new = |more: &&Latest| (*since + 1..=self.end.frames).contains(&more.changed);
                peer.more_ups.iter().filter(is_new).for_each(|more| out.put(MessageType::PeerUp, &more.frame));
                Progress::Done
            }
            What::Latest { since } => {
                self.put_latest(peer, *since, out);
                Progress::Done
            }
            What::Send { rib, walk } => match peer.ribs.get_mut(*rib) {
                Some(rib) => self.send(rib, walk, attributes, max_bytes, out),
                None => Progress::Done,
            },
            What::TakeBack { rib, walk } => match peer.ribs.get_mut(*rib) {
                Some(rib) => self.take_back(rib, walk, max_bytes, out),
                None => Progress::Done,
            },
        }
    }

    fn send(
        &self,
        rib: &mut Rib,
        walk: &mut Walk,
        attributes: &Attributes,
        max_bytes: usize,
        out: &mut Frames,
    ) -> Progress {
        // Who knows nothing has nothing to be withdrawn, but where one field may take back what another says.
        if (walk.since > 0 && walk.misses(rib)) || walk.is_outdated(rib) {
            walk.mark.take().into_iter().for_each(|mark| rib.unmark(mark));
            return Progress::Lost;
        }
        walk.withdrawals |= rib.has_whole();
        let mark = walk.start(rib);
        let mut place = mark.place();
        while out.len() < max_bytes {
            let Some(route) = rib.next(place, self.end.frames) else {
                rib.unmark(mark);
                if let Some(end) =
                    rib.end_of_rib.filter(|end| (walk.since + 1..=self.end.frames).contains(&end.changed))
                {
                    out.end_of_rib(rib, end.time, end.head);
                }
                return Progress::Done;
            };
            place = route;
            walk.position = rib.changed(route);
            if let Some((common, mut items)) = rib.group_from(route, walk.since, self.end.frames)
                && (common.attributes != NONE || walk.withdrawals)
            {
                out.routes(rib, common, attributes, &mut items);
                place = items.place();
                walk.position = rib.changed(place);
            }
        }
        rib.advance(&mark, place);
        walk.mark = Some(mark);
        Progress::More
    }

    fn take_back(&self, rib: &mut Rib, walk: &mut Walk, max_bytes: usize, out: &mut Frames) -> Progress {
        // What was not kept cannot be withdrawn.
        if walk.misses(rib) || rib.not_kept > 0 {
            walk.mark.take().into_iter().for_each(|mark| rib.unmark(mark));
            return Progress::Lost;
        }
        // All of them: also those that were withdrawn meanwhile, which the station still has.
        let mark = walk.mark.take().unwrap_or_else(|| rib.mark(0));
        let mut place = mark.place();
        let (mut batch, mut bytes, mut head) = (Vec::new(), 0, Head::default());
        // What has changed since the pass began is behind its end, and nobody will speak of it later: it is taken back at one go, or the
        // walk would run after routes that keep changing.
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
            // A withdrawal with labels may be longer than what it withdraws.
            let length = rib.nlri(route).len() + 3;
            let room = MAX_MESSAGE - 64;
            let is_whole = rib.is_whole(route);
            if bytes + length > room || rib.common(route).head != head || is_whole {
                put_withdrawals(rib, &mut batch, head, out);
                bytes = 0;
            }
            head = rib.common(route).head;
            bytes += length;
            batch.push(route);
            if is_whole {
                put_withdrawals(rib, &mut batch, head, out);
                bytes = 0;
            }
        };
        put_withdrawals(rib, &mut batch, head, out);
        if over {
            rib.unmark(mark);
            return Progress::Done;
        }
        rib.advance(&mark, place);
        walk.mark = Some(mark);
        Progress::More
    }

    fn put_latest(&self, peer: &Peer, since: u64, out: &mut Frames) {
        let is_new = |changed: u64| (since + 1..=self.end.frames).contains(&changed);
        if let Some(latest) = &peer.statistics
            && is_new(latest.changed)
        {
            out.put(MessageType::StatisticsReport, &latest.frame);
        }
        // Who was not told of the peer was not promised them.
        if let Some((changed, header)) = &peer.mirrored
            && since > 0
            && is_new(*changed)
            && self.selection.mirroring == Mirroring::Passed
        {
            out.mirrored_messages_lost(header);
        }
    }

    /// Tells the station that a peer is down and up again, and then all its routes; the same of all peers that the station may take for it.
    fn start_over(&mut self, life: &Arc<Incarnation>, state: &mut State, out: &mut Frames) {
        let lives = self.alike.get(life.peer.key()).cloned().unwrap_or_else(|| vec![Arc::clone(life)]);
        let is_of_them = |work: &Work| lives.iter().any(|life| Arc::ptr_eq(&work.life, life));
        let (its, others): (VecDeque<_>, _) = mem::take(&mut self.work).into_iter().partition(is_of_them);
        self.work = others;
        its.into_iter().for_each(|work| work.unmark(state));
        // Of those that went down meanwhile the journal has the Peer Down.
        let still_up = || lives.iter().filter(|life| state.peer(life).is_some());
        still_up().for_each(|life| out.put_all(MessageType::PeerDown, &life.peer_downs()));
        let mut work = Vec::new();
        for life in still_up() {
            let Some(peer) = state.peer(life) else { continue };
            // The journal has those that came later.
            let further = peer.more_ups.iter().filter(|more| more.changed <= self.end.frames).map(|more| &more.frame);
            life.up.iter().chain(further).for_each(|up| out.put(MessageType::PeerUp, up));
            for (rib, Rib { view, family, .. }) in peer.ribs.iter().enumerate() {
                if self.selection.rib(life, *view, *family) {
                    work.push(Work { life: Arc::clone(life), what: What::Send { rib, walk: Walk::new(0) } });
                }
            }
            work.push(Work { life: Arc::clone(life), what: What::Latest { since: 0 } });
        }
        work.into_iter().rev().for_each(|work| self.work.push_front(work));
    }

    /// Takes the marks out of the RIBs: the pass will not be finished.
    pub(super) fn abandon(self, state: &mut State) {
        self.work.into_iter().for_each(|work| work.unmark(state));
    }
}

impl Work {
    /// It will not be done: takes its mark out of the RIB.
    fn unmark(self, state: &mut State) {
        if let What::Send { rib, walk } | What::TakeBack { rib, walk } = self.what
            && let (Some(mark), Some((peer, _))) = (walk.mark, state.peer_mut(&self.life))
            && let Some(rib) = peer.ribs.get_mut(rib)
        {
            rib.unmark(mark);
        }
    }
}

/// The peers that others have type, distinguisher and address in common with.
fn alike<'a>(lives: impl Iterator<Item = &'a Arc<Incarnation>> + Clone) -> HashMap<PeerKey, Vec<Arc<Incarnation>>> {
    let mut known = HashSet::new();
    let twice: HashSet<_> = lives.clone().map(|life| life.peer.key()).filter(|key| !known.insert(*key)).collect();
    let mut alike: HashMap<_, Vec<_>> = HashMap::new();
    for life in lives.filter(|life| twice.contains(life.peer.key())) {
        alike.entry(*life.peer.key()).or_default().push(Arc::clone(life));
    }
    alike
}

fn put_withdrawals(rib: &Rib, batch: &mut Vec<u32>, head: Head, out: &mut Frames) {
    if !batch.is_empty() {
        out.withdrawal_of(rib, head, batch);
        batch.clear();
    }
}
