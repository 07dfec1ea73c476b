//! What operators say of commits: a note about one, and which one they mean.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Commits that are kept.
pub const COMMITS_KEPT: usize = 64;

/// What an operator says about a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitNote {
    /// A word to name it by.
    pub label: Option<String>,
    /// What it is for.
    pub description: Option<String>,
}

impl CommitNote {
    /// Returns this note, with what it lacks from another one.
    #[must_use]
    pub(super) fn or(&self, other: &Self) -> Self {
        Self {
            label: self.label.clone().or_else(|| other.label.clone()),
            description: self.description.clone().or_else(|| other.description.clone()),
        }
    }
}

/// How a configuration came into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitOrigin {
    /// An operator has committed a candidate.
    Commit,
    /// An operator has returned to an earlier commit.
    Rollback,
    /// bmpd has read it from its file.
    File,
    /// Commits have led to it that could not be recorded.
    Unrecorded,
}

/// Which commit a return goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RollbackTarget {
    /// The one of this number.
    Commit(u64),
    /// The newest one with this label.
    Label(String),
    /// The one before the last ones, of which there are so many.
    Last(u32),
}
