//! Errors in BMP.

use super::{MAX_FRAME, MessageType};
use crate::wire::{error::At, reader::Short};

/// The names of the OPENs of a Peer Up in errors.
pub(super) const SENT_OPEN: &str = "the sent OPEN";
pub(super) const RECEIVED_OPEN: &str = "the received OPEN";

/// An error in BMP, and where it is.
pub type Error = At<Problem>;

/// What was expected, and what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The first byte of a frame is not 3.
    #[error("expected BMP version 3 (RFC 7854), found {found}{hint}", found = .0, hint = version_hint(*.0))]
    Version(u8),
    /// A message length that is impossible.
    #[error("expected a message length of 6 to {MAX_FRAME} bytes, found {0}")]
    Length(u32),
    /// A message or a field that ends too early.
    #[error("expected {need} bytes for {what}, found {found}")]
    Short {
        /// The message or field.
        what: &'static str,
        /// How many bytes it needs, at least.
        need: usize,
        /// How many there are.
        found: usize,
    },
    /// A BGP message in a Peer Up that is too short for an OPEN.
    #[error("expected a BGP OPEN of at least 29 bytes, found a length of {0}")]
    OpenLength(u16),
    /// A BGP message in a Peer Up that is not an OPEN.
    #[error("expected a BGP OPEN (type 1), found BGP message type {0}")]
    OpenType(u8),
    /// A message about the BMP session, where only messages about peers may come.
    #[error("expected a message about a peer, found {0}")]
    NotAboutAPeer(MessageType),
}

impl Problem {
    /// True if the problem is in an OPEN of a Peer Up.
    pub fn is_of_open(&self) -> bool {
        match self {
            Self::OpenLength(_) | Self::OpenType(_) => true,
            Self::Short { what, .. } => [SENT_OPEN, RECEIVED_OPEN].contains(what),
            Self::Version(_) | Self::Length(_) | Self::NotAboutAPeer(_) => false,
        }
    }
}

fn version_hint(found: u8) -> &'static str {
    match found {
        1 | 2 => " (a draft older than the RFC): set the sender to version 3",
        4 => " (draft-ietf-grow-bmp-tlv): set the sender to version 3",
        _ => ": the sender does not speak BMP, or lost its place in the stream",
    }
}

impl From<Short> for Problem {
    fn from(Short { what, need, found, .. }: Short) -> Self {
        Self::Short { what, need, found }
    }
}
