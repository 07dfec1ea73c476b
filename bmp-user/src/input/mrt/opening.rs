//! Builds the OPENs of a Peer Up that the file does not hold.
//!
//! An OPEN is built from the AS numbers, BGP identifiers and addresses of the file, with a hold
//! time of 180 seconds. It has the capabilities that the routes of the file need: multiprotocol for
//! each family that occurs, 4-octet AS numbers if AS paths use them, and add-path in each direction
//! with path identifiers.
//!
//! Recorded OPENs are replaced if they contradict the routes about path identifiers, because a
//! station that trusts them would misread the routes.
//!
//! Values that the file lacks cannot be mistaken for real ones. The AS of the collector of a table
//! dump is AS_TRANS (23456), an unknown BGP identifier derives from the address, and unknown
//! addresses and ports are zero.

use std::net::{IpAddr, Ipv4Addr};

use bytes::BytesMut;

use super::survey::{MessageDirection, SessionTraits};
use crate::wire::bgp::{self, Capabilities, Capability, Error, Family, Open, capability::add_path, open};

const HOLD_TIME: u16 = 180;
/// Families in an OPEN at most. More would not fit beside the other capabilities, and fewer exist.
const MOST_FAMILIES: usize = 255;
/// Families in one add-path capability (RFC 7911 §4) at most.
const MOST_ADD_PATH: usize = 63;

/// The end of a session that sent an OPEN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenSender {
    Collector,
    Peer,
}

/// Builds the OPEN that this end of the session may have sent.
pub(super) fn fabricate(
    end: OpenSender,
    asn: u32,
    bgp_id: Ipv4Addr,
    traits: &SessionTraits,
) -> Result<BytesMut, Error> {
    let mut capabilities = Capabilities::new();
    for &family in traits.families.keys().take(MOST_FAMILIES) {
        capabilities.push(&Capability::Multiprotocol(family))?;
    }
    if traits.as4 {
        capabilities.push(&Capability::FourOctetAs(asn))?;
    }
    let add_path: Vec<_> =
        traits.families.keys().filter_map(|&family| send_receive(end, family, traits)).take(MOST_ADD_PATH).collect();
    if !add_path.is_empty() {
        capabilities.push_add_path(add_path)?;
    }
    let mut out = BytesMut::new();
    open::build(&mut out, asn, HOLD_TIME, bgp_id, &capabilities)?;
    Ok(out)
}

/// True if stations that trust these OPENs read the routes of the file as they are encoded.
pub(super) fn agree(sent: &[u8], received: &[u8], traits: &SessionTraits) -> bool {
    let (Some(sent), Some(received)) = (parse(sent), parse(received)) else { return true };
    let is_agreed = |sender: &Open<'_>, receiver: &Open<'_>, family| {
        sender.add_path().is_some_and(|add_path| add_path.sends(family))
            && receiver.add_path().is_some_and(|add_path| add_path.receives(family))
    };
    traits.families.keys().all(|&family| {
        let fits = |direction, agreed| traits.shows_path_ids(family, direction).is_none_or(|shown| shown == agreed);
        fits(MessageDirection::In, is_agreed(&received, &sent, family))
            && fits(MessageDirection::Out, is_agreed(&sent, &received, family))
    })
}

/// Parses a recorded or fabricated OPEN.
pub(super) fn parse(open: &[u8]) -> Option<Open<'_>> {
    bgp::Frame::parse(open).and_then(|frame| Open::parse(&frame)).ok()
}

/// Returns the Send/Receive field of a family (RFC 7911 §4) for one end, or `None` if the family
/// has no path identifiers.
fn send_receive(end: OpenSender, family: Family, traits: &SessionTraits) -> Option<(Family, u8)> {
    let (sends, receives) = match end {
        OpenSender::Peer => (MessageDirection::In, MessageDirection::Out),
        OpenSender::Collector => (MessageDirection::Out, MessageDirection::In),
    };
    let of = |direction, value| if traits.add_path(family, direction) { value } else { 0 };
    match of(sends, add_path::SEND) | of(receives, add_path::RECEIVE) {
        0 => None,
        value => Some((family, value)),
    }
}

/// Returns a BGP identifier for a speaker without one: its IPv4 address, or the last four bytes of
/// its IPv6 address. Never zero (RFC 6286 §2.1).
pub(super) fn identifier(address: IpAddr) -> Ipv4Addr {
    let bits = match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            u32::from_be_bytes([a, b, c, d])
        }
    };
    Ipv4Addr::from(bits.max(1))
}
