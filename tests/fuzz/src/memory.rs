//! The peak of memory that some work needs.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    /// Bytes that this thread holds, and their peak since the last reset. Memory freed by another
    /// thread counts there.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// The system's allocator, with a count of the bytes of each thread.
#[derive(Debug)]
pub struct CountingAllocator;

fn count(difference: isize) {
    let (held, most) = HELD.get();
    let held = held.saturating_add(difference);
    HELD.set((held, most.max(held)));
}

fn size(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

// SAFETY: every call goes to the system's allocator unchanged. Counting uses a thread-local without
// destructor and allocates nothing.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(size(layout.size()));
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(size(layout.size()));
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-size(layout.size()));
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        count(size(new) - size(layout.size()));
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(memory, layout, new) }
    }
}

/// Runs `work`. Returns its result, and the peak of this thread's memory above the memory before.
pub fn most<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let (before, most) = HELD.get();
    HELD.set((before, before));
    let done = work();
    let (held, reached) = HELD.get();
    HELD.set((held, most.max(reached)));
    (done, usize::try_from(reached - before).unwrap_or(0))
}

/// Runs `work` on `given` bytes of input, with at most `fixed + factor * given` bytes of memory. So
/// a length field alone must not reserve memory.
///
/// # Panics
///
/// If the work needs more.
pub fn within<T>(fixed: usize, factor: usize, given: usize, work: impl FnOnce() -> T) -> T {
    let (done, took) = most(work);
    let allowed = fixed + factor * given;
    assert!(took <= allowed, "{took} bytes of memory for {given} bytes of input; {allowed} are allowed");
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_of_memory_is_counted() {
        let (kept, took) = most(|| {
            drop(vec![0u8; 1000]);
            let kept = vec![0u8; 300];
            drop(vec![0u8; 500]);
            kept
        });
        assert_eq!((took, kept.len()), (1000, 300));
        let ((_, inner), outer) = most(|| most(|| vec![0u8; 10]));
        assert_eq!((inner, outer), (10, 10));
    }
}
