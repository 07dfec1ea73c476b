//! A synthetic table like the Internet's. Benchmarks feed it and check that the station has it.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::Ipv4Addr,
    ops::Range,
};

use crate::bgp::{self, Ipv4Prefix};

/// Prefix lengths and their shares of 1000 routes, about those of the Internet.
const LENGTHS: [(u8, u32); 8] = [(24, 620), (23, 100), (22, 130), (21, 60), (20, 50), (19, 30), (18, 7), (16, 3)];
/// Above this number of routes, short prefixes would use up the address space. Lengths are then at
/// least this.
const ROOM: (usize, u8) = (2_500_000, 22);
/// Address ranges without announcements: private, loopback and others.
const LEFT_OUT: [Range<u32>; 3] = [0x0a00_0000..0x0b00_0000, 0x7f00_0000..0x8000_0000, 0xc000_0000..0xc100_0000];

/// Routes of at most four bytes that fit into one withdrawing UPDATE of 4096 bytes (RFC 4271 §4).
const WITHDRAWN: usize = 1000;

/// The parameters of a table. Equal parameters give equal bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableShape {
    /// IPv4 routes.
    pub routes: usize,
    /// Routes in one UPDATE, which share their attributes.
    pub per_message: usize,
    /// First AS number of every path: the peer's.
    pub asn: u32,
    /// The next hop: the peer's address.
    pub next_hop: Ipv4Addr,
    /// Selects the attributes: another variant announces the same prefixes with others.
    pub variant: u32,
}

impl Default for TableShape {
    fn default() -> Self {
        Self { routes: 1_000_000, per_message: 7, asn: 65001, next_hop: Ipv4Addr::new(192, 0, 2, 2), variant: 0 }
    }
}

/// A checksum of routes that does not depend on their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteSum {
    /// Number of routes.
    pub routes: u64,
    /// Sum of the hashes of prefix and attributes.
    pub hash: u64,
}

impl RouteSum {
    /// Adds one route.
    pub fn add(&mut self, prefix: &[u8], attributes: &[u8]) {
        let mut hasher = DefaultHasher::new();
        attributes.hash(&mut hasher);
        self.add_hashed(prefix, hasher.finish());
    }

    /// Adds the routes of an NLRI, which share their attributes.
    pub fn add_all(&mut self, nlri: &[u8], attributes: &[u8]) {
        let mut hasher = DefaultHasher::new();
        attributes.hash(&mut hasher);
        let attributes = hasher.finish();
        let mut rest = nlri;
        while let Some(&length) = rest.first() {
            let (prefix, more) = rest.split_at(rest.len().min(1 + usize::from(length.div_ceil(8))));
            self.add_hashed(prefix, attributes);
            rest = more;
        }
    }

    fn add_hashed(&mut self, prefix: &[u8], attributes: u64) {
        let mut hasher = DefaultHasher::new();
        (prefix, attributes).hash(&mut hasher);
        self.routes += 1;
        self.hash = self.hash.wrapping_add(hasher.finish());
    }
}

/// The UPDATE messages of a table, one after the other.
#[derive(Clone, Debug)]
pub struct UpdateTable {
    /// The bytes of all messages.
    pub bytes: Vec<u8>,
    /// End of each message in `bytes`.
    pub ends: Vec<usize>,
    /// Checksum of the routes.
    pub sum: RouteSum,
    /// Checksum of the prefixes alone.
    pub prefixes: RouteSum,
}

impl UpdateTable {
    /// Makes a table.
    pub fn new(shape: &TableShape) -> Self {
        let mut table =
            Self { bytes: Vec::new(), ends: Vec::new(), sum: RouteSum::default(), prefixes: RouteSum::default() };
        let mut random = fastrand::Rng::with_seed(7);
        let mut next = 0x0100_0000;
        let mut left = shape.routes;
        while left > 0 {
            let prefixes: Vec<_> =
                (0..left.min(shape.per_message)).map(|_| prefix(shape, &mut random, &mut next)).collect();
            let attributes = attributes(shape, &mut random);
            let nlri = bgp::nlri(&prefixes);
            table.sum.add_all(&nlri, &attributes);
            table.prefixes.add_all(&nlri, &[]);
            table.bytes.extend(bgp::update(&attributes, &nlri));
            table.ends.push(table.bytes.len());
            left -= prefixes.len();
        }
        table
    }

    /// Iterates over the messages.
    pub fn messages(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    /// Builds UPDATE messages that withdraw the whole table, each as full as possible.
    pub fn withdrawals(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for message in self.messages() {
            all.extend(bgp::read_update(message).map(|update| update.announced).unwrap_or_default());
        }
        all.chunks(WITHDRAWN).flat_map(bgp::withdraw).collect()
    }
}

/// Picks the next prefix, with a length according to its share.
fn prefix(shape: &TableShape, random: &mut fastrand::Rng, next: &mut u32) -> Ipv4Prefix {
    let (routes, shortest) = ROOM;
    let mut at = random.u32(0..1000);
    let found = LENGTHS.iter().find(|(_, share)| {
        let hit = at < *share;
        at = at.saturating_sub(*share);
        hit
    });
    let length = found.map_or(24, |(length, _)| *length);
    let length = if shape.routes > routes { length.max(shortest) } else { length };
    let size = 1u32 << (32 - length);
    let mut network = next.next_multiple_of(size);
    for range in &LEFT_OUT {
        if range.contains(&network) {
            network = range.end.next_multiple_of(size);
        }
    }
    assert!(network < 0xe000_0000, "the address space has room for at most 4,000,000 routes");
    *next = network + size;
    Ipv4Prefix { network: network.into(), length }
}

/// Builds ORIGIN, a path of four hops, NEXT_HOP, and communities.
fn attributes(shape: &TableShape, random: &mut fastrand::Rng) -> Vec<u8> {
    let path = [shape.asn, random.u32(1000..1200), random.u32(2000..7000), random.u32(200_000..280_000)];
    let communities =
        (0..random.u32(1..=4)).map(|_| random.u32(1000..1200) << 16 | random.u32(0..1000)).collect::<Vec<_>>();
    let mut bytes = vec![0x40, 1, 1, 0, 0x40, 2, 18, 2, 4];
    path.iter().for_each(|asn| bytes.extend(asn.to_be_bytes()));
    bytes.extend([0x40, 3, 4]);
    bytes.extend(shape.next_hop.octets());
    bytes.extend([0xc0, 8, 4 * (1 + communities.len() as u8)]);
    // The first community differs between variants.
    bytes.extend((shape.asn << 16 | shape.variant & 0xffff).to_be_bytes());
    communities.iter().for_each(|community| bytes.extend(community.to_be_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_table_has_each_route_once_and_is_reproducible() {
        for (routes, per_message) in [(10_000, 7), (3, 7), (4_000_000, 700)] {
            let shape = TableShape { routes, per_message, ..TableShape::default() };
            let table = UpdateTable::new(&shape);
            let mut seen = HashSet::new();
            for message in table.messages() {
                let update = bgp::read_update(message).expect("the message is an UPDATE");
                seen.extend(update.announced);
            }
            assert_eq!((seen.len(), table.sum.routes), (routes, routes as u64));
            assert_eq!(UpdateTable::new(&shape).sum, table.sum);
            let other = UpdateTable::new(&TableShape { variant: 1, ..shape });
            assert_ne!(other.sum.hash, table.sum.hash);
            assert_eq!(other.prefixes, table.prefixes);
        }
    }
}
