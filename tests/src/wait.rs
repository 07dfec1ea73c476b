//! Waiting for what must come, with an end.

use std::{
    sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a test waits for something that must happen. Long enough for a loaded machine: only a failing test waits so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Multiplies every patience: `cargo xtask vm` sets it for an emulated processor.
const FACTOR: &str = "BMPD_PATIENCE";

/// A patience that is right for a usual machine, made right for this one.
pub fn patience(usual: Duration) -> Duration {
    static BY: LazyLock<u32> =
        LazyLock::new(|| std::env::var(FACTOR).ok().and_then(|factor| factor.parse().ok()).unwrap_or(1));
    usual * *BY
}

/// How often something is looked at that cannot announce itself (a kernel table, another program's answer).
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks until `look` finds something.
///
/// # Panics
/// After the [`patience`] `usual`, saying `what` did not happen.
pub fn until<T>(what: &str, usual: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let patience = patience(usual);
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A value that threads wait on.
#[derive(Debug, Default)]
pub struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Watched<T> {
    /// Starts with `value`.
    pub fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Condvar::new() }
    }

    /// The value, locked. A test that panicked with the lock held does not hide what was recorded.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the value and wakes everyone who waits.
    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `look` finds something in the value; `None` after the [`patience`] `usual`.
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
