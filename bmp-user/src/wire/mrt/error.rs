//! Errors in MRT.

use super::MAX_RECORD;
use crate::wire::{
    bgp::{self, Family},
    error::At,
    reader::Short,
};

/// An error in MRT, and where it is.
pub type Error = At<Problem>;

/// What was expected, and what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A record that is too long to make sense.
    #[error(
        "expected a record of at most {MAX_RECORD} bytes, found a length of {0}: this is no MRT, or a record before it is damaged"
    )]
    Length(u32),
    /// A record or a field that ends too early.
    #[error("expected {need} bytes for {what}, found {found}")]
    Short {
        /// The record or field.
        what: &'static str,
        /// How many bytes it needs, at least.
        need: usize,
        /// How many there are.
        found: usize,
    },
    /// Bytes behind the last field.
    #[error("expected the end of {what}, found {found} bytes more")]
    Trailing {
        /// The record or field that should have ended.
        what: &'static str,
        /// How many bytes are left.
        found: usize,
    },
    /// An address family that is impossible for the address of a peer.
    #[error("expected AFI 1 (IPv4) or 2 (IPv6), found {0}")]
    AddressFamily(u16),
    /// A prefix longer than an address.
    #[error("expected a prefix length of at most {most} bits, found {found}")]
    PrefixLength {
        /// The length of an address.
        most: u8,
        /// The length of the prefix.
        found: u8,
    },
    /// A route that is not written as its family demands.
    #[error("{0}")]
    Nlri(bgp::Problem),
    /// Routes of a family of unknown form.
    #[error("the form of {0} routes is not known")]
    Family(Family),
}

impl From<Short> for Problem {
    fn from(Short { what, need, found, .. }: Short) -> Self {
        Self::Short { what, need, found }
    }
}
