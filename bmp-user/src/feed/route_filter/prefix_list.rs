//! Lists of IP prefixes, in a form that answers in one binary search.
//!
//! The addresses are cut where a prefix of an entry begins or ends. All routes that begin in one
//! piece are covered by the same entries. So a piece keeps one bit for each length of a prefix:
//! whether the first entry that matches such a route permits it.

use crate::wire::bgp::PrefixBits;

/// One entry of a list: prefixes within a prefix, of some lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixRule {
    /// Whether a match permits the route.
    pub permits: bool,
    /// The routes are within this prefix.
    pub prefix: PrefixBits,
    /// The shortest length that matches, in bits.
    pub shortest: u8,
    /// The longest length that matches.
    pub longest: u8,
}

/// Lengths of prefixes as bits: 0 to 128.
type Lengths = [u64; 3];

/// A compiled list. The first entry that matches a route decides, and none denies it.
#[derive(Debug)]
pub(super) struct PrefixTable {
    ipv4: Pieces<u32>,
    ipv6: Pieces<u128>,
}

/// Pieces of the addresses of one family.
#[derive(Debug)]
struct Pieces<A> {
    /// Where each piece begins. The first one begins at zero.
    starts: Vec<A>,
    permitted: Vec<Lengths>,
}

impl PrefixTable {
    pub(super) fn new(rules: &[PrefixRule]) -> Self {
        // An IPv4 address is in the upper bits.
        let ipv4 = Pieces::new(rules.iter().filter(|rule| rule.prefix.is_ipv4), |address| (address >> 96) as u32);
        let ipv6 = Pieces::new(rules.iter().filter(|rule| !rule.prefix.is_ipv4), |address| address);
        Self { ipv4, ipv6 }
    }

    /// Decides whether the list permits a route.
    #[inline]
    pub(super) fn permits(&self, PrefixBits { is_ipv4, address, length }: PrefixBits) -> bool {
        if is_ipv4 { self.ipv4.permits((address >> 96) as u32, length) } else { self.ipv6.permits(address, length) }
    }
}

impl<A: Copy + Ord> Pieces<A> {
    fn new<'a>(rules: impl DoubleEndedIterator<Item = &'a PrefixRule> + Clone, address_of: impl Fn(u128) -> A) -> Self {
        let mut cuts: Vec<u128> = vec![0];
        for rule in rules.clone() {
            let (first, last) = ends(&rule.prefix);
            cuts.push(first);
            cuts.extend(last.checked_add(1));
        }
        cuts.sort_unstable();
        cuts.dedup();
        let mut permitted = vec![Lengths::default(); cuts.len()];
        // The first entry that matches decides, so it is written last.
        for rule in rules.rev() {
            let (first, last) = ends(&rule.prefix);
            let from = cuts.partition_point(|cut| *cut < first);
            let to = cuts.partition_point(|cut| *cut <= last);
            let mask = lengths(rule.shortest.max(rule.prefix.length), rule.longest);
            for piece in permitted.get_mut(from..to).unwrap_or_default() {
                for (word, mask) in piece.iter_mut().zip(mask) {
                    *word = if rule.permits { *word | mask } else { *word & !mask };
                }
            }
        }
        Self { starts: cuts.into_iter().map(address_of).collect(), permitted }
    }

    #[inline]
    fn permits(&self, address: A, length: u8) -> bool {
        // The first piece begins at zero.
        let piece = self.starts.partition_point(|start| *start <= address).wrapping_sub(1);
        let word = self.permitted.get(piece).and_then(|lengths| lengths.get(usize::from(length / 64)));
        word.is_some_and(|word| word >> (length % 64) & 1 != 0)
    }
}

/// The first and the last address of a prefix.
fn ends(prefix: &PrefixBits) -> (u128, u128) {
    let behind = u128::MAX.checked_shr(prefix.length.into()).unwrap_or(0);
    (prefix.address, prefix.address | behind)
}

/// The lengths from `shortest` to `longest`, both included.
fn lengths(shortest: u8, longest: u8) -> Lengths {
    let mut lengths = Lengths::default();
    for length in shortest..=longest.min(128) {
        lengths[usize::from(length / 64)] |= 1 << (length % 64);
    }
    lengths
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The list as its entries say it.
    fn permits_by_entry(rules: &[PrefixRule], route: PrefixBits) -> bool {
        let is_within = |prefix: &PrefixBits| {
            prefix.is_ipv4 == route.is_ipv4
                && prefix.length <= route.length
                && (0..prefix.length).all(|bit| (prefix.address ^ route.address) >> (127 - bit) & 1 == 0)
        };
        let first =
            rules.iter().find(|rule| is_within(&rule.prefix) && (rule.shortest..=rule.longest).contains(&route.length));
        first.is_some_and(|rule| rule.permits)
    }

    /// Prefixes that are often within one another.
    fn prefix() -> impl Strategy<Value = PrefixBits> {
        (any::<bool>(), prop::collection::vec(0u8..4, 16), 0u8..=128).prop_map(|(is_ipv4, bytes, length)| {
            let length = if is_ipv4 { length / 4 } else { length };
            let bytes: [u8; 16] =
                bytes.iter().map(|byte| byte.wrapping_mul(0x55)).collect::<Vec<_>>().try_into().unwrap();
            let mask = if length == 0 { 0 } else { u128::MAX << (128 - length) };
            PrefixBits { is_ipv4, address: u128::from_be_bytes(bytes) & mask, length }
        })
    }

    fn rule() -> impl Strategy<Value = PrefixRule> {
        (any::<bool>(), prefix(), 0u8..=128, 0u8..=128).prop_map(|(permits, prefix, one, other)| {
            let most = if prefix.is_ipv4 { 32 } else { 128 };
            let (shortest, longest) = (one.min(other).min(most), one.max(other).min(most));
            PrefixRule { permits, prefix, shortest: shortest.max(prefix.length), longest: longest.max(prefix.length) }
        })
    }

    proptest! {
        #[test]
        fn a_compiled_list_decides_as_its_entries_do(rules in prop::collection::vec(rule(), 0..40), routes in prop::collection::vec(prefix(), 1..60)) {
            let table = PrefixTable::new(&rules);
            let own = rules.iter().map(|rule| rule.prefix);
            for route in routes.into_iter().chain(own) {
                prop_assert_eq!(table.permits(route), permits_by_entry(&rules, route), "{:?}", route);
            }
        }
    }

    #[test]
    fn an_empty_list_permits_nothing() {
        let route = PrefixBits { is_ipv4: true, address: 0, length: 0 };
        assert!(!PrefixTable::new(&[]).permits(route));
    }
}
