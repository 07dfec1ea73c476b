//! The feed's account of its memory.
//!
//! Each part of the feed counts its own bytes when it grows or shrinks. So the sum is exact at any
//! time, and nobody walks over routes to know it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A total that parts of the feed add to. Clones are the same total.
///
/// Parts change under the lock of the state alone. So a load and a store are enough.
#[derive(Clone, Debug, Default)]
pub(super) struct MemoryMeter(Arc<AtomicUsize>);

impl MemoryMeter {
    /// The bytes of all parts.
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn replace(&self, before: usize, now: usize) {
        self.0.store(self.bytes().wrapping_sub(before).wrapping_add(now), Ordering::Relaxed);
    }
}

/// The bytes of one part. They count as long as the part lives.
#[derive(Debug)]
pub(super) struct MeteredBytes {
    bytes: usize,
    total: MemoryMeter,
}

impl MeteredBytes {
    /// A part that has nothing yet.
    pub(super) fn new(total: &MemoryMeter) -> Self {
        Self { bytes: 0, total: total.clone() }
    }

    /// The bytes of the part.
    #[inline]
    pub(super) fn get(&self) -> usize {
        self.bytes
    }

    /// The part has so many bytes now.
    #[inline]
    pub(super) fn set(&mut self, bytes: usize) {
        self.total.replace(self.bytes, bytes);
        self.bytes = bytes;
    }
}

impl Drop for MeteredBytes {
    fn drop(&mut self) {
        self.total.replace(self.bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_sum_of_the_parts_that_live() {
        let total = MemoryMeter::default();
        let (mut one, mut other) = (MeteredBytes::new(&total), MeteredBytes::new(&total));
        one.set(100);
        other.set(30);
        one.set(70);
        assert_eq!((one.get(), total.bytes()), (70, 100));
        drop(one);
        assert_eq!(total.bytes(), 30);
        drop(other);
        assert_eq!(total.bytes(), 0);
    }
}
