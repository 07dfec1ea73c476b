//! A configuration that is in force for a time: its owner, the time left, and notices to operators.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    commit::{CommitNote, CommitOrigin},
    commit_error::CommitError,
    model::Config,
    operator::{Allow, OperatorId, Who},
};

/// The time when a trial ends by itself, and the trial's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrialEnd {
    pub(super) number: u64,
    pub(super) at: Instant,
}

/// A configuration that is in force for a time, and not in the file.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) number: u64,
    pub(super) by: Who,
    pub(super) before: Arc<Config>,
    /// What its operator says about it.
    pub(super) note: CommitNote,
    pub(super) origin: CommitOrigin,
    until: Instant,
    time: Duration,
    owner: Weak<u64>,
}

impl Trial {
    /// Begins now.
    pub(super) fn begin(
        number: u64,
        owner: &OperatorId,
        by: Who,
        before: Arc<Config>,
        note: CommitNote,
        origin: CommitOrigin,
        time: Duration,
    ) -> Self {
        Self { number, by, before, note, origin, until: Instant::now() + time, time, owner: owner.downgrade() }
    }

    pub(super) fn end(&self) -> TrialEnd {
        TrialEnd { number: self.number, at: self.until }
    }

    fn is_of(&self, operator: &OperatorId) -> bool {
        operator.is(&self.owner)
    }

    fn seconds_left(&self) -> u64 {
        let left = self.until.saturating_duration_since(Instant::now());
        left.as_secs() + u64::from(left.subsec_nanos() > 0)
    }

    /// The refusal of what cannot be done while it runs.
    pub(super) fn runs(&self) -> CommitError {
        CommitError::TrialRuns { by: self.by.clone(), seconds: self.seconds_left() }
    }

    /// Refused unless it is the operator's own.
    pub(super) fn require_own(&self, operator: &OperatorId) -> Result<(), CommitError> {
        if self.is_of(operator) { Ok(()) } else { Err(self.runs()) }
    }

    /// Refused unless the operator may confirm or abort it.
    pub(super) fn require(&self, operator: &OperatorId, allow: Allow) -> Result<(), CommitError> {
        if allow == Allow::Any || allow == Allow::Trial(self.number) || self.is_of(operator) {
            return Ok(());
        }
        Err(CommitError::NotOwner { by: self.by.clone(), number: self.number, seconds: self.seconds_left() })
    }

    pub(super) fn report(&self) -> TrialReport {
        TrialReport {
            user: self.by.user.clone(),
            uid: self.by.uid,
            process: self.by.process,
            connected: self.owner.strong_count() > 0,
            seconds: self.time.as_secs(),
            seconds_left: self.seconds_left(),
        }
    }
}

/// The trial that runs, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub struct TrialReport {
    /// The name of the user who began it.
    pub user: Option<String>,
    /// That user's number.
    pub uid: Option<u32>,
    /// The process that had the connection.
    pub process: Option<u32>,
    /// The connection is still there.
    pub connected: bool,
    /// How long it lasts in all.
    pub seconds: u64,
    /// How long it has yet.
    pub seconds_left: u64,
}

/// A notice to operators that a trial begins or ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialNotice {
    /// One sentence with its full stop.
    pub text: String,
    /// The process that has done it, and knows.
    pub by: Option<u32>,
}
