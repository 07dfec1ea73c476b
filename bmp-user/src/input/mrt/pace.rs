//! Decides when the next frames are due.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::config::ReplayPace;

/// Delays the batches of a replay according to its pace.
#[derive(Debug)]
pub(super) struct Metronome {
    pace: ReplayPace,
    /// The start of the replay, and the time of the first record in microseconds.
    origin: Option<(Instant, u64)>,
    /// Updates since the start.
    updates: u64,
}

impl Metronome {
    pub(super) fn new(pace: ReplayPace) -> Self {
        Self { pace, origin: None, updates: 0 }
    }

    /// Starts over: the next record counts as the first.
    pub(super) fn restart(&mut self) {
        self.origin = None;
        self.updates = 0;
    }

    /// Waits until a batch is due that has this time (microseconds since the epoch) and this many
    /// updates. A batch with an earlier time than the first is due at once.
    pub(super) async fn wait(&mut self, time: u64, updates: u32) {
        if self.pace == ReplayPace::Maximum {
            return;
        }
        let (start, first) = *self.origin.get_or_insert_with(|| (Instant::now(), time));
        let after = match self.pace {
            ReplayPace::Maximum => Duration::ZERO,
            ReplayPace::Recorded => Duration::from_micros(time.saturating_sub(first)),
            ReplayPace::UpdatesPerSecond(rate) => {
                let micros = u128::from(self.updates) * 1_000_000 / u128::from(rate.get());
                Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
            }
        };
        self.updates += u64::from(updates);
        if let Some(due) = start.checked_add(after) {
            sleep_until(due).await;
        }
    }
}
