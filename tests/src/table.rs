//! A made-up table as large as the Internet's: what the benchmarks feed, and what they find again at the station.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::Ipv4Addr,
    ops::Range,
};

use crate::bgp::{self, Prefix};

/// Of so many routes, so many have each length: about what is seen in the Internet.
const LENGTHS: [(u8, u32); 8] = [(24, 620), (23, 100), (22, 130), (21, 60), (20, 50), (19, 30), (18, 7), (16, 3)];
/// For more routes than this there is not enough room with the shorter ones: those of fewer bits have this many then.
const ROOM: (usize, u8) = (2_500_000, 22);
/// Nothing of these is announced: what is not unicast, or not an address of the Internet.
const LEFT_OUT: [Range<u32>; 3] = [0x0a00_0000..0x0b00_0000, 0x7f00_0000..0x8000_0000, 0xc000_0000..0xc100_0000];

/// So many routes of at most four bytes are in one UPDATE of 4096 bytes (RFC 4271 §4) that withdraws them.
const WITHDRAWN: usize = 1000;

/// What a table is made of. Two that are equal are the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// IPv4 routes.
    pub routes: usize,
    /// How many routes have their attributes in common and are in one UPDATE.
    pub per_message: usize,
    /// The AS number that every path begins with: the peer's.
    pub asn: u32,
    /// The next hop: the peer's address.
    pub next_hop: Ipv4Addr,
    /// Another table of the same routes has other attributes.
    pub variant: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self { routes: 1_000_000, per_message: 7, asn: 65001, next_hop: Ipv4Addr::new(192, 0, 2, 2), variant: 0 }
    }
}

/// A sum over routes that does not depend on their order: how many, and a hash of prefix and attributes of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Routes.
    pub routes: u64,
    /// The sum of their hashes.
    pub hash: u64,
}

impl Sum {
    /// Adds a route.
    pub fn add(&mut self, prefix: &[u8], attributes: &[u8]) {
        let mut hasher = DefaultHasher::new();
        attributes.hash(&mut hasher);
        self.add_hashed(prefix, hasher.finish());
    }

    /// Adds routes with the same attributes, as the NLRI of an UPDATE.
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
pub struct Table {
    /// All of them.
    pub bytes: Vec<u8>,
    /// Where each ends.
    pub ends: Vec<usize>,
    /// What is in them.
    pub sum: Sum,
    /// The same without the attributes.
    pub prefixes: Sum,
}

impl Table {
    /// Makes a table.
    pub fn new(shape: &Shape) -> Self {
        let mut table = Self { bytes: Vec::new(), ends: Vec::new(), sum: Sum::default(), prefixes: Sum::default() };
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

    /// Each message.
    pub fn messages(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    /// UPDATE messages that withdraw all of it, as many routes in each as there is room for.
    pub fn withdrawals(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for message in self.messages() {
            all.extend(bgp::read_update(message).map(|update| update.announced).unwrap_or_default());
        }
        all.chunks(WITHDRAWN).flat_map(bgp::withdraw).collect()
    }
}

/// The next prefix behind those before it, of a length that is as often as it should be.
fn prefix(shape: &Shape, random: &mut fastrand::Rng, next: &mut u32) -> Prefix {
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
    assert!(network < 0xe000_0000, "there is not room for so many routes: at most 4,000,000");
    *next = network + size;
    Prefix { network: network.into(), length }
}

/// ORIGIN, a path of four hops, NEXT_HOP and one to four communities.
fn attributes(shape: &Shape, random: &mut fastrand::Rng) -> Vec<u8> {
    let path = [shape.asn, random.u32(1000..1200), random.u32(2000..7000), random.u32(200_000..280_000)];
    let communities =
        (0..random.u32(1..=4)).map(|_| random.u32(1000..1200) << 16 | random.u32(0..1000)).collect::<Vec<_>>();
    let mut bytes = vec![0x40, 1, 1, 0, 0x40, 2, 18, 2, 4];
    path.iter().for_each(|asn| bytes.extend(asn.to_be_bytes()));
    bytes.extend([0x40, 3, 4]);
    bytes.extend(shape.next_hop.octets());
    bytes.extend([0xc0, 8, 4 * (1 + communities.len() as u8)]);
    // What tells one variant from another.
    bytes.extend((shape.asn << 16 | shape.variant & 0xffff).to_be_bytes());
    communities.iter().for_each(|community| bytes.extend(community.to_be_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_table_has_its_routes_each_once_and_the_same_each_time() {
        for (routes, per_message) in [(10_000, 7), (3, 7), (4_000_000, 700)] {
            let shape = Shape { routes, per_message, ..Shape::default() };
            let table = Table::new(&shape);
            let mut seen = HashSet::new();
            for message in table.messages() {
                let update = bgp::read_update(message).expect("it is an UPDATE");
                seen.extend(update.announced);
            }
            assert_eq!((seen.len(), table.sum.routes), (routes, routes as u64));
            assert_eq!(Table::new(&shape).sum, table.sum);
            let other = Table::new(&Shape { variant: 1, ..shape });
            assert_ne!(other.sum.hash, table.sum.hash);
            assert_eq!(other.prefixes, table.prefixes);
        }
    }
}
