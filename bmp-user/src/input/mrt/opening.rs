//! The OPENs of a Peer Up, where the file does not hold them.
//!
//! They are fabricated from what the file says: AS numbers, BGP identifiers, addresses, and the capabilities without which the
//! routes in the file could not be as they are: multiprotocol of the families that occur, 4-octet AS numbers where AS paths have
//! them, add-path where there are path identifiers, in the direction in which there are. OPENs that the file holds and that say
//! otherwise of path identifiers than its routes show would have stations misread these: the fabricated ones take their place. The hold time is 180 seconds. What
//! the file does not say is told so that it cannot be mistaken: the AS of the collector of a table dump is AS_TRANS (23456), an
//! unknown BGP identifier is made of the address, and an address and ports that are not known are zero.

use std::net::{IpAddr, Ipv4Addr};

use bytes::BytesMut;

use super::survey::{Direction, Traits};
use crate::wire::bgp::{self, Capabilities, Capability, Error, Family, Open, capability::add_path, open};

const HOLD_TIME: u16 = 180;
/// Families that an OPEN names, at most: as many as there is room for beside all else, and more than there are.
const MOST_FAMILIES: usize = 255;
/// Families of one add-path capability (RFC 7911 §4), at most.
const MOST_ADD_PATH: usize = 63;

/// The two ends of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Collector,
    Peer,
}

/// An OPEN that this end may have sent.
pub(super) fn fabricate(end: End, asn: u32, bgp_id: Ipv4Addr, traits: &Traits) -> Result<BytesMut, Error> {
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

/// Whether stations that go by these OPENs, the collector's and the peer's, read the routes of the file as they are written.
pub(super) fn agree(sent: &[u8], received: &[u8], traits: &Traits) -> bool {
    let (Some(sent), Some(received)) = (parse(sent), parse(received)) else { return true };
    let is_agreed = |sender: &Open<'_>, receiver: &Open<'_>, family| {
        sender.add_path().is_some_and(|add_path| add_path.sends(family))
            && receiver.add_path().is_some_and(|add_path| add_path.receives(family))
    };
    traits.families.keys().all(|&family| {
        let fits = |direction, agreed| traits.shows_path_ids(family, direction).is_none_or(|shown| shown == agreed);
        fits(Direction::In, is_agreed(&received, &sent, family))
            && fits(Direction::Out, is_agreed(&sent, &received, family))
    })
}

/// An OPEN that was recorded or fabricated.
pub(super) fn parse(open: &[u8]) -> Option<Open<'_>> {
    bgp::Frame::parse(open).and_then(|frame| Open::parse(&frame)).ok()
}

/// The Send/Receive field of a family (RFC 7911 §4) for an end; `None` if there are no path identifiers.
fn send_receive(end: End, family: Family, traits: &Traits) -> Option<(Family, u8)> {
    let (sends, receives) = match end {
        End::Peer => (Direction::In, Direction::Out),
        End::Collector => (Direction::Out, Direction::In),
    };
    let of = |direction, value| if traits.add_path(family, direction) { value } else { 0 };
    match of(sends, add_path::SEND) | of(receives, add_path::RECEIVE) {
        0 => None,
        value => Some((family, value)),
    }
}

/// A BGP identifier for an address without one: itself, or its last four bytes. Never zero, which none may be (RFC 6286 §2.1).
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
