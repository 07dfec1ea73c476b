//! The BGP messages (RFC 4271) that the lab sends, and the prefixes that it reads out of UPDATEs.

use std::{fmt, net::Ipv4Addr};

/// An IPv4 prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// The network.
    pub network: Ipv4Addr,
    /// How many bits of it count.
    pub length: u8,
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

/// The prefixes of a made-up table: `count` /24, one after the other from 10.0.0.0/24 on.
///
/// # Panics
/// For more than 1,048,576, which end with 25.255.255.0/24.
pub fn prefixes(count: usize) -> Vec<Prefix> {
    assert!(count <= 1 << 20, "{count} prefixes are more than the lab makes up");
    (0..count).map(|i| Prefix { network: Ipv4Addr::from_bits(0x0a00_0000 + ((i as u32) << 8)), length: 24 }).collect()
}

/// OPEN (RFC 4271 §4.2).
pub const OPEN: u8 = 1;
/// UPDATE (§4.3).
pub const UPDATE: u8 = 2;
/// NOTIFICATION (§4.5).
pub const NOTIFICATION: u8 = 3;
/// KEEPALIVE (§4.4).
pub const KEEPALIVE: u8 = 4;

/// A message of `kind` with its header (RFC 4271 §4.1).
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

/// An OPEN (§4.2) with IPv4 unicast and 4-octet AS numbers (RFC 6793), hold time 180 s.
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

/// A KEEPALIVE (§4.4).
pub fn keepalive() -> Vec<u8> {
    message(KEEPALIVE, &[])
}

/// A NOTIFICATION (§4.5): Cease, administrative shutdown (RFC 4486).
pub fn notification() -> Vec<u8> {
    message(NOTIFICATION, &[6, 2])
}

/// An UPDATE (§4.3) that announces `routes`, 4-octet AS path of `asn` alone.
pub fn announce(routes: &[Prefix], asn: u32, next_hop: Ipv4Addr) -> Vec<u8> {
    announce_with(routes, asn, next_hop, &[])
}

/// The same with more attributes, as they are on the wire.
pub fn announce_with(routes: &[Prefix], asn: u32, next_hop: Ipv4Addr, more: &[u8]) -> Vec<u8> {
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 6, 2, 1];
    attributes.extend(asn.to_be_bytes());
    attributes.extend([0x40, 3, 4]);
    attributes.extend(next_hop.octets());
    attributes.extend(more);
    update(&attributes, &nlri(routes))
}

/// An UPDATE with these path attributes and NLRI.
pub fn update(attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend(short(attributes.len()));
    body.extend(attributes);
    body.extend(nlri);
    message(UPDATE, &body)
}

/// An optional transitive attribute that nobody knows, with `bytes` of `value` in it.
pub fn unknown_attribute(value: u8, bytes: usize) -> Vec<u8> {
    let mut attribute = vec![0xd0, 200];
    attribute.extend(short(bytes));
    attribute.resize(4 + bytes, value);
    attribute
}

/// An UPDATE that withdraws `routes`.
pub fn withdraw(routes: &[Prefix]) -> Vec<u8> {
    let withdrawn = nlri(routes);
    let mut body = short(withdrawn.len()).to_vec();
    body.extend(withdrawn);
    body.extend([0, 0]);
    message(UPDATE, &body)
}

/// End-of-RIB of IPv4 unicast: an UPDATE with nothing in it (RFC 4724 §2).
pub fn end_of_rib() -> Vec<u8> {
    message(UPDATE, &[0, 0, 0, 0])
}

/// Routes as the NLRI of an UPDATE.
pub fn nlri(routes: &[Prefix]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for route in routes {
        bytes.push(route.length);
        bytes.extend(&route.network.octets()[..usize::from(route.length.div_ceil(8))]);
    }
    bytes
}

/// What the IPv4 fields of one UPDATE say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Withdrawn Routes.
    pub withdrawn: Vec<Prefix>,
    /// Network Layer Reachability Information.
    pub announced: Vec<Prefix>,
    /// It has neither routes nor attributes: End-of-RIB of IPv4 unicast.
    pub is_end_of_rib: bool,
}

/// Reads a whole UPDATE message; `None` if it is not one.
pub fn read_update(message: &[u8]) -> Option<Update> {
    let (header, body) = message.split_at_checked(19)?;
    if header[18] != UPDATE {
        return None;
    }
    let (withdrawn, rest) = field(body)?;
    let (attributes, announced) = field(rest)?;
    Some(Update {
        withdrawn: read_nlri(withdrawn)?,
        announced: read_nlri(announced)?,
        is_end_of_rib: body.len() == 4 && attributes.is_empty(),
    })
}

fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn read_nlri(mut bytes: &[u8]) -> Option<Vec<Prefix>> {
    let mut routes = Vec::new();
    while let Some((&length, rest)) = bytes.split_first() {
        let (network, rest) = rest.split_at_checked(usize::from(length.div_ceil(8)))?;
        let mut octets = [0; 4];
        octets.get_mut(..network.len())?.copy_from_slice(network);
        routes.push(Prefix { network: octets.into(), length });
        bytes = rest;
    }
    Some(routes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_and_withdrawn_is_read_back() {
        let routes = prefixes(600);
        let update = read_update(&announce(&routes, 65001, Ipv4Addr::new(192, 0, 2, 9))).unwrap();
        assert_eq!((update.announced, update.withdrawn.len(), update.is_end_of_rib), (routes.clone(), 0, false));
        assert_eq!(read_update(&withdraw(&routes)).unwrap().withdrawn, routes);
        assert!(read_update(&end_of_rib()).unwrap().is_end_of_rib);
        assert_eq!(read_update(&keepalive()), None);
        assert_eq!(routes[599].to_string(), "10.2.87.0/24");
    }
}
