//! Tells a dead station from a slow one.

use std::time::{Duration, Instant};

use crate::sys::TcpProgress;

/// How long a station may acknowledge nothing while something waits for it. After that it is dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(30);

/// Watches a connection's progress.
///
/// A station that keeps its window closed answers window probes, so it is slow and stays.
/// `TCP_USER_TIMEOUT` cannot tell the two apart: it counts the time since data was acknowledged.
/// The time since any acknowledgement cannot either: up to 120 s pass between two probes
/// (`TCP_RTO_MAX`), and nothing is asked or answered meanwhile.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    waiting_since: Option<Instant>,
}

impl Pulse {
    /// True if the station is dead, by a reading of `TCP_INFO`.
    pub(super) fn is_dead(&mut self, progress: TcpProgress, now: Instant) -> bool {
        if progress.unacknowledged == 0 && progress.probes == 0 {
            self.waiting_since = None;
            return false;
        }
        let waiting = now.duration_since(*self.waiting_since.get_or_insert(now));
        if progress.last_ack < waiting {
            // There was an acknowledgement since: what waits now has waited no longer than that.
            self.waiting_since = now.checked_sub(progress.last_ack);
            return progress.last_ack >= DEAD_AFTER;
        }
        waiting >= DEAD_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(unacknowledged: u32, probes: u8, last_ack_s: u64) -> TcpProgress {
        TcpProgress { unacknowledged, probes, last_ack: Duration::from_secs(last_ack_s), retransmits: 0 }
    }

    /// Returns the second of the first reading that finds the station dead.
    fn dead_at(readings: impl IntoIterator<Item = (u64, TcpProgress)>) -> Option<u64> {
        let start = Instant::now();
        let mut pulse = Pulse::default();
        readings
            .into_iter()
            .find(|(second, progress)| pulse.is_dead(*progress, start + Duration::from_secs(*second)))
            .map(|(second, ..)| second)
    }

    #[test]
    fn a_station_that_acknowledges_nothing_is_dead_after_thirty_seconds() {
        assert_eq!(dead_at((0..100).map(|s| (s, reading(3, 0, s)))), Some(30));
    }

    #[test]
    fn the_time_before_there_was_something_to_acknowledge_does_not_count() {
        let readings = (0..200).map(|s| if s < 100 { (s, reading(0, 0, s)) } else { (s, reading(1, 0, s)) });
        assert_eq!(dead_at(readings), Some(130));
    }

    #[test]
    fn a_station_with_a_closed_window_that_answers_probes_is_not_dead_however_seldom_it_is_asked() {
        // A probe every two minutes, and its answer a second later.
        let readings =
            (0..1000).map(|s| if s % 120 == 0 { (s, reading(0, 1, 119)) } else { (s, reading(0, 0, s % 120 - 1)) });
        assert_eq!(dead_at(readings), None);
    }

    #[test]
    fn a_station_that_vanished_with_its_window_closed_is_dead_thirty_seconds_after_the_next_probe() {
        let readings = (0..1000).map(|s| if s < 120 { (s, reading(0, 0, s)) } else { (s, reading(0, 1, s)) });
        assert_eq!(dead_at(readings), Some(150));
    }

    #[test]
    fn an_idle_connection_is_not_dead() {
        assert_eq!(dead_at((0..1000).map(|s| (s, reading(0, 0, s)))), None);
    }

    #[test]
    fn unanswered_probes_alone_are_enough() {
        assert_eq!(dead_at((0..100).map(|s| (s, reading(0, 1, s)))), Some(30));
    }

    #[test]
    fn a_station_that_acknowledged_once_and_then_vanished_is_dead_thirty_seconds_after() {
        let readings = (0..100_u64).map(|s| (s, reading(1, 0, s.saturating_sub(20))));
        assert_eq!(dead_at(readings), Some(50));
    }
}
