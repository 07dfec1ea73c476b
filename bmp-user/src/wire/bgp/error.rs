//! Errors in BGP.

use super::{Family, HEADER, MessageType, error_code::code};
use crate::wire::{error::At, reader::Short};

/// An error in BGP, and where it is.
pub type Error = At<Problem>;

/// What was expected, and what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A marker that is not all ones (RFC 4271 §4.1).
    #[error("expected a marker of 16 bytes 0xff, found 0x{0:02x}: the sender does not speak BGP, or lost its place")]
    Marker(u8),
    /// A message type that is not assigned.
    #[error("expected a BGP message type of 1 to 5, found {0}")]
    Type(u8),
    /// A message length that is impossible for the type.
    #[error("expected a length of {least} to {most} bytes for {what}, found {found}")]
    Length {
        /// The message; "a message" if its type is not known yet.
        what: &'static str,
        /// The shortest possible length.
        least: usize,
        /// The longest possible length.
        most: usize,
        /// The message length, header included.
        found: u16,
    },
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
    /// Bytes behind the last field.
    #[error("expected the end of {what}, found {found} bytes more")]
    Trailing {
        /// The message or field that should have ended.
        what: &'static str,
        /// How many bytes are left.
        found: usize,
    },
    /// A message or field that does not fit its length field when it is built.
    #[error("{what} would take {found} bytes, and at most {most} fit")]
    TooLong {
        /// The message or field.
        what: &'static str,
        /// How many bytes fit.
        most: usize,
        /// How many bytes it would take.
        found: usize,
    },
    /// An OPEN with a version other than 4 (RFC 4271 §6.2).
    #[error("expected BGP version 4, found {0}")]
    Version(u8),
    /// An OPEN whose hold time is 1 or 2 seconds (RFC 4271 §6.2).
    #[error("expected a hold time of 0, or 3 seconds or more, found {0}")]
    HoldTime(u16),
    /// An OPEN whose BGP identifier is zero (RFC 6286 §2.1).
    #[error("expected a BGP identifier, found 0.0.0.0")]
    Identifier,
    /// An OPEN of AS number zero (RFC 7607).
    #[error("expected an AS number, found 0")]
    AsNumber,
    /// An optional parameter of an OPEN other than Capabilities (RFC 4271 §6.2).
    #[error("expected an optional parameter of type 2 (Capabilities), found type {0}")]
    Parameter(u8),
    /// Another message in the place of an UPDATE.
    #[error("expected a BGP UPDATE (type 2), found BGP message type {0}")]
    NotAnUpdate(u8),
    /// A prefix longer than an address of its family.
    #[error("expected a prefix of at most {most} bits, found {found}")]
    PrefixLength {
        /// What the family allows, in bits.
        most: u16,
        /// What the NLRI says, in bits.
        found: u16,
    },
    /// A path attribute that is there twice.
    #[error("expected one path attribute of type {0}, found two")]
    Twice(u8),
    /// A path attribute whose value or flags do not fit its type (RFC 7606 §7).
    #[error("the path attribute of type {0} is malformed")]
    Attribute(u8),
    /// Routes whose next hop has a length that is impossible for their family (RFC 7606 §7.11).
    #[error("expected a next hop as long as those of {family} are, found one of {found} bytes")]
    NextHop {
        /// The routes' family.
        family: Family,
        /// The length of the next hop.
        found: usize,
    },
    /// A mandatory path attribute that is missing (RFC 7606 §3 (d)).
    #[error("expected a path attribute of type {0}, found none")]
    Missing(u8),
}

impl Problem {
    /// The error code and subcode of the NOTIFICATION that answers a message with this problem (RFC
    /// 4271 §6.1, §6.2; RFC 7313 §5). `message` is `None` if its type is not known yet.
    pub fn notification(&self, message: Option<MessageType>) -> (u8, u8) {
        use super::error_code::{header_error, open_error, route_refresh_error};
        match (self, message) {
            (Self::Marker(_), _) => (code::MESSAGE_HEADER, header_error::NOT_SYNCHRONIZED),
            (Self::Type(_), _) => (code::MESSAGE_HEADER, header_error::BAD_TYPE),
            (Self::Version(_), _) => (code::OPEN, open_error::UNSUPPORTED_VERSION),
            (Self::HoldTime(_), _) => (code::OPEN, open_error::UNACCEPTABLE_HOLD_TIME),
            (Self::Identifier, _) => (code::OPEN, open_error::BAD_IDENTIFIER),
            (Self::AsNumber, _) => (code::OPEN, open_error::BAD_PEER_AS),
            (Self::Parameter(_), _) => (code::OPEN, open_error::UNSUPPORTED_PARAMETER),
            (_, Some(MessageType::RouteRefresh)) => (code::ROUTE_REFRESH, route_refresh_error::INVALID_LENGTH),
            (Self::Length { .. }, _) => (code::MESSAGE_HEADER, header_error::BAD_LENGTH),
            (_, Some(MessageType::Open)) => (code::OPEN, 0),
            (_, Some(MessageType::Update)) => (code::UPDATE, 1),
            _ => (code::MESSAGE_HEADER, header_error::BAD_LENGTH),
        }
    }
}

/// The offset of the length field in a header.
pub(super) const LENGTH_AT: usize = HEADER - 3;

impl From<Short> for Problem {
    fn from(Short { what, need, found, .. }: Short) -> Self {
        Self::Short { what, need, found }
    }
}
