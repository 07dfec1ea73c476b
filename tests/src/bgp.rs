//! The BGP messages (RFC 4271) that the lab sends, and a reader of the prefixes in UPDATE messages.

use std::{fmt, net::Ipv4Addr};

/// An IPv4 prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipv4Prefix {
    /// The network address.
    pub network: Ipv4Addr,
    /// Its length in bits.
    pub length: u8,
}

impl fmt::Display for Ipv4Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

/// Returns `count` consecutive /24 prefixes, from 10.0.0.0/24 on.
///
/// # Panics
/// For more than 1,048,576 prefixes, which end with 25.255.255.0/24.
pub fn prefixes(count: usize) -> Vec<Ipv4Prefix> {
    assert!(count <= 1 << 20, "the lab has 1,048,576 prefixes, not {count}");
    (0..count)
        .map(|i| Ipv4Prefix { network: Ipv4Addr::from_bits(0x0a00_0000 + ((i as u32) << 8)), length: 24 })
        .collect()
}

/// Type of OPEN (RFC 4271 §4.2).
pub const OPEN: u8 = 1;
/// Type of UPDATE (§4.3).
pub const UPDATE: u8 = 2;
/// Type of NOTIFICATION (§4.5).
pub const NOTIFICATION: u8 = 3;
/// Type of KEEPALIVE (§4.4).
pub const KEEPALIVE: u8 = 4;

/// Builds a message of type `kind` with its header (RFC 4271 §4.1).
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend(short(19 + body.len()));
    message.push(kind);
    message.extend(body);
    message
}

fn short(length: usize) -> [u8; 2] {
    u16::try_from(length).expect("a BGP message is at most 65,535 bytes").to_be_bytes()
}

/// Builds an OPEN (§4.2) with IPv4 unicast, four-octet AS numbers (RFC 6793) and hold time 180 s.
pub fn open(asn: u32, router_id: Ipv4Addr) -> Vec<u8> {
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 65, 4];
    capabilities.extend(asn.to_be_bytes());
    let mut body = vec![4];
    body.extend(u16::try_from(asn).unwrap_or(23456).to_be_bytes());
    body.extend(180u16.to_be_bytes());
    body.extend(router_id.octets());
    body.push(capabilities.len() as u8 + 2);
    body.extend([2, capabilities.len() as u8]);
    body.extend(capabilities);
    message(OPEN, &body)
}

/// Builds a KEEPALIVE (§4.4).
pub fn keepalive() -> Vec<u8> {
    message(KEEPALIVE, &[])
}

/// Builds a NOTIFICATION (§4.5): Cease, administrative shutdown (RFC 4486).
pub fn notification() -> Vec<u8> {
    message(NOTIFICATION, &[6, 2])
}

/// Builds an UPDATE (§4.3) that announces `routes`, with `asn` alone in a four-octet AS path.
pub fn announce(routes: &[Ipv4Prefix], asn: u32, next_hop: Ipv4Addr) -> Vec<u8> {
    announce_with(routes, asn, next_hop, &[])
}

/// Builds an UPDATE that announces `routes`, with more path attributes in wire format.
pub fn announce_with(routes: &[Ipv4Prefix], asn: u32, next_hop: Ipv4Addr, more: &[u8]) -> Vec<u8> {
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 6, 2, 1];
    attributes.extend(asn.to_be_bytes());
    attributes.extend([0x40, 3, 4]);
    attributes.extend(next_hop.octets());
    attributes.extend(more);
    update(&attributes, &nlri(routes))
}

/// Builds an UPDATE with these path attributes and NLRI.
pub fn update(attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend(short(attributes.len()));
    body.extend(attributes);
    body.extend(nlri);
    message(UPDATE, &body)
}

/// Builds an optional transitive attribute of an unknown type, with `bytes` times `value`.
pub fn unknown_attribute(value: u8, bytes: usize) -> Vec<u8> {
    let mut attribute = vec![0xd0, 200];
    attribute.extend(short(bytes));
    attribute.resize(4 + bytes, value);
    attribute
}

/// Builds an UPDATE that withdraws `routes`.
pub fn withdraw(routes: &[Ipv4Prefix]) -> Vec<u8> {
    let withdrawn = nlri(routes);
    let mut body = short(withdrawn.len()).to_vec();
    body.extend(withdrawn);
    body.extend([0, 0]);
    message(UPDATE, &body)
}

/// Builds End-of-RIB of IPv4 unicast: an empty UPDATE (RFC 4724 §2).
pub fn end_of_rib() -> Vec<u8> {
    message(UPDATE, &[0, 0, 0, 0])
}

/// Builds a `BGP4MP_MESSAGE_AS4` record (RFC 6396 §4.4.3) of a message from 192.0.2.1, AS 65001, to
/// 192.0.2.254, AS 65000.
pub fn mrt_record(message: &[u8]) -> Vec<u8> {
    let ends = [0, 0, 0xfd, 0xe9, 0, 0, 0xfd, 0xe8, 0, 0, 0, 1, 192, 0, 2, 1, 192, 0, 2, 254];
    let length = u32::try_from(ends.len() + message.len()).expect("the length fits").to_be_bytes();
    [&[0, 0, 0, 7, 0, 16, 0, 4], &length[..], &ends, message].concat()
}

/// Encodes routes as NLRI.
pub fn nlri(routes: &[Ipv4Prefix]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for route in routes {
        bytes.push(route.length);
        bytes.extend(&route.network.octets()[..usize::from(route.length.div_ceil(8))]);
    }
    bytes
}

/// The IPv4 fields of one UPDATE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ipv4Update {
    /// Withdrawn Routes.
    pub withdrawn: Vec<Ipv4Prefix>,
    /// Network Layer Reachability Information.
    pub announced: Vec<Ipv4Prefix>,
    /// True for End-of-RIB of IPv4 unicast: neither routes nor attributes.
    pub is_end_of_rib: bool,
}

/// Reads a whole UPDATE message. `None` for other and malformed messages.
pub fn read_update(message: &[u8]) -> Option<Ipv4Update> {
    let (header, body) = message.split_at_checked(19)?;
    if header[18] != UPDATE {
        return None;
    }
    let (withdrawn, rest) = field(body)?;
    let (attributes, announced) = field(rest)?;
    Some(Ipv4Update {
        withdrawn: read_nlri(withdrawn)?,
        announced: read_nlri(announced)?,
        is_end_of_rib: body.len() == 4 && attributes.is_empty(),
    })
}

fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn read_nlri(mut bytes: &[u8]) -> Option<Vec<Ipv4Prefix>> {
    let mut routes = Vec::new();
    while let Some((&length, rest)) = bytes.split_first() {
        let (network, rest) = rest.split_at_checked(usize::from(length.div_ceil(8)))?;
        let mut octets = [0; 4];
        octets.get_mut(..network.len())?.copy_from_slice(network);
        routes.push(Ipv4Prefix { network: octets.into(), length });
        bytes = rest;
    }
    Some(routes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announced_and_withdrawn_prefixes_are_read_back() {
        let routes = prefixes(600);
        let update = read_update(&announce(&routes, 65001, Ipv4Addr::new(192, 0, 2, 9))).unwrap();
        assert_eq!((update.announced, update.withdrawn.len(), update.is_end_of_rib), (routes.clone(), 0, false));
        assert_eq!(read_update(&withdraw(&routes)).unwrap().withdrawn, routes);
        assert!(read_update(&end_of_rib()).unwrap().is_end_of_rib);
        assert_eq!(read_update(&keepalive()), None);
        assert_eq!(routes[599].to_string(), "10.2.87.0/24");
    }
}
