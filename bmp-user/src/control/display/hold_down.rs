//! Sessions that `hold-down` keeps up although their way is lost.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use super::layout::tenths;
use crate::pin::{Reason, SessionPin};

/// Why a session is held, and for how long yet. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct HoldDownReport {
    /// The reason that the session will be down for.
    pub(super) reason: Reason,
    /// The reason in a sentence.
    pub(super) detail: String,
    /// Seconds until the session goes down, to a tenth, unless the way is mended before.
    pub(super) for_seconds: f64,
}

impl HoldDownReport {
    /// Returns `None` where the session is not held.
    pub(super) fn of(pin: &SessionPin) -> Option<Self> {
        let held = pin.hold_down()?;
        Some(Self {
            reason: held.cause.reason,
            detail: held.cause.why.clone(),
            for_seconds: tenths(held.until.saturating_duration_since(Instant::now())),
        })
    }
}

impl fmt::Display for HoldDownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, detail, for_seconds } = self;
        write!(f, "{reason}: {detail}; down in {for_seconds:.1} s unless that is mended (hold-down)")
    }
}
