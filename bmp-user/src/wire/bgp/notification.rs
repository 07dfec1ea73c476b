//! NOTIFICATION (RFC 4271 §4.5): why a session ends.

use std::fmt;

use bytes::{BufMut, BytesMut};

use super::{Error, Frame, HEADER, MAX_MESSAGE, MessageType, frame::header};
use crate::wire::reader::ByteReader;

pub use super::error_code::{
    cease, code, header_error, open_error, route_refresh_error, state_machine_error, update_error,
};

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
