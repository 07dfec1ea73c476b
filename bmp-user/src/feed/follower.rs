//! How a session reads the feed.
//!
//! - `plan`: which peers a pass begins with; `told`: which peers the station was told
//! - `reports`: Statistics Reports at the station's own times; `derived`: those that bmpd derives

mod derived;
mod plan;
mod reports;
mod told;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    Feed, FrameCounts, InputId,
    catch_up::ChangedRibs,
    compose::{FrameWriter, WrittenFrames},
    incarnation::{Incarnation, PeerId},
    journal::{FrameRun, FrameSubject, JournalChunk, JournalPosition},
    pass::{CatchUpPass, DumpPass, DumpProgress, PassStep},
    piece::Piece,
    report::HiddenPeer,
    rib::Rib,
    selection::{Mirroring, RibShare, Selection},
    state::FeedState,
    store::FeedStore,
    withdrawals::FollowerNeeds,
};
use crate::wire::{
    bgp::Family,
    bmp::{MessageType, PeerKey, RibView},
};

/// Bytes of a dump that are made under one lock: enough to be worth the lock, and few enough for
/// those who wait for it.
const STEP: usize = 64 * 1024;

/// The way of one session through the feed, and what its station knows if the session sends
/// everything that it takes, in order.
///
/// A follower reads the journal where it can. Where the journal lacks what the station needs (a new
/// station, one that was too slow, another selection), the follower dumps the state: see [`super`].
#[derive(Debug)]
pub struct Follower {
    store: Arc<FeedStore>,
    head: watch::Receiver<JournalPosition>,
    needs: FollowerNeeds,
    cursor: JournalPosition,
    selection: Arc<Selection>,
    /// The selection from the next pass on.
    next_selection: Option<Arc<Selection>>,
    /// The peers that the station was told.
    told: HashMap<PeerId, Arc<Incarnation>>,
    /// The same by type, distinguisher and address: their input, and how many look the same.
    told_keys: HashMap<PeerKey, ToldKey>,
    /// Peers that the station could not tell from those that it was told, and their inputs.
    hidden: HashMap<PeerId, InputId>,
    /// How often `hidden` has changed.
    hidden_changes: u64,
    pass: Option<DumpPass>,
    /// The cursor before the pass; `None` without a pass.
    before_pass: Option<JournalPosition>,
    /// How many more routes passes may send; `None`: any number.
    allowance: Option<u64>,
    /// How many routes passes have sent, withdrawn ones included.
    routes_dumped: u64,
    /// Peers that the next pass tells anew, with all that look the same: see [`Follower::renew`].
    renewed: HashSet<PeerKey>,
    /// Whether a pass is due although the journal has what comes next.
    is_pass_due: bool,
    /// How many bytes the station may lag behind the head before a pass.
    lag_limit: Option<u64>,
    /// True if Statistics Reports come by [`Follower::report_statistics`] alone.
    holds_statistics: bool,
    /// The peers whose latest report is to be told next, if it is newer than `reported_before`.
    reports: VecDeque<Arc<Incarnation>>,
    /// The peers about which a derived report is to be told next.
    derived: VecDeque<Arc<Incarnation>>,
    reported_before: u64,
    /// The reports up to this number are told with `reports`, or were told before.
    reported: u64,
    dumps: u64,
    /// How often the station lagged too far behind the head to go on with the journal.
    falls: u64,
    /// Empty between two calls; kept for its memory.
    chunks: Vec<JournalChunk>,
    /// Whether the pass is the last that asks for the filters before.
    has_replaced_filters: bool,
    /// RIBs whose routes are filtered, and whose frames were passed over. Empty between two calls.
    changed: ChangedRibs,
    /// What is told in place of these frames. The journal and a pass wait for it.
    catch_up: Option<CatchUpPass>,
}

/// The peers with one type, distinguisher and address that a station was told.
#[derive(Clone, Copy, Debug)]
struct ToldKey {
    /// The number of their input.
    input: u32,
    peers: usize,
}

/// The journal lacks what a station needs: the state has to tell it.
struct NeedsPass;

impl Follower {
    pub(super) fn attach(store: Arc<FeedStore>, selection: Selection) -> Self {
        let head = store.watch_head();
        let needs = {
            let mut feed = store.lock();
            let since = feed.head().frames;
            feed.tables.withdrawals.follow(since)
        };
        Self {
            store,
            head,
            needs,
            cursor: JournalPosition::default(),
            selection: Arc::new(selection),
            next_selection: None,
            told: HashMap::new(),
            told_keys: HashMap::new(),
            hidden: HashMap::new(),
            hidden_changes: 0,
            pass: None,
            before_pass: None,
            allowance: None,
            routes_dumped: 0,
            renewed: HashSet::new(),
            is_pass_due: true,
            lag_limit: None,
            holds_statistics: false,
            reports: VecDeque::new(),
            derived: VecDeque::new(),
            reported_before: 0,
            reported: 0,
            dumps: 0,
            falls: 0,
            chunks: Vec::new(),
            has_replaced_filters: false,
            changed: ChangedRibs::default(),
            catch_up: None,
        }
    }

    /// Changes the selection. The follower dumps what is added and withdraws what is left out. It
    /// does not repeat the rest.
    pub fn select(&mut self, selection: Selection) {
        if *self.next_selection.as_deref().unwrap_or(&self.selection) != selection {
            self.next_selection = Some(Arc::new(selection));
            self.is_pass_due = true;
        }
    }

    /// Sets how many bytes of the journal the station may lag behind the head. Beyond that, the
    /// follower dumps what has changed, as if the journal were that short. `None` for as long as
    /// the journal has what comes next.
    pub fn limit_lag(&mut self, bytes: Option<u64>) {
        self.lag_limit = bytes;
    }

    /// Returns the feed that the follower reads.
    pub fn feed(&self) -> Feed {
        Feed(Arc::clone(&self.store))
    }

    /// Lets dumps send so many more routes, or any number. The message that reaches the limit may
    /// exceed it. While a dump has to wait, the station is told the journal.
    pub fn allow(&mut self, routes: Option<u64>) {
        self.allowance = routes;
    }

    /// Appends the next pieces to `out`, about `max_bytes` of them. Appends nothing, without
    /// waiting, if the station knows everything.
    ///
    /// Pieces from the journal are shared, not copied, and stay whole however long they are held.
    pub fn take(&mut self, max_bytes: usize, out: &mut VecDeque<Piece>) {
        // With zero bytes, a dump would never go on.
        let max_bytes = max_bytes.max(1);
        let already = out.len();
        while out.len() == already {
            if let Some(pass) = self.pass.as_mut().filter(|pass| pass.is_opening()) {
                pass.open(max_bytes, out);
                self.end_pass();
            } else if self.catch_up.is_some() {
                self.catch_up(max_bytes, out);
            } else if self.is_pass_due {
                self.begin_pass();
            } else if !self.reports.is_empty() {
                self.take_reports(max_bytes, out);
            } else if !self.derived.is_empty() {
                self.take_derived(max_bytes, out);
            } else if self.pass.is_some() && self.allowance != Some(0) {
                self.dump(max_bytes, out);
            } else {
                match self.follow(max_bytes, out) {
                    Ok(0) => return,
                    Ok(_) => {}
                    Err(NeedsPass) => self.is_pass_due = true,
                }
            }
        }
    }

    /// Waits until [`Follower::take`] has something. May be dropped at any time.
    pub async fn ready(&mut self) {
        if self.catch_up.is_some() || self.has_dump_to_send() || self.has_reports() {
            return;
        }
        let cursor = self.cursor.frames;
        // The only error is that the sender is gone, and `self.store` holds it.
        let _ = self.head.wait_for(|head| head.frames > cursor).await;
    }

    fn has_reports(&self) -> bool {
        !self.reports.is_empty() || !self.derived.is_empty()
    }

    /// True if the follower dumps state, or is about to.
    pub fn is_dumping(&self) -> bool {
        self.pass.is_some() || self.is_pass_due
    }

    /// True if nothing but [`Self::allow`] keeps a dump from going on.
    pub fn waits_for_allowance(&self) -> bool {
        self.pass.is_some() && self.catch_up.is_none() && !self.has_dump_to_send()
    }

    fn has_dump_to_send(&self) -> bool {
        self.is_pass_due || self.pass.as_ref().is_some_and(|pass| pass.is_opening() || self.allowance != Some(0))
    }

    /// How far the dump is. `None` without a dump, and for one that only tells what changed.
    pub fn progress(&self) -> Option<DumpProgress> {
        self.pass.as_ref().and_then(DumpPass::progress)
    }

    /// How many routes dumps have sent, withdrawn ones included.
    pub fn routes_dumped(&self) -> u64 {
        self.routes_dumped
    }

    /// How often the station was too slow for the journal, or for its share of it: see
    /// [`Follower::limit_lag`].
    pub fn falls(&self) -> u64 {
        self.falls
    }

    /// How often the follower dumped the state, or the changes to it.
    pub fn dumps(&self) -> u64 {
        self.dumps
    }

    /// The peers that the station is not told, because it could not tell them from those of another
    /// input.
    pub fn hidden_peers(&self) -> Vec<HiddenPeer> {
        self.hidden.iter().map(|(peer, input)| HiddenPeer { input: input.clone(), key: *peer.key() }).collect()
    }

    /// Returns another number when [`Self::hidden_peers`] may have changed.
    pub fn hidden_changes(&self) -> u64 {
        self.hidden_changes
    }

    /// Sequence number of the next frame for the station. During a pass without a limit, that is
    /// the first frame of which the pass may tell something.
    pub fn cursor(&self) -> u64 {
        self.shown_cursor().frames
    }

    /// Bytes of the journal before [`Self::cursor`], counted since the start.
    pub fn position(&self) -> u64 {
        self.shown_cursor().bytes
    }

    /// The cursor, or the one before the pass if the journal has to wait for the pass.
    fn shown_cursor(&self) -> JournalPosition {
        self.before_pass.filter(|_| self.allowance.is_none()).unwrap_or(self.cursor)
    }

    /// Sequence number of the next frame that goes into the journal.
    pub fn head(&self) -> u64 {
        self.head.borrow().frames
    }

    /// Bytes that were appended and not taken, whether the journal still has them or not.
    pub fn lag_bytes(&self) -> u64 {
        self.head.borrow().bytes.saturating_sub(self.position())
    }

    /// Begins a pass over the state of this moment. It takes over what another one has left.
    fn begin_pass(&mut self) {
        let store = Arc::clone(&self.store);
        let mut feed = store.lock();
        let end = feed.head();
        let selection = self.next_selection.take().unwrap_or_else(|| Arc::clone(&self.selection));
        let since = self.cursor.frames;
        if self.told.is_empty() {
            self.needs.since.store(end.frames, Ordering::Relaxed);
        }
        let before = self.pass.take();
        let wrong = before.iter().flat_map(|before| before.wrongly_taken_back(&selection));
        self.renewed.extend(wrong);
        let plan = self.plan(&feed, &selection, since);
        self.has_replaced_filters |= self.selection.has_filters() && !Arc::ptr_eq(&self.selection, &selection);
        self.selection = selection;
        self.pass = Some(DumpPass::new(&mut feed, end, &self.selection, plan, before));
        self.before_pass.get_or_insert(self.cursor);
        // What comes after the end is in the journal, whenever the pass tells what came before.
        self.cursor = end;
        self.is_pass_due = false;
        self.dumps += 1;
        drop(feed);
        self.end_pass();
    }

    /// Takes more of the pass.
    fn dump(&mut self, max_bytes: usize, out: &mut VecDeque<Piece>) {
        let Some(pass) = &mut self.pass else { return };
        let step = PassStep {
            cursor: self.cursor.frames,
            bytes: max_bytes.clamp(1, STEP),
            routes: self.allowance.unwrap_or(u64::MAX),
        };
        let mut writer = FrameWriter::with_capacity(step.bytes + step.bytes / 4);
        pass.step(&mut self.store.lock(), step, &mut writer);
        self.routes_dumped += writer.pass_routes;
        self.allowance = self.allowance.map(|left| left.saturating_sub(writer.pass_routes));
        push_written(writer, out);
        self.end_pass();
    }

    /// Ends the pass if everything is sent.
    fn end_pass(&mut self) {
        if self.pass.as_ref().is_some_and(DumpPass::is_over) {
            (self.pass, self.before_pass) = (None, None);
            self.note_known();
            if mem::take(&mut self.has_replaced_filters) {
                drop_unused_filters(&mut self.store.lock());
            }
        }
    }

    /// Notes which withdrawals the station needs no more.
    fn note_known(&self) {
        // A pass may still have to tell withdrawals that came before the cursor.
        if self.pass.is_none() && self.catch_up.is_none() {
            self.needs.since.store(self.cursor.frames, Ordering::Relaxed);
        }
    }

    /// Takes chunks from the journal. Returns how many.
    fn follow(&mut self, max_bytes: usize, out: &mut VecDeque<Piece>) -> Result<usize, NeedsPass> {
        let mut chunks = mem::take(&mut self.chunks);
        {
            let journal = self.store.journal();
            let mut room = max_bytes;
            let lag = journal.head().bytes.saturating_sub(self.cursor.bytes);
            let is_in_share = self.lag_limit.is_none_or(|limit| lag <= limit);
            let Some(there) = is_in_share.then(|| journal.from(self.cursor.frames)).flatten() else {
                self.falls += 1;
                return Err(NeedsPass);
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
        let since = self.cursor.frames;
        let mut outcome = Ok(());
        for chunk in chunks.drain(..) {
            outcome = outcome.and_then(|()| self.take_chunk(&chunk, out));
        }
        self.chunks = chunks;
        if !self.changed.is_empty() {
            self.begin_catching_up(since);
        }
        self.note_known();
        outcome.map(|()| taken)
    }

    /// Begins to tell what changed in the RIBs whose frames were passed over.
    fn begin_catching_up(&mut self, since: u64) {
        let mut changed = self.changed.take();
        // The next pass tells these anew.
        changed.retain(|rib| !self.is_about_to_be_renewed(&rib.life));
        let range = [since, self.cursor.frames];
        let state = self.store.lock();
        self.catch_up = Some(CatchUpPass::new(&state, range, &self.selection, changed, self.pass.as_ref()));
    }

    /// Tells more of what changed in the RIBs whose frames were passed over.
    fn catch_up(&mut self, max_bytes: usize, out: &mut VecDeque<Piece>) {
        let Some(mut pass) = self.catch_up.take() else { return };
        let step = PassStep { cursor: self.cursor.frames, bytes: max_bytes.clamp(1, STEP), routes: u64::MAX };
        let mut writer = FrameWriter::with_capacity(step.bytes + step.bytes / 4);
        let lost = pass.step(&mut self.store.lock(), step, &mut writer);
        lost.iter().for_each(|life| self.renew(life));
        push_written(writer, out);
        self.catch_up = Some(pass).filter(|pass| !pass.is_over());
        self.note_known();
    }

    /// Passes on the selected frames of a chunk.
    ///
    /// # Errors
    ///
    /// If a pass has to tell the station the chunk, or what comes after it.
    fn take_chunk(&mut self, chunk: &JournalChunk, out: &mut VecDeque<Piece>) -> Result<(), NeedsPass> {
        if chunk.runs.iter().any(|run| self.is_partly_selected(run)) {
            return Err(NeedsPass);
        }
        let mut at = 0;
        // The frames that the station is sent and that are not passed on yet.
        let (mut start, mut counts) = (0, FrameCounts::default());
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
        if self.is_pass_due { Err(NeedsPass) } else { Ok(()) }
    }

    /// True if the journal may tell only a part of the routes in the frames of a run.
    fn is_partly_selected(&self, run: &FrameRun) -> bool {
        match &run.subject {
            FrameSubject::Mixed(life, view) => {
                let is_partly_held = || self.pass.as_ref().is_some_and(|pass| pass.holds_any(life, *view));
                self.selection.has_peer(life) && (!self.selection.has_all_ribs(life) || is_partly_held())
            }
            _ => false,
        }
    }

    /// True if the station is sent a run. Remembers what the station is told with it.
    fn wants(&mut self, run: &FrameRun) -> bool {
        match &run.subject {
            FrameSubject::Routes(life, view, family) => {
                let is_held = || self.pass.as_ref().is_some_and(|pass| pass.holds(life, *view, *family));
                self.is_current(life) && !is_held() && self.wants_rib(life, *view, *family)
            }
            FrameSubject::EndOfRib(life, view, family) => {
                let is_told = self.pass.as_ref().is_none_or(|pass| !pass.has_to_tell(life, *view, *family));
                self.is_current(life) && is_told && self.wants_rib(life, *view, *family)
            }
            FrameSubject::Mixed(life, _) => self.is_current(life),
            FrameSubject::Peer(life) => {
                let passes = if run.code == MessageType::RouteMirroring.code() {
                    self.selection.mirroring == Mirroring::Passed
                } else {
                    !self.holds_statistics
                };
                passes && self.is_current(life)
            }
            FrameSubject::Nobody => self.selection.is_everything(),
            FrameSubject::LookAlike => false,
            FrameSubject::Up(life) => self.wants_beginning(life, true),
            FrameSubject::Unannounced(life) => self.wants_beginning(life, false),
            FrameSubject::Renewed(life) => {
                if self.selection.has_peer(life) {
                    let new = ToldKey { input: life.peer.input, peers: 0 };
                    self.told_keys.entry(*life.peer.key()).or_insert(new);
                    self.renew(life);
                }
                false
            }
            FrameSubject::Down(life) => self.wants_end(life),
        }
    }

    /// True if the station is sent the frames of a RIB. If its routes are filtered, notes it.
    fn wants_rib(&mut self, life: &Arc<Incarnation>, view: RibView, family: Family) -> bool {
        match self.selection.share_of(life, view, family) {
            RibShare::Nothing => false,
            RibShare::Everything => true,
            RibShare::Filtered => {
                self.changed.add(life, view, family);
                false
            }
        }
    }
}

fn push_written(writer: FrameWriter, out: &mut VecDeque<Piece>) {
    if !writer.is_empty() {
        let WrittenFrames { bytes, counts } = writer.finish();
        out.push_back(Piece { bytes, counts });
    }
}

fn push(bytes: &Bytes, start: usize, end: usize, counts: FrameCounts, out: &mut VecDeque<Piece>) {
    if start < end {
        out.push_back(Piece { bytes: bytes.slice(start..end), counts });
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut feed = self.store.lock();
        if let Some(pass) = self.pass.take() {
            pass.abandon(&mut feed);
        }
        if let Some(catch_up) = self.catch_up.take() {
            catch_up.abandon(&mut feed);
        }
        feed.tables.withdrawals.unfollow(self.needs.number);
        let had_filters = self.has_replaced_filters || self.selection.has_filters();
        (self.selection, self.next_selection) = (Arc::default(), None);
        if had_filters {
            drop_unused_filters(&mut feed);
        }
    }
}

/// Forgets what filters decided that no session has any more.
fn drop_unused_filters(state: &mut FeedState) {
    state.peers.each_mut(|peer| peer.ribs.iter_mut().for_each(Rib::drop_unused_filters));
}
