//! What `display` shows of replays.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    Pace, Replay,
    passed_over::{Count, Kind, PassedOver},
    place::Place,
};
use crate::feed::{Trouble, TroubleKind};

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
    /// Bytes of the file, packed as it is, that had to be read for what was replayed in this round, or were surveyed.
    pub bytes_read: u64,
    /// Bytes that the file has; zero before it was opened.
    pub file_bytes: u64,
    /// Records that were replayed in this round.
    pub records: u64,
    /// Records that the file has; zero before it was surveyed.
    pub file_records: u64,
    /// Route Monitoring frames that were made of them.
    pub updates: u64,
    /// What was passed over of them, by kind: how many records, and where the first is.
    pub passed_over: Vec<(Kind, Count)>,
    /// UPDATEs that stations were told of as they came, in which something is wrong, by kind.
    pub not_understood: Vec<Misread>,
    /// What was wrong: records among those that were passed over, and UPDATEs that were not
    /// understood.
    pub errors: u64,
    /// What was wrong with the last of those records, or with the last kind of those UPDATEs.
    pub last_error: Option<String>,
}

/// UPDATEs in which something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misread {
    /// What is wrong.
    pub kind: TroubleKind,
    /// How many.
    pub updates: u64,
    /// The record of the first of them.
    pub first: Option<Place>,
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

    /// One replay; `None` where none of that name runs.
    pub fn status(&self, name: &str) -> Option<ReplayStatus> {
        let replay = lock(&self.0).get(name).cloned()?;
        Some(replay.status())
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
        let Reached { position, records, updates, passed_over, last_error } = now.reached;
        let misread = |(kind, updates)| Misread { kind, updates, first: now.misread.get(&kind).copied() };
        let not_understood: Vec<_> = now.trouble.errors_by_kind().map(misread).collect();
        let last_misread = now.misread.iter().max_by_key(|(_, place)| **place);
        let last_misread = last_misread.map(|(kind, place)| (*place, Arc::from(format!("an UPDATE: {kind}"))));
        let last_error = last_error.into_iter().chain(last_misread).max_by_key(|(place, _)| *place);
        let surveyed = || self.progress.surveyed.load(Ordering::Relaxed);
        ReplayStatus {
            name,
            file,
            pace,
            looped,
            bytes_read: if now.state == ReplayState::Surveying { surveyed() } else { position },
            file_bytes: self.progress.size.load(Ordering::Relaxed),
            state: now.state,
            rounds: now.rounds,
            records,
            file_records: now.file_records,
            updates,
            passed_over: passed_over.iter().collect(),
            errors: passed_over.errors() + not_understood.iter().map(|misread| misread.updates).sum::<u64>(),
            not_understood,
            last_error: last_error.map(|(place, error)| format!("{place}: {error}")),
        }
    }
}

/// How far it has come. What the thread that reads the file has read ahead is none of that.
#[derive(Debug, Default)]
pub(super) struct Progress {
    now: Mutex<Now>,
    /// Bytes that were read to see which peers there are.
    pub(super) surveyed: AtomicU64,
    pub(super) size: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct Now {
    state: ReplayState,
    rounds: u64,
    file_records: u64,
    reached: Reached,
    /// What the feed did not understand, and where the first of each kind is.
    trouble: Trouble,
    misread: BTreeMap<TroubleKind, Place>,
}

/// What of a file has been replayed in a round.
#[derive(Clone, Debug, Default)]
pub(super) struct Reached {
    /// Bytes of the file, packed as it is.
    pub(super) position: u64,
    pub(super) records: u64,
    /// Route Monitoring frames.
    pub(super) updates: u64,
    pub(super) passed_over: Arc<PassedOver>,
    pub(super) last_error: Option<(Place, Arc<str>)>,
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

    /// A round begins.
    pub(super) fn begin(&self) {
        let mut now = lock(&self.shown.progress.now);
        *now = Now { rounds: now.rounds + 1, file_records: now.file_records, ..Now::default() };
    }

    /// The file was surveyed, and is replayed: it has so many records.
    pub(super) fn surveyed(&self, records: u64) {
        let mut now = lock(&self.shown.progress.now);
        (now.state, now.file_records) = (ReplayState::Reading, records);
    }

    /// So much of the file has been replayed. Of the UPDATEs since the beginning of this round the
    /// feed has not understood so many.
    pub(super) fn reach(&self, reached: Reached, trouble: Trouble) {
        let mut now = lock(&self.shown.progress.now);
        (now.reached, now.trouble) = (reached, trouble);
    }

    /// The first UPDATE of this round in which something is wrong in this way.
    pub(super) fn misread(&self, kind: TroubleKind, place: Place) {
        lock(&self.shown.progress.now).misread.entry(kind).or_insert(place);
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
