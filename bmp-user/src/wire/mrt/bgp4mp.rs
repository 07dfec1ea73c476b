//! BGP4MP (RFC 6396 §4.4), with additional paths (RFC 8050 §3).

use std::net::IpAddr;

use super::{Error, Problem, RecordBody};
use crate::wire::reader::ByteReader;

/// The states of the BGP state machine (RFC 6396 §4.4.1).
pub mod state {
    /// Idle.
    pub const IDLE: u16 = 1;
    /// Connect.
    pub const CONNECT: u16 = 2;
    /// Active.
    pub const ACTIVE: u16 = 3;
    /// OpenSent.
    pub const OPEN_SENT: u16 = 4;
    /// OpenConfirm.
    pub const OPEN_CONFIRM: u16 = 5;
    /// Established.
    pub const ESTABLISHED: u16 = 6;
}

/// The two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordedSession {
    /// The peer's AS.
    pub peer_as: u32,
    /// The collector's AS.
    pub local_as: u32,
    /// The index of the interface; zero if it is not known.
    pub interface: u16,
    /// The peer's address.
    pub peer_address: IpAddr,
    /// The collector's address.
    pub local_address: IpAddr,
}

/// A BGP message (RFC 6396 §4.4.2, §4.4.3, §4.4.5, §4.4.6; RFC 8050 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordedMessage<'a> {
    /// The two ends.
    pub session: RecordedSession,
    /// Whether AS paths have 4-octet numbers.
    pub as4: bool,
    /// Whether the collector sent the message.
    pub local: bool,
    /// Whether NLRI have path identifiers.
    pub add_path: bool,
    /// The bytes of the message, header included.
    pub message: &'a [u8],
}

/// A change of a peer's state machine (RFC 6396 §4.4.1, §4.4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// The two ends.
    pub session: RecordedSession,
    /// The old state: see [`state`].
    pub old: u16,
    /// The new state: see [`state`].
    pub new: u16,
}

pub(super) fn parse(subtype: u16, mut reader: ByteReader<'_>) -> Result<RecordBody<'_>, Error> {
    let (as4, local, add_path) = match subtype {
        0 | 5 => return state_change(&mut reader, subtype == 5).map(RecordBody::StateChange),
        1 => (false, false, false),
        4 => (true, false, false),
        6 => (false, true, false),
        7 => (true, true, false),
        8 => (false, false, true),
        9 => (true, false, true),
        10 => (false, true, true),
        11 => (true, true, true),
        _ => return Ok(RecordBody::Other),
    };
    let session = session(&mut reader, as4)?;
    Ok(RecordBody::Message(RecordedMessage { session, as4, local, add_path, message: reader.rest() }))
}

fn state_change(reader: &mut ByteReader<'_>, as4: bool) -> Result<StateChange, Error> {
    let session = session(reader, as4)?;
    let change = StateChange { session, old: reader.u16("the old state")?, new: reader.u16("the new state")? };
    match reader.rest().len() {
        0 => Ok(change),
        found => Err(Error::new(reader.at(), Problem::Trailing { what: "the state change", found })),
    }
}

fn session(reader: &mut ByteReader<'_>, as4: bool) -> Result<RecordedSession, Error> {
    let asn = |reader: &mut ByteReader<'_>, what| match as4 {
        true => reader.u32(what),
        false => reader.u16(what).map(u32::from),
    };
    let peer_as = asn(reader, "the peer AS")?;
    let local_as = asn(reader, "the local AS")?;
    let interface = reader.u16("the interface index")?;
    let at = reader.at();
    let ipv6 = match reader.u16("the address family")? {
        1 => false,
        2 => true,
        other => return Err(Error::new(at, Problem::AddressFamily(other))),
    };
    let address = super::table_dump::address;
    Ok(RecordedSession {
        peer_as,
        local_as,
        interface,
        peer_address: address(reader, ipv6)?,
        local_address: address(reader, ipv6)?,
    })
}
