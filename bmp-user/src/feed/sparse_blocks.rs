//! Values of one kind, each with a number, in blocks that are given back when they are empty.
//!
//! Like [`super::blocks::Blocks`], but an access compares once more. So it is not for routes.

use std::mem;

/// Values of a block.
const BLOCK: usize = 128;

/// Values by number. A removed number is given out again.
///
/// Numbers come from [`SparseBlocks::insert`] alone. Any other number, or a removed one, is a
/// mistake of the caller: it panics or returns another value.
#[derive(Debug)]
pub(super) struct SparseBlocks<T> {
    /// `None` for a block that was given back.
    blocks: Vec<Option<Box<[T; BLOCK]>>>,
    used: u32,
    /// Removed numbers in blocks that are there.
    free: Vec<u32>,
    /// Blocks that were given back.
    vacant: Vec<u32>,
    /// Removed numbers that were left when blocks were given back last.
    kept_free: usize,
}

/// Fewer removed numbers than this are not worth a look.
const FEW: usize = 8 * BLOCK;

impl<T: Default> SparseBlocks<T> {
    pub(super) fn new() -> Self {
        Self { blocks: Vec::new(), used: 0, free: Vec::new(), vacant: Vec::new(), kept_free: 0 }
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| self.new_number());
        *self.get_mut(index) = value;
        index
    }

    fn new_number(&mut self) -> u32 {
        if let Some(vacant) = self.vacant.pop() {
            let first = vacant * BLOCK as u32;
            if let Some(place) = self.blocks.get_mut(vacant as usize) {
                *place = Some(block());
            }
            self.free.extend((first + 1..first + BLOCK as u32).rev());
            return first;
        }
        let index = self.used;
        if index as usize / BLOCK == self.blocks.len() {
            self.blocks.push(Some(block()));
        }
        self.used += 1;
        index
    }

    pub(super) fn remove(&mut self, index: u32) -> T {
        self.free.push(index);
        mem::take(self.get_mut(index))
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> &T {
        match &self.blocks[index as usize / BLOCK] {
            Some(block) => &block[index as usize % BLOCK],
            None => unreachable!("a number that was given out is in a block"),
        }
    }

    /// The same, for a number that may never have been given out.
    #[inline]
    pub(super) fn try_get(&self, index: u32) -> Option<&T> {
        Some(&self.blocks.get(index as usize / BLOCK)?.as_ref()?[index as usize % BLOCK])
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> &mut T {
        match &mut self.blocks[index as usize / BLOCK] {
            Some(block) => &mut block[index as usize % BLOCK],
            None => unreachable!("a number that was given out is in a block"),
        }
    }

    /// All values, and a default one for each number that is free.
    #[cfg(test)]
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flatten().flat_map(|block| block.iter())
    }

    /// The number of values.
    pub(super) fn len(&self) -> usize {
        self.used as usize - self.free.len() - self.vacant.len() * BLOCK
    }

    /// Memory in bytes, without the memory that the values point to.
    pub(super) fn memory(&self) -> usize {
        (self.blocks.len() - self.vacant.len()) * BLOCK * size_of::<T>()
            + self.blocks.capacity() * size_of::<Option<Box<[T; BLOCK]>>>()
            + (self.free.capacity() + self.vacant.capacity()) * size_of::<u32>()
    }

    /// Gives empty blocks back, if many may be empty. Takes time only where at least as many values
    /// were removed before.
    pub(super) fn give_back(&mut self) {
        self.kept_free = self.kept_free.min(self.free.len());
        if self.free.len() <= (self.kept_free * 2).max(self.len()).max(FEW) {
            return;
        }
        let mut free_in = vec![0_u8; self.blocks.len()];
        self.free.iter().for_each(|index| free_in[*index as usize / BLOCK] += 1);
        for (number, (place, free)) in self.blocks.iter_mut().zip(free_in).enumerate() {
            if usize::from(free) == BLOCK && place.take().is_some() {
                self.vacant.push(number as u32);
            }
        }
        let Self { blocks, free, .. } = self;
        free.retain(|index| blocks[*index as usize / BLOCK].is_some());
        free.shrink_to_fit();
        self.kept_free = free.len();
    }
}

/// Makes a block where it stays.
fn block<T: Default>() -> Box<[T; BLOCK]> {
    let values: Box<[T]> = (0..BLOCK).map(|_| T::default()).collect();
    values.try_into().unwrap_or_else(|_| unreachable!("it has as many values as were made"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn blocks_that_are_empty_are_given_back_and_made_again_when_they_are_needed() {
        let mut blocks = SparseBlocks::new();
        let numbers: Vec<u32> = (0..10_000_u32).map(|value| blocks.insert(value)).collect();
        let full = blocks.memory();
        // One value stays in the middle.
        numbers
            .iter()
            .filter(|number| **number != 5_000)
            .for_each(|number| assert_eq!(blocks.remove(*number), *number));
        blocks.give_back();
        assert!(blocks.memory() < full / 8, "{} of {full}", blocks.memory());
        assert_eq!((blocks.len(), *blocks.get(5_000), blocks.try_get(0)), (1, 5_000, None));
        let again: Vec<u32> = (0..9_999).map(|value| blocks.insert(value)).collect();
        assert!(again.iter().zip(0..).all(|(number, value)| *blocks.get(*number) == value));
        assert_eq!((blocks.len(), blocks.blocks.len(), blocks.memory() <= full + full / 8), (10_000, 79, true));
    }

    proptest! {
        #[test]
        fn a_value_stays_under_its_number_whatever_is_given_back(
            steps in prop::collection::vec((0u32..3, 1usize..2_000), 1..40),
        ) {
            let (mut blocks, mut known, mut next) = (SparseBlocks::new(), BTreeMap::new(), 0_u32);
            for (step, count) in steps {
                match step {
                    0 => for _ in 0..count {
                        next += 1;
                        let before = known.insert(blocks.insert(next), next);
                        prop_assert_eq!(before, None, "a number is given out once");
                    },
                    1 => for _ in 0..count.min(known.len()) {
                        let (number, value) = known.pop_first().expect("there is one");
                        prop_assert_eq!(blocks.remove(number), value);
                    },
                    _ => blocks.give_back(),
                }
                prop_assert_eq!(blocks.len(), known.len());
                prop_assert!(known.iter().all(|(number, value)| blocks.get(*number) == value));
            }
        }
    }
}
