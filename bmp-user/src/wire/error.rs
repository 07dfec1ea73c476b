//! What is wrong with bytes, and where: the same for every protocol, whose problems are its own.

use super::reader::Short;

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {problem}")]
pub struct At<P> {
    /// Where, in bytes from the start of what was parsed: a message, a buffer, or a whole stream (see [`At::after`]).
    pub offset: u64,
    /// What was expected there and what was found.
    pub problem: P,
}

impl<P> At<P> {
    pub(crate) fn new(offset: usize, problem: P) -> Self {
        Self { offset: offset as u64, problem }
    }

    /// The same error, seen from `bytes` bytes further back.
    #[must_use]
    pub fn after(self, bytes: u64) -> Self {
        Self { offset: self.offset.saturating_add(bytes), ..self }
    }
}

impl<P: From<Short>> From<Short> for At<P> {
    fn from(short: Short) -> Self {
        Self::new(short.at, short.into())
    }
}
