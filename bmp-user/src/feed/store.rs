//! The locks of the feed, and the only place where frames go into the journal.
//!
//! Both locks are taken for a batch of frames and not for a frame: one for the state, and within it
//! one for the journal. A follower of the journal needs the second lock only.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    batch::{FinishedJournalBatch, JournalBatch},
    journal::{FrameRun, Journal, JournalPosition},
    route_filter::SharedFilters,
    routers::RouterTable,
    state::FeedState,
};

/// The state and the journal of a feed.
#[derive(Debug)]
pub(super) struct FeedStore {
    /// Locked before the journal, where a caller locks both.
    state: Mutex<FeedState>,
    /// Changes only while `state` is locked as well.
    journal: Mutex<Journal>,
    /// The head of the journal, for those who wait for it to move.
    head: watch::Sender<JournalPosition>,
    /// The limit of the journal's memory, in bytes.
    journal_bytes: usize,
    /// The filters of all sessions.
    pub(super) filters: SharedFilters,
    /// The routers behind divided relays.
    pub(super) routers: RouterTable,
}

impl FeedStore {
    /// See [`super::Feed::new`].
    pub(super) fn new(journal_bytes: usize, withdrawal_bytes: usize) -> Self {
        let (head, _) = watch::channel(JournalPosition::default());
        let (state, journal) = (FeedState::new(withdrawal_bytes), Journal::new(journal_bytes));
        Self {
            state: Mutex::new(state),
            journal: Mutex::new(journal),
            head,
            journal_bytes,
            filters: SharedFilters::default(),
            routers: RouterTable::default(),
        }
    }

    /// Locks the state.
    ///
    /// A holder that panicked does not matter to the others: each change is complete before the
    /// next can fail.
    pub(super) fn lock(&self) -> LockedFeed<'_> {
        LockedFeed { store: self, state: self.state.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Locks the journal. Its holder must not lock the state.
    pub(super) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The head of the journal.
    pub(super) fn head(&self) -> JournalPosition {
        *self.head.borrow()
    }

    /// Follows the head of the journal.
    pub(super) fn watch_head(&self) -> watch::Receiver<JournalPosition> {
        self.head.subscribe()
    }
}

/// The locked state. Its holder may append to the journal.
#[derive(Debug)]
pub(super) struct LockedFeed<'a> {
    store: &'a FeedStore,
    state: MutexGuard<'a, FeedState>,
}

impl Deref for LockedFeed<'_> {
    type Target = FeedState;

    fn deref(&self) -> &FeedState {
        &self.state
    }
}

impl DerefMut for LockedFeed<'_> {
    fn deref_mut(&mut self) -> &mut FeedState {
        &mut self.state
    }
}

impl LockedFeed<'_> {
    /// The head of the journal. Does not move while the state is locked.
    pub(super) fn head(&self) -> JournalPosition {
        self.store.journal().head()
    }

    /// An empty batch of the frames that come next.
    pub(super) fn batch(&self) -> JournalBatch {
        JournalBatch::after(self.head().frames)
    }

    /// Appends frames to the journal and wakes the followers. `memory` is how many bytes of memory
    /// `bytes` keeps alive.
    pub(super) fn append(&mut self, bytes: Bytes, memory: usize, runs: Vec<FrameRun>) {
        for run in &runs {
            self.state.appended.record(run.code, run.frames.into());
        }
        let mut journal = self.store.journal();
        journal.push(bytes, memory, runs);
        // Sent while the journal is locked, so that the head never goes back.
        self.store.head.send_replace(journal.head());
        drop(journal);
        self.state.forget();
    }

    /// The memory that the feed takes, in bytes. Of the journal, all that it may take counts: it
    /// fills up whatever inputs do.
    pub(super) fn memory(&self) -> usize {
        self.state.memory_without_journal() + self.store.journal_bytes
    }

    /// Looks how near the limit of memory is: see [`super::memory_guard`].
    pub(super) fn hold_to_limit(&mut self) {
        if self.state.limit.standing().limit.is_none() {
            return;
        }
        let used = self.memory();
        let FeedState { limit, peers, .. } = &mut *self.state;
        limit.look(used, peers);
    }

    /// Appends the frames of a batch.
    pub(super) fn append_batch(&mut self, batch: JournalBatch) {
        match batch.finish() {
            Some(FinishedJournalBatch { bytes, runs }) => {
                let memory = bytes.len();
                self.append(bytes, memory, runs);
            }
            // A frame that no station is told may still leave withdrawals to be kept.
            None => self.state.forget(),
        }
    }
}
