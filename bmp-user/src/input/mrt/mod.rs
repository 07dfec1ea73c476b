//! `mrt-replay`: replays the peers and routes of an MRT file into the feed.
//!
//! A thread reads and unpacks the file and turns its records into BMP frames. [`run`] appends them
//! to the feed at the configured pace. The file is read twice. The first pass surveys the peers
//! with their families and capabilities, because a Peer Up precedes the routes. The second pass
//! replays the file.
//!
//! UPDATEs are replayed byte for byte. Routes of table dumps are put into new UPDATEs; successive
//! routes with equal attributes share an UPDATE. A Peer Up holds the recorded OPENs, or fabricated
//! ones; see `opening`.
//!
//! In the order of the data:
//!
//! * `job`: the settings of a replay. `file`: unpacks the file and finds records. `place`: where a
//!   record is.
//! * `survey`: the first pass. `opening`: OPENs for the Peer Up.
//! * `translate`: records to frames. `peers`: the peers while it runs. `snapshot`: routes of table
//!   dumps.
//! * `passed_over`: counts the records that are not replayed.
//! * `batch`: the thread. `pace`: when a batch is due. `status`: what `display` reads.

mod batch;
mod file;
mod job;
mod opening;
mod pace;
mod passed_over;
mod peers;
mod place;
mod snapshot;
mod status;
mod survey;
#[cfg(test)]
mod tests;
mod translate;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    future::pending,
    sync::Arc,
};

use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::{
    config::{self, Config},
    feed::{Feed, Input, InputId, InputNotice, Trouble, UpdateError},
    input::budget,
    tasks::{self, Tasks},
};
use batch::{ReaderEvent, read};
use file::RecordReader;
use pace::Metronome;
use peers::RecordTime;
use place::FrameOrigin;
use status::ReplayHandle;
use survey::Survey;
use translate::RecordTranslator;

pub use file::FileError;
pub use job::ReplayJob;
pub use passed_over::{PassedOverCount, PassedOverKind};
pub use place::RecordPlace;
pub use status::{Misread, ReplayState, ReplayStatus, Replays};

/// Batches that may wait between the thread and the task.
const QUEUE: usize = 4;

/// Runs the configured replays until the sender of the configuration is gone. A changed replay
/// starts again; an unchanged one continues. Dropping this future ends all replays.
pub async fn run_all(mut config: watch::Receiver<Arc<Config>>, feed: Feed, replays: Replays) {
    let mut running: BTreeMap<String, (ReplayJob, Tasks)> = BTreeMap::new();
    loop {
        let wanted = configured_replays(&config.borrow_and_update());
        running.retain(|name, (replay, _)| wanted.get(name) == Some(replay));
        for (name, replay) in wanted {
            running.entry(name).or_insert_with(|| {
                let mut task = Tasks::default();
                task.forever("replay", run(replay.clone(), feed.clone(), replays.clone()));
                (replay, task)
            });
        }
        if tasks::idle(config.changed()).await.is_err() {
            return;
        }
    }
}

/// Returns the configured replays that have a file.
fn configured_replays(config: &Config) -> BTreeMap<String, ReplayJob> {
    let replay = |(name, replay): (&String, &config::ReplayConfig)| {
        let file = replay.file.clone()?;
        Some((name.clone(), ReplayJob { name: name.clone(), file, pace: replay.pace, looped: replay.looped }))
    };
    config.replays.iter().filter_map(replay).collect()
}

/// The result of translating a file in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// BMP frames.
    pub frames: Vec<u8>,
    /// The errors of records that were passed over.
    pub passed_over: Vec<String>,
    /// Why the file could not be read to its end, if so.
    pub failure: Option<String>,
}

/// Translates a file in memory, as [`run`] would, but without task, thread and pace.
///
/// # Errors
///
/// Fails if the file cannot be surveyed. A replay of it would fail before the first frame.
pub fn translate(file: &[u8]) -> Result<Translation, FileError> {
    let source = || RecordReader::new(file).map_err(|error| FileError::Read { offset: 0, error });
    let mut translator = RecordTranslator::new(Survey::take(&mut source()?, || true)?);
    let mut passed_over = Vec::new();
    let mut last = RecordTime::default();
    let read = source()?.each(|record, offset| {
        last = RecordTime::of_record(record);
        translator.place = RecordPlace { record: translator.place.record + 1, offset };
        passed_over.extend(translator.record(record).err().map(|error| error.to_string()));
        true
    });
    passed_over.extend(translator.end_snapshot(last).err().map(|error| error.to_string()));
    let failure = read.err().map(|failure| failure.to_string());
    Ok(Translation { frames: translator.out.to_vec(), passed_over, failure })
}

/// Replays a file into the feed. Never returns: dropping this future ends the replay and takes its
/// peers down.
///
/// At the end of the file its peers stay up. With `loop`, they go down and the replay starts again.
///
/// If the file is not MRT, or is damaged so that the next record cannot be found, the replay fails
/// and its peers go down, because their routes are incomplete. A record that can be found but not
/// read, or that is of another type, is counted and passed over. A replay that has grown most when
/// the feed takes too much memory fails too. `replays` shows the status of the replay as long as
/// this future lives.
pub async fn run(replay: ReplayJob, feed: Feed, replays: Replays) {
    let status = replays.register(&replay);
    let name = replay.name.as_str();
    let file = replay.file.display();
    info!(replay = name, %file, "replay begins");
    let (sender, events) = mpsc::channel(QUEUE);
    let (thread_replay, thread_status) = (replay.clone(), status.progress());
    let spawned = tasks::thread("mrt", move || read(&thread_replay, &thread_status, &sender));
    if let Err(error) = spawned {
        status.set_state(ReplayState::Failed(format!("cannot start a thread to read the file: {error}")));
        return tasks::idle(pending()).await;
    }
    let mut input = feed.input(InputId::replay(name));
    // If the routes of the file show their encoding, the OPENs of the Peer Ups agree with it.
    input.trust_opens();
    let mut orders = input.orders_to_close();
    let mut input = Some(input);
    let cause = tokio::select! {
        never = play(&replay, events, &mut input, &status) => match never {},
        cause = budget::ordered(&mut orders) => cause,
    };
    // The thread ends too, since nobody takes its events any more.
    warn!(replay = name, "memory-limit: the replay ends: {cause}");
    drop(input);
    status.set_state(ReplayState::Failed(format!("memory-limit: {cause}")));
    tasks::idle(pending()).await
}

/// Appends what the thread sends. Never returns, and keeps the input unless the replay fails.
async fn play(
    replay: &ReplayJob,
    mut events: mpsc::Receiver<ReaderEvent>,
    input: &mut Option<Input>,
    status: &ReplayHandle,
) -> Infallible {
    let (name, file) = (replay.name.as_str(), replay.file.display());
    // The feed's errors of earlier rounds, and the kinds that the log already has a line about.
    let (mut before, mut logged) = (Trouble::default(), BTreeSet::new());
    let mut metronome = Metronome::new(replay.pace);
    while let Some(event) = tasks::idle(events.recv()).await {
        match event {
            ReaderEvent::Survey => {
                status.begin();
                if let Some(input) = input {
                    before = input.totals().trouble;
                    input.notice_again();
                }
            }
            ReaderEvent::Begin(records) => {
                status.surveyed(records);
                metronome.restart();
            }
            ReaderEvent::Batch(batch) => {
                tasks::idle(metronome.wait(batch.time, batch.updates)).await;
                let Some(input) = input else { break };
                let start = input.totals().bytes;
                input.append(batch.chunk);
                for notice in input.take_notices() {
                    let InputNotice::UpdateError(UpdateError { kind, at, .. }) = notice else {
                        warn!(replay = name, "the feed leaves out a frame of this replay: {notice}");
                        continue;
                    };
                    let at = usize::try_from(at - start).unwrap_or(usize::MAX);
                    let place = FrameOrigin::find(&batch.origins, at).unwrap_or_default();
                    status.misread(kind, place);
                    if logged.insert(kind) {
                        warn!(
                            replay = name, %file, kind = kind.as_str(),
                            "an UPDATE is passed on as it came, and others like it are only counted; the first is {place}: {kind}"
                        );
                    }
                }
                status.reach(batch.reached, input.totals().trouble - before);
            }
            ReaderEvent::Read(reached) => {
                let trouble = input.as_ref().map_or(before, |input| input.totals().trouble);
                status.reach(reached, trouble - before);
            }
            ReaderEvent::Done => {
                info!(replay = name, %file, "replay done");
                status.set_state(ReplayState::Done);
            }
            ReaderEvent::Failed(reason) => {
                warn!(replay = name, "replay failed: {reason}");
                *input = None;
                status.set_state(ReplayState::Failed(reason));
            }
        }
    }
    // The caller keeps the input, so the peers stay up until this future is dropped.
    tasks::idle(pending()).await
}
