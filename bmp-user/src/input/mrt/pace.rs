//! When the next frames are due.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Pace;

/// Keeps a replay at its pace.
#[derive(Debug)]
pub(super) struct Metronome {
    pace: Pace,
    /// When the replay began, and the time of the first record in microseconds.
    origin: Option<(Instant, u64)>,
    /// Updates since then.
    updates: u64,
}

impl Metronome {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, origin: None, updates: 0 }
    }

    /// The next record is the first one.
    pub(super) fn restart(&mut self) {
        self.origin = None;
        self.updates = 0;
    }

    /// Waits until records of this time (in microseconds since the epoch), with so many updates, are due. Records that are
    /// older than the first one are due at once.
    pub(super) async fn wait(&mut self, time: u64, updates: u32) {
        if self.pace == Pace::Maximum {
            return;
        }
        let (start, first) = *self.origin.get_or_insert_with(|| (Instant::now(), time));
        let after = match self.pace {
            Pace::Maximum => Duration::ZERO,
            Pace::Recorded => Duration::from_micros(time.saturating_sub(first)),
            Pace::UpdatesPerSecond(rate) => {
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
