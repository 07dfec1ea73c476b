//! When a RIB has been quiet long enough to be taken for complete.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// How many times it looks within the time that a RIB has to be quiet. A RIB may be noticed later
/// by two looks.
const LOOKS: u32 = 8;

/// Remembers how many frames the feed had applied at which time. The feed itself has no clock.
#[derive(Debug, Default)]
pub(super) struct QuietClock {
    /// The oldest first.
    marks: VecDeque<FrameMark>,
}

/// How many frames the feed had applied.
#[derive(Clone, Copy, Debug)]
struct FrameMark {
    at: Instant,
    frames: u64,
}

impl QuietClock {
    /// When the next look is due.
    pub(super) fn next(&self, now: Instant, time: Duration) -> Instant {
        self.marks.back().map_or(now, |last| last.at + time / LOOKS)
    }

    /// Notes that the feed has applied `frames` frames by now. Returns how many it had applied at
    /// least `time` ago: a RIB whose last frame is one of these has been quiet since.
    pub(super) fn look(&mut self, now: Instant, frames: u64, time: Duration) -> Option<u64> {
        self.marks.push_back(FrameMark { at: now, frames });
        let is_old = |mark: &FrameMark| mark.at + time <= now;
        while self.marks.get(1).is_some_and(is_old) {
            self.marks.pop_front();
        }
        self.marks.front().filter(|mark| is_old(mark)).map(|mark| mark.frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_older_than_the_time_are_quiet_and_no_others() {
        let (start, time) = (Instant::now(), Duration::from_secs(8));
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut quiet = QuietClock::default();
        assert_eq!(quiet.next(at(3), time), at(3), "at once");
        assert_eq!(quiet.look(at(3), 10, time), None);
        assert_eq!(quiet.next(at(3), time), at(4));
        for (second, frames) in [(4, 11), (5, 20), (6, 20), (10, 30)] {
            assert_eq!(quiet.look(at(second), frames, time), None, "{second}");
        }
        assert_eq!(quiet.look(at(11), 30, time), Some(10));
        assert_eq!(quiet.look(at(13), 30, time), Some(20));
        assert_eq!(quiet.look(at(90), 30, time), Some(30));
        assert_eq!(quiet.marks.len(), 2, "older marks are forgotten");
    }
}
