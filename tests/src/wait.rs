//! Waiting with a deadline.

use std::{
    sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a test waits for an event that must happen. Only a failing test waits this long, so a
/// loaded machine has time enough.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Names the variable that multiplies every patience. `cargo xtask vm` sets it for an emulated
/// processor.
const FACTOR: &str = "BMPD_PATIENCE";

/// Scales a patience for a usual machine to this one.
pub fn patience(usual: Duration) -> Duration {
    static BY: LazyLock<u32> =
        LazyLock::new(|| std::env::var(FACTOR).ok().and_then(|factor| factor.parse().ok()).unwrap_or(1));
    usual * *BY
}

/// The shortest pause between two looks at what announces nothing: kernel tables, other programs.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The longest pause between two looks.
const LOOK_LAST: Duration = Duration::from_millis(500);

/// Returns how long to pause after a look that took so long. Many looks start a program, and other
/// tests need the processor too.
pub fn pause_after(look: Duration) -> Duration {
    (4 * look).clamp(LOOK_EVERY, LOOK_LAST)
}

/// Calls `look` until it finds something, and returns that.
///
/// # Panics
/// After the scaled [`patience`], with `what` as the event that did not happen.
pub fn until<T>(what: &str, usual: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let patience = patience(usual);
    let deadline = Instant::now() + patience;
    loop {
        let begin = Instant::now();
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "did not happen within {patience:?}: {what}");
        std::thread::sleep(pause_after(begin.elapsed()));
    }
}

/// A value that threads can wait on.
#[derive(Debug, Default)]
pub struct WatchedValue<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> WatchedValue<T> {
    /// Starts with `value`.
    pub fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Condvar::new() }
    }

    /// Locks the value, even after a test panicked with the lock held, so that records stay
    /// readable.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the value and wakes every waiting thread.
    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `look` finds something in the value; `None` after the scaled [`patience`].
    pub fn wait_for<R>(&self, usual: Duration, mut look: impl FnMut(&T) -> Option<R>) -> Option<R> {
        let deadline = Instant::now() + patience(usual);
        let mut value = self.lock();
        loop {
            if let Some(found) = look(&value) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            value = self.changed.wait_timeout(value, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
