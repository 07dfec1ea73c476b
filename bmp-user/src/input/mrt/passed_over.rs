//! What of a file is passed over, counted by kind.
//!
//! A record that can be found never ends a replay. A record of another protocol, of a type that
//! nobody has assigned, or with something inside that cannot be read is counted here, and what
//! follows it is replayed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::place::Place;
use crate::wire::{bgp::Family, mrt};

/// Kinds that are counted apart; a file that has more is no table of routes.
const MOST_KINDS: usize = 64;

/// Why a record, or a part of it, is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A record of a type and subtype that is not read.
    Unread {
        /// See [`mrt::kind`].
        kind: u16,
        /// Its meaning depends on the type.
        subtype: u16,
    },
    /// A record of a type that is read, whose inside is not what it should be.
    Broken {
        /// See [`mrt::kind`].
        kind: u16,
        /// Its meaning depends on the type.
        subtype: u16,
    },
    /// A BGP message that is not what it should be.
    Message,
    /// A RIB_GENERIC record of a family whose NLRI have a form that is not known: where its entries begin cannot be told.
    Family(Family),
    /// A route without next hop.
    NextHop,
    /// A route that no UPDATE has room for.
    TooLong,
    /// A route of a peer that no PEER_INDEX_TABLE before it names.
    Peer,
    /// Any kind beyond the first 64.
    Others,
}

impl fmt::Display for Kind {
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

impl Kind {
    /// Whether the file is not as it should be; a record of a type or family that is not read is as
    /// good as any.
    pub fn is_error(self) -> bool {
        !matches!(self, Self::Unread { .. } | Self::Family(_))
    }
}

/// How many records of a kind were passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub records: u64,
    /// The first of them.
    pub first: Place,
}

/// What was passed over of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PassedOver(BTreeMap<Kind, Count>);

impl PassedOver {
    /// Counts a record: the kind that it is counted as.
    pub(super) fn count(&mut self, kind: Kind, place: Place) -> Kind {
        let kind = if self.0.len() < MOST_KINDS || self.0.contains_key(&kind) { kind } else { Kind::Others };
        self.0.entry(kind).or_insert(Count { records: 0, first: place }).records += 1;
        kind
    }

    /// By kind.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Kind, Count)> {
        self.0.iter().map(|(kind, count)| (*kind, *count))
    }

    /// How many records of which something could not be understood.
    pub(super) fn errors(&self) -> u64 {
        self.iter().filter(|(kind, _)| kind.is_error()).map(|(_, count)| count.records).sum()
    }
}

/// The kinds that the log has a line about.
#[derive(Debug, Default)]
pub(super) struct Logged(BTreeSet<Kind>);

impl Logged {
    /// True the first time. There are no more kinds than [`PassedOver`] gives.
    pub(super) fn is_first(&mut self, kind: Kind) -> bool {
        self.0.len() <= 2 * MOST_KINDS && self.0.insert(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u64) -> Place {
        Place { record: offset + 1, offset }
    }

    #[test]
    fn a_file_of_many_kinds_of_records_takes_no_more_memory_than_one_of_few() {
        let mut passed_over = PassedOver::default();
        for kind in 0..u16::MAX {
            passed_over.count(Kind::Unread { kind, subtype: 7 }, place(kind.into()));
        }
        passed_over.count(Kind::Unread { kind: 3, subtype: 7 }, place(9));
        assert_eq!(passed_over.iter().count(), MOST_KINDS + 1);
        let records: u64 = passed_over.iter().map(|(_, count)| count.records).sum();
        assert_eq!(records, u64::from(u16::MAX) + 1);
        let (last, count) = passed_over.iter().last().unwrap();
        assert_eq!((last, count.first), (Kind::Others, place(MOST_KINDS as u64)));
        assert_eq!(passed_over.iter().nth(3).unwrap().1, Count { records: 2, first: place(3) });
    }

    #[test]
    fn a_kind_is_called_by_the_name_of_its_type() {
        let words = [
            (Kind::Unread { kind: 5, subtype: 1 }, "records of BGP (type 5) subtype 1"),
            (Kind::Unread { kind: 64, subtype: 1 }, "records of unassigned type 64 subtype 1"),
            (Kind::Unread { kind: 48, subtype: 0 }, "records of OSPFv3 (type 48) subtype 0"),
            (Kind::Broken { kind: 13, subtype: 2 }, "broken records of TABLE_DUMP_V2 (type 13) subtype 2"),
        ];
        for (kind, text) in words {
            assert_eq!(kind.to_string(), text);
        }
    }
}
