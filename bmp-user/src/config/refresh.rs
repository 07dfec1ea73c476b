//! When a session is first told the state.

use std::time::Duration;

/// `initial-refresh delay SECONDS spread SECONDS`: when the first dump of a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitialRefresh {
    /// How long every session waits.
    pub delay: Duration,
    /// The time over which the sessions are spread after that.
    pub spread: Duration,
}
