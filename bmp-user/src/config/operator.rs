//! Who changes a configuration, and what that operator may do to a trial.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use crate::escape::Untrusted;

/// Who is at the other end of a control connection, as the kernel tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// The user's name; absent where this host knows none.
    pub user: Option<String>,
    /// The user's number.
    pub uid: Option<u32>,
    /// The process that has connected.
    pub process: Option<u32>,
    /// The program that the process runs.
    pub program: Option<Untrusted>,
}

/// `alice (process 4711)`.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.user, self.uid) {
            (Some(user), _) => f.write_str(user)?,
            (None, Some(uid)) => write!(f, "user {uid}")?,
            (None, None) => f.write_str("an unknown user")?,
        }
        match self.process {
            Some(process) => write!(f, " (process {process})"),
            None => Ok(()),
        }
    }
}

/// The identity of one operator's connection, until the last clone is dropped. The connection that
/// begins a trial owns it.
#[derive(Clone, Debug)]
pub struct OperatorId(Arc<u64>);

impl OperatorId {
    pub(super) fn new(number: u64) -> Self {
        Self(Arc::new(number))
    }

    /// Returns what does not keep the operator.
    pub(super) fn downgrade(&self) -> Weak<u64> {
        Arc::downgrade(&self.0)
    }

    /// Decides whether this is the operator of [`Self::downgrade`].
    pub(super) fn is(&self, other: &Weak<u64>) -> bool {
        other.upgrade().is_some_and(|other| Arc::ptr_eq(&other, &self.0))
    }
}

/// Which trial an operator may confirm or abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    /// The operator's own.
    Own,
    /// Also the trial of this number, which the operator has been asked about.
    Trial(u64),
    /// Whoever's it is.
    Any,
}
