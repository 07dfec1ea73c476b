//! When a session begins to dump, and how fast: `initial-refresh` and `dump-rate`.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use super::status::ShownDump;
use crate::feed::DumpProgress;

/// A dump is let go on so often in a second, at most.
const STEPS: u32 = 10;

/// Decides when the dumps of one connection go on.
#[derive(Debug)]
pub(super) struct DumpPacer {
    established: Instant,
    /// When the first dump begins. `None` once it has.
    begins_at: Option<Instant>,
    bucket: Option<RouteBucket>,
    /// Since when the dump goes on as it does now, and how far it was then.
    measured_from: Option<(Instant, DumpProgress)>,
}

/// How many routes may be sent: a bucket of tokens, which fills up at the rate.
#[derive(Debug)]
struct RouteBucket {
    rate: NonZeroU32,
    /// Negative after a message that had more routes than there were tokens.
    tokens: f64,
    filled_at: Instant,
}

impl DumpPacer {
    /// The pacer of a connection that has just been established. It does not wait before
    /// [`Self::follow_settings`].
    pub(super) fn new(now: Instant) -> Self {
        Self { established: now, begins_at: Some(now), bucket: None, measured_from: None }
    }

    /// Follows the configuration: the wait before the first dump, unless it has begun, and the rate
    /// of all dumps, `None` for no limit.
    pub(super) fn follow_settings(&mut self, wait: Duration, rate: Option<NonZeroU32>, now: Instant) {
        self.begins_at = self.begins_at.map(|_| self.established + wait);
        if self.bucket.as_ref().map(|bucket| bucket.rate) == rate {
            return;
        }
        self.measured_from = None;
        let before = self.bucket.take();
        self.bucket = rate.map(|rate| match before {
            Some(mut before) => {
                before.fill(now);
                RouteBucket { tokens: before.tokens.min(most_tokens(rate)), rate, filled_at: now }
            }
            None => RouteBucket { rate, tokens: most_tokens(rate), filled_at: now },
        });
    }

    /// True if the first dump has to wait. False from its time on, whatever is configured later.
    pub(super) fn has_to_wait(&mut self, now: Instant) -> bool {
        self.begins_at.take_if(|begins_at| *begins_at <= now);
        self.begins_at.is_some()
    }

    /// True if the first dump has not begun yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.begins_at.is_some()
    }

    /// Returns how many routes dumps may send now. `None`: any number.
    pub(super) fn allowance(&mut self, now: Instant) -> Option<u64> {
        self.bucket.as_mut().map(|bucket| {
            bucket.fill(now);
            bucket.tokens.max(0.0) as u64
        })
    }

    /// Notes that dumps have sent so many routes.
    pub(super) fn spend(&mut self, routes: u64) {
        if let Some(bucket) = &mut self.bucket {
            bucket.tokens -= routes as f64;
        }
    }

    /// Returns when a dump that has to wait may go on.
    pub(super) fn next(&self) -> Option<Instant> {
        self.begins_at.or_else(|| self.bucket.as_ref().map(RouteBucket::full_at))
    }

    /// Returns what displays show of the dump that is on its way. `progress` is how far it is.
    pub(super) fn shown(&mut self, progress: Option<DumpProgress>, now: Instant) -> ShownDump {
        let is_same = |(_, from): &(Instant, DumpProgress)| progress.is_some_and(|now| now.total == from.total);
        let measured_from = self.measured_from.filter(is_same).or(progress.map(|progress| (now, progress)));
        self.measured_from = measured_from;
        ShownDump {
            progress,
            begins_at: self.begins_at,
            measured_from: measured_from.map(|(at, from)| (at, from.told)),
        }
    }

    /// Notes that no dump is on its way.
    pub(super) fn end(&mut self) {
        self.measured_from = None;
    }
}

impl RouteBucket {
    fn fill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.tokens = (self.tokens + seconds * f64::from(self.rate.get())).min(most_tokens(self.rate));
        self.filled_at = now;
    }

    /// Returns when the bucket is full, if nothing is taken from it.
    fn full_at(&self) -> Instant {
        let missing = (most_tokens(self.rate) - self.tokens).max(0.0);
        self.filled_at + Duration::from_secs_f64(missing / f64::from(self.rate.get()))
    }
}

/// Returns the size of the bucket: the routes of a step, and one at least.
fn most_tokens(rate: NonZeroU32) -> f64 {
    (f64::from(rate.get()) / f64::from(STEPS)).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(tenths: u64) -> Duration {
        Duration::from_millis(tenths * 100)
    }

    fn at_rate(rate: u32, now: Instant) -> DumpPacer {
        let mut pacer = DumpPacer::new(now);
        pacer.follow_settings(Duration::ZERO, NonZeroU32::new(rate), now);
        assert!(!pacer.has_to_wait(now));
        pacer
    }

    /// Sends messages of `size` routes whenever the pacer lets it, and returns when each left.
    fn send(pacer: &mut DumpPacer, from: Instant, size: u64, messages: usize) -> Vec<Duration> {
        let (mut now, mut sent) = (from, Vec::new());
        while sent.len() < messages {
            if pacer.allowance(now) == Some(0) {
                now = pacer.next().unwrap().max(now + Duration::from_millis(1));
                continue;
            }
            pacer.spend(size);
            sent.push(now - from);
        }
        sent
    }

    #[test]
    fn routes_leave_at_the_rate_whatever_the_size_of_their_messages() {
        for (rate, size) in [(1, 1), (10, 1), (100, 7), (100, 800), (1_000_000, 500)] {
            let begin = Instant::now();
            let sent = send(&mut at_rate(rate, begin), begin, size, 200);
            let (time, routes) = (sent[199].as_secs_f64(), (199 * size) as f64);
            let burst = f64::from(rate) / 10.0 + 2.0 * size as f64 + 1.0;
            assert!(routes <= f64::from(rate) * time + burst, "{rate} {size}: {routes} in {time} s");
            assert!(routes >= f64::from(rate) * time - burst, "{rate} {size}: {routes} in {time} s");
        }
    }

    #[test]
    fn a_changed_rate_counts_at_once_and_a_debt_stays() {
        let begin = Instant::now();
        let mut pacer = at_rate(10, begin);
        pacer.spend(1001);
        assert_eq!(pacer.next(), Some(begin + Duration::from_secs(100) + seconds(1)));
        pacer.follow_settings(Duration::ZERO, NonZeroU32::new(1000), begin);
        assert_eq!((pacer.allowance(begin), pacer.next()), (Some(0), Some(begin + seconds(11))));
        assert_eq!(pacer.allowance(begin + seconds(11)), Some(100));
        pacer.follow_settings(Duration::ZERO, None, begin);
        assert_eq!((pacer.allowance(begin), pacer.next()), (None, None));
    }

    #[test]
    fn the_first_dump_waits_from_the_beginning_of_the_connection_and_no_later_one() {
        let begin = Instant::now();
        let mut pacer = DumpPacer::new(begin);
        pacer.follow_settings(seconds(50), None, begin);
        assert!(pacer.has_to_wait(begin + seconds(49)));
        // A changed wait counts at once.
        pacer.follow_settings(seconds(90), None, begin + seconds(49));
        assert_eq!(pacer.next(), Some(begin + seconds(90)));
        assert!(pacer.has_to_wait(begin + seconds(50)));
        assert!(!pacer.has_to_wait(begin + seconds(90)));
        pacer.follow_settings(seconds(500), None, begin + seconds(90));
        assert!(!pacer.has_to_wait(begin + seconds(90)));
    }

    #[test]
    fn the_remaining_time_is_measured_since_the_rate_changed() {
        let begin = Instant::now();
        let mut pacer = at_rate(10, begin);
        let progress = |told| Some(DumpProgress { told, total: 1000 });
        assert_eq!(pacer.shown(progress(0), begin).remaining(begin), None, "nothing is measured");
        let now = begin + seconds(100);
        assert_eq!(pacer.shown(progress(100), now).remaining(now), Some(Duration::from_secs(90)));
        pacer.follow_settings(Duration::ZERO, NonZeroU32::new(100), now);
        assert_eq!(pacer.shown(progress(100), now).remaining(now), None);
        let later = now + seconds(30);
        assert_eq!(pacer.shown(progress(400), later).remaining(later), Some(Duration::from_secs(6)));
        assert_eq!(pacer.shown(None, later).remaining(later), None);
    }
}
