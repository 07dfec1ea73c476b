//! Where frames come in.

use std::{fmt, mem, sync::Arc};

use bytes::Bytes;

use super::{
    InputId, Shared, Trouble, TroubleKind,
    compose::Frames,
    journal::{About, Run},
    lives::{Over, count},
    oddity::{Oddities, Oddity},
    owners::{Claim, Dropped},
    peers::{ConnectionId, Incarnation},
    rib::{EndOfRib, Time},
    state::{Applied, State},
};
use crate::wire::bmp::{BmpChunk, Error, Frame, MessageType, PeerHeader, check, whole_frames};

/// Peer Downs of one connection go into chunks of about this size, in bytes.
const PEER_DOWNS: usize = 64 * 1024;

/// One connection of one input. Dropping it means that it went away: the stations are told Peer Down for every peer it owns.
#[derive(Debug)]
pub struct Input {
    shared: Arc<Shared>,
    connection: ConnectionId,
    totals: InputTotals,
    notices: Vec<Notice>,
    /// The kinds of errors that there was a notice of.
    noticed: Vec<TroubleKind>,
    /// What the feed had counted when this was looked at last; all inputs count together.
    seen: Trouble,
}

/// What came in through one [`Input`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputTotals {
    /// Frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Route Monitoring frames among them for peers that were not announced, or not by this connection.
    pub unannounced: u64,
    /// What could not be taken for what it should be, by kind: [`Trouble::errors`] of it are errors of the input.
    pub trouble: Trouble,
    /// Messages that were dropped because they are about peers of another connection.
    pub refused: u64,
    /// Messages that were left out because nobody could read them.
    pub odd: Oddities,
}

/// What an operator has to know about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The first message that was left out for this reason, and what is wrong with it.
    Odd(Oddity, String),
    /// The first message that was dropped about a peer of another connection, and that connection.
    Refused(PeerHeader, ConnectionId),
    /// The first UPDATE in which something was wrong in this way. It was passed on as it came.
    NotUnderstood(NotUnderstood),
}

/// An UPDATE in which something is wrong, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUnderstood {
    /// What is wrong.
    pub kind: TroubleKind,
    /// Which message of the connection it is, from 1 on.
    pub message: u64,
    /// How many bytes came before it: [`InputTotals::bytes`].
    pub at: u64,
}

/// As in a log line.
impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Odd(oddity, error) => write!(f, "{} ({error})", oddity.meaning()),
            Self::Refused(peer, _) => write!(f, "another connection has peer {}", peer.address()),
            Self::NotUnderstood(NotUnderstood { kind, message, .. }) => write!(f, "message {message}: {kind}"),
        }
    }
}

impl Input {
    pub(super) fn new(shared: Arc<Shared>, id: InputId) -> Self {
        let connection = shared.state().connect(id);
        let (totals, seen) = (InputTotals::default(), Trouble::default());
        Self { shared, connection, totals, notices: Vec::new(), noticed: Vec::new(), seen }
    }

    /// Says that the OPENs in its Peer Ups are those by which its NLRI are written: bmpd has spoken with the peers itself.
    pub fn trust_opens(&mut self) {
        self.shared.state().trusted.insert(self.connection);
    }

    /// Limits how many peers the connection may have at one time: messages about more are left out and counted.
    pub fn limit_peers(&mut self, most: usize) {
        if let Some(connection) = self.shared.state().connections.get_mut(&self.connection) {
            connection.most_peers = most;
        }
    }

    /// The number of the connection.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Appends frames, byte for byte, of an input that has one connection at a time: if it claims a peer, the connection before is over.
    pub fn append(&mut self, mut chunk: BmpChunk) {
        while let Some(claim) = self.offer(&chunk) {
            let mut state = self.shared.state();
            let over = state.claimed(self.connection, &claim);
            self.shared.end(&mut state, over);
            chunk = chunk.starting_at(claim.at);
        }
    }

    /// Appends frames, byte for byte, up to the first that claims a peer of another connection. The claim is to be decided then: if the
    /// owner is gone, its [`Input`] is dropped or held; if it is alive, see [`Input::refuse`]. In both cases the rest is offered again.
    ///
    /// Frames that nobody could read, and those about peers of others, are left out and counted; [`Input::take_notices`] tells of them.
    ///
    /// The journal keeps the bytes of the chunk if they are at least half of the memory that they keep alive, and counts that memory. Otherwise it
    /// keeps an exact copy.
    pub fn offer(&mut self, chunk: &BmpChunk) -> Option<Claim> {
        if chunk.is_empty() {
            return None;
        }
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        let before = state.trouble;
        self.seen = before;
        // A Peer Up or a Peer Down may need Peer Downs before it.
        let needs_look = chunk.has_damage() || chunk.has_peer_changes() || state.holds();
        let (taken, claim) = if needs_look { (0, None) } else { self.commit_all(&mut state, chunk) };
        let claim = claim.or_else(|| self.commit_news(&mut state, chunk, taken));
        self.totals.trouble.add(state.trouble - before);
        self.totals.unannounced = self.totals.trouble.unannounced;
        claim
    }

    /// The owner of a claimed peer is alive: what this connection says of it, and of all other peers of that owner, is dropped and counted.
    pub fn refuse(&mut self, claim: &Claim) {
        self.shared.state().refuse(self.connection, claim.owner);
    }

    /// Counts a message about the session itself that cannot be read.
    pub fn leave_out(&mut self, oddity: Oddity, error: &Error) {
        if self.totals.odd.record(oddity) {
            self.notices.push(Notice::Odd(oddity, error.to_string()));
        }
    }

    /// What an operator has to know and was not given before: each kind of oddity once, and each refused peer.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        mem::take(&mut self.notices)
    }

    /// There is a notice of each kind of error once more.
    pub fn notice_again(&mut self) {
        self.noticed.clear();
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
    /// A peer that says the same Peer Up by then, whose time may differ, goes on where it was: of what it says again only differences are passed on, and what it
    /// does not say again is withdrawn at its End-of-RIB, or when what this gives is dropped. Every other peer is taken down then. A peer of which more is told than
    /// is kept ends at once.
    pub fn hold(mut self) -> Held {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        let slots = state.disconnect(self.connection);
        let incomplete = state.hold(&slots);
        let peers = slots.len() - incomplete.len();
        shared.end(&mut state, incomplete);
        let connection = mem::take(&mut self.connection);
        drop(state);
        Held { shared, connection, peers }
    }

    /// Appends frames as they are, up to the first that is not to be passed on. How many bytes were used up.
    fn commit_all(&mut self, state: &mut State, chunk: &BmpChunk) -> (usize, Option<Claim>) {
        let head = self.shared.journal().head().frames;
        let (mut runs, mut told, mut taken, mut claim) = (Runs::default(), 0, 0, None);
        for (changed, frame) in (head + 1..).zip(chunk.frames()) {
            let applied = match state.apply(self.connection, &frame, changed, &mut |life| runs.heard(life)) {
                Ok(applied) => applied,
                Err(found) => {
                    claim = Some(Claim { at: taken, ..found });
                    break;
                }
            };
            taken += frame.bytes().len();
            self.count(&frame, &applied, &state.trouble);
            if applied.dropped.is_some() {
                break;
            }
            told = taken;
            runs.push(frame.bytes().len(), frame.code(), applied.about);
        }
        if told > 0 {
            let memory = chunk.memory();
            let (bytes, block) = match chunk.bytes().slice(..told) {
                few if told < memory / 2 => (Bytes::copy_from_slice(&few), told),
                many => (many, memory.max(told)),
            };
            self.shared.push(state, bytes, block, runs.0);
        }
        (taken, claim)
    }

    /// Appends of the frames from `taken` on those that say something new, which are all of them unless peers say again what they said before their
    /// input went away; and what has to be said in between.
    fn commit_news(&mut self, state: &mut State, chunk: &BmpChunk, taken: usize) -> Option<Claim> {
        let shared = Arc::clone(&self.shared);
        let mut said = Said::after(shared.journal().head().frames);
        let (mut at, mut claim) = (taken, None);
        for frame in whole_frames(chunk.bytes().get(taken..)?) {
            if chunk.has_damage()
                && let Err(error) = check(&frame)
            {
                at += frame.bytes().len();
                self.totals.frames += 1;
                self.totals.bytes += frame.bytes().len() as u64;
                self.leave_out(Oddity::of(&frame, &error), &error);
                continue;
            }
            for (slot, rib) in state.unreadable_again(self.connection, &frame) {
                said.withdraw_stale(state, slot, rib);
            }
            let runs = &mut said.runs;
            let applied = match state.apply(self.connection, &frame, said.changed + 1, &mut |life| runs.heard(life)) {
                Ok(applied) => applied,
                Err(found) => {
                    claim = Some(Claim { at, ..found });
                    break;
                }
            };
            at += frame.bytes().len();
            self.count(&frame, &applied, &state.trouble);
            if let Some((slot, rib)) = applied.complete {
                said.withdraw_stale(state, slot, rib);
            }
            applied.before.iter().for_each(|over| said.over(over));
            match frame.message_type() {
                Some(message) if applied.news => said.put(frame.bytes(), message, applied.about),
                // A type that is not assigned says something new as far as anybody knows.
                None => said.put_unassigned(&frame),
                _ => {}
            }
            applied.anew.into_iter().for_each(|life| said.anew(life));
        }
        said.push(&shared, state);
        claim
    }

    #[inline]
    fn count(&mut self, frame: &Frame<'_>, applied: &Applied, trouble: &Trouble) {
        if *trouble != self.seen {
            self.note(trouble);
        }
        self.totals.frames += 1;
        self.totals.bytes += frame.bytes().len() as u64;
        match applied.dropped {
            None | Some(Dropped::Unannounced) => {}
            Some(Dropped::Refused(first)) => {
                self.totals.refused += 1;
                self.notices.extend(first.zip(PeerHeader::of(frame)).map(|(owner, peer)| Notice::Refused(peer, owner)));
            }
            Some(Dropped::Odd(oddity)) => {
                if self.totals.odd.record(oddity) {
                    let named = PeerHeader::of(frame).map(|peer| {
                        format!("peer {}, AS {}, BGP identifier {}", peer.address(), peer.asn, peer.bgp_id)
                    });
                    self.notices.push(Notice::Odd(oddity, named.unwrap_or_default()));
                }
            }
        }
    }
}

impl Input {
    /// Something was wrong in the message that comes behind those that are counted.
    #[cold]
    fn note(&mut self, trouble: &Trouble) {
        for (kind, _) in (*trouble - self.seen).errors_by_kind() {
            if !self.noticed.contains(&kind) {
                self.noticed.push(kind);
                let (message, at) = (self.totals.frames + 1, self.totals.bytes);
                self.notices.push(Notice::NotUnderstood(NotUnderstood { kind, message, at }));
            }
        }
        self.seen = *trouble;
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

    /// A life is over.
    fn over(&mut self, (life, downs): &Over) {
        for down in whole_frames(downs) {
            self.put(down.bytes(), MessageType::PeerDown, About::Down(Arc::clone(life)));
        }
    }

    /// What is left of a life that is over.
    fn anew(&mut self, life: Arc<Incarnation>) {
        self.runs.without_frames(MessageType::PeerUp, About::Anew(life));
    }

    /// What was not said again of a RIB is withdrawn.
    fn withdraw_stale(&mut self, state: &mut State, slot: u32, number: usize) {
        loop {
            let stale = state.withdraw_stale(slot, number, self.changed + 1);
            let Some((life, rib)) = state.rib(slot, number).filter(|_| !stale.is_empty()) else { return };
            let before = self.frames.len();
            let head = stale.first().map(|route| rib.common(*route).head).unwrap_or_default();
            self.frames.withdrawal_of(rib, head, &stale);
            let about = About::Routes(Arc::clone(life), rib.view, rib.family);
            self.runs.push(self.frames.len() - before, MessageType::RouteMonitoring.code(), about);
            self.changed += 1;
        }
    }

    /// A RIB is complete as far as anybody can tell. When that came about is not known.
    fn end_of_rib(&mut self, state: &mut State, slot: u32, number: usize) {
        let Some(peer) = state.slots.get_mut(slot as usize).and_then(|slot| slot.peer.as_mut()) else { return };
        let Some(rib) = peer.ribs.get_mut(number) else { return };
        let header = rib.header;
        let (before, time, head) = (self.frames.len(), Time::default(), rib.head(&header));
        self.frames.end_of_rib(rib, time, head);
        self.changed += 1;
        rib.end_of_rib = Some(EndOfRib { changed: self.changed, time, head });
        let about = About::Routes(Arc::clone(&peer.life), rib.view, rib.family);
        self.runs.push(self.frames.len() - before, MessageType::RouteMonitoring.code(), about);
    }

    fn push(self, shared: &Shared, state: &mut State) {
        if !self.frames.is_empty() {
            let (bytes, _) = self.frames.finish();
            let block = bytes.len();
            shared.push(state, bytes, block, self.runs.0);
        } else {
            // A frame that tells nobody anything may still leave withdrawals to be kept.
            state.forget();
        }
    }
}

/// Peers whose input went away: see [`Input::hold`].
#[derive(Debug)]
pub struct Held {
    shared: Arc<Shared>,
    connection: ConnectionId,
    peers: usize,
}

impl Held {
    /// Whether there was no peer to be held.
    pub fn is_empty(&self) -> bool {
        self.peers == 0
    }
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
        self.without_frames(MessageType::RouteMonitoring, About::Heard(life));
    }

    fn without_frames(&mut self, message: MessageType, about: About) {
        self.0.push(Run { bytes: 0, frames: 0, code: message.code(), about });
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
            while let Some((over, life)) = state.end_unsaid_table(slot, said.changed + 1) {
                said.over(&over);
                said.anew(life);
            }
        }
        said.push(self, state);
        away
    }

    /// Ends peers that are gone without having said so.
    fn end(&self, state: &mut State, slots: Vec<u32>) {
        let mut said = Said::after(self.journal().head().frames);
        for slot in slots {
            let known = state.slots[slot as usize].peer.as_ref();
            let Some(downs) = known.map(|peer| peer.life.peer_downs()) else { continue };
            if let Some(life) = state.down(slot, downs.clone(), said.changed + count(&downs)) {
                said.over(&(life, downs));
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
