//! What `display` shows of replays.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Pace, Replay};

/// How the replays do; clones show the same replays.
#[derive(Clone, Debug, Default)]
pub struct Replays(Arc<Mutex<BTreeMap<String, Arc<Shown>>>>);

/// One replay at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayStatus {
    /// `mrt-replay NAME`.
    pub name: String,
    /// `file PATH`.
    pub file: PathBuf,
    /// `pace …`.
    pub pace: Pace,
    /// `loop`.
    pub looped: bool,
    /// What it is doing.
    pub state: ReplayState,
    /// How often the file was begun.
    pub rounds: u64,
    /// Bytes of the file, packed as it is, that were read in this round.
    pub bytes_read: u64,
    /// Bytes that the file has; zero before it was opened.
    pub file_bytes: u64,
    /// Records that were read in this round.
    pub records: u64,
    /// Route Monitoring frames that were made of them.
    pub updates: u64,
    /// Records among them of which something was passed over.
    pub errors: u64,
    /// What was wrong with the last of those.
    pub last_error: Option<String>,
}

/// What a replay is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ReplayState {
    /// It reads the file to see which peers there are.
    #[default]
    Surveying,
    /// It replays the file.
    Reading,
    /// It came to the end; its peers are up.
    Done,
    /// It ended, for the reason given, which names the file; its peers are down.
    Failed(String),
}

impl Replays {
    /// The replays that are running, by name.
    pub fn snapshot(&self) -> Vec<ReplayStatus> {
        let replays: Vec<Arc<Shown>> = lock(&self.0).values().cloned().collect();
        replays.iter().map(|replay| replay.status()).collect()
    }

    /// Shows a replay for as long as the handle lives.
    pub(super) fn register(&self, replay: &Replay) -> ReplayHandle {
        let shown = Arc::new(Shown { replay: replay.clone(), progress: Arc::default() });
        lock(&self.0).insert(replay.name.clone(), Arc::clone(&shown));
        ReplayHandle { replays: self.clone(), shown }
    }
}

#[derive(Debug)]
struct Shown {
    replay: Replay,
    progress: Arc<Progress>,
}

impl Shown {
    fn status(&self) -> ReplayStatus {
        let Replay { name, file, pace, looped } = self.replay.clone();
        let now = lock(&self.progress.now).clone();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ReplayStatus {
            name,
            file,
            pace,
            looped,
            state: now.state,
            rounds: now.rounds,
            bytes_read: load(&self.progress.position),
            file_bytes: load(&self.progress.size),
            records: load(&self.progress.records),
            updates: load(&self.progress.updates),
            errors: load(&self.progress.errors),
            last_error: now.last_error,
        }
    }
}

/// How far it has come, as the thread that reads the file sees it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    now: Mutex<Now>,
    pub(super) position: AtomicU64,
    pub(super) size: AtomicU64,
    pub(super) records: AtomicU64,
    pub(super) updates: AtomicU64,
    errors: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct Now {
    state: ReplayState,
    rounds: u64,
    last_error: Option<String>,
}

impl Progress {
    /// The file is opened, to survey or to replay it.
    pub(super) fn begin(&self, state: ReplayState) {
        let mut now = lock(&self.now);
        if state == ReplayState::Surveying {
            now.rounds += 1;
        }
        now.state = state;
        now.last_error = None;
        for counter in [&self.records, &self.updates, &self.errors] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Something was passed over.
    pub(super) fn refused(&self, what: impl FnOnce() -> String) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        lock(&self.now).last_error = Some(what());
    }
}

/// A replay as its task sees it.
#[derive(Debug)]
pub(super) struct ReplayHandle {
    replays: Replays,
    shown: Arc<Shown>,
}

impl ReplayHandle {
    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.shown.progress)
    }

    pub(super) fn set_state(&self, state: ReplayState) {
        lock(&self.shown.progress.now).state = state;
    }
}

impl Drop for ReplayHandle {
    fn drop(&mut self) {
        let mut replays = lock(&self.replays.0);
        if replays.get(&self.shown.replay.name).is_some_and(|shown| Arc::ptr_eq(shown, &self.shown)) {
            replays.remove(&self.shown.replay.name);
        }
    }
}

/// These hold values for display: a holder that panicked left one that is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
