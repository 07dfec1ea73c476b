//! How much memory something takes at most.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    /// Bytes that this thread has, less those that it freed for others, and the most that it had since that was last forgotten.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// The system's allocator, with a count of what each thread holds.
#[derive(Debug)]
pub struct Counting;

fn count(difference: isize) {
    let (held, most) = HELD.get();
    let held = held.saturating_add(difference);
    HELD.set((held, most.max(held)));
}

fn size(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

// SAFETY: every call is the system allocator's, unchanged; counting touches a thread-local without destructor and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(size(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(size(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-size(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        count(size(new) - size(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, new) }
    }
}

/// Does something, and says how many bytes of memory it had at most beyond what there was before. Only of this thread.
pub fn most<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let (before, most) = HELD.get();
    HELD.set((before, before));
    let done = work();
    let (held, reached) = HELD.get();
    HELD.set((held, most.max(reached)));
    (done, usize::try_from(reached - before).unwrap_or(0))
}

/// Does something with `given` bytes, which may take `fixed` bytes of memory, and `factor` times as many as it was given: a field that
/// speaks of more must not make room for it.
///
/// # Panics
///
/// If it took more.
pub fn within<T>(fixed: usize, factor: usize, given: usize, work: impl FnOnce() -> T) -> T {
    let (done, took) = most(work);
    let allowed = fixed + factor * given;
    assert!(took <= allowed, "{took} bytes of memory for {given} bytes of input, and {allowed} are allowed");
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_that_was_held_at_a_time_is_counted() {
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
