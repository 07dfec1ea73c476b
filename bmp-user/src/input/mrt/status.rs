//! The status of replays for `display`.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    job::ReplayJob,
    passed_over::{PassedOverCount, PassedOverCounts, PassedOverKind},
    place::RecordPlace,
};
use crate::{
    config::ReplayPace,
    feed::{Trouble, TroubleKind},
};

/// The running replays. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Replays(Arc<Mutex<BTreeMap<String, Arc<ReplayEntry>>>>);

/// The status of one replay at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayStatus {
    /// `mrt-replay NAME`.
    pub name: String,
    /// `file PATH`.
    pub file: PathBuf,
    /// `pace …`.
    pub pace: ReplayPace,
    /// `loop`.
    pub looped: bool,
    /// The phase of the replay.
    pub state: ReplayState,
    /// How often the file has been started.
    pub rounds: u64,
    /// Packed bytes of the file behind the records replayed in this round, or surveyed so far.
    pub bytes_read: u64,
    /// The packed size of the file in bytes. `None` until the file is open.
    pub file_bytes: Option<u64>,
    /// Records replayed in this round.
    pub records: u64,
    /// Records in the file. `None` until the survey is complete.
    pub file_records: Option<u64>,
    /// Route Monitoring frames built from those records.
    pub updates: u64,
    /// Records that were passed over, by kind.
    pub passed_over: Vec<(PassedOverKind, PassedOverCount)>,
    /// UPDATEs that were passed on unchanged although bmpd found an error in them, by kind.
    pub not_understood: Vec<Misread>,
    /// Errors: faulty records that were passed over, and UPDATEs with an error.
    pub errors: u64,
    /// The last faulty record, or the last new kind of error in an UPDATE.
    pub last_error: Option<String>,
}

/// UPDATEs with the same kind of error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misread {
    /// The kind of error.
    pub kind: TroubleKind,
    /// The number of UPDATEs.
    pub updates: u64,
    /// The record of the first of these UPDATEs.
    pub first: Option<RecordPlace>,
}

/// The phase of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ReplayState {
    /// It reads the file to find the peers.
    #[default]
    Surveying,
    /// It replays the file.
    Reading,
    /// The end of the file is reached. The peers stay up.
    Done,
    /// The replay failed, for this reason, which names the file. The peers are down.
    Failed(String),
}

impl Replays {
    /// Returns the status of every running replay, by name.
    pub fn snapshot(&self) -> Vec<ReplayStatus> {
        let replays: Vec<Arc<ReplayEntry>> = lock(&self.0).values().cloned().collect();
        replays.iter().map(|replay| replay.status()).collect()
    }

    /// Returns the status of one replay, or `None` if none of that name runs.
    pub fn status(&self, name: &str) -> Option<ReplayStatus> {
        let replay = lock(&self.0).get(name).cloned()?;
        Some(replay.status())
    }

    /// Registers a replay until the handle is dropped.
    pub(super) fn register(&self, replay: &ReplayJob) -> ReplayHandle {
        let shown = Arc::new(ReplayEntry { replay: replay.clone(), progress: Arc::default() });
        lock(&self.0).insert(replay.name.clone(), Arc::clone(&shown));
        ReplayHandle { replays: self.clone(), shown }
    }
}

#[derive(Debug)]
struct ReplayEntry {
    replay: ReplayJob,
    progress: Arc<ReplayProgress>,
}

impl ReplayEntry {
    fn status(&self) -> ReplayStatus {
        let ReplayJob { name, file, pace, looped } = self.replay.clone();
        let now = lock(&self.progress.now).clone();
        let ReplayPosition { position, records, updates, passed_over, last_error } = now.reached;
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
            file_bytes: self.progress.size.get(),
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

/// The progress of a replay. Read-ahead of the thread does not count.
#[derive(Debug, Default)]
pub(super) struct ReplayProgress {
    now: Mutex<RoundProgress>,
    /// Packed bytes read by the survey.
    pub(super) surveyed: AtomicU64,
    pub(super) size: FileSize,
}

/// The packed size of a file in bytes, once the file has been opened.
#[derive(Debug)]
pub(super) struct FileSize(AtomicU64);

impl FileSize {
    /// No file is as large.
    const UNKNOWN: u64 = u64::MAX;

    pub(super) fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|bytes| *bytes != Self::UNKNOWN)
    }
}

impl Default for FileSize {
    fn default() -> Self {
        Self(AtomicU64::new(Self::UNKNOWN))
    }
}

#[derive(Clone, Debug, Default)]
struct RoundProgress {
    state: ReplayState,
    rounds: u64,
    file_records: Option<u64>,
    reached: ReplayPosition,
    /// The errors that the feed found, and the first record of each kind.
    trouble: Trouble,
    misread: BTreeMap<TroubleKind, RecordPlace>,
}

/// How much of a file has been replayed in this round.
#[derive(Clone, Debug, Default)]
pub(super) struct ReplayPosition {
    /// Packed bytes of the file.
    pub(super) position: u64,
    pub(super) records: u64,
    /// Route Monitoring frames.
    pub(super) updates: u64,
    pub(super) passed_over: Arc<PassedOverCounts>,
    pub(super) last_error: Option<(RecordPlace, Arc<str>)>,
}

/// The handle by which a replay's task updates its status.
#[derive(Debug)]
pub(super) struct ReplayHandle {
    replays: Replays,
    shown: Arc<ReplayEntry>,
}

impl ReplayHandle {
    pub(super) fn progress(&self) -> Arc<ReplayProgress> {
        Arc::clone(&self.shown.progress)
    }

    pub(super) fn set_state(&self, state: ReplayState) {
        lock(&self.shown.progress.now).state = state;
    }

    /// Begins a round.
    pub(super) fn begin(&self) {
        let mut now = lock(&self.shown.progress.now);
        *now = RoundProgress { rounds: now.rounds + 1, file_records: now.file_records, ..RoundProgress::default() };
    }

    /// Ends the survey, which found this many records.
    pub(super) fn surveyed(&self, records: u64) {
        let mut now = lock(&self.shown.progress.now);
        (now.state, now.file_records) = (ReplayState::Reading, Some(records));
    }

    /// Sets how much of the file has been replayed, and the errors of this round.
    pub(super) fn reach(&self, reached: ReplayPosition, trouble: Trouble) {
        let mut now = lock(&self.shown.progress.now);
        (now.reached, now.trouble) = (reached, trouble);
    }

    /// Notes the first UPDATE of this round with this kind of error.
    pub(super) fn misread(&self, kind: TroubleKind, place: RecordPlace) {
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

/// Locks a value for display. After a panic of another holder the value is still good enough to
/// show.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
