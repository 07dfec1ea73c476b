//! NOTIFICATION (RFC 4271 §4.5): why a session ends.

use std::fmt;

use bytes::{BufMut, BytesMut};

use super::{Error, Frame, HEADER, MAX_MESSAGE, MessageType, message::header};
use crate::wire::reader::ByteReader;

/// Error codes.
pub mod code {
    /// Message Header Error (RFC 4271 §6.1).
    pub const MESSAGE_HEADER: u8 = 1;
    /// OPEN Message Error (RFC 4271 §6.2).
    pub const OPEN: u8 = 2;
    /// UPDATE Message Error (RFC 4271 §6.3).
    pub const UPDATE: u8 = 3;
    /// Hold Timer Expired (RFC 4271 §6.5).
    pub const HOLD_TIMER: u8 = 4;
    /// Finite State Machine Error (RFC 4271 §6.6, RFC 6608).
    pub const STATE_MACHINE: u8 = 5;
    /// Cease (RFC 4271 §6.7, RFC 4486).
    pub const CEASE: u8 = 6;
    /// ROUTE-REFRESH Message Error (RFC 7313 §5).
    pub const ROUTE_REFRESH: u8 = 7;
    /// Send Hold Timer Expired (RFC 9687).
    pub const SEND_HOLD_TIMER: u8 = 8;
}

/// Subcodes of [`code::MESSAGE_HEADER`] (RFC 4271 §6.1).
pub mod header_error {
    /// Connection Not Synchronized.
    pub const NOT_SYNCHRONIZED: u8 = 1;
    /// Bad Message Length.
    pub const BAD_LENGTH: u8 = 2;
    /// Bad Message Type.
    pub const BAD_TYPE: u8 = 3;
}

/// Subcodes of [`code::OPEN`] (RFC 4271 §6.2).
pub mod open_error {
    /// Unsupported Version Number.
    pub const UNSUPPORTED_VERSION: u8 = 1;
    /// Bad Peer AS.
    pub const BAD_PEER_AS: u8 = 2;
    /// Bad BGP Identifier.
    pub const BAD_IDENTIFIER: u8 = 3;
    /// Unsupported Optional Parameter.
    pub const UNSUPPORTED_PARAMETER: u8 = 4;
    /// Unacceptable Hold Time.
    pub const UNACCEPTABLE_HOLD_TIME: u8 = 6;
    /// Unsupported Capability (RFC 5492 §5).
    pub const UNSUPPORTED_CAPABILITY: u8 = 7;
}

/// Subcodes of [`code::UPDATE`] (RFC 4271 §6.3).
pub mod update_error {
    /// Malformed Attribute List.
    pub const MALFORMED_ATTRIBUTE_LIST: u8 = 1;
    /// Unrecognized Well-known Attribute.
    pub const UNRECOGNIZED_WELL_KNOWN: u8 = 2;
    /// Missing Well-known Attribute.
    pub const MISSING_WELL_KNOWN: u8 = 3;
    /// Attribute Flags Error.
    pub const ATTRIBUTE_FLAGS: u8 = 4;
    /// Attribute Length Error.
    pub const ATTRIBUTE_LENGTH: u8 = 5;
    /// Invalid ORIGIN Attribute.
    pub const INVALID_ORIGIN: u8 = 6;
    /// Invalid NEXT_HOP Attribute.
    pub const INVALID_NEXT_HOP: u8 = 8;
    /// Optional Attribute Error.
    pub const OPTIONAL_ATTRIBUTE: u8 = 9;
    /// Invalid Network Field.
    pub const INVALID_NETWORK_FIELD: u8 = 10;
    /// Malformed AS_PATH.
    pub const MALFORMED_AS_PATH: u8 = 11;
}

/// Subcodes of [`code::STATE_MACHINE`] (RFC 6608 §3).
pub mod state_machine_error {
    /// Receive Unexpected Message in OpenSent State.
    pub const IN_OPEN_SENT: u8 = 1;
    /// Receive Unexpected Message in OpenConfirm State.
    pub const IN_OPEN_CONFIRM: u8 = 2;
    /// Receive Unexpected Message in Established State.
    pub const IN_ESTABLISHED: u8 = 3;
}

/// Subcodes of [`code::CEASE`] (RFC 4486 §3, RFC 8538 §3, RFC 9384).
pub mod cease {
    /// Maximum Number of Prefixes Reached.
    pub const MAXIMUM_PREFIXES: u8 = 1;
    /// Administrative Shutdown.
    pub const SHUTDOWN: u8 = 2;
    /// Peer De-configured.
    pub const DE_CONFIGURED: u8 = 3;
    /// Administrative Reset.
    pub const RESET: u8 = 4;
    /// Connection Rejected.
    pub const REJECTED: u8 = 5;
    /// Other Configuration Change.
    pub const CONFIGURATION_CHANGE: u8 = 6;
    /// Connection Collision Resolution.
    pub const COLLISION: u8 = 7;
    /// Out of Resources.
    pub const OUT_OF_RESOURCES: u8 = 8;
    /// Hard Reset.
    pub const HARD_RESET: u8 = 9;
    /// BFD Down.
    pub const BFD_DOWN: u8 = 10;
}

/// Subcodes of [`code::ROUTE_REFRESH`] (RFC 7313 §5).
pub mod route_refresh_error {
    /// Invalid Message Length.
    pub const INVALID_LENGTH: u8 = 1;
}

/// A NOTIFICATION.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification<'a> {
    /// The error code: see [`code`].
    pub code: u8,
    /// The subcode. Its meaning depends on the code; zero adds nothing.
    pub subcode: u8,
    /// Data. Its meaning depends on code and subcode.
    pub data: &'a [u8],
}

impl<'a> Notification<'a> {
    /// Reads a NOTIFICATION.
    ///
    /// # Errors
    ///
    /// Never for a frame, which has the two octets.
    pub fn parse(frame: &Frame<'a>) -> Result<Self, Error> {
        Ok(Self::read(ByteReader::new(frame.bytes(), HEADER))?)
    }

    fn read(mut reader: ByteReader<'a>) -> Result<Self, crate::wire::reader::Short> {
        let code = reader.u8("the error code")?;
        let subcode = reader.u8("the error subcode")?;
        Ok(Self { code, subcode, data: reader.rest() })
    }

    /// The text of the peer's operator in an administrative shutdown or reset (RFC 9003 §2); `None`
    /// if it is empty or not UTF-8.
    pub fn shutdown_communication(&self) -> Option<&'a str> {
        let (code::CEASE, cease::SHUTDOWN | cease::RESET) = (self.code, self.subcode) else { return None };
        let (&length, text) = self.data.split_first()?;
        let text = std::str::from_utf8(text.get(..usize::from(length))?).ok()?;
        (!text.is_empty()).then_some(text)
    }

    /// The NOTIFICATION inside a hard reset (RFC 8538 §3).
    pub fn hard_reset(&self) -> Option<Self> {
        let (code::CEASE, cease::HARD_RESET) = (self.code, self.subcode) else { return None };
        Self::read(ByteReader::new(self.data, 0)).ok()
    }

    /// The name of the code, as the RFCs write it.
    pub fn code_name(&self) -> Option<&'static str> {
        Some(match self.code {
            code::MESSAGE_HEADER => "Message Header Error",
            code::OPEN => "OPEN Message Error",
            code::UPDATE => "UPDATE Message Error",
            code::HOLD_TIMER => "Hold Timer Expired",
            code::STATE_MACHINE => "Finite State Machine Error",
            code::CEASE => "Cease",
            code::ROUTE_REFRESH => "ROUTE-REFRESH Message Error",
            code::SEND_HOLD_TIMER => "Send Hold Timer Expired",
            _ => return None,
        })
    }

    /// The name of the subcode, as the RFCs write it.
    pub fn subcode_name(&self) -> Option<&'static str> {
        // In the order of the subcodes, from 1. A deprecated subcode has an empty name.
        let names: &[&str] = match self.code {
            code::MESSAGE_HEADER => &["Connection Not Synchronized", "Bad Message Length", "Bad Message Type"],
            code::OPEN => &[
                "Unsupported Version Number",
                "Bad Peer AS",
                "Bad BGP Identifier",
                "Unsupported Optional Parameter",
                "",
                "Unacceptable Hold Time",
                "Unsupported Capability",
                "",
                "",
                "",
                "Role Mismatch",
            ],
            code::UPDATE => &[
                "Malformed Attribute List",
                "Unrecognized Well-known Attribute",
                "Missing Well-known Attribute",
                "Attribute Flags Error",
                "Attribute Length Error",
                "Invalid ORIGIN Attribute",
                "",
                "Invalid NEXT_HOP Attribute",
                "Optional Attribute Error",
                "Invalid Network Field",
                "Malformed AS_PATH",
            ],
            code::STATE_MACHINE => &[
                "Receive Unexpected Message in OpenSent State",
                "Receive Unexpected Message in OpenConfirm State",
                "Receive Unexpected Message in Established State",
            ],
            code::CEASE => &[
                "Maximum Number of Prefixes Reached",
                "Administrative Shutdown",
                "Peer De-configured",
                "Administrative Reset",
                "Connection Rejected",
                "Other Configuration Change",
                "Connection Collision Resolution",
                "Out of Resources",
                "Hard Reset",
                "BFD Down",
            ],
            code::ROUTE_REFRESH => &["Invalid Message Length"],
            _ => &[],
        };
        names.get(usize::from(self.subcode).checked_sub(1)?).copied().filter(|name| !name.is_empty())
    }
}

/// In words, for one line: `Cease: Administrative Shutdown ("maintenance until noon")`.
impl fmt::Display for Notification<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code_name() {
            Some(name) => f.write_str(name)?,
            None => write!(f, "error code {}", self.code)?,
        }
        match (self.subcode_name(), self.subcode) {
            (Some(name), _) => write!(f, ": {name}")?,
            (None, 0) => {}
            (None, subcode) => write!(f, ": subcode {subcode}")?,
        }
        if let Some(text) = self.shutdown_communication() {
            write!(f, " ({text:?})")?;
        }
        match self.hard_reset() {
            // A hard reset inside another means nothing, and its data may hold thousands of them.
            Some(Self { code: code::CEASE, subcode: cease::HARD_RESET, .. }) | None => Ok(()),
            Some(inner) => write!(f, " ({inner})"),
        }
    }
}

/// Appends a NOTIFICATION. Cuts the data at a message of 4096 bytes: only people read it.
pub fn build(out: &mut BytesMut, code: u8, subcode: u8, data: &[u8]) {
    const FIXED: usize = 2;
    let data = data.get(..MAX_MESSAGE - HEADER - FIXED).unwrap_or(data);
    header(out, MessageType::Notification, FIXED + data.len());
    out.put_u8(code);
    out.put_u8(subcode);
    out.put_slice(data);
}

/// Appends a Cease with a text for the peer's operator (RFC 9003 §2), cut to 255 bytes between
/// characters. `subcode` is [`cease::SHUTDOWN`] or [`cease::RESET`].
pub fn build_shutdown(out: &mut BytesMut, subcode: u8, text: &str) {
    let (text, _cut) = text.split_at(text.floor_char_boundary(usize::from(u8::MAX)));
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    build(out, code::CEASE, subcode, &[&[length], text.as_bytes()].concat());
}
