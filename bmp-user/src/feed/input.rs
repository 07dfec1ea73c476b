//! One connection of an input: where frames come in.

use std::{fmt, mem, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    HeldPeers, InputId, KnownRouter, MemoryExcess, RouterConnection, RouterId, Trouble, TroubleKind,
    applied::{AppliedFrame, DropReason},
    batch::FrameRuns,
    hold::{end_connection, end_peers},
    incarnation::ConnectionId,
    inputs::Claim,
    oddity::{Oddities, Oddity},
    peers::ConnectionHoldings,
    routers::RouterRegistration,
    state::FeedState,
    store::{FeedStore, LockedFeed},
};
use crate::wire::bmp::{BmpChunk, Error, Frame, PeerHeader, check, whole_frames};

/// One connection of one input.
///
/// Dropping it means that the input went away: the stations are told a Peer Down for every peer
/// that it owns.
#[derive(Debug)]
pub struct Input {
    store: Arc<FeedStore>,
    connection: ConnectionId,
    totals: InputTotals,
    notices: Vec<InputNotice>,
    /// The kinds of errors that there was a notice about.
    noticed: Vec<TroubleKind>,
    /// The trouble of all inputs when this input looked at it last.
    seen: Trouble,
    growth: RouteGrowth,
    orders: watch::Receiver<Option<MemoryExcess>>,
    /// Set if the connection is of a divided relay.
    router: Option<InputRouter>,
}

/// The router that a connection of a divided relay belongs to.
#[derive(Debug)]
struct InputRouter {
    id: Arc<RouterId>,
    connection: RouterConnection,
    /// Set after the first Initiation.
    registration: Option<RouterRegistration>,
}

/// What may have given a connection more routes since they were counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteGrowth {
    /// Bytes of frames. Each new route takes one at least.
    pub bytes: u64,
    /// Peers that were held may have returned, with all their routes.
    pub peers_returned: bool,
}

/// What came in through one [`Input`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputTotals {
    /// Frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Route Monitoring frames about peers that were not announced, or not by this connection.
    pub unannounced: u64,
    /// Frames that are not as they should be, by kind. [`Trouble::errors_by_kind`] says which kinds
    /// are errors of the input.
    pub trouble: Trouble,
    /// Messages that were dropped because another connection owns their peers.
    pub refused: u64,
    /// Messages that were left out because no station could read them.
    pub odd: Oddities,
}

impl InputTotals {
    /// Adds the totals of another connection.
    pub fn add(&mut self, more: &Self) {
        let Self { frames, bytes, unannounced, trouble, refused, odd } = *more;
        self.frames += frames;
        self.bytes += bytes;
        self.unannounced += unannounced;
        self.trouble.add(trouble);
        self.refused += refused;
        self.odd.add(odd);
    }
}

/// What an operator has to know about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputNotice {
    /// The first message that was left out for this reason, and what is wrong with it.
    Odd(Oddity, String),
    /// The first message that was dropped about a peer of another connection, and that connection.
    Refused(PeerHeader, ConnectionId),
    /// The first UPDATE with this kind of error. It was passed on as it came.
    UpdateError(UpdateError),
}

/// An UPDATE with an error, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateError {
    /// The kind of error.
    pub kind: TroubleKind,
    /// The number of the message in the connection, from 1 on.
    pub message: u64,
    /// How many bytes of the connection come before it: [`InputTotals::bytes`].
    pub at: u64,
}

/// As in a log line.
impl fmt::Display for InputNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Odd(oddity, error) => write!(f, "{} ({error})", oddity.meaning()),
            Self::Refused(peer, _) => write!(f, "another connection has peer {}", peer.address()),
            Self::UpdateError(UpdateError { kind, message, .. }) => write!(f, "message {message}: {kind}"),
        }
    }
}

impl Input {
    pub(super) fn new(store: Arc<FeedStore>, id: InputId) -> Self {
        let mut feed = store.lock();
        let connection = feed.inputs.connect(id);
        let orders = feed.limit.open(connection);
        drop(feed);
        let (totals, seen) = (InputTotals::default(), Trouble::default());
        let growth = RouteGrowth::default();
        let (notices, noticed) = (Vec::new(), Vec::new());
        Self { store, connection, totals, notices, noticed, seen, growth, orders, router: None }
    }

    /// Makes the connection one of its own router, and not of the whole relay `relay`. No peer of
    /// one router looks like that of another then, and sessions may tell the router by itself.
    ///
    /// For a connection that has sent nothing yet. What tells the router from others is where it
    /// connects from and, from [`Input::introduce`] on, its sysName.
    pub fn divide(&mut self, relay: &str, connection: RouterConnection) {
        let address = connection.remote.ip().to_canonical();
        let id = Arc::new(RouterId { relay: relay.into(), address, sys_name: None });
        self.rename(&id);
        self.router = Some(InputRouter { id, connection, registration: None });
    }

    /// The first Initiation of a router: sessions know it from now on. Others change nothing, and
    /// neither does one on a connection that is not divided.
    pub fn introduce(&mut self, sys_name: Option<&str>, sys_descr: Option<&str>) {
        let Some(InputRouter { id, connection, registration: None }) = &self.router else { return };
        let connection = *connection;
        // A router that has spoken about peers before stays what it was then.
        let is_new = self.store.lock().peers.count_of(self.connection) == 0;
        let id = match sys_name.filter(|_| is_new) {
            Some(name) => Arc::new(RouterId { sys_name: Some(name.into()), ..RouterId::clone(id) }),
            None => Arc::clone(id),
        };
        self.rename(&id);
        let known = KnownRouter { id: Arc::clone(&id), connection, sys_descr: sys_descr.map(str::to_owned) };
        let registration = Some(self.store.routers.register(known));
        self.router = Some(InputRouter { id, connection, registration });
    }

    fn rename(&self, id: &Arc<RouterId>) {
        let mut feed = self.store.lock();
        let FeedState { inputs, peers, .. } = &mut *feed;
        inputs.rename(peers, self.connection, InputId::Router(Arc::clone(id)));
    }

    /// Follows whether the connection has to close, because the feed takes too much memory and the
    /// peers of this connection have grown most.
    ///
    /// The reader of the connection then takes its peers down and calls [`Input::has_closed`], or
    /// drops the input. Until it does so, no other connection is told to close.
    pub fn orders_to_close(&self) -> watch::Receiver<Option<MemoryExcess>> {
        self.orders.clone()
    }

    /// The peers of the connection are down, as the feed wanted.
    pub fn has_closed(&mut self) {
        let mut feed = self.store.lock();
        feed.limit.has_closed(self.connection);
        feed.hold_to_limit();
    }

    /// What may have given the connection more routes since [`Input::count_routes`].
    pub fn growth(&self) -> RouteGrowth {
        self.growth
    }

    /// Counts the routes of the connection. Takes the lock for as long as it has peers.
    pub fn count_routes(&mut self) -> ConnectionHoldings {
        self.growth = RouteGrowth::default();
        self.store.lock().peers.holdings_of(self.connection)
    }

    /// Says that the OPENs in the Peer Ups of this input are true: bmpd has spoken with the peers
    /// itself, so their NLRI are written as the OPENs say.
    pub fn trust_opens(&mut self) {
        self.store.lock().inputs.trust_opens(self.connection);
    }

    /// Limits how many peers the connection may have at one time. Messages about further peers are
    /// left out and counted.
    pub fn limit_peers(&mut self, most: usize) {
        self.store.lock().inputs.limit_peers(self.connection, most);
    }

    /// The number of the connection.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Appends frames, byte for byte, for an input that has one connection at a time: if the input
    /// claims a peer, its connection before is over.
    pub fn append(&mut self, mut chunk: BmpChunk) {
        while let Some(claim) = self.offer(&chunk) {
            let mut feed = self.store.lock();
            let over = feed.claimed_peers(self.connection, &claim);
            end_peers(&mut feed, over);
            chunk = chunk.starting_at(claim.at);
        }
    }

    /// Keeps a newer Statistics Report of one of its peers, for the stations that ask for reports
    /// at times of their own (`Follower::report_statistics`). The other stations are not told it.
    pub fn keep_statistics(&mut self, report: &[u8]) {
        let mut feed = self.store.lock();
        let head = feed.head().frames;
        if let Some(frame) = whole_frames(report).next() {
            feed.keep_statistics(self.connection, &frame, head);
        }
    }

    /// Appends frames, byte for byte, up to the first that claims a peer of another connection.
    ///
    /// The caller decides the claim. If the owner is gone, the caller drops or holds its [`Input`].
    /// If the owner is alive, the caller calls [`Input::refuse`]. In both cases it then offers the
    /// rest of the chunk, from [`Claim::at`] on.
    ///
    /// Leaves out and counts frames that no station could read, and frames about peers of others.
    /// See [`Input::take_notices`].
    ///
    /// The journal keeps the bytes of the chunk if they are at least half of the memory that they
    /// keep alive, and counts that memory. Otherwise it keeps an exact copy.
    pub fn offer(&mut self, chunk: &BmpChunk) -> Option<Claim> {
        if chunk.is_empty() {
            return None;
        }
        let store = Arc::clone(&self.store);
        let mut feed = store.lock();
        let before = feed.tables.trouble;
        self.seen = before;
        // A Peer Up or a Peer Down may need Peer Downs before it.
        self.growth.bytes += chunk.bytes().len() as u64;
        self.growth.peers_returned |= chunk.has_peer_changes() && feed.peers.holds_any();
        let may_differ = chunk.has_damage() || chunk.has_peer_changes() || feed.peers.holds_any();
        let shared = if may_differ { SharedFrames::default() } else { self.append_shared(&mut feed, chunk) };
        let claim = shared.claim.or_else(|| self.append_news(&mut feed, chunk, shared.applied));
        self.totals.trouble.add(feed.tables.trouble - before);
        self.totals.unannounced = self.totals.trouble.unannounced;
        feed.hold_to_limit();
        claim
    }

    /// Refuses a claim, because the owner of the peer is alive. What this connection says about any
    /// peer of that owner is dropped and counted from now on.
    pub fn refuse(&mut self, claim: &Claim) {
        self.store.lock().inputs.refuse(self.connection, claim.owner);
    }

    /// Counts a message about the BMP session itself that cannot be read.
    pub fn leave_out(&mut self, oddity: Oddity, error: &Error) {
        if self.totals.odd.record(oddity) {
            self.notices.push(InputNotice::Odd(oddity, error.to_string()));
        }
    }

    /// Returns what an operator has to know and was not told before: each kind of oddity and of
    /// error once, and each refused peer.
    pub fn take_notices(&mut self) -> Vec<InputNotice> {
        mem::take(&mut self.notices)
    }

    /// Has the next error of each kind give a notice again.
    pub fn notice_again(&mut self) {
        self.noticed.clear();
    }

    /// What was appended so far.
    pub fn totals(&self) -> InputTotals {
        self.totals
    }

    /// How many frames all inputs have appended. Counts frames that said nothing new too.
    pub fn applied(&self) -> u64 {
        self.store.lock().applied
    }

    /// Adds End-of-RIB (RFC 4724 §2) for a router that does not send it. Returns for how many RIBs.
    ///
    /// Does so for every RIB of an announced peer that had no End-of-RIB in this life of the peer,
    /// and for which no frame came since [`Input::applied`] was `since`.
    pub fn end_quiet_ribs(&mut self, since: u64) -> usize {
        let mut feed = self.store.lock();
        let quiet = feed.peers.quiet_ribs(self.connection, since);
        let mut batch = feed.batch();
        for place in &quiet {
            batch.end_of_rib(&mut feed, *place);
        }
        feed.append_batch(batch);
        quiet.len()
    }

    /// Holds the peers, because the input went away and may return soon. They stay up, with their
    /// routes, until the returned value is dropped.
    ///
    /// A peer returns if another connection of the input sends the same Peer Up by then, except for
    /// its time. Of what it repeats, only differences are passed on. What it does not repeat is
    /// withdrawn at its End-of-RIB, or at the end of the hold. Every other peer is taken down then.
    /// A peer of which the feed does not keep all routes ends at once.
    pub fn hold(mut self) -> HeldPeers {
        let connection = mem::take(&mut self.connection);
        HeldPeers::hold(Arc::clone(&self.store), connection, self.orders.clone())
    }

    /// Appends frames as they are, shared with the journal, up to the first that does not pass.
    fn append_shared(&mut self, feed: &mut LockedFeed<'_>, chunk: &BmpChunk) -> SharedFrames {
        let head = feed.head().frames;
        let (mut runs, mut passed) = (FrameRuns::default(), 0);
        let mut shared = SharedFrames::default();
        for (changed, frame) in (head + 1..).zip(chunk.frames()) {
            let mut applied = match feed.apply(self.connection, &frame, changed) {
                Ok(applied) => applied,
                Err(claim) => {
                    shared.claim = Some(Claim { at: shared.applied, ..claim });
                    break;
                }
            };
            runs.begin_unannounced(&mut applied);
            shared.applied += frame.bytes().len();
            self.count(&frame, &applied, &feed.tables.trouble);
            if applied.dropped.is_some() {
                break;
            }
            passed = shared.applied;
            runs.push(frame.bytes().len(), frame.code(), applied.subject);
        }
        if passed > 0 {
            let memory = chunk.memory();
            let (bytes, memory) = match chunk.bytes().slice(..passed) {
                few if passed < memory / 2 => (Bytes::copy_from_slice(&few), passed),
                many => (many, memory.max(passed)),
            };
            feed.append(bytes, memory, runs.into_vec());
        }
        shared
    }

    /// Appends the frames behind `applied` bytes that are news, and what stations have to be told
    /// between them. All frames are news unless peers repeat what they said before their input went
    /// away.
    fn append_news(&mut self, feed: &mut LockedFeed<'_>, chunk: &BmpChunk, applied: usize) -> Option<Claim> {
        let mut batch = feed.batch();
        let (mut at, mut claim) = (applied, None);
        for frame in whole_frames(chunk.bytes().get(applied..)?) {
            if chunk.has_damage()
                && let Err(error) = check(&frame)
            {
                at += frame.bytes().len();
                self.totals.frames += 1;
                self.totals.bytes += frame.bytes().len() as u64;
                self.leave_out(Oddity::of(&frame, &error), &error);
                continue;
            }
            for place in feed.unreadable_ribs(self.connection, &frame) {
                batch.withdraw_stale(feed, place);
            }
            let mut applied = match feed.apply(self.connection, &frame, batch.changed() + 1) {
                Ok(applied) => applied,
                Err(found) => {
                    claim = Some(Claim { at, ..found });
                    break;
                }
            };
            batch.begin_unannounced(&mut applied);
            at += frame.bytes().len();
            self.count(&frame, &applied, &feed.tables.trouble);
            if let Some(place) = applied.repeated {
                batch.withdraw_stale(feed, place);
            }
            batch.push_applied(&frame, applied);
        }
        feed.append_batch(batch);
        claim
    }

    #[inline]
    fn count(&mut self, frame: &Frame<'_>, applied: &AppliedFrame, trouble: &Trouble) {
        if *trouble != self.seen {
            self.note_errors(trouble);
        }
        self.totals.frames += 1;
        self.totals.bytes += frame.bytes().len() as u64;
        match applied.dropped {
            None | Some(DropReason::Unannounced) => {}
            Some(DropReason::Refused(first)) => {
                self.totals.refused += 1;
                let owner_and_peer = first.zip(PeerHeader::of(frame));
                self.notices.extend(owner_and_peer.map(|(owner, peer)| InputNotice::Refused(peer, owner)));
            }
            Some(DropReason::Odd(oddity)) => {
                if self.totals.odd.record(oddity) {
                    let named = PeerHeader::of(frame).map(|peer| {
                        format!("peer {}, AS {}, BGP identifier {}", peer.address(), peer.asn, peer.bgp_id)
                    });
                    self.notices.push(InputNotice::Odd(oddity, named.unwrap_or_default()));
                }
            }
        }
    }

    /// Notes the errors in the message that follows the counted ones.
    #[cold]
    fn note_errors(&mut self, trouble: &Trouble) {
        for (kind, _) in (*trouble - self.seen).errors_by_kind() {
            if !self.noticed.contains(&kind) {
                self.noticed.push(kind);
                let (message, at) = (self.totals.frames + 1, self.totals.bytes);
                self.notices.push(InputNotice::UpdateError(UpdateError { kind, message, at }));
            }
        }
        self.seen = *trouble;
    }
}

/// What [`Input::append_shared`] did.
#[derive(Clone, Copy, Debug, Default)]
struct SharedFrames {
    /// Bytes of the frames that were applied.
    applied: usize,
    claim: Option<Claim>,
}

impl Drop for Input {
    fn drop(&mut self) {
        if self.connection == 0 {
            // Its peers are held.
            return;
        }
        end_connection(&mut self.store.lock(), self.connection);
    }
}
