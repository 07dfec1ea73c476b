//! What can be wrong with bytes that should be MRT.

use super::MAX_RECORD;
use crate::wire::{
    bgp::{self, Family},
    error::At,
    reader::Short,
};

/// Bytes that are not the MRT they should be.
pub type Error = At<Problem>;

/// What was expected, and what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A record longer than any that makes sense.
    #[error(
        "expected a record of at most {MAX_RECORD} bytes, found a length of {0}: this is no MRT, or a record before it is damaged"
    )]
    Length(u32),
    /// A record or a field that ends before it may.
    #[error("expected {need} bytes for {what}, found {found}")]
    Short {
        /// What does not fit.
        what: &'static str,
        /// How many bytes it takes, at least.
        need: usize,
        /// How many there are.
        found: usize,
    },
    /// Bytes behind the last field.
    #[error("expected the end of {what}, found {found} bytes more")]
    Trailing {
        /// What should have ended.
        what: &'static str,
        /// How many bytes are left.
        found: usize,
    },
    /// An address family that addresses of peers cannot have.
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
    /// A route that is not as its family's routes are.
    #[error("{0}")]
    Nlri(bgp::Problem),
    /// Routes of a family whose NLRI have a form that is not known here.
    #[error("the form of {0} routes is not known")]
    Family(Family),
}

impl From<Short> for Problem {
    fn from(Short { what, need, found, .. }: Short) -> Self {
        Self::Short { what, need, found }
    }
}
