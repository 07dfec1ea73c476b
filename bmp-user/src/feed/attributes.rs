//! Attribute sets, each kept once.

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::{blocks::prefetch, sparse_blocks::SparseBlocks};
use crate::wire::bgp::{Reach, Unreach, Update};

/// Attribute sets by number, with how often each is used.
#[derive(Debug)]
pub(super) struct AttributeSets {
    sets: SparseBlocks<AttributeSet>,
    index: HashTable<u32>,
    hasher: RandomState,
    /// Bytes of all sets.
    bytes: usize,
    scratch: Vec<u8>,
    /// The set that was asked for last. Routes come in runs.
    last: Option<u32>,
}

/// The path attributes of a route as they came, without MP_UNREACH_NLRI and without the routes in
/// MP_REACH_NLRI.
#[derive(Debug, Default)]
pub(super) struct AttributeSet {
    bytes: Box<[u8]>,
    /// Where MP_REACH_NLRI starts and ends, if there is one: its flags, and its value up to the
    /// routes.
    reach: Option<(u16, u16)>,
    /// Whether AS numbers have two octets (the A flag, RFC 7854 §4.2). The same bytes mean
    /// something else then.
    two_byte: bool,
    /// Whether a group of routes pays for the set: see [`AttributeSets::charge`].
    is_paid: bool,
    uses: u32,
    hash: u32,
}

/// A set, split where the routes of an UPDATE go.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttributeParts<'a> {
    /// The attributes before MP_REACH_NLRI.
    pub(super) before: &'a [u8],
    /// The flags of MP_REACH_NLRI, and its value up to the routes.
    pub(super) reach: Option<&'a [u8]>,
    /// The attributes after MP_REACH_NLRI.
    pub(super) after: &'a [u8],
}

impl AttributeSet {
    /// The attributes in three parts.
    pub(super) fn parts(&self) -> AttributeParts<'_> {
        let Some((start, end)) = self.reach else {
            return AttributeParts { before: &self.bytes, reach: None, after: &[] };
        };
        let (before, rest) = self.bytes.split_at(start.into());
        let (reach, after) = rest.split_at(usize::from(end - start));
        AttributeParts { before, reach: Some(reach), after }
    }

    /// Bytes of all of them.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True if AS numbers have two octets.
    pub(super) fn has_two_byte_as(&self) -> bool {
        self.two_byte
    }
}

/// Spreads a hash of 32 bits over 64: the index looks at the upper bits too.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// Bytes that an entry of the index takes, at its average load.
const INDEX_ENTRY: usize = 7;
/// Bytes that the allocator keeps about a piece of memory.
const ALLOCATION: usize = 16;
/// Bytes that a set takes besides its attributes.
const EACH: usize = size_of::<AttributeSet>() + ALLOCATION + INDEX_ENTRY;
/// An index for fewer sets than this keeps its memory.
const LEAST_INDEX: usize = 1024;

impl AttributeSets {
    pub(super) fn new() -> Self {
        Self {
            sets: SparseBlocks::new(),
            index: HashTable::new(),
            hasher: RandomState::default(),
            bytes: 0,
            scratch: Vec::new(),
            last: None,
        }
    }

    /// The number of distinct sets.
    pub(super) fn len(&self) -> usize {
        self.sets.len()
    }

    /// Memory in bytes, free places included.
    pub(super) fn memory(&self) -> usize {
        self.sets.memory() + self.bytes + self.sets.len() * (ALLOCATION + INDEX_ENTRY)
    }

    /// Memory of the sets that are there, in bytes. Other sets use the free places again.
    pub(super) fn memory_in_use(&self) -> usize {
        self.bytes + self.sets.len() * EACH
    }

    /// The same, and the memory that groups pay for, both looked up.
    #[cfg(test)]
    pub(super) fn walked_memory(&self) -> (usize, usize) {
        let (mut all, mut paid) = (0, 0);
        for set in self.sets.values().filter(|set| set.uses > 0) {
            let bytes = set.bytes.len() + EACH;
            all += bytes;
            paid += if set.is_paid { bytes } else { 0 };
        }
        (all, paid)
    }

    /// What a set takes, in bytes.
    #[cfg(test)]
    pub(super) fn cost(&self, number: u32) -> usize {
        self.sets.get(number).bytes.len() + EACH
    }

    /// Charges a new group of routes for its set, and returns for how many bytes. One group pays
    /// for a set at a time. So whoever brought a set first pays for it, and sets that others have
    /// too are not counted twice.
    pub(super) fn charge(&mut self, number: u32) -> usize {
        let set = self.sets.get_mut(number);
        if std::mem::replace(&mut set.is_paid, true) { 0 } else { set.bytes.len() + EACH }
    }

    /// A group that paid for its set is gone. Returns how many bytes it was charged for. The next
    /// new group with the set pays.
    pub(super) fn refund(&mut self, number: u32) -> usize {
        let set = self.sets.get_mut(number);
        set.is_paid = false;
        set.bytes.len() + EACH
    }

    /// Gives memory back, if many sets are gone.
    pub(super) fn give_back(&mut self) {
        self.sets.give_back();
        let Self { sets, index, .. } = self;
        if index.capacity() / 4 > sets.len().max(LEAST_INDEX) {
            index.shrink_to(sets.len() * 2, |number| spread(sets.get(*number).hash));
        }
    }

    pub(super) fn get(&self, set: u32) -> &AttributeSet {
        self.sets.get(set)
    }

    /// The same, for a caller that goes through all sets in the order in which they came. Has the
    /// processor fetch a later set ahead of time.
    #[inline]
    pub(super) fn get_in_order(&self, set: u32) -> &AttributeSet {
        const AHEAD: u32 = 8;
        if let Some(soon) = self.sets.try_get(set.wrapping_add(AHEAD))
            && let [first, .., last] = &*soon.bytes
        {
            prefetch(first);
            prefetch(last);
        }
        self.sets.get(set)
    }

    /// Returns the number of the set of the routes in the IPv4 unicast field of an UPDATE, and
    /// counts one more use of it.
    pub(super) fn of_nlri(&mut self, update: &Update<'_>, two_byte: bool) -> u32 {
        let cuts =
            [update.reach.map(|reach| (reach.at, reach.end)), update.unreach.map(|unreach| (unreach.at, unreach.end))];
        if cuts == [None; 2] {
            return self.intern(update.attributes, None, two_byte);
        }
        let mut cuts: Vec<_> = cuts.into_iter().flatten().collect();
        cuts.sort_unstable();
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        let mut from = 0;
        for (start, end) in cuts {
            bytes.extend_from_slice(update.attributes.get(from..start).unwrap_or_default());
            from = end;
        }
        bytes.extend_from_slice(update.attributes.get(from..).unwrap_or_default());
        let set = self.intern(&bytes, None, two_byte);
        self.scratch = bytes;
        set
    }

    /// Returns the number of the set of the routes in MP_REACH_NLRI, and counts one more use of it.
    pub(super) fn of_reach(&mut self, update: &Update<'_>, reach: &Reach<'_>, two_byte: bool) -> u32 {
        let all = update.attributes;
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        let skip = |from: usize, to: usize, bytes: &mut Vec<u8>| match update.unreach {
            Some(Unreach { at, end, .. }) if from <= at && end <= to => {
                bytes.extend_from_slice(all.get(from..at).unwrap_or_default());
                bytes.extend_from_slice(all.get(end..to).unwrap_or_default());
            }
            _ => bytes.extend_from_slice(all.get(from..to).unwrap_or_default()),
        };
        skip(0, reach.at, &mut bytes);
        let start = bytes.len();
        // The length in the header changes with every message, so the set keeps the flags alone.
        bytes.push(all.get(reach.at).copied().unwrap_or_default());
        let value = reach.end - reach.at - reach.nlri.len();
        let header = value - (5 + reach.next_hop.len());
        bytes.extend_from_slice(all.get(reach.at + header..reach.at + value).unwrap_or_default());
        let end = bytes.len();
        skip(reach.end, all.len(), &mut bytes);
        let place = u16::try_from(start).ok().zip(u16::try_from(end).ok());
        let set = self.intern(&bytes, place, two_byte);
        self.scratch = bytes;
        set
    }

    fn intern(&mut self, bytes: &[u8], reach: Option<(u16, u16)>, two_byte: bool) -> u32 {
        let same = |set: &AttributeSet| *set.bytes == *bytes && set.reach == reach && set.two_byte == two_byte;
        if let Some(last) = self.last
            && same(self.sets.get(last))
        {
            self.sets.get_mut(last).uses += 1;
            return last;
        }
        let hash = self.hasher.hash_one((bytes, two_byte)) as u32;
        let number = match self.index.find(spread(hash), |number| same(self.sets.get(*number))) {
            Some(number) => *number,
            None => {
                self.bytes += bytes.len();
                let number = self.sets.insert(AttributeSet {
                    bytes: bytes.into(),
                    reach,
                    two_byte,
                    is_paid: false,
                    uses: 0,
                    hash,
                });
                let sets = &self.sets;
                self.index.insert_unique(spread(hash), number, |number| spread(sets.get(*number).hash));
                number
            }
        };
        self.sets.get_mut(number).uses += 1;
        self.last = Some(number);
        number
    }

    /// Counts one more use.
    pub(super) fn retain(&mut self, number: u32) {
        self.sets.get_mut(number).uses += 1;
    }

    /// Counts one use less. A set without uses is removed.
    pub(super) fn release(&mut self, number: u32) {
        let set = self.sets.get_mut(number);
        set.uses -= 1;
        if set.uses > 0 {
            return;
        }
        let hash = set.hash;
        if let Ok(entry) = self.index.find_entry(spread(hash), |other| *other == number) {
            entry.remove();
        }
        if self.last == Some(number) {
            self.last = None;
        }
        self.bytes -= self.sets.remove(number).bytes.len();
    }
}
