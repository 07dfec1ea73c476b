//! `mrt-replay`: the peers and routes that an MRT file holds, as if they came in now.
//!
//! A thread reads the file, unpacks it and turns its records into BMP frames; [`run`] hands those to the feed at the pace that is
//! wanted. The file is read twice: first to survey which peers it has, of which families and with which capabilities, because a
//! Peer Up has to say so before the first route; then to replay it.
//!
//! UPDATEs are passed on byte for byte. Routes of table dumps are put into UPDATEs again, several with one set of attributes
//! together where they follow each other.
//!
//! Peer Ups are fabricated, except for OPENs that the file holds: from AS numbers, BGP identifiers and addresses in the file, with
//! the capabilities without which its routes could not be as they are. What the file does not say is told so that it cannot be
//! mistaken: the AS of the collector of a table dump is AS_TRANS, addresses and ports that are not known are zero.

mod batch;
mod file;
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
    path::PathBuf,
    sync::Arc,
};

use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::{
    config::{self, Config, Pace},
    feed::{Feed, Input, NotUnderstood, Notice, Trouble, names},
    tasks::{self, Tasks},
};
use batch::{Event, read};
use file::Source;
use pace::Metronome;
use place::Origin;
use survey::Survey;
use translate::Translator;

pub use file::Failure;
pub use passed_over::{Count as PassedOverCount, Kind as PassedOver};
pub use place::Place;
pub use status::{Misread, ReplayState, ReplayStatus, Replays};

/// How many batches may wait between the thread and the task.
const QUEUE: usize = 4;

/// `mrt-replay NAME`, as the configuration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// `mrt-replay NAME`.
    pub name: String,
    /// `file PATH`: plain, gzip or bzip2, which its first bytes tell.
    pub file: PathBuf,
    /// `pace …`.
    pub pace: Pace,
    /// `loop`: start over at the end.
    pub looped: bool,
}

/// Runs the replays that the configuration names, until its sender is gone. Dropping this ends them all. A replay that is changed begins
/// again; one that is not is left alone.
pub async fn run_all(mut config: watch::Receiver<Arc<Config>>, feed: Feed, replays: Replays) {
    let mut running: BTreeMap<String, (Replay, Tasks)> = BTreeMap::new();
    loop {
        let wanted = wanted(&config.borrow_and_update());
        running.retain(|name, (replay, _)| wanted.get(name) == Some(replay));
        for (name, replay) in wanted {
            running.entry(name).or_insert_with(|| {
                let mut task = Tasks::default();
                task.forever("replay", run(replay.clone(), feed.clone(), replays.clone()));
                (replay, task)
            });
        }
        if config.changed().await.is_err() {
            return;
        }
    }
}

/// The replays that have a file.
fn wanted(config: &Config) -> BTreeMap<String, Replay> {
    let replay = |(name, replay): (&String, &config::Replay)| {
        let file = replay.file.clone()?;
        Some((name.clone(), Replay { name: name.clone(), file, pace: replay.pace, looped: replay.looped }))
    };
    config.replays.iter().filter_map(replay).collect()
}

/// What a file comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// BMP frames.
    pub frames: Vec<u8>,
    /// What was passed over, in words.
    pub passed_over: Vec<String>,
    /// Why it was read no further, if it was not read to its end.
    pub failure: Option<String>,
}

/// What a replay makes of a file that is in memory: [`run`] without task, thread and pace.
///
/// # Errors
///
/// The file cannot be surveyed: nothing of it would be replayed.
pub fn translate(file: &[u8]) -> Result<Translation, Failure> {
    let source = || Source::new(file).map_err(|error| Failure::Read { offset: 0, error });
    let mut translator = Translator::new(Survey::take(&mut source()?, || true)?);
    let mut passed_over = Vec::new();
    let mut last = (0, 0);
    let read = source()?.each(|record, offset| {
        last = (record.seconds, record.microseconds);
        translator.place = Place { record: translator.place.record + 1, offset };
        passed_over.extend(translator.record(record).err().map(|error| error.to_string()));
        true
    });
    passed_over.extend(translator.end_snapshot(last).err().map(|error| error.to_string()));
    let failure = read.err().map(|failure| failure.to_string());
    Ok(Translation { frames: translator.out.to_vec(), passed_over, failure })
}

/// Replays a file into the feed. Does not end by itself: dropping this ends it, and takes its peers down.
///
/// At the end of the file its peers stay up. With `loop` they are taken down, and it begins again. A file that is not MRT, or
/// is cut or damaged so that its next record cannot be found, ends the replay as failed, and takes its peers down: what
/// they have is not what they had. A record that can be found but not read, or that is of another
/// type than those about BGP, is counted and passed over. `replays` shows how it does for as long
/// as this lives.
pub async fn run(replay: Replay, feed: Feed, replays: Replays) {
    let status = replays.register(&replay);
    let name = replay.name.as_str();
    let file = replay.file.display();
    info!(replay = name, %file, "replay begins");
    let (sender, mut events) = mpsc::channel(QUEUE);
    let (thread_replay, thread_status) = (replay.clone(), status.progress());
    let spawned = tasks::thread("mrt", move || read(&thread_replay, &thread_status, &sender));
    if let Err(error) = spawned {
        status.set_state(ReplayState::Failed(format!("no thread to read the file: {error}")));
        return std::future::pending().await;
    }
    let mut input = Some(feed.input(&names::of_replay(name)));
    // Where the file shows how its routes are written, the OPENs of its Peer Ups say so.
    input.iter_mut().for_each(Input::trust_opens);
    // What the feed did not understand in earlier rounds, and what the log has a line about.
    let (mut before, mut logged) = (Trouble::default(), BTreeSet::new());
    let mut metronome = Metronome::new(replay.pace);
    while let Some(event) = events.recv().await {
        match event {
            Event::Survey => {
                status.begin();
                if let Some(input) = &mut input {
                    before = input.totals().trouble;
                    input.notice_again();
                }
            }
            Event::Begin(records) => {
                status.surveyed(records);
                metronome.restart();
            }
            Event::Batch(batch) => {
                metronome.wait(batch.time, batch.updates).await;
                let Some(input) = &mut input else { break };
                let start = input.totals().bytes;
                if let Err(error) = input.append(batch.frames, batch.block) {
                    // What was built here is whole frames about peers. If it is not, that is told and the rest goes on.
                    warn!(replay = name, "a frame that was built is refused: {error}");
                }
                for notice in input.take_notices() {
                    let Notice::NotUnderstood(NotUnderstood { kind, at, .. }) = notice else {
                        warn!(replay = name, "a frame that was built is left out: {notice}");
                        continue;
                    };
                    let at = usize::try_from(at - start).unwrap_or(usize::MAX);
                    let place = Origin::find(&batch.origins, at).unwrap_or_default();
                    status.misread(kind, place);
                    if logged.insert(kind) {
                        warn!(
                            replay = name, %file, kind = kind.as_str(),
                            "an UPDATE is passed on as it came, and counted as all like it; the first is {place}: {kind}"
                        );
                    }
                }
                status.reach(batch.reached, input.totals().trouble - before);
            }
            Event::Read(reached) => {
                let trouble = input.as_ref().map_or(before, |input| input.totals().trouble);
                status.reach(reached, trouble - before);
            }
            Event::Done => {
                info!(replay = name, %file, "replay done");
                status.set_state(ReplayState::Done);
            }
            Event::Failed(reason) => {
                warn!(replay = name, "replay failed: {reason}");
                input = None;
                status.set_state(ReplayState::Failed(reason));
            }
        }
    }
    // The peers stay up: the input is dropped with this future.
    std::future::pending().await
}
