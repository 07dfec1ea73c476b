//! An error with the offset of its byte. Each protocol has its own kinds of problems.

use super::reader::Short;

/// A problem, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {problem}")]
pub struct At<P> {
    /// The offset, in bytes from the start of the parsed message, buffer or stream: see
    /// [`At::after`].
    pub offset: u64,
    /// What was expected there, and what was found.
    pub problem: P,
}

impl<P> At<P> {
    pub(crate) fn new(offset: usize, problem: P) -> Self {
        Self { offset: offset as u64, problem }
    }

    /// Moves the offset by `bytes`, because that many bytes come before what was parsed.
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
