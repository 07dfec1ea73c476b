//! When a RIB has been quiet for so long that it is taken to be complete.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// How many times it is looked in the time for which a RIB has to be quiet: it may take longer by two of them.
const LOOKS: u32 = 8;

/// The feed has no clock: this has, and remembers where the feed was.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    /// When it was looked, and how many frames there had been; oldest first.
    marks: VecDeque<(Instant, u64)>,
}

impl Quiet {
    /// When it is to be looked next.
    pub(super) fn next(&self, now: Instant, time: Duration) -> Instant {
        self.marks.back().map_or(now, |(last, _)| *last + time / LOOKS)
    }

    /// Looks: there have been `frames` frames. Gives how many there were at least `time` ago: what came before that came so long ago.
    pub(super) fn look(&mut self, now: Instant, frames: u64, time: Duration) -> Option<u64> {
        self.marks.push_back((now, frames));
        let is_old = |(then, _): &(Instant, u64)| *then + time <= now;
        while self.marks.get(1).is_some_and(is_old) {
            self.marks.pop_front();
        }
        self.marks.front().filter(|mark| is_old(mark)).map(|(_, frames)| *frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_time_and_no_more_is_quiet() {
        let (start, time) = (Instant::now(), Duration::from_secs(8));
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut quiet = Quiet::default();
        assert_eq!(quiet.next(at(3), time), at(3), "at once");
        assert_eq!(quiet.look(at(3), 10, time), None);
        assert_eq!(quiet.next(at(3), time), at(4));
        for (second, frames) in [(4, 11), (5, 20), (6, 20), (10, 30)] {
            assert_eq!(quiet.look(at(second), frames, time), None, "{second}");
        }
        assert_eq!(quiet.look(at(11), 30, time), Some(10));
        assert_eq!(quiet.look(at(13), 30, time), Some(20));
        assert_eq!(quiet.look(at(90), 30, time), Some(30));
        assert_eq!(quiet.marks.len(), 2, "what is older still is forgotten");
    }
}
