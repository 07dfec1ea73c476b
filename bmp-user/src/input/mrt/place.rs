//! The place of a record in a file, and the records behind frames.

use std::fmt;

/// The place of a record in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordPlace {
    /// The number of the record, counted from 1.
    pub record: u64,
    /// The offset of the record in the unpacked file, in bytes.
    pub offset: u64,
}

impl fmt::Display for RecordPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} at byte {} (unpacked)", self.record, self.offset)
    }
}

/// The record behind a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameOrigin {
    /// The offset of the frame in its batch, in bytes.
    at: usize,
    place: RecordPlace,
}

impl FrameOrigin {
    pub(super) fn new(at: usize, place: RecordPlace) -> Self {
        Self { at, place }
    }

    /// Returns the record behind the frame at this offset. `all` is sorted by offset.
    pub(super) fn find(all: &[Self], at: usize) -> Option<RecordPlace> {
        all.binary_search_by_key(&at, |origin| origin.at).ok().and_then(|found| all.get(found)).map(|found| found.place)
    }
}
