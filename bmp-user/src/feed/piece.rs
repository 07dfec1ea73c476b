//! Frames on their way to a session.

use bytes::Bytes;

use super::{FrameCounts, stored::frame_count};
use crate::wire::bmp::MessageType;

/// Whole frames that a session sends as they are.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The frames, one behind the other.
    pub bytes: Bytes,
    /// The numbers of frames by type.
    pub counts: FrameCounts,
}

impl Piece {
    /// Frames of one type.
    pub(super) fn of(message: MessageType, bytes: Bytes) -> Self {
        let mut counts = FrameCounts::default();
        counts.record(message.code(), frame_count(&bytes));
        Self { bytes, counts }
    }
}
