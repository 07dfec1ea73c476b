//! The timers of a machine as points in time.

use std::time::Instant;

/// The timers of RFC 4271 §8.1.3 and §10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::input::bgp) enum Timer {
    ConnectRetry,
    Hold,
    Keepalive,
    IdleHold,
}

impl Timer {
    const ALL: [Self; 4] = [Self::ConnectRetry, Self::Hold, Self::Keepalive, Self::IdleHold];
}

/// The expiry of each running timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::input::bgp) struct Timers([Option<Instant>; 4]);

impl Timers {
    pub(in crate::input::bgp) fn get(&self, timer: Timer) -> Option<Instant> {
        self.0[timer as usize]
    }

    pub(super) fn start(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    /// Returns the next expiry.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }

    /// Stops and returns a timer that has expired at `now`.
    pub(super) fn expired(&mut self, now: Instant) -> Option<Timer> {
        let timer = Timer::ALL.into_iter().find(|timer| self.get(*timer).is_some_and(|at| at <= now))?;
        self.stop(timer);
        Some(timer)
    }
}
