//! When the frames of a replay arrive, and how often.

use std::{io::Write, num::NonZeroU32, time::Duration};

use tempfile::NamedTempFile;
use tokio::time::{Instant, timeout};

use super::samples::*;
use crate::{
    config::ReplayPace,
    feed::{Feed, Selection},
    input::mrt::{ReplayState, Replays, run},
    wire::mrt::samples::record,
};

fn file(records: &[Vec<u8>]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&records.concat()).unwrap();
    file
}

/// A BGP4MP_ET record of the usual UPDATE.
fn extended(seconds: u32, microseconds: u32) -> Vec<u8> {
    let plain = bgp4mp(seconds, 4, &update());
    record(seconds, 17, 4, &[&microseconds.to_be_bytes()[..], &plain[12..]].concat())
}

/// Waits for `count` messages and returns after how many milliseconds each arrived.
async fn arrivals(file: &NamedTempFile, pace: ReplayPace, looped: bool, count: usize) -> Vec<(u64, String)> {
    let feed = Feed::default();
    let mut follower = feed.attach(Selection::default());
    // The feed is still empty, so the follower reads every frame from the journal.
    follower.take(usize::MAX, &mut std::collections::VecDeque::new());
    let replays = Replays::default();
    let task = tokio::spawn(run(replay(file.path(), pace, looped), feed, replays.clone()));
    let mut all: Vec<(u64, String)> = Vec::new();
    let mut start = None;
    while all.len() < count {
        follower.ready().await;
        let start = *start.get_or_insert_with(Instant::now);
        let at = u64::try_from(start.elapsed().as_millis()).unwrap();
        all.extend(described(&take_all(&mut follower)).into_iter().map(|message| (at, message)));
    }
    assert_eq!(replays.snapshot()[0].rounds > 1, looped);
    task.abort();
    all
}

fn times(arrivals: &[(u64, String)]) -> Vec<u64> {
    arrivals.iter().map(|(at, _)| *at).collect()
}

#[tokio::test(start_paused = true)]
async fn at_the_recorded_pace_messages_keep_their_recorded_intervals() {
    let file = file(&[
        extended(100, 500_000),
        extended(100, 500_000),
        extended(100, 750_000),
        bgp4mp(99, 4, &update()),
        bgp4mp(3700, 4, &update()),
    ]);
    let all = arrivals(&file, ReplayPace::Recorded, false, 6).await;
    assert_eq!(times(&all), [0, 0, 0, 250, 250, 3_599_500]);
}

#[tokio::test(start_paused = true)]
async fn the_status_shows_the_progress_of_the_replay_not_of_the_reader() {
    let file = file(&[bgp4mp(100, 4, &update()), bgp4mp(100, 4, &update()), bgp4mp(160, 4, &update())]);
    let (feed, replays) = (Feed::default(), Replays::default());
    let task = tokio::spawn(run(replay(file.path(), ReplayPace::Recorded, false), feed, replays.clone()));
    let shown = || replays.snapshot().pop().map(|status| (status.records, status.updates, status.file_records));
    let mut seen = Vec::new();
    while replays.snapshot().pop().is_none_or(|status| status.state != ReplayState::Done) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        seen.extend(shown().filter(|shown| seen.last() != Some(shown)));
    }
    seen.retain(|(.., of)| of.is_some());
    assert!(seen.ends_with(&[(2, 2, Some(3)), (3, 3, Some(3))]), "{seen:?}");
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_pace_of_updates_a_second_is_kept() {
    let file = file(&vec![bgp4mp(1, 4, &update()); 1000]);
    let all = arrivals(&file, ReplayPace::UpdatesPerSecond(NonZeroU32::new(100).unwrap()), false, 1001).await;
    let times = times(&all);
    // The two updates of a batch arrive together, and the Peer Up arrives with the first batch.
    assert_eq!(times[..5], [0, 0, 0, 20, 20]);
    assert_eq!(times.last(), Some(&9980));
    let slow = arrivals(&file, ReplayPace::UpdatesPerSecond(NonZeroU32::MIN), false, 4).await;
    assert_eq!(slow.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 0, 1000, 2000]);
}

#[tokio::test(start_paused = true)]
async fn a_loop_takes_peers_down_and_starts_again() {
    let file = file(&[bgp4mp(10, 4, &update()), bgp4mp(11, 4, &update())]);
    let all = arrivals(&file, ReplayPace::Recorded, true, 8).await;
    let round = ["up 192.0.2.1 10.000000", "route 192.0.2.1 10.000000", "route 192.0.2.1 11.000000"];
    let down = "down 192.0.2.1 11.000000 for 5";
    let expected: Vec<_> = round.into_iter().chain([down]).cycle().take(8).collect();
    assert_eq!(all.iter().map(|(_, message)| message.as_str()).collect::<Vec<_>>()[..8], expected);
    assert_eq!(times(&all)[..8], [0, 0, 1000, 1000, 1000, 1000, 2000, 2000]);
}

#[tokio::test]
async fn an_empty_file_is_done_even_with_loop() {
    let file = file(&[]);
    let replays = Replays::default();
    let task = tokio::spawn(run(replay(file.path(), ReplayPace::Maximum, true), Feed::default(), replays.clone()));
    let done = async {
        while replays.snapshot().first().is_none_or(|status| status.state != ReplayState::Done) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(30), done).await.unwrap();
    task.abort();
}
