//! BGP4MP (RFC 6396 §4.4), with additional paths (RFC 8050 §3).

use std::net::IpAddr;

use super::{Body, Error, Problem};
use crate::wire::reader::Reader;

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

/// Between whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    /// The peer's AS.
    pub peer_as: u32,
    /// The collector's AS.
    pub local_as: u32,
    /// The interface; zero if it is not known.
    pub interface: u16,
    /// The peer's address.
    pub peer_address: IpAddr,
    /// The collector's address.
    pub local_address: IpAddr,
}

/// A BGP message (RFC 6396 §4.4.2, §4.4.3, §4.4.5, §4.4.6; RFC 8050 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Between whom.
    pub session: Session,
    /// Whether AS paths have 4-octet numbers.
    pub as4: bool,
    /// Whether the collector sent it.
    pub local: bool,
    /// Whether NLRI have path identifiers.
    pub add_path: bool,
    /// The message, header included, as it was on the wire.
    pub message: &'a [u8],
}

/// A peer's state machine moved (RFC 6396 §4.4.1, §4.4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// Between whom.
    pub session: Session,
    /// Where it was; see [`state`].
    pub old: u16,
    /// Where it is; see [`state`].
    pub new: u16,
}

pub(super) fn parse(subtype: u16, mut reader: Reader<'_>) -> Result<Body<'_>, Error> {
    let (as4, local, add_path) = match subtype {
        0 | 5 => return state_change(&mut reader, subtype == 5).map(Body::StateChange),
        1 => (false, false, false),
        4 => (true, false, false),
        6 => (false, true, false),
        7 => (true, true, false),
        8 => (false, false, true),
        9 => (true, false, true),
        10 => (false, true, true),
        11 => (true, true, true),
        _ => return Ok(Body::Other),
    };
    let session = session(&mut reader, as4)?;
    Ok(Body::Message(Message { session, as4, local, add_path, message: reader.rest() }))
}

fn state_change(reader: &mut Reader<'_>, as4: bool) -> Result<StateChange, Error> {
    let session = session(reader, as4)?;
    let change = StateChange { session, old: reader.u16("the old state")?, new: reader.u16("the new state")? };
    match reader.rest().len() {
        0 => Ok(change),
        found => Err(Error::new(reader.at(), Problem::Trailing { what: "the state change", found })),
    }
}

fn session(reader: &mut Reader<'_>, as4: bool) -> Result<Session, Error> {
    let asn = |reader: &mut Reader<'_>, what| match as4 {
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
    Ok(Session {
        peer_as,
        local_as,
        interface,
        peer_address: address(reader, ipv6)?,
        local_address: address(reader, ipv6)?,
    })
}
