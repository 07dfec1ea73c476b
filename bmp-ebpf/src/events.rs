//! The ring of events.

use core::ptr;

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::maps::ring_buf::RingBufEntry;
use bmp_ebpf::{KernelEvent, NO_SLOT};

use crate::counters::add;
use crate::maps::{COUNTERS, EVENTS};

/// Reserves an event in the ring, all zeroes but the time. `None` if the ring is full: slot
/// [`NO_SLOT`] then counts the loss.
#[inline(always)]
pub(crate) fn reserve() -> Option<RingBufEntry<KernelEvent>> {
    let Some(mut entry) = EVENTS.reserve::<KernelEvent>(0) else {
        if let Some(counters) = COUNTERS.get_ptr_mut(NO_SLOT) {
            // SAFETY: the pointer is to the table's value and only its field is named.
            add(unsafe { &raw mut (*counters).events_lost }, 1);
        }
        return None;
    };
    let event = entry.as_mut_ptr();
    // SAFETY: `event` is the entry.
    unsafe {
        ptr::write_bytes(event.cast::<u64>(), 0, size_of::<KernelEvent>() / size_of::<u64>());
        (*event).time_ns = bpf_ktime_get_ns();
    }
    Some(entry)
}
