//! The thread that reads a file and turns its records into batches of BMP frames.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::BytesMut;
use tokio::sync::mpsc::Sender;
use tracing::warn;

use super::{
    file::{FileError, RecordReader},
    job::ReplayJob,
    passed_over::LoggedKinds,
    peers::RecordTime,
    place::{FrameOrigin, RecordPlace},
    status::{ReplayPosition, ReplayProgress},
    survey::Survey,
    translate::{RecordError, RecordTranslator},
};
use crate::{
    config::ReplayPace,
    wire::{
        bmp::BmpChunk,
        mrt::{Record, kind},
    },
};

/// A batch is sent when it holds about this many bytes.
const BLOCK: usize = 64 * 1024;
/// Space at the end of a block for one more frame of the usual size.
const MARGIN: usize = 8 * 1024;

/// Batches a second at a pace of updates per second.
const TICKS: u32 = 50;

/// What the thread sends to the task of the replay.
#[derive(Debug)]
pub(super) enum ReaderEvent {
    /// The survey of the file begins.
    Survey,
    /// The replay of the file begins. The file has this many records.
    Begin(u64),
    /// Frames to replay.
    Batch(FrameBatch),
    /// All frames of the file have been sent, or all up to a failure.
    Read(ReplayPosition),
    /// The replay is complete.
    Done,
    /// The replay failed, for this reason, which names the file.
    Failed(String),
}

/// Whole BMP frames that are due at the same time.
#[derive(Debug)]
pub(super) struct FrameBatch {
    pub(super) chunk: BmpChunk,
    /// The records of the Route Monitoring frames.
    pub(super) origins: Vec<FrameOrigin>,
    /// The time of the record behind the frames, in microseconds since the epoch.
    pub(super) time: u64,
    /// The number of Route Monitoring frames.
    pub(super) updates: u32,
    /// The position in the file once these frames have been replayed.
    pub(super) reached: ReplayPosition,
}

/// Reads a file to its end, repeatedly for `loop`, until the receiver is dropped.
pub(super) fn read(replay: &ReplayJob, progress: &ReplayProgress, events: &Sender<ReaderEvent>) {
    let mut logged = LoggedKinds::default();
    let end = loop {
        match pass(replay, progress, events, &mut logged) {
            Ok(PassOutcome::Done { frames }) if replay.looped && frames => {}
            Ok(PassOutcome::Done { .. }) => break ReaderEvent::Done,
            Ok(PassOutcome::ReceiverGone) => return,
            Err(failure) => break ReaderEvent::Failed(format!("{}: {failure}", replay.file.display())),
        }
    };
    // A closed channel means that the replay was removed.
    let _ = events.blocking_send(end);
}

enum PassOutcome {
    /// The end of the file was reached. `frames` is true if the file gave any frames.
    Done { frames: bool },
    /// The receiver is gone.
    ReceiverGone,
}

/// Surveys and reads a file once.
fn pass(
    replay: &ReplayJob,
    progress: &ReplayProgress,
    events: &Sender<ReaderEvent>,
    logged: &mut LoggedKinds,
) -> Result<PassOutcome, FileError> {
    if events.blocking_send(ReaderEvent::Survey).is_err() {
        return Ok(PassOutcome::ReceiverGone);
    }
    let mut survey = RecordReader::open(&replay.file, &progress.surveyed, &progress.size)?;
    let survey = Survey::take(&mut survey, || !events.is_closed())?;
    if events.blocking_send(ReaderEvent::Begin(survey.records)).is_err() {
        return Ok(PassOutcome::ReceiverGone);
    }
    let position = AtomicU64::new(0);
    let mut writer = BatchWriter::new(replay, survey, events, &position, logged);
    let whole = RecordReader::open(&replay.file, &position, &progress.size)?
        .each(|record, offset| writer.record(record, offset).is_some());
    // Frames before a failure are sent in any case.
    let flushed = match whole {
        Ok(true) => writer.finish(replay.looped),
        _ => writer.hand_over(),
    };
    let flushed = flushed.and_then(|()| events.blocking_send(ReaderEvent::Read(writer.reached())).ok());
    match (whole?, flushed) {
        (true, Some(())) => Ok(PassOutcome::Done { frames: writer.frames }),
        _ => Ok(PassOutcome::ReceiverGone),
    }
}

/// Collects the frames of records into batches.
struct BatchWriter<'a> {
    replay: &'a ReplayJob,
    pace: ReplayPace,
    translator: RecordTranslator,
    events: &'a Sender<ReaderEvent>,
    /// Bytes of the packed file that have been read.
    position: &'a AtomicU64,
    reached: ReplayPosition,
    /// The time of the last record.
    time: RecordTime,
    /// Updates in the batches that were sent.
    updates: u64,
    /// True if a batch was sent.
    frames: bool,
    logged: &'a mut LoggedKinds,
}

impl<'a> BatchWriter<'a> {
    fn new(
        replay: &'a ReplayJob,
        survey: Survey,
        events: &'a Sender<ReaderEvent>,
        position: &'a AtomicU64,
        logged: &'a mut LoggedKinds,
    ) -> Self {
        let (translator, reached) = (RecordTranslator::new(survey), ReplayPosition::default());
        let pace = replay.pace;
        let time = RecordTime::default();
        Self { replay, pace, translator, events, position, reached, time, updates: 0, frames: false, logged }
    }

    /// Adds a record, and sends a batch if one is complete. Returns `None` if the receiver is gone.
    fn record(&mut self, record: &Record<'_>, offset: u64) -> Option<()> {
        let time = RecordTime::of_record(record);
        if self.pace == ReplayPace::Recorded && time != self.time {
            self.hand_over()?;
        }
        self.time = time;
        self.reached.records += 1;
        self.translator.place = RecordPlace { record: self.reached.records, offset };
        let outcome = self.translator.record(record);
        self.note(outcome, (record.kind, record.subtype));
        let full = match self.pace {
            ReplayPace::UpdatesPerSecond(rate) => self.fresh_updates() >= u64::from((rate.get() / TICKS).max(1)),
            ReplayPace::Recorded | ReplayPace::Maximum => false,
        };
        if full || self.translator.out.len() > BLOCK - MARGIN { self.hand_over() } else { Some(()) }
    }

    /// Completes the file: ends the table dump, takes all peers down if asked to, and sends the
    /// last batch.
    fn finish(&mut self, take_down: bool) -> Option<()> {
        let outcome = self.translator.end_snapshot(self.time);
        // The rest of the dump may come from any record up to the last.
        self.note(outcome, (kind::TABLE_DUMP_V2, 0));
        if take_down {
            self.translator.take_down_all(self.time);
        }
        self.hand_over()
    }

    /// Counts a record of this type and subtype as passed over, and logs the first of each kind in
    /// a file.
    fn note(&mut self, outcome: Result<(), RecordError>, record: (u16, u16)) {
        let Err(refused) = outcome else { return };
        let place = self.translator.place;
        let kind = Arc::make_mut(&mut self.reached.passed_over).count(refused.kind(record), place);
        if kind.is_error() {
            self.reached.last_error = Some((place, Arc::from(refused.to_string())));
        }
        if self.logged.is_first(kind) {
            let (replay, file) = (self.replay.name.as_str(), self.replay.file.display());
            warn!(replay, %file, "{kind} are passed over; the first is {place}: {refused}");
        }
    }

    fn reached(&self) -> ReplayPosition {
        let position = self.position.load(Ordering::Relaxed);
        ReplayPosition { position, updates: self.translator.updates, ..self.reached.clone() }
    }

    fn fresh_updates(&self) -> u64 {
        self.translator.updates - self.updates
    }

    fn hand_over(&mut self) -> Option<()> {
        if self.translator.out.is_empty() {
            return Some(());
        }
        let room = match self.pace {
            ReplayPace::Maximum => BytesMut::with_capacity(BLOCK),
            ReplayPace::Recorded | ReplayPace::UpdatesPerSecond(_) => BytesMut::new(),
        };
        let frames = std::mem::replace(&mut self.translator.out, room);
        let origins = std::mem::take(&mut self.translator.origins);
        let batch = FrameBatch {
            chunk: BmpChunk::built(frames),
            origins,
            time: self.time.as_micros(),
            updates: u32::try_from(self.fresh_updates()).unwrap_or(u32::MAX),
            reached: self.reached(),
        };
        self.updates = self.translator.updates;
        self.frames = true;
        self.events.blocking_send(ReaderEvent::Batch(batch)).ok()
    }
}
