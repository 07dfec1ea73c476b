//! Many small values of one kind, each with a number. Growing moves none of them.

use std::mem;

use super::memory::{MemoryMeter, MeteredBytes};

/// Values of a block. The allocator gives and takes the blocks of a large table one by one.
const BLOCK: usize = 128;

/// No value: the end of a list.
pub(super) const NONE: u32 = u32::MAX;

/// Values by number. A removed number is given out again.
///
/// Numbers come from [`Blocks::insert`] alone. Any other number, or a removed one, is a mistake of
/// the caller: it panics or returns another value.
#[derive(Debug)]
pub(super) struct Blocks<T> {
    // Of a known size, so that access to a value compares once.
    blocks: Vec<Box<[T; BLOCK]>>,
    used: u32,
    free: Vec<u32>,
    memory: MeteredBytes,
}

impl<T: Default> Blocks<T> {
    /// No values. What they will take is counted in `meter`.
    pub(super) fn new(meter: &MemoryMeter) -> Self {
        Self { blocks: Vec::new(), used: 0, free: Vec::new(), memory: MeteredBytes::new(meter) }
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            let index = self.used;
            if index as usize / BLOCK == self.blocks.len() {
                self.grow();
            }
            self.used += 1;
            index
        });
        *self.get_mut(index) = value;
        index
    }

    pub(super) fn remove(&mut self, index: u32) -> T {
        if self.free.len() == self.free.capacity() {
            self.grow_free();
        }
        self.free.push(index);
        mem::take(self.get_mut(index))
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        self.blocks.push(block());
        self.count();
    }

    #[cold]
    #[inline(never)]
    fn grow_free(&mut self) {
        self.free.reserve(1);
        self.count();
    }

    fn count(&mut self) {
        self.memory.set(self.walked_memory());
    }

    /// Memory in bytes, looked up.
    pub(super) fn walked_memory(&self) -> usize {
        self.blocks.len() * (BLOCK * size_of::<T>() + size_of::<Box<[T; BLOCK]>>())
            + self.free.capacity() * size_of::<u32>()
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> &T {
        &self.blocks[index as usize / BLOCK][index as usize % BLOCK]
    }

    /// The same, for a number that may never have been given out.
    #[inline]
    pub(super) fn try_get(&self, index: u32) -> Option<&T> {
        Some(&self.blocks.get(index as usize / BLOCK)?[index as usize % BLOCK])
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> &mut T {
        &mut self.blocks[index as usize / BLOCK][index as usize % BLOCK]
    }

    /// Has the processor fetch a value that is needed soon.
    #[inline]
    pub(super) fn prefetch(&self, index: u32) {
        if let Some(value) = self.try_get(index) {
            prefetch(value);
        }
    }

    /// All numbers are below this one.
    pub(super) fn numbers(&self) -> u32 {
        self.used
    }

    /// The number of values.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.used as usize - self.free.len()
    }

    /// Memory in bytes, without the memory that the values point to.
    pub(super) fn memory(&self) -> usize {
        self.memory.get()
    }
}

/// Makes a block where it stays.
fn block<T: Default>() -> Box<[T; BLOCK]> {
    let values: Box<[T]> = (0..BLOCK).map(|_| T::default()).collect();
    values.try_into().unwrap_or_else(|_| unreachable!("it has as many values as were made"))
}

/// Has the processor fetch the cache line that a value begins in.
#[inline]
pub(super) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction has no visible effect, and SSE is part of the architecture.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_numbers_are_given_out_again_and_values_stay_where_they_are() {
        let meter = MemoryMeter::default();
        let mut blocks = Blocks::new(&meter);
        let numbers: Vec<u32> = (0..3000u32).map(|value| blocks.insert(value)).collect();
        assert_eq!((blocks.len(), blocks.memory() >= 3000 * 4), (3000, true));
        assert_eq!(blocks.remove(numbers[1500]), 1500);
        assert_eq!(blocks.insert(7), numbers[1500]);
        assert!((0..3000u32).filter(|value| *value != 1500).all(|value| *blocks.get(numbers[value as usize]) == value));
        assert_eq!(meter.bytes(), blocks.memory());
        drop(blocks);
        assert_eq!(meter.bytes(), 0);
    }
}
