//! Why a commit is refused.

use super::{
    difference::Conflict, file::LoadError, history::HistoryError, kept::KeepError, operator::Who,
    start_limits::LimitExceeded,
};

/// Why a commit was refused: nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody else has changed the same.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The file could not be written.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// A trial is in force.
    #[error(
        "a trial is in force for another {seconds} s, by {by}: confirm it with `commit` where nothing is pending, or end it with `abort trial`"
    )]
    TrialRuns {
        /// Whose it is.
        by: Who,
        /// How long it has, in seconds.
        seconds: u64,
    },
    /// The trial is another operator's.
    #[error(
        "the trial is by {by}, {seconds} s left: `commit force` confirms it all the same, `abort trial force` ends it"
    )]
    NotOwner {
        /// Whose it is.
        by: Who,
        /// Which it is: see [`Allow::Trial`].
        number: u64,
        /// How long it has, in seconds.
        seconds: u64,
    },
    /// There is nothing to try.
    #[error("nothing is pending, so there is nothing to try")]
    NothingToTry,
    /// An address in it cannot be used on this host.
    #[error("{0}")]
    Unfit(String),
    /// A return to an earlier commit would lose the changes of the candidate.
    #[error(
        "the candidate has changes that are not committed: `commit` or `clear configuration candidate` comes before a rollback"
    )]
    Pending,
    /// The earlier commit cannot be had.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// No trial is in force.
    #[error("no trial is in force")]
    NoTrial,
    /// bmpd can do it only after a restart.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// The file cannot be read again.
    #[error(transparent)]
    Load(#[from] LoadError),
}
