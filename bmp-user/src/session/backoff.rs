//! How long to wait before the next attempt.

use std::time::Duration;

use crate::config::ConnectRetry;

/// Doubling delays with jitter, so that the sessions of a station that comes back do not all return
/// in the same moment.
#[derive(Debug)]
pub(super) struct Backoff {
    waits: ConnectRetry,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(waits: ConnectRetry) -> Self {
        Self { waits, next: waits.first }
    }

    /// Sets the shortest and the longest delay.
    pub(super) fn within(&mut self, waits: ConnectRetry) {
        if self.waits != waits {
            *self = Self::new(waits);
        }
    }

    /// Returns the delay before the next attempt: between three and five quarters of the nominal
    /// one.
    pub(super) fn delay(&mut self) -> Duration {
        let nominal = self.next;
        self.next = (nominal * 2).min(self.waits.longest);
        nominal.mul_f64(0.75 + fastrand::f64() / 2.0)
    }

    /// Starts again with the shortest delay, after a success or a change of configuration.
    pub(super) fn reset(&mut self) {
        self.next = self.waits.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SessionConfig;

    #[test]
    fn delays_double_up_to_the_longest_and_start_again_after_a_reset() {
        let mut backoff = Backoff::new(SessionConfig::CONNECT_RETRY);
        for nominal in [1, 2, 4, 8, 16, 32, 60, 60] {
            let delay = backoff.delay().as_secs_f64();
            let nominal = f64::from(nominal);
            assert!((nominal * 0.75..=nominal * 1.25).contains(&delay), "{delay} for {nominal}");
        }
        backoff.reset();
        assert!(backoff.delay() <= SessionConfig::CONNECT_RETRY.first.mul_f64(1.25));
    }
}
