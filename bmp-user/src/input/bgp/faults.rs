//! Errors in the path attributes of a received UPDATE, and the reaction to each (RFC 7606).
//!
//! RFC 7606 §2 defines three approaches: discard the attribute, treat the routes of the UPDATE as
//! withdrawn, or reset the session. Errors in NLRI and in the next hop of MP_REACH_NLRI always
//! reset the session; `updates` finds those. This module never changes an UPDATE.

use std::{fmt, net::Ipv4Addr};

use bytes::Bytes;

use super::fsm::OutgoingNotification;
use crate::wire::bgp::{
    Attribute, Update, attribute_flags, attribute_type as t, attributes,
    notification::{code, update_error},
};

/// The reaction to an error (RFC 7606 §2), the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Approach {
    /// The attribute is discarded.
    Discard,
    /// The routes of the UPDATE are treated as withdrawn.
    Withdraw,
    /// The session ends with a NOTIFICATION.
    Reset,
}

/// An error in the path attributes, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AttributeProblem {
    #[error("the last attribute is longer than the attributes' length allows (RFC 7606 §4)")]
    Overrun,
    #[error("{0} has the flags of another class of attributes (RFC 7606 §3 c)")]
    Flags(AttributeName),
    #[error("{0} has a length of {1} bytes (RFC 7606 §7)")]
    Length(AttributeName, usize),
    #[error("ORIGIN is {0}, which has no meaning (RFC 7606 §7.1)")]
    Origin(u8),
    #[error("NEXT_HOP is {0}, which is no address of a host (RFC 4271 §6.3)")]
    NextHop(Ipv4Addr),
    #[error("{0} has a segment that is empty, cut or of an unknown type (RFC 7606 §7.2)")]
    Segments(AttributeName),
    #[error("{0} has confederation segments, and the peer is in no confederation with this device (RFC 5065 §5)")]
    Confederation(AttributeName),
    #[error("{0} has an AS_SET (RFC 9774 §3)")]
    AsSet(AttributeName),
    #[error("{0} has AS 0 (RFC 7607 §2)")]
    AsZero(AttributeName),
    #[error("ATTR_SET has a truncated attribute (RFC 7606 §7.16)")]
    AttrSet,
    #[error("{0} occurs twice (RFC 7606 §3 g)")]
    Twice(AttributeName),
    #[error("{0} comes from another AS (RFC 7606 §7.5, §7.9, §7.10)")]
    External(AttributeName),
    #[error("{0} comes from a speaker of 4-octet AS numbers (RFC 6793 §4.1)")]
    FourOctet(AttributeName),
    #[error("the well-known {0} is not known (RFC 4271 §6.3)")]
    Unrecognized(AttributeName),
    #[error("{0} is missing (RFC 7606 §3 d)")]
    Missing(AttributeName),
}

/// An error in the path attributes, with the reaction and the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AttributeFault {
    pub(super) approach: Approach,
    pub(super) problem: AttributeProblem,
    /// Start and end of the attribute, in bytes from the start of all attributes.
    attribute: (usize, usize),
}

impl AttributeFault {
    fn new(attribute: &Attribute<'_>, approach: Approach, problem: AttributeProblem) -> Self {
        Self { approach, problem, attribute: (attribute.at, attribute.end) }
    }

    /// Returns the NOTIFICATION that ends a session for this error (RFC 4271 §6.3). `all` are the
    /// attributes of the UPDATE.
    pub(super) fn notice(&self, all: &[u8]) -> OutgoingNotification {
        let (at, end) = self.attribute;
        let attribute = all.get(at..end).unwrap_or_default();
        let (subcode, data) = match self.problem {
            AttributeProblem::Overrun | AttributeProblem::Twice(_) => (update_error::MALFORMED_ATTRIBUTE_LIST, &[][..]),
            // RFC 4760 §7, RFC 7606 §5.3.
            AttributeProblem::Flags(AttributeName(t::MP_REACH_NLRI | t::MP_UNREACH_NLRI)) => {
                (update_error::OPTIONAL_ATTRIBUTE, attribute)
            }
            AttributeProblem::Flags(_) => (update_error::ATTRIBUTE_FLAGS, attribute),
            AttributeProblem::Length(..) => (update_error::ATTRIBUTE_LENGTH, attribute),
            AttributeProblem::Origin(_) => (update_error::INVALID_ORIGIN, attribute),
            AttributeProblem::NextHop(_) => (update_error::INVALID_NEXT_HOP, attribute),
            AttributeProblem::Segments(AttributeName(t::AS_PATH))
            | AttributeProblem::Confederation(AttributeName(t::AS_PATH))
            | AttributeProblem::AsSet(AttributeName(t::AS_PATH))
            | AttributeProblem::AsZero(AttributeName(t::AS_PATH)) => (update_error::MALFORMED_AS_PATH, &[][..]),
            AttributeProblem::Segments(_)
            | AttributeProblem::Confederation(_)
            | AttributeProblem::AsSet(_)
            | AttributeProblem::AsZero(_)
            | AttributeProblem::AttrSet
            | AttributeProblem::External(_)
            | AttributeProblem::FourOctet(_) => (update_error::OPTIONAL_ATTRIBUTE, attribute),
            AttributeProblem::Unrecognized(_) => (update_error::UNRECOGNIZED_WELL_KNOWN, attribute),
            AttributeProblem::Missing(AttributeName(kind)) => {
                return OutgoingNotification {
                    code: code::UPDATE,
                    subcode: update_error::MISSING_WELL_KNOWN,
                    data: Bytes::copy_from_slice(&[kind]),
                };
            }
        };
        OutgoingNotification { code: code::UPDATE, subcode, data: Bytes::copy_from_slice(data) }
    }
}

/// The session that an UPDATE belongs to, as far as the checks depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UpdateContext {
    /// The size of an AS number in AS_PATH and AGGREGATOR, in bytes.
    pub(super) as_size: usize,
    /// True if the peer is in our own AS.
    pub(super) internal: bool,
}

impl UpdateContext {
    /// Returns the worst error in the path attributes of an UPDATE, and the first of several
    /// equally bad ones (RFC 7606 §3 h). Calls `discard` with the start and end of each attribute
    /// to discard.
    pub(super) fn examine(self, update: &Update<'_>, mut discard: impl FnMut(usize, usize)) -> Option<AttributeFault> {
        let mut worst: Option<AttributeFault> = None;
        let mut note = |fault: AttributeFault| {
            if worst.is_none_or(|worst| worst.approach < fault.approach) {
                worst = Some(fault);
            }
        };
        let mut present = AttributeTypes::default();
        for attribute in attributes(update.attributes) {
            let Ok(attribute) = attribute else {
                let end = update.attributes.len();
                note(AttributeFault {
                    approach: Approach::Withdraw,
                    problem: AttributeProblem::Overrun,
                    attribute: (end, end),
                });
                break;
            };
            let fault = if present.insert(attribute.kind) {
                self.fault(update, &attribute)
            } else {
                Some(AttributeFault::new(
                    &attribute,
                    Approach::Discard,
                    AttributeProblem::Twice(AttributeName(attribute.kind)),
                ))
            };
            if let Some(fault) = fault {
                if fault.approach == Approach::Discard {
                    discard(attribute.at, attribute.end);
                }
                note(fault);
            }
        }
        let has_reach = update.reach.is_some_and(|reach| !reach.nlri.is_empty());
        let announces = has_reach || !update.nlri.is_empty();
        for (is_needed, kind) in
            [(announces, t::ORIGIN), (announces, t::AS_PATH), (!update.nlri.is_empty(), t::NEXT_HOP)]
        {
            if is_needed && !present.contains(kind) {
                let problem = AttributeProblem::Missing(AttributeName(kind));
                note(AttributeFault { approach: Approach::Withdraw, problem, attribute: (0, 0) });
            }
        }
        // RFC 7606 §5.2: without reachable routes, NLRI may have been missed.
        if let Some(fault) = &mut worst
            && fault.approach == Approach::Withdraw
            && !announces
        {
            fault.approach = Approach::Reset;
        }
        worst
    }

    /// Returns the error of one attribute.
    #[inline]
    fn fault(self, update: &Update<'_>, attribute: &Attribute<'_>) -> Option<AttributeFault> {
        let &Attribute { flags, kind, value, .. } = attribute;
        let name = AttributeName(kind);
        let fault = |approach, problem| Some(AttributeFault::new(attribute, approach, problem));
        // RFC 7606 §3 (f) says this for ATOMIC_AGGREGATE and AGGREGATOR. The RFC of each other
        // attribute says it for that attribute.
        let approach = if is_discarded(kind) { Approach::Discard } else { Approach::Withdraw };
        if !self.internal && matches!(kind, t::LOCAL_PREF | t::ORIGINATOR_ID | t::CLUSTER_LIST) {
            return fault(Approach::Discard, AttributeProblem::External(name));
        }
        if self.as_size == 4 && matches!(kind, t::AS4_PATH | t::AS4_AGGREGATOR) {
            return fault(Approach::Discard, AttributeProblem::FourOctet(name));
        }
        match class(kind) {
            Some(expected) if expected == flags & CLASS => {}
            Some(_) if matches!(kind, t::MP_REACH_NLRI | t::MP_UNREACH_NLRI) => {
                return fault(Approach::Reset, AttributeProblem::Flags(name));
            }
            Some(_) => return fault(approach, AttributeProblem::Flags(name)),
            None if flags & attribute_flags::OPTIONAL == 0 => {
                return fault(Approach::Reset, AttributeProblem::Unrecognized(name));
            }
            None => return None,
        }
        if !has_length_of(kind, value.len(), self.as_size) {
            return fault(approach, AttributeProblem::Length(name, value.len()));
        }
        let problem = match (kind, value) {
            (t::ORIGIN, &[origin]) if origin > 2 => AttributeProblem::Origin(origin),
            // RFC 4760 §3: without routes in the NLRI field, NEXT_HOP is ignored.
            (t::NEXT_HOP, &[a, b, c, d]) if !update.nlri.is_empty() && !is_host(Ipv4Addr::new(a, b, c, d)) => {
                AttributeProblem::NextHop(Ipv4Addr::new(a, b, c, d))
            }
            (t::AS_PATH, path) => return self.path_problem(name, path, self.as_size).and_then(|p| fault(approach, p)),
            (t::AS4_PATH, path) => {
                let problem = self.path_problem(name, path, 4)?;
                // RFC 9774 §3 takes precedence over RFC 6793 §6.
                let is_as_set = matches!(problem, AttributeProblem::AsSet(_));
                return fault(if is_as_set { Approach::Withdraw } else { approach }, problem);
            }
            (t::AGGREGATOR | t::AS4_AGGREGATOR, value) if value.iter().rev().skip(4).all(|byte| *byte == 0) => {
                AttributeProblem::AsZero(name)
            }
            (t::ATTR_SET, [_, _, _, _, inner @ ..]) if attributes(inner).any(|inner| inner.is_err()) => {
                AttributeProblem::AttrSet
            }
            _ => return None,
        };
        fault(approach, problem)
    }

    /// Returns the error in the segments of a path whose AS numbers have `size` bytes.
    fn path_problem(self, name: AttributeName, mut path: &[u8], size: usize) -> Option<AttributeProblem> {
        const AS_SET: u8 = 1;
        const AS_CONFED_SEQUENCE: u8 = 3;
        const AS_CONFED_SET: u8 = 4;
        let mut problem = None;
        while let [kind, count, rest @ ..] = path {
            let (1..=4, Some((numbers, rest)), true) =
                (*kind, rest.split_at_checked(usize::from(*count) * size), *count > 0)
            else {
                return Some(AttributeProblem::Segments(name));
            };
            let found = match *kind {
                AS_CONFED_SEQUENCE | AS_CONFED_SET if !self.internal => Some(AttributeProblem::Confederation(name)),
                AS_SET | AS_CONFED_SET => Some(AttributeProblem::AsSet(name)),
                _ if numbers.chunks(size).any(|number| number.iter().all(|byte| *byte == 0)) => {
                    Some(AttributeProblem::AsZero(name))
                }
                _ => None,
            };
            problem = problem.or(found);
            path = rest;
        }
        if path.is_empty() { problem } else { Some(AttributeProblem::Segments(name)) }
    }
}

/// The flags that distinguish well-known from optional and transitive from non-transitive
/// attributes (RFC 4271 §4.3). A wrong Partial bit is no error by RFC 7606 §3 (c), and the last
/// four bits are ignored.
const CLASS: u8 = attribute_flags::OPTIONAL | attribute_flags::TRANSITIVE;

/// Returns the required flags of [`CLASS`] for an attribute type, or `None` for an unassigned type.
fn class(kind: u8) -> Option<u8> {
    const WELL_KNOWN: u8 = attribute_flags::TRANSITIVE;
    const TRANSITIVE: u8 = CLASS;
    const NON_TRANSITIVE: u8 = attribute_flags::OPTIONAL;
    Some(match kind {
        t::ORIGIN | t::AS_PATH | t::NEXT_HOP | t::LOCAL_PREF | t::ATOMIC_AGGREGATE => WELL_KNOWN,
        t::MULTI_EXIT_DISC | t::ORIGINATOR_ID | t::CLUSTER_LIST | t::MP_REACH_NLRI | t::MP_UNREACH_NLRI => {
            NON_TRANSITIVE
        }
        t::TRAFFIC_ENGINEERING | t::AIGP | t::LINK_STATE | t::BGPSEC_PATH => NON_TRANSITIVE,
        t::AGGREGATOR | t::COMMUNITIES | t::EXTENDED_COMMUNITIES | t::AS4_PATH | t::AS4_AGGREGATOR => TRANSITIVE,
        t::PMSI_TUNNEL | t::TUNNEL_ENCAPSULATION | t::IPV6_EXTENDED_COMMUNITIES | t::PE_LABELS => TRANSITIVE,
        t::LARGE_COMMUNITY | t::ONLY_TO_CUSTOMER | t::D_PATH | t::SFP | t::BFD_DISCRIMINATOR => TRANSITIVE,
        t::PREFIX_SID | t::ATTR_SET => TRANSITIVE,
        _ => return None,
    })
}

/// True if a malformed attribute of this type is discarded while its routes stay: RFC 7606 §3 (f),
/// §7.6 and §7.7; RFC 6793 §6; RFC 7311 §3; RFC 9552 §8.2.2; RFC 9026; RFC 8669 §6.
fn is_discarded(kind: u8) -> bool {
    matches!(
        kind,
        t::ATOMIC_AGGREGATE
            | t::AGGREGATOR
            | t::AS4_PATH
            | t::AS4_AGGREGATOR
            | t::AIGP
            | t::LINK_STATE
            | t::BFD_DISCRIMINATOR
            | t::PREFIX_SID
    )
}

/// True if an attribute of this type may have this length: RFC 7606 §7, and §4 for zero.
fn has_length_of(kind: u8, length: usize, as_size: usize) -> bool {
    let is_list_of = |size: usize| length > 0 && length.is_multiple_of(size);
    match kind {
        t::ORIGIN => length == 1,
        t::AS_PATH | t::MP_REACH_NLRI | t::MP_UNREACH_NLRI => true,
        t::NEXT_HOP | t::MULTI_EXIT_DISC | t::LOCAL_PREF | t::ORIGINATOR_ID | t::ONLY_TO_CUSTOMER => length == 4,
        t::ATOMIC_AGGREGATE => length == 0,
        t::AGGREGATOR => length == as_size + 4,
        t::AS4_AGGREGATOR => length == 8,
        t::COMMUNITIES | t::CLUSTER_LIST => is_list_of(4),
        t::EXTENDED_COMMUNITIES => is_list_of(8),
        t::LARGE_COMMUNITY => is_list_of(12),
        t::IPV6_EXTENDED_COMMUNITIES => is_list_of(20),
        // RFC 6793 §6.
        t::AS4_PATH => length >= 6,
        // RFC 6514 §5: flags, tunnel type and label.
        t::PMSI_TUNNEL => length >= 5,
        t::ATTR_SET => length >= 4,
        _ => length > 0,
    }
}

/// True if an address can belong to a host (RFC 4271 §6.3).
fn is_host(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_multicast() || address.is_broadcast())
}

/// A set of attribute types.
#[derive(Clone, Copy, Debug, Default)]
struct AttributeTypes([u64; 4]);

impl AttributeTypes {
    /// Returns false if the type was already in the set.
    fn insert(&mut self, kind: u8) -> bool {
        let word = &mut self.0[usize::from(kind >> 6)];
        let before = *word;
        *word |= 1 << (kind & 63);
        *word != before
    }

    fn contains(self, kind: u8) -> bool {
        self.0[usize::from(kind >> 6)] & 1 << (kind & 63) != 0
    }
}

/// An attribute type, displayed by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AttributeName(pub(super) u8);

impl fmt::Display for AttributeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match t::name(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "attribute {}", self.0),
        }
    }
}
