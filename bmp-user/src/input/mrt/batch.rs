//! The thread that reads a file, and what it hands over.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc::Sender;
use tracing::warn;

use super::{
    Pace, Replay,
    file::{Failure, Source},
    passed_over::Logged,
    place::{Origin, Place},
    status::{Progress, Reached},
    survey::Survey,
    translate::{Refused, Translator},
};
use crate::wire::mrt::{Record, kind};

/// Frames are handed over when there are about so many bytes of them.
const BLOCK: usize = 64 * 1024;
/// Space for one more frame of the usual size at the end of a block.
const MARGIN: usize = 8 * 1024;

/// How often in a second frames are handed over at a pace of updates per second.
const TICKS: u32 = 50;

/// What the thread tells.
#[derive(Debug)]
pub(super) enum Event {
    /// The file is surveyed.
    Survey,
    /// The file, which has so many records, is read from its beginning.
    Begin(u64),
    /// Frames.
    Batch(Batch),
    /// All of the file has been handed over, or all that could be read.
    Read(Reached),
    /// The end of the replay.
    Done,
    /// The end of the replay: in words, with the name of the file.
    Failed(String),
}

/// Whole BMP frames that are due at one time.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) frames: Bytes,
    /// Which records the Route Monitoring frames among them are made of.
    pub(super) origins: Vec<Origin>,
    /// Bytes of memory that they keep alive.
    pub(super) block: usize,
    /// The time of the record that they came from, in microseconds since the epoch.
    pub(super) time: u64,
    /// Route Monitoring frames among them.
    pub(super) updates: u32,
    /// Where the file is when they have been replayed.
    pub(super) reached: Reached,
}

/// Reads a file until its end, or again and again, or until nobody listens any more.
pub(super) fn read(replay: &Replay, progress: &Progress, events: &Sender<Event>) {
    let mut logged = Logged::default();
    let end = loop {
        match pass(replay, progress, events, &mut logged) {
            Ok(Pass::Done { frames }) if replay.looped && frames => {}
            Ok(Pass::Done { .. }) => break Event::Done,
            Ok(Pass::Dropped) => return,
            Err(failure) => break Event::Failed(format!("{}: {failure}", replay.file.display())),
        }
    };
    // If nobody listens, nobody wants to know.
    let _ = events.blocking_send(end);
}

enum Pass {
    /// The end of the file; whether there were any frames.
    Done { frames: bool },
    /// Nobody listens.
    Dropped,
}

/// Reads a file once.
fn pass(replay: &Replay, progress: &Progress, events: &Sender<Event>, logged: &mut Logged) -> Result<Pass, Failure> {
    if events.blocking_send(Event::Survey).is_err() {
        return Ok(Pass::Dropped);
    }
    let mut survey = Source::open(&replay.file, &progress.surveyed, &progress.size)?;
    let survey = Survey::take(&mut survey, || !events.is_closed())?;
    if events.blocking_send(Event::Begin(survey.records)).is_err() {
        return Ok(Pass::Dropped);
    }
    let position = AtomicU64::new(0);
    let mut writer = Writer::new(replay, survey, events, &position, logged);
    let whole = Source::open(&replay.file, &position, &progress.size)?
        .each(|record, offset| writer.record(record, offset).is_some());
    // What is good before what is bad goes out in any case.
    let flushed = match whole {
        Ok(true) => writer.finish(replay.looped),
        _ => writer.hand_over(),
    };
    let flushed = flushed.and_then(|()| events.blocking_send(Event::Read(writer.reached())).ok());
    match (whole?, flushed) {
        (true, Some(())) => Ok(Pass::Done { frames: writer.frames }),
        _ => Ok(Pass::Dropped),
    }
}

/// Collects frames until they are to be handed over.
struct Writer<'a> {
    replay: &'a Replay,
    pace: Pace,
    translator: Translator,
    events: &'a Sender<Event>,
    /// How much of the file has been read.
    position: &'a AtomicU64,
    reached: Reached,
    /// The time of the last record, in seconds and microseconds.
    time: (u32, u32),
    /// Updates that were handed over.
    updates: u64,
    /// Whether any frame was handed over.
    frames: bool,
    logged: &'a mut Logged,
}

impl<'a> Writer<'a> {
    fn new(
        replay: &'a Replay,
        survey: Survey,
        events: &'a Sender<Event>,
        position: &'a AtomicU64,
        logged: &'a mut Logged,
    ) -> Self {
        let (translator, reached) = (Translator::new(survey), Reached::default());
        let pace = replay.pace;
        Self { replay, pace, translator, events, position, reached, time: (0, 0), updates: 0, frames: false, logged }
    }

    /// `None` if nobody listens.
    fn record(&mut self, record: &Record<'_>, offset: u64) -> Option<()> {
        let time = (record.seconds, record.microseconds);
        if self.pace == Pace::Recorded && time != self.time {
            self.hand_over()?;
        }
        self.time = time;
        self.reached.records += 1;
        self.translator.place = Place { record: self.reached.records, offset };
        let outcome = self.translator.record(record);
        self.note(outcome, (record.kind, record.subtype));
        let full = match self.pace {
            Pace::UpdatesPerSecond(rate) => self.fresh_updates() >= u64::from((rate.get() / TICKS).max(1)),
            Pace::Recorded | Pace::Maximum => false,
        };
        if full || self.translator.out.len() > BLOCK - MARGIN { self.hand_over() } else { Some(()) }
    }

    /// The end of the file.
    fn finish(&mut self, take_down: bool) -> Option<()> {
        let outcome = self.translator.end_snapshot(self.time);
        // What is left of the dump may be of any record up to the last.
        self.note(outcome, (kind::TABLE_DUMP_V2, 0));
        if take_down {
            self.translator.take_down_all(self.time);
        }
        self.hand_over()
    }

    /// Counts what is passed over of a record with this type and subtype, and logs the first of
    /// each kind in a file.
    fn note(&mut self, outcome: Result<(), Refused>, record: (u16, u16)) {
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

    fn reached(&self) -> Reached {
        let position = self.position.load(Ordering::Relaxed);
        Reached { position, updates: self.translator.updates, ..self.reached.clone() }
    }

    fn fresh_updates(&self) -> u64 {
        self.translator.updates - self.updates
    }

    fn hand_over(&mut self) -> Option<()> {
        if self.translator.out.is_empty() {
            return Some(());
        }
        let room = match self.pace {
            Pace::Maximum => BytesMut::with_capacity(BLOCK),
            Pace::Recorded | Pace::UpdatesPerSecond(_) => BytesMut::new(),
        };
        let frames = std::mem::replace(&mut self.translator.out, room);
        let origins = std::mem::take(&mut self.translator.origins);
        let (seconds, microseconds) = self.time;
        let batch = Batch {
            block: frames.capacity(),
            frames: frames.freeze(),
            origins,
            time: u64::from(seconds) * 1_000_000 + u64::from(microseconds),
            updates: u32::try_from(self.fresh_updates()).unwrap_or(u32::MAX),
            reached: self.reached(),
        };
        self.updates = self.translator.updates;
        self.frames = true;
        self.events.blocking_send(Event::Batch(batch)).ok()
    }
}
