//! Where a route is: from the hash of its identity to its number.
//!
//! A hash table for millions of routes, in which nearly every look-up waits for memory. All that
//! there is to see about a hash is in one cache line. So a look-up waits once, and not for a tag
//! and then for the number behind it, and the processor can fetch the line ahead of time.
//!
//! ```text
//!   hash ─▶ bucket (64 bytes): 12 tags · how many went on to the next · 12 numbers
//! ```
//!
//! An entry that finds its bucket full goes into the next one. The buckets that it passed count it,
//! so a look-up that fails goes on only where an entry did.

use super::{
    blocks::NONE,
    memory::{MemoryMeter, MeteredBytes},
};
use crate::sys;

/// Entries of a bucket.
const ENTRIES: usize = 12;
/// The table grows before more than this percentage of its places is taken.
const FULL: usize = 85;

/// One cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// A part of the hash of each entry; zero for no entry.
    tags: [u8; ENTRIES],
    /// How many entries of this bucket, or of one before it, are in later buckets.
    passed: u32,
    numbers: [u32; ENTRIES],
}

const EMPTY: Bucket = Bucket { tags: [0; ENTRIES], passed: 0, numbers: [NONE; ENTRIES] };

/// Numbers by hash. The caller tells entries with equal hashes apart.
#[derive(Debug)]
pub(super) struct RouteIndex {
    buckets: Vec<Bucket>,
    len: usize,
    memory: MeteredBytes,
}

impl RouteIndex {
    /// An empty table. What it will take is counted in `meter`.
    pub(super) fn new(meter: &MemoryMeter) -> Self {
        Self { buckets: Vec::new(), len: 0, memory: MeteredBytes::new(meter) }
    }

    /// Memory, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.memory.get()
    }

    /// Memory in bytes, looked up.
    #[cfg(test)]
    pub(super) fn walked_memory(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>()
    }

    /// Has the processor fetch the bucket of a hash.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        if let Some(bucket) = self.buckets.get(self.home(hash)) {
            super::blocks::prefetch(bucket);
        }
    }

    /// The first number with this hash for which `is` returns true. `is` may see numbers with other
    /// hashes.
    #[inline]
    pub(super) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let (tag, mut at) = (tag(hash), self.home(hash));
        // Once round at most: entries may have passed every bucket.
        for _ in 0..self.buckets.len() {
            let bucket = self.buckets.get(at)?;
            for entry in bucket.hits(tag) {
                let number = bucket.numbers[entry];
                if is(number) {
                    return Some(number);
                }
            }
            if bucket.passed == 0 {
                return None;
            }
            at = self.next(at);
        }
        None
    }

    /// True if the table has to grow before the next insertion.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.len * 100 >= self.buckets.len() * ENTRIES * FULL
    }

    /// Adds half as many buckets, and empties the table. The caller inserts all numbers again.
    pub(super) fn grow(&mut self) {
        let buckets = (self.buckets.len() + self.buckets.len() / 2).max(self.buckets.len() + 1);
        self.len = 0;
        // Freed first: both tables together may be large.
        self.buckets = Vec::new();
        self.buckets.reserve_exact(buckets);
        sys::prefer_huge_pages(self.buckets.spare_capacity_mut());
        self.buckets.resize(buckets, EMPTY);
        self.memory.set(self.buckets.capacity() * size_of::<Bucket>());
    }

    /// Inserts a number that is not there. The table must not be full.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        let mut at = self.home(hash);
        while let Some(bucket) = self.buckets.get_mut(at) {
            if let Some(entry) = bucket.hits(0).next() {
                (bucket.tags[entry], bucket.numbers[entry]) = (tag(hash), number);
                self.len += 1;
                return;
            }
            bucket.passed += 1;
            at = self.next(at);
        }
    }

    /// Removes a number that was inserted with this hash.
    pub(super) fn remove(&mut self, hash: u64, number: u32) {
        let home = self.home(hash);
        let mut at = home;
        while let Some(bucket) = self.buckets.get_mut(at) {
            if let Some(entry) = bucket.hits(tag(hash)).find(|entry| bucket.numbers[*entry] == number) {
                (bucket.tags[entry], bucket.numbers[entry]) = (0, NONE);
                self.len -= 1;
                // The entry passes no bucket any more.
                while at != home {
                    at = if at == 0 { self.buckets.len() - 1 } else { at - 1 };
                    self.buckets[at].passed -= 1;
                }
                return;
            }
            if bucket.passed == 0 {
                return;
            }
            at = self.next(at);
        }
    }

    /// The bucket of a hash: its upper bits, scaled to the number of buckets.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.buckets.len() as u128) >> 64) as usize
    }

    #[inline]
    fn next(&self, at: usize) -> usize {
        if at + 1 == self.buckets.len() { 0 } else { at + 1 }
    }
}

/// The lower bits of a hash, because the upper ones say the bucket. Zero means no entry.
#[inline]
fn tag(hash: u64) -> u8 {
    (hash as u8).max(1)
}

impl Bucket {
    /// The entries with this tag. Compares eight tags in one word, and the others in another.
    #[inline]
    fn hits(&self, tag: u8) -> TagHits {
        const EACH: u64 = 0x0101_0101_0101_0101;
        const LOW: u64 = 0x7f * EACH;
        let wanted = u64::from(tag) * EACH;
        // Sets the upper bit of each zero byte, and of no other: nothing carries from byte to byte.
        let zeros = |word: u64| !(((word & LOW) + LOW) | word | LOW);
        let eight = zeros(self.tags.first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight)) ^ wanted);
        let four =
            zeros(self.tags.last_chunk().map_or(0, |four| u32::from_le_bytes(*four).into()) ^ wanted) & 0xffff_ffff;
        TagHits(eight >> 7 | four >> 3)
    }
}

/// Entries of a bucket: bit 8 n for entry n, and bit 8 n + 4 for entry 8 + n.
#[derive(Clone, Copy)]
struct TagHits(u64);

impl Iterator for TagHits {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(bit / 8 + (bit & 4) * 2)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn insert(index: &mut RouteIndex, known: &BTreeMap<u32, u64>, hash: u64, number: u32) {
        if index.is_full() {
            index.grow();
            for (number, hash) in known {
                index.insert(*hash, *number);
            }
        }
        index.insert(hash, number);
    }

    proptest! {
        #[test]
        fn the_entries_with_a_tag_are_found_and_no_others(tags in any::<[u8; ENTRIES]>(), few in any::<bool>(), tag: u8) {
            // Either mostly equal tags, or any.
            let tags = if few { tags.map(|tag| tag & 1) } else { tags };
            let bucket = Bucket { tags, ..EMPTY };
            for tag in [tag, tag & 1, tags[0], tags[ENTRIES - 1]] {
                let mut hits: Vec<_> = bucket.hits(tag).collect();
                hits.sort_unstable();
                let wanted: Vec<_> = (0..ENTRIES).filter(|entry| tags[*entry] == tag).collect();
                prop_assert_eq!(hits, wanted);
            }
        }

        #[test]
        fn every_number_is_found_by_its_hash_and_no_other(steps in prop::collection::vec((any::<bool>(), 0u32..400, 0u64..40), 0..2000)) {
            let meter = MemoryMeter::default();
            let mut index = RouteIndex::new(&meter);
            let mut known = BTreeMap::new();
            for (there, number, few) in steps {
                // Many share a hash and overflow their bucket. Others are near each other.
                let hash = few.wrapping_mul(0x9e37_79b9_7f4a_7c15) & 0xf000_0000_0000_00ff;
                if let Some(hash) = known.remove(&number) {
                    index.remove(hash, number);
                }
                if there {
                    insert(&mut index, &known, hash, number);
                    known.insert(number, hash);
                }
                prop_assert_eq!(index.len, known.len());
            }
            for number in 0..400 {
                for few in 0..40u64 {
                    let hash = few.wrapping_mul(0x9e37_79b9_7f4a_7c15) & 0xf000_0000_0000_00ff;
                    let found = index.find(hash, |other| other == number);
                    let wanted = known.get(&number).filter(|known| **known == hash || tag(**known) == tag(hash));
                    prop_assert!(found.is_none() || wanted.is_some());
                    prop_assert!(known.get(&number) != Some(&hash) || found == Some(number));
                }
            }
            for (number, hash) in std::mem::take(&mut known) {
                index.remove(hash, number);
            }
            prop_assert_eq!(index.len, 0);
            prop_assert_eq!(meter.bytes(), index.buckets.capacity() * size_of::<Bucket>());
            prop_assert!(index.buckets.iter().all(|bucket| bucket.passed == 0));
        }
    }
}
