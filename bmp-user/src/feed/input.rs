//! Where frames come in.

use std::{mem, sync::Arc};

use bytes::Bytes;

use super::{
    Counts, Shared, Trouble,
    compose::Frames,
    journal::{About, Run},
    peers::{ConnectionId, Incarnation},
    rib::{EndOfRib, Time},
    scan::{Scanned, scan},
    state::State,
};
use crate::wire::bmp::{Error, Frame, MessageType, frames};

/// Peer Downs of one connection go into chunks of about this size, in bytes.
const PEER_DOWNS: usize = 64 * 1024;

/// One connection of one input. Dropping it means that it went away: the stations are told Peer Down for every peer it owns.
#[derive(Debug)]
pub struct Input {
    shared: Arc<Shared>,
    connection: ConnectionId,
    totals: InputTotals,
}

/// What came in through one [`Input`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputTotals {
    /// Frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Route Monitoring frames among them for peers that were not announced, or that another connection announced since.
    pub unannounced: u64,
    /// What could not be taken for what it should be, by kind: [`Trouble::errors`] of it are errors of the input.
    pub trouble: Trouble,
}

impl Input {
    pub(super) fn new(shared: Arc<Shared>, name: &str) -> Self {
        let connection = shared.state().connect(name);
        Self { shared, connection, totals: InputTotals::default() }
    }

    /// Appends whole frames, byte for byte.
    ///
    /// `block` is how many bytes of memory `frames` keeps alive: the size of the buffer it is a part of. The journal keeps
    /// `frames` itself if it is at least half of that, and is charged for the block; else an exact copy. So nothing else may
    /// be kept in the same block.
    ///
    /// # Errors
    ///
    /// At the first frame that is wrong, is an Initiation or a Termination, or is not whole; offsets are within `frames`.
    /// Everything before it has been appended.
    pub fn append(&mut self, mut bytes: Bytes, block: usize) -> Result<(), Error> {
        let Scanned { good, peer_up, outcome } = scan(&bytes);
        bytes.truncate(good);
        if !bytes.is_empty() {
            self.commit(bytes, block, peer_up);
        }
        outcome
    }

    /// What was appended so far.
    pub fn totals(&self) -> InputTotals {
        self.totals
    }

    /// How many frames all inputs have appended; those count too that said nothing new and were not passed on.
    pub fn applied(&self) -> u64 {
        self.shared.state().applied
    }

    /// Says End-of-RIB (RFC 4724 §2) for a router that does not: of every RIB that had none in this life of its peer, which has to be announced, and of
    /// which nothing came since [`Input::applied`] was `since`. How many those were.
    pub fn end_quiet_ribs(&mut self, since: u64) -> usize {
        let mut state = self.shared.state();
        let quiet = state.quiet_ribs(self.connection, since);
        let mut said = Said::after(self.shared.journal().head().frames);
        for (slot, number) in &quiet {
            said.end_of_rib(&mut state, *slot, *number);
        }
        said.push(&self.shared, &mut state);
        quiet.len()
    }

    /// The input went away and may be back soon: its peers stay up, with their routes, until what this gives is dropped.
    ///
    /// A peer that says exactly the same Peer Up by then goes on where it was: of what it says again only differences are passed on, and what it
    /// does not say again is withdrawn at its End-of-RIB, or when what this gives is dropped. Every other peer is taken down then.
    pub fn hold(mut self) -> Held {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        let slots = state.disconnect(self.connection);
        state.hold(&slots);
        let connection = mem::take(&mut self.connection);
        drop(state);
        Held { shared, connection }
    }

    fn commit(&mut self, bytes: Bytes, block: usize, peer_up: bool) {
        let length = bytes.len();
        let (bytes, block) =
            if length < block / 2 { (Bytes::copy_from_slice(&bytes), length) } else { (bytes, block.max(length)) };
        let mut state = self.shared.state();
        let before = state.trouble;
        // A Peer Up may need a Peer Down before it.
        let counts = if peer_up || state.holds() {
            self.commit_news(&mut state, &bytes)
        } else {
            let mut changed = self.shared.journal().head().frames;
            let (mut runs, mut counts) = (Runs::default(), Counts::default());
            for frame in frames(&bytes).flatten() {
                changed += 1;
                let applied = state.apply(self.connection, &frame, changed, &mut |life| runs.heard(life));
                counts.record(frame.code(), 1);
                runs.push(frame.bytes().len(), frame.code(), applied.about);
            }
            self.shared.push(&mut state, bytes, block, runs.0);
            counts
        };
        self.totals.frames += counts.total();
        self.totals.bytes += length as u64;
        self.totals.trouble.add(state.trouble - before);
        self.totals.unannounced = self.totals.trouble.unannounced;
    }

    /// Appends of these frames those that say something new, which are all of them unless peers say again what they said before their input went
    /// away; and what has to be said in between.
    fn commit_news(&self, state: &mut State, bytes: &[u8]) -> Counts {
        let mut counts = Counts::default();
        let mut said = Said::after(self.shared.journal().head().frames);
        for frame in frames(bytes).flatten() {
            counts.record(frame.code(), 1);
            let runs = &mut said.runs;
            let applied = state.apply(self.connection, &frame, said.changed + 1, &mut |life| runs.heard(life));
            if let Some((slot, rib)) = applied.complete {
                said.withdraw_stale(state, slot, rib);
            }
            if let Some((life, down)) = applied.before {
                said.put(&down, MessageType::PeerDown, About::Down(life));
            }
            match frame.message_type() {
                Some(message) if applied.news => said.put(frame.bytes(), message, applied.about),
                // A type that is not assigned says something new as far as anybody knows.
                None => said.put_unassigned(&frame),
                _ => {}
            }
        }
        said.push(&self.shared, state);
        counts
    }
}

/// Frames for the journal that are put together, or that are only a part of what came in.
struct Said {
    frames: Frames,
    runs: Runs,
    /// The sequence number after the last.
    changed: u64,
}

impl Said {
    fn after(changed: u64) -> Self {
        Self { frames: Frames::default(), runs: Runs::default(), changed }
    }

    fn put(&mut self, frame: &[u8], message: MessageType, about: About) {
        self.frames.put(message, frame);
        self.runs.push(frame.len(), message.code(), about);
        self.changed += 1;
    }

    fn put_unassigned(&mut self, frame: &Frame<'_>) {
        self.frames.put_unassigned(frame);
        self.runs.push(frame.bytes().len(), frame.code(), About::Nobody);
        self.changed += 1;
    }

    /// What was not said again of a RIB is withdrawn.
    fn withdraw_stale(&mut self, state: &mut State, slot: u32, number: usize) {
        loop {
            let stale = state.withdraw_stale(slot, number, self.changed + 1);
            let Some((life, rib)) = state.rib(slot, number).filter(|_| !stale.is_empty()) else { return };
            let before = self.frames.len();
            let flags = stale.first().map_or(0, |route| rib.common(*route).flags);
            self.frames.withdrawal(rib, Time::default(), flags, stale.iter().map(|route| rib.nlri(*route)));
            let about = About::Routes(Arc::clone(life), rib.view, rib.family);
            self.runs.push(self.frames.len() - before, MessageType::RouteMonitoring.code(), about);
            self.changed += 1;
        }
    }

    /// A RIB is complete as far as anybody can tell. When that came about is not known.
    fn end_of_rib(&mut self, state: &mut State, slot: u32, number: usize) {
        let Some(peer) = state.slots.get_mut(slot as usize).and_then(|slot| slot.peer.as_mut()) else { return };
        let Some(rib) = peer.ribs.get_mut(number) else { return };
        let (before, time, flags) = (self.frames.len(), Time::default(), rib.header.flags);
        self.frames.end_of_rib(rib, time, flags);
        self.changed += 1;
        rib.end_of_rib = Some(EndOfRib { changed: self.changed, time, flags });
        let about = About::Routes(Arc::clone(&peer.life), rib.view, rib.family);
        self.runs.push(self.frames.len() - before, MessageType::RouteMonitoring.code(), about);
    }

    fn push(self, shared: &Shared, state: &mut State) {
        if !self.frames.is_empty() {
            let (bytes, _) = self.frames.finish();
            let block = bytes.len();
            shared.push(state, bytes, block, self.runs.0);
        }
    }
}

/// Peers whose input went away: see [`Input::hold`].
#[derive(Debug)]
pub struct Held {
    shared: Arc<Shared>,
    connection: ConnectionId,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let away = self.shared.release(&mut state, self.connection);
        self.shared.end(&mut state, away);
    }
}

/// What the frames of a chunk are, put together where they are alike.
#[derive(Debug, Default)]
struct Runs(Vec<Run>);

impl Runs {
    fn push(&mut self, bytes: usize, code: u8, about: About) {
        // A frame is at most MAX_FRAME bytes, and a chunk what was read at once.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        match self.0.last_mut() {
            Some(last) if last.code == code && last.about.joins(&about) => {
                last.bytes += bytes;
                last.frames += 1;
            }
            _ => self.0.push(Run { bytes, frames: 1, code, about }),
        }
    }

    fn heard(&mut self, life: Arc<Incarnation>) {
        let code = MessageType::RouteMonitoring.code();
        self.0.push(Run { bytes: 0, frames: 0, code, about: About::Heard(life) });
    }
}

impl Shared {
    /// Appends a chunk to the journal, while the state is locked.
    fn push(&self, state: &mut State, bytes: Bytes, block: usize, runs: Vec<Run>) {
        for run in &runs {
            state.received.record(run.code, run.frames.into());
        }
        let mut journal = self.journal();
        journal.push(bytes, block, runs);
        // Sent while the journal is locked, so that it never goes back.
        self.head.send_replace(journal.head());
        drop(journal);
        state.forget();
    }

    /// Nothing more is to be waited for of a connection that went away: what its peers did not say again on another one is withdrawn. Gives those that did
    /// not come back.
    fn release(&self, state: &mut State, connection: ConnectionId) -> Vec<u32> {
        let (away, back) = state.release(connection);
        let mut said = Said::after(self.journal().head().frames);
        for slot in back {
            for rib in 0..state.slots[slot as usize].peer.as_ref().map_or(0, |peer| peer.ribs.len()) {
                said.withdraw_stale(state, slot, rib);
            }
        }
        said.push(self, state);
        away
    }

    /// Ends peers that are gone without having said so.
    fn end(&self, state: &mut State, slots: Vec<u32>) {
        let mut said = Said::after(self.journal().head().frames);
        for slot in slots {
            let Some(down) = state.slots[slot as usize].peer.as_ref().map(|peer| peer.life.down.clone()) else {
                continue;
            };
            if let Some(life) = state.down(slot, down.clone(), said.changed + 1) {
                said.put(&down, MessageType::PeerDown, About::Down(life));
            }
            if said.frames.len() >= PEER_DOWNS {
                let next = Said::after(said.changed);
                mem::replace(&mut said, next).push(self, state);
            }
        }
        said.push(self, state);
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        if self.connection == 0 {
            // It is held.
            return;
        }
        let mut state = self.shared.state();
        let slots = state.disconnect(self.connection);
        self.shared.release(&mut state, self.connection);
        self.shared.end(&mut state, slots);
    }
}
