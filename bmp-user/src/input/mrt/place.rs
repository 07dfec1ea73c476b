//! Where in a file something is.

use std::fmt;

/// A record of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its number, from 1 on.
    pub record: u64,
    /// Where it starts, in bytes of the unpacked file.
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} at byte {} (unpacked)", self.record, self.offset)
    }
}

/// Which record a frame was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// Where the frame starts among those that it is handed over with, in bytes.
    at: usize,
    place: Place,
}

impl Origin {
    pub(super) fn new(at: usize, place: Place) -> Self {
        Self { at, place }
    }

    /// The record of the frame that starts there. Frames are in their order.
    pub(super) fn find(all: &[Self], at: usize) -> Option<Place> {
        all.binary_search_by_key(&at, |origin| origin.at).ok().and_then(|found| all.get(found)).map(|found| found.place)
    }
}
