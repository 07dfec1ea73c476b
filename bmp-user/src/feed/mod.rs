//! All that the device knows and has to tell: its peers, their RIBs, and the journal of BMP frames that every session follows.
//!
//! An input appends whole frames through its [`Input`]. They go into a bounded journal once, whatever the number of sessions, and what they say
//! is kept beside it: the routes of every RIB with when they last changed. A session takes [`Piece`]s with its [`Follower`], at its own pace.
//! Whoever is at the journal follows it, without copies. Whoever is not (a station that is new, one that was too slow for the journal, one
//! that is to be told something else from now on) is told the state instead: what changed after its cursor, withdrawals included. Neither makes an
//! input wait, or memory grow: withdrawals that a slow station still needs are kept within a budget, and past that the peers
//! concerned are taken down and brought up again for it.
//!
//! Two locks, taken for a batch of frames and not for a frame: one for the state, and within it one for the journal. Who follows needs
//! the second only.

mod attributes;
mod belongings;
mod blocks;
mod compose;
mod counts;
mod follower;
mod index;
mod input;
mod input_id;
mod journal;
mod lives;
mod nlri;
mod oddity;
mod owners;
mod pass;
mod peers;
mod rib;
mod selection;
mod shown;
mod state;
#[cfg(test)]
mod tests;
mod trouble;
mod update;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

pub use counts::Counts;
pub use follower::{Follower, Piece};
pub use input::{Held, Input, InputTotals, NotUnderstood, Notice};
pub use input_id::InputId;
pub use oddity::{Oddities, Oddity};
pub use owners::{Claim, Refusal};
pub use peers::ConnectionId;
pub use selection::{Mirroring, Monitor, Peers, Selection, route_distinguisher};
pub use shown::{HiddenPeer, PeerRibs, RibRoutes};
pub use trouble::{Trouble, TroubleKind};

use journal::{Journal, Position};
use shown::Holdings;
use state::State;

/// How much memory the journal may take if nothing else is said, in bytes.
pub const DEFAULT_JOURNAL_BYTES: usize = 64 * 1024 * 1024;
/// How much memory withdrawals may take that stations still need, if nothing else is said, in bytes.
pub const DEFAULT_WITHDRAWAL_BYTES: usize = 16 * 1024 * 1024;

/// The feed; clones are the same feed.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Locked before the journal, where both are.
    state: Mutex<State>,
    /// Changes only while `state` is locked as well.
    journal: Mutex<Journal>,
    /// The journal's head, for those who wait for it to move.
    head: watch::Sender<Position>,
}

/// The feed in numbers. Peers are counted some at a time, so that nobody waits for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedStats {
    /// Peers in force.
    pub peers: usize,
    /// RIBs of them, and of peers that were never announced.
    pub ribs: usize,
    /// Routes in them.
    pub routes: usize,
    /// Distinct attribute sets of the routes.
    pub attribute_sets: usize,
    /// Withdrawals that are kept because a station may need them.
    pub withdrawals: usize,
    /// Sequence number of the next frame.
    pub head: u64,
    /// Bytes that were ever appended.
    pub head_bytes: u64,
    /// Sequence number of the oldest frame in the journal; `head` if it is empty.
    pub tail: u64,
    /// Memory that the journal takes, in bytes: what its chunks keep alive, and what it keeps about them.
    pub journal_bytes: usize,
    /// What `journal_bytes` may be. One chunk always fits, however large.
    pub journal_limit: usize,
    /// Memory that routes take, in bytes.
    pub route_bytes: usize,
    /// Memory that what routes have in common takes, in bytes.
    pub group_bytes: usize,
    /// Memory that attribute sets take, in bytes.
    pub attribute_bytes: usize,
    /// Memory that withdrawals take, in bytes: a part of `route_bytes`.
    pub withdrawal_bytes: usize,
    /// Frames that were ever appended, by type.
    pub frames: Counts,
    /// What could not be taken for what it should be.
    pub trouble: Trouble,
}

/// How many peers are looked at before others have their turn.
const PEERS_AT_ONCE: usize = 64;

impl Feed {
    /// A feed whose journal takes at most `journal_bytes` of memory, and withdrawals that stations still need at most `withdrawal_bytes`.
    pub fn new(journal_bytes: usize, withdrawal_bytes: usize) -> Self {
        let (head, _) = watch::channel(Position::default());
        let (state, journal) = (State::new(withdrawal_bytes), Journal::new(journal_bytes));
        Self(Arc::new(Shared { state: Mutex::new(state), journal: Mutex::new(journal), head }))
    }

    /// A new connection of an input. What is dropped is gone: the stations are told Peer Down for every peer it owns.
    pub fn input(&self, id: InputId) -> Input {
        Input::new(Arc::clone(&self.0), id)
    }

    /// A new follower, whose station knows nothing.
    pub fn attach(&self, selection: Selection) -> Follower {
        Follower::attach(Arc::clone(&self.0), selection)
    }

    /// The RIBs of the peers of an input, and how many routes are in each.
    pub fn ribs(&self, input: &InputId) -> Vec<RibRoutes> {
        let of_input = self.peers().into_iter().filter(|peer| peer.input() == input);
        of_input.flat_map(|peer| peer.ribs().to_vec()).collect()
    }

    /// The peers that are up, and those that have routes without having been announced, in the order in which they came.
    pub fn peers(&self) -> Vec<PeerRibs> {
        let mut peers = Vec::new();
        let mut from = 0;
        // In small steps: who passes routes on waits for none of them.
        while let Some(next) = self.0.state().shown(from, PEERS_AT_ONCE, &mut peers) {
            from = next;
        }
        peers.sort_unstable_by_key(PeerRibs::number);
        peers
    }

    /// Sequence number of the next frame, and the bytes that were ever appended.
    pub fn head(&self) -> (u64, u64) {
        let head = *self.0.head.borrow();
        (head.frames, head.bytes)
    }

    /// The peers that a connection may not speak of, because another one of its input owns them.
    pub fn refusals(&self, connection: ConnectionId) -> Vec<Refusal> {
        self.0.state().refusals(connection)
    }

    /// The feed in numbers.
    pub fn stats(&self) -> FeedStats {
        let mut held = Holdings::default();
        let mut from = 0;
        while let Some(next) = self.0.state().count(from, PEERS_AT_ONCE, &mut held) {
            from = next;
        }
        let state = self.0.state();
        let journal = self.0.journal();
        let (withdrawals, withdrawal_bytes) = state.withdrawals();
        let Holdings { peers, ribs, routes, route_bytes, group_bytes } = held;
        FeedStats {
            peers,
            ribs,
            routes,
            attribute_sets: state.attributes.len(),
            withdrawals,
            head: journal.head().frames,
            head_bytes: journal.head().bytes,
            tail: journal.tail(),
            journal_bytes: journal.charged(),
            journal_limit: journal.limit(),
            route_bytes,
            group_bytes,
            attribute_bytes: state.attributes.memory(),
            withdrawal_bytes,
            frames: state.received,
            trouble: state.trouble,
        }
    }
}

/// A feed with the limits that are so if nothing else is said.
impl Default for Feed {
    fn default() -> Self {
        Self::new(DEFAULT_JOURNAL_BYTES, DEFAULT_WITHDRAWAL_BYTES)
    }
}

impl Shared {
    /// A holder that panicked is no reason for all others to: each change is complete before the next can fail.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
