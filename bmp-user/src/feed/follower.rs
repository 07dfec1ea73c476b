//! How a session is told what the feed has.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    Counts, InputId, Shared,
    compose::Frames,
    journal::{About, Chunk, Position, Run},
    lives::count,
    pass::{Pass, Plan},
    peers::{Incarnation, Peer, PeerId},
    selection::{Mirroring, Selection},
    shown::HiddenPeer,
    state::State,
};
use crate::wire::bmp::{MessageType, PeerKey};

/// How much of a dump is made under one lock, in bytes: long enough to be worth the lock, short enough for who waits for it.
const STEP: usize = 64 * 1024;

/// Whole frames that are to be sent as they are.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The frames, one behind the other.
    pub bytes: Bytes,
    /// How many there are of each type.
    pub counts: Counts,
}

impl Piece {
    /// Frames of one type.
    pub(super) fn of(message: MessageType, bytes: Bytes) -> Self {
        let mut counts = Counts::default();
        counts.record(message.code(), count(&bytes));
        Self { bytes, counts }
    }
}

/// One session's way through the feed, and what its station knows if it is sent all that was taken, in order.
///
/// It follows the journal where it can. Where the journal does not have what it needs (a new station, one that was too slow, another
/// selection), it dumps: see [`super`].
#[derive(Debug)]
pub struct Follower {
    shared: Arc<Shared>,
    head: watch::Receiver<Position>,
    number: u64,
    /// The state needs to keep withdrawals from here on.
    needs: Arc<AtomicU64>,
    cursor: Position,
    selection: Arc<Selection>,
    /// What is to be selected from the next pass on.
    selected: Option<Arc<Selection>>,
    /// What the station was told of.
    told: HashMap<PeerId, Arc<Incarnation>>,
    /// By what it tells peers apart, the input that it was told of, and how many peers of that look the same.
    inputs: HashMap<PeerKey, (u32, usize)>,
    /// Peers that the station could not tell from those that it was told of, and their inputs.
    hidden: HashMap<PeerId, InputId>,
    /// How often `hidden` has changed.
    hidden_changes: u64,
    pass: Option<Pass>,
    /// Peers of which the station is to be told anew by the next pass, with all that look the same: see [`Follower::breaks`].
    anew: HashSet<PeerKey>,
    /// A pass is to be made even if the journal has what is needed.
    due: bool,
    dumps: u64,
    /// How often the journal did not have what comes next any more.
    falls: u64,
    chunks: Vec<Chunk>,
}

impl Follower {
    pub(super) fn attach(shared: Arc<Shared>, selection: Selection) -> Self {
        let head = shared.head.subscribe();
        let (number, needs) = {
            let mut state = shared.state();
            let since = shared.journal().head().frames;
            state.follow(since)
        };
        Self {
            shared,
            head,
            number,
            needs,
            cursor: Position::default(),
            selection: Arc::new(selection),
            selected: None,
            told: HashMap::new(),
            inputs: HashMap::new(),
            hidden: HashMap::new(),
            hidden_changes: 0,
            pass: None,
            anew: HashSet::new(),
            due: true,
            dumps: 0,
            falls: 0,
            chunks: Vec::new(),
        }
    }

    /// Selects something else: what is added is dumped, what is left out is withdrawn, the rest is left alone.
    pub fn select(&mut self, selection: Selection) {
        if *self.selected.as_deref().unwrap_or(&self.selection) != selection {
            self.selected = Some(Arc::new(selection));
            self.due = true;
        }
    }

    /// Puts what comes next behind what is in `out`, about `max_bytes` of it. Nothing, without waiting, if the station knows all there is to
    /// know. What comes from the journal is shared, not copied, and stays whole however long it is held.
    pub fn take(&mut self, max_bytes: usize, out: &mut VecDeque<Piece>) {
        // Nothing at all is no step forward.
        let max_bytes = max_bytes.max(1);
        let already = out.len();
        while out.len() == already {
            if self.pass.is_some() {
                self.dump(max_bytes, out);
            } else if self.due {
                self.begin();
            } else {
                match self.follow(max_bytes, out) {
                    Some(0) => return,
                    Some(_) => {}
                    None => self.due = true,
                }
            }
        }
    }

    /// Waits until there is something to be taken. May be dropped at any time.
    pub async fn ready(&mut self) {
        if self.pass.is_some() || self.due {
            return;
        }
        let cursor = self.cursor.frames;
        // The only error is that the sender is gone, and `self.shared` holds it.
        let _ = self.head.wait_for(|head| head.frames > cursor).await;
    }

    /// Whether state is being dumped, or is about to be.
    pub fn is_dumping(&self) -> bool {
        self.pass.is_some() || self.due
    }

    /// How often the station was too slow for the journal.
    pub fn falls(&self) -> u64 {
        self.falls
    }

    /// How often state was dumped, or what had changed of it.
    pub fn dumps(&self) -> u64 {
        self.dumps
    }

    /// The peers that the station is not told of because it could not tell them from those of another input.
    pub fn hidden_peers(&self) -> Vec<HiddenPeer> {
        self.hidden.iter().map(|(peer, input)| HiddenPeer { input: input.clone(), key: *peer.key() }).collect()
    }

    /// Returns another number when [`Self::hidden_peers`] may have changed.
    pub fn hidden_changes(&self) -> u64 {
        self.hidden_changes
    }

    /// Sequence number of the next frame of the journal to be taken.
    pub fn cursor(&self) -> u64 {
        self.cursor.frames
    }

    /// How many bytes of the journal are before the cursor, counted from its beginning.
    pub fn position(&self) -> u64 {
        self.cursor.bytes
    }

    /// Sequence number of the next frame to be appended.
    pub fn head(&self) -> u64 {
        self.head.borrow().frames
    }

    /// How many bytes have been appended and not taken, whether or not the journal still has them.
    pub fn lag_bytes(&self) -> u64 {
        self.head.borrow().bytes.saturating_sub(self.cursor.bytes)
    }

    /// Begins a pass for the state as it is now.
    fn begin(&mut self) {
        let shared = Arc::clone(&self.shared);
        let state = shared.state();
        // Nothing is appended while the state is locked.
        let end = shared.journal().head();
        let selection = self.selected.take().unwrap_or_else(|| Arc::clone(&self.selection));
        let since = self.cursor.frames;
        if self.told.is_empty() {
            self.needs.store(end.frames, Ordering::Relaxed);
        }
        let plan = self.plan(&state, &selection, since);
        self.selection = selection;
        self.pass = Some(Pass::new(&state, end, &self.selection, plan));
        self.due = false;
        self.dumps += 1;
    }

    fn plan(&mut self, state: &State, selection: &Arc<Selection>, since: u64) -> Plan {
        let mut plan = Plan { since, selected: Arc::clone(&self.selection), ..Plan::default() };
        let mut told: Vec<_> = mem::take(&mut self.told).into_values().collect();
        let before = mem::take(&mut self.inputs);
        let mut broken = mem::take(&mut self.anew);
        told.sort_unstable_by_key(|life| life.number);
        let mut staying = Vec::new();
        for life in told {
            if state.peer(&life).is_none() {
                let gone = state.slot(life.peer).and_then(|slot| slot.gone.as_ref());
                let gone = gone.filter(|gone| gone.number == life.number);
                plan.gone.push(gone.map_or_else(|| life.peer_downs(), |gone| gone.down.clone()));
                broken.insert(*life.peer.key());
            } else if selection.peer(&life) {
                self.is_told_of(&life);
                staying.push(life);
            } else {
                plan.gone.push(life.peer_downs());
                broken.insert(*life.peer.key());
            }
        }
        self.hidden.clear();
        self.hidden_changes += 1;
        // The input that the station was told of is told on, if it has such a peer.
        let is_of_another =
            |life: &Incarnation| before.get(life.peer.key()).is_some_and(|(input, _)| *input != life.peer.input);
        let mut peers = state.peers();
        peers.sort_by_key(|peer| is_of_another(&peer.life));
        for peer in peers {
            if !selection.peer(&peer.life) {
                continue;
            }
            if self.is_hidden(&peer.life) {
                self.hidden.insert(peer.life.peer, peer.life.input.clone());
            } else if !self.told.contains_key(&peer.life.peer) {
                self.is_told_of(&peer.life);
                broken.extend(peer.life.up.is_some().then_some(*peer.life.peer.key()));
                plan.new.push(Arc::clone(&peer.life));
            }
        }
        for life in &staying {
            let others = self.has_others_like(life);
            let is_announced_anew = |peer: &Peer| others && peer.more_ups.iter().any(|more| more.changed > since);
            // What the state does not have it cannot take back.
            let lacks = |peer: &Peer| peer.lacks_families && plan.selected != *selection;
            let is_broken = |peer: &Peer| peer.anew_since > since || is_announced_anew(peer) || lacks(peer);
            if state.peer(life).is_some_and(is_broken) {
                broken.insert(*life.peer.key());
            }
        }
        for life in staying {
            if broken.contains(life.peer.key()) {
                plan.gone.push(life.peer_downs());
                plan.new.push(life);
            } else {
                plan.told.push(life);
            }
        }
        plan.new.sort_unstable_by_key(|life| life.number);
        plan
    }

    /// Takes more of the pass.
    fn dump(&mut self, max_bytes: usize, out: &mut VecDeque<Piece>) {
        let Some(pass) = &mut self.pass else { return };
        let already = out.len();
        pass.open(max_bytes, out);
        if out.len() == already && !pass.is_over() {
            let step = max_bytes.clamp(1, STEP);
            let mut frames = Frames::with_capacity(step + step / 4);
            pass.step(&mut self.shared.state(), step, &mut frames);
            if !frames.is_empty() {
                let (bytes, counts) = frames.finish();
                out.push_back(Piece { bytes, counts });
            }
        }
        if pass.is_over() {
            self.cursor = pass.end;
            self.needs.store(self.cursor.frames, Ordering::Relaxed);
            self.pass = None;
        }
    }

    /// Takes from the journal: how many chunks; `None` if what is needed is no longer there, or has to come from the state.
    fn follow(&mut self, max_bytes: usize, out: &mut VecDeque<Piece>) -> Option<usize> {
        let mut chunks = mem::take(&mut self.chunks);
        {
            let journal = self.shared.journal();
            let mut room = max_bytes;
            let Some(there) = journal.from(self.cursor.frames) else {
                self.falls += 1;
                return None;
            };
            for (index, chunk) in there.enumerate() {
                if index > 0 && chunk.bytes.len() > room {
                    break;
                }
                room = room.saturating_sub(chunk.bytes.len());
                chunks.push(chunk.clone());
            }
        }
        let taken = chunks.len();
        let mut told = Some(());
        for chunk in chunks.drain(..) {
            told = told.and_then(|()| self.tell(&chunk, out));
        }
        self.chunks = chunks;
        self.needs.store(self.cursor.frames, Ordering::Relaxed);
        told.map(|()| taken)
    }

    /// Passes on what is selected of a chunk. `None` if that takes a look at the state, from before the chunk on or from behind it.
    fn tell(&mut self, chunk: &Chunk, out: &mut VecDeque<Piece>) -> Option<()> {
        if chunk.runs.iter().any(|run| self.is_partly_selected(run)) {
            return None;
        }
        let mut at = 0;
        // What is wanted and not yet passed on.
        let (mut start, mut counts) = (0, Counts::default());
        for run in chunk.runs.iter() {
            let next = at + run.bytes as usize;
            if self.wants(run) {
                counts.record(run.code, run.frames.into());
            } else {
                push(&chunk.bytes, start, at, mem::take(&mut counts), out);
                start = next;
            }
            at = next;
        }
        push(&chunk.bytes, start, at, counts, out);
        self.cursor.frames = chunk.first + chunk.frames;
        self.cursor.bytes += chunk.bytes.len() as u64;
        if self.due { None } else { Some(()) }
    }

    /// Whether a run has frames of which a part is selected.
    fn is_partly_selected(&self, run: &Run) -> bool {
        match &run.about {
            About::Mixed(life, _) => self.selection.peer(life) && !self.selection.all_ribs(life),
            _ => false,
        }
    }

    /// Whether the station is sent a run; and keeps in mind what it is told of.
    fn wants(&mut self, run: &Run) -> bool {
        match &run.about {
            About::Routes(life, view, family) => self.is_told(life) && self.selection.rib(life, *view, *family),
            About::Mixed(life, _) => self.is_told(life),
            About::Peer(life) => {
                let mirrored = run.code == MessageType::RouteMirroring.code();
                self.is_told(life) && (!mirrored || self.selection.mirroring == Mirroring::Passed)
            }
            About::Nobody => self.selection.is_everything(),
            About::LookAlike => false,
            About::Up(life) | About::Heard(life) => {
                if !self.selection.peer(life) {
                    return false;
                }
                if self.is_hidden(life) {
                    self.hidden.insert(life.peer, life.input.clone());
                    self.hidden_changes += 1;
                    return false;
                }
                if self.is_about_to_be_told_anew(life) {
                    return false;
                }
                let is_up = matches!(run.about, About::Up(_));
                if is_up && self.has_others_like(life) {
                    self.breaks(life);
                    return false;
                }
                self.is_told_of(life);
                true
            }
            About::Anew(life) => {
                if self.selection.peer(life) {
                    self.inputs.entry(*life.peer.key()).or_insert((life.peer.input, 0));
                    self.breaks(life);
                }
                false
            }
            About::Down(life) => {
                let told = self.is_known(life);
                if told {
                    self.told.remove(&life.peer);
                    if let Some((_, count)) = self.inputs.get_mut(life.peer.key()) {
                        *count -= 1;
                        if *count > 0 {
                            self.breaks(life);
                        } else {
                            self.inputs.remove(life.peer.key());
                            // Another input's peer that could not be told from it now can.
                            self.due |= self.hidden.keys().any(|hidden| hidden.key() == life.peer.key());
                        }
                    }
                } else {
                    self.hidden_changes += u64::from(self.hidden.remove(&life.peer).is_some());
                }
                told
            }
        }
    }

    /// Whether what is said of a peer makes sense to the station.
    fn is_told(&self, life: &Incarnation) -> bool {
        self.is_known(life) && !self.is_about_to_be_told_anew(life)
    }

    /// Whether the station was told of a peer and not of its end.
    fn is_known(&self, life: &Incarnation) -> bool {
        self.told.get(&life.peer).is_some_and(|told| told.number == life.number)
    }

    fn is_about_to_be_told_anew(&self, life: &Incarnation) -> bool {
        !self.anew.is_empty() && self.anew.contains(life.peer.key())
    }

    /// A station that keeps to RFC 7854 takes peers for one that have the same type, distinguisher and address: for such a one the end or the beginning of one
    /// of them is that of all. So whenever either is told, they are all told anew, as to a station that comes now; what happens until then is left to that.
    fn breaks(&mut self, life: &Incarnation) {
        self.anew.insert(*life.peer.key());
        self.due = true;
    }

    /// Whether the station is told of others that look the same.
    fn has_others_like(&self, life: &Incarnation) -> bool {
        let told = self.inputs.get(life.peer.key()).map_or(0, |(_, told)| *told);
        told > usize::from(self.is_known(life))
    }

    /// Whether the station is told of a peer of another input that it could not tell from this one.
    fn is_hidden(&self, life: &Incarnation) -> bool {
        self.inputs.get(life.peer.key()).is_some_and(|(input, _)| *input != life.peer.input)
    }

    /// Keeps in mind that the station is told of a peer.
    fn is_told_of(&mut self, life: &Arc<Incarnation>) {
        if self.told.insert(life.peer, Arc::clone(life)).is_none() {
            self.inputs.entry(*life.peer.key()).or_insert((life.peer.input, 0)).1 += 1;
        }
    }
}

fn push(bytes: &Bytes, start: usize, end: usize, counts: Counts, out: &mut VecDeque<Piece>) {
    if start < end {
        out.push_back(Piece { bytes: bytes.slice(start..end), counts });
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if let Some(pass) = self.pass.take() {
            pass.abandon(&mut state);
        }
        state.unfollow(self.number);
    }
}
