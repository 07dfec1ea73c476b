//! Counts the records of a file that are passed over, by kind.
//!
//! A record never ends a replay if the next one can be found. These records are counted and passed
//! over: those of other protocols, of unassigned types, and with contents that cannot be read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::place::RecordPlace;
use crate::wire::{bgp::Family, mrt};

/// Kinds with a counter of their own. A file with more kinds is no table of routes.
const MOST_KINDS: usize = 64;

/// Why a record, or a part of a record, is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PassedOverKind {
    /// A record of a type and subtype that bmpd does not read.
    Unread {
        /// The record type; see [`mrt::kind`].
        kind: u16,
        /// The subtype, whose meaning depends on the type.
        subtype: u16,
    },
    /// A malformed record of a type that bmpd reads.
    Broken {
        /// The record type; see [`mrt::kind`].
        kind: u16,
        /// The subtype, whose meaning depends on the type.
        subtype: u16,
    },
    /// A malformed BGP message.
    Message,
    /// A RIB_GENERIC record of a family whose NLRI encoding is unknown. The start of its entries
    /// cannot be found.
    Family(Family),
    /// A route without a next hop.
    NextHop,
    /// A route whose attributes do not fit into an UPDATE.
    TooLong,
    /// A route of a peer that no earlier PEER_INDEX_TABLE names.
    Peer,
    /// All kinds beyond the first 64.
    Others,
}

impl fmt::Display for PassedOverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |f: &mut fmt::Formatter<'_>, kind: u16, subtype: u16| match mrt::kind::name(kind) {
            Some(name) => write!(f, "{name} (type {kind}) subtype {subtype}"),
            None => write!(f, "unassigned type {kind} subtype {subtype}"),
        };
        match *self {
            Self::Unread { kind, subtype } => {
                f.write_str("records of ")?;
                name(f, kind, subtype)
            }
            Self::Broken { kind, subtype } => {
                f.write_str("broken records of ")?;
                name(f, kind, subtype)
            }
            Self::Message => f.write_str("broken BGP messages"),
            Self::Family(family) => write!(f, "RIB_GENERIC records of {family} routes, a family of unknown form"),
            Self::NextHop => f.write_str("routes without next hop"),
            Self::TooLong => f.write_str("routes with attributes that no UPDATE has room for"),
            Self::Peer => f.write_str("routes of peers that no PEER_INDEX_TABLE names"),
            Self::Others => f.write_str("records of other kinds"),
        }
    }
}

impl PassedOverKind {
    /// True if the file is faulty. A record of a type or family that bmpd does not read is no fault
    /// of the file.
    pub fn is_error(self) -> bool {
        !matches!(self, Self::Unread { .. } | Self::Family(_))
    }
}

/// How many records of one kind were passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedOverCount {
    /// The number of records.
    pub records: u64,
    /// The first of these records.
    pub first: RecordPlace,
}

/// The records of a file that were passed over, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PassedOverCounts(BTreeMap<PassedOverKind, PassedOverCount>);

impl PassedOverCounts {
    /// Counts a record, and returns the kind under which it was counted.
    pub(super) fn count(&mut self, kind: PassedOverKind, place: RecordPlace) -> PassedOverKind {
        let kind = if self.0.len() < MOST_KINDS || self.0.contains_key(&kind) { kind } else { PassedOverKind::Others };
        self.0.entry(kind).or_insert(PassedOverCount { records: 0, first: place }).records += 1;
        kind
    }

    /// Iterates over the counts in the order of kinds.
    pub(super) fn iter(&self) -> impl Iterator<Item = (PassedOverKind, PassedOverCount)> {
        self.0.iter().map(|(kind, count)| (*kind, *count))
    }

    /// Returns how many records were faulty.
    pub(super) fn errors(&self) -> u64 {
        self.iter().filter(|(kind, _)| kind.is_error()).map(|(_, count)| count.records).sum()
    }
}

/// The kinds that the log already has a line about.
#[derive(Debug, Default)]
pub(super) struct LoggedKinds(BTreeSet<PassedOverKind>);

impl LoggedKinds {
    /// Returns true for the first record of a kind. The set holds at most twice the kinds of one
    /// file.
    pub(super) fn is_first(&mut self, kind: PassedOverKind) -> bool {
        self.0.len() <= 2 * MOST_KINDS && self.0.insert(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u64) -> RecordPlace {
        RecordPlace { record: offset + 1, offset }
    }

    #[test]
    fn a_file_with_many_kinds_of_records_takes_bounded_memory() {
        let mut passed_over = PassedOverCounts::default();
        for kind in 0..u16::MAX {
            passed_over.count(PassedOverKind::Unread { kind, subtype: 7 }, place(kind.into()));
        }
        passed_over.count(PassedOverKind::Unread { kind: 3, subtype: 7 }, place(9));
        assert_eq!(passed_over.iter().count(), MOST_KINDS + 1);
        let records: u64 = passed_over.iter().map(|(_, count)| count.records).sum();
        assert_eq!(records, u64::from(u16::MAX) + 1);
        let (last, count) = passed_over.iter().last().unwrap();
        assert_eq!((last, count.first), (PassedOverKind::Others, place(MOST_KINDS as u64)));
        assert_eq!(passed_over.iter().nth(3).unwrap().1, PassedOverCount { records: 2, first: place(3) });
    }

    #[test]
    fn the_name_of_a_kind_includes_the_name_of_its_record_type() {
        let words = [
            (PassedOverKind::Unread { kind: 5, subtype: 1 }, "records of BGP (type 5) subtype 1"),
            (PassedOverKind::Unread { kind: 64, subtype: 1 }, "records of unassigned type 64 subtype 1"),
            (PassedOverKind::Unread { kind: 48, subtype: 0 }, "records of OSPFv3 (type 48) subtype 0"),
            (PassedOverKind::Broken { kind: 13, subtype: 2 }, "broken records of TABLE_DUMP_V2 (type 13) subtype 2"),
        ];
        for (kind, text) in words {
            assert_eq!(kind.to_string(), text);
        }
    }
}
