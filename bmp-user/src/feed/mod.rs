//! All that the device knows and has to tell: its peers, and the journal of BMP frames that every session follows.
//!
//! An input appends whole frames through its [`Input`]; they go into a bounded journal once, whatever the number of sessions. A
//! session [attaches](Feed::attach), is given the Peer Ups in force, and then takes [`Chunk`]s from the journal with its
//! [`Follower`], at its own pace and without copies. One that is too slow is told that it is [`Lost`] and
//! [rejoins](Follower::rejoin); it never makes an input wait, and never makes the journal grow.
//!
//! Everything is under one lock, which is taken once for a batch of frames, not for a frame.

mod counts;
mod follower;
mod input;
mod journal;
mod peers;
mod scan;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

pub use counts::Counts;
pub use follower::{Attachment, Follower, Lost, Rejoined};
pub use input::{Input, InputTotals};
pub use journal::Chunk;

use journal::{Journal, Position};
use peers::Peers;

/// How much memory the journal may take if nothing else is said, in bytes.
pub const DEFAULT_JOURNAL_BYTES: usize = 64 * 1024 * 1024;

/// The feed; clones are the same feed.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The journal's head, for those who wait for it to move. Sent while `state` is locked, so that it never goes back.
    head: watch::Sender<Position>,
}

#[derive(Debug)]
struct State {
    journal: Journal,
    peers: Peers,
    received: Counts,
    unannounced: u64,
}

/// The feed in numbers, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedStats {
    /// Peers in force.
    pub peers: usize,
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
    /// Frames that were ever appended, by type.
    pub frames: Counts,
    /// Route Monitoring frames among them whose peer their connection had not announced.
    pub unannounced: u64,
}

impl Feed {
    /// A feed whose journal takes at most `journal_bytes` of memory.
    pub fn new(journal_bytes: usize) -> Self {
        let (head, _) = watch::channel(Position::default());
        let state = State {
            journal: Journal::new(journal_bytes),
            peers: Peers::default(),
            received: Counts::default(),
            unannounced: 0,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), head }))
    }

    /// A new connection of the input `name`. What is dropped is gone: the stations are told Peer Down for every peer it owns.
    pub fn input(&self, name: &str) -> Input {
        Input::new(Arc::clone(&self.0), name)
    }

    /// A new follower at the journal's head, and what a station has to be told before it follows. No append comes between.
    pub fn attach(&self) -> Attachment {
        Follower::attach(Arc::clone(&self.0))
    }

    /// The feed in numbers.
    pub fn stats(&self) -> FeedStats {
        let state = self.0.lock();
        FeedStats {
            peers: state.peers.len(),
            head: state.journal.head().frames,
            head_bytes: state.journal.head().bytes,
            tail: state.journal.tail(),
            journal_bytes: state.journal.charged(),
            journal_limit: state.journal.limit(),
            frames: state.received,
            unannounced: state.unannounced,
        }
    }
}

/// A feed with a journal of [`DEFAULT_JOURNAL_BYTES`].
impl Default for Feed {
    fn default() -> Self {
        Self::new(DEFAULT_JOURNAL_BYTES)
    }
}

impl Shared {
    /// A holder that panicked is no reason for all others to: each change is complete before the next can fail.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
