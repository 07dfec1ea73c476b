//! Counting in the tables.

use core::arch::asm;

use aya_ebpf::bindings::__sk_buff;
use bmp_ebpf::Traffic;

use crate::packet::Headers;

/// Adds to one counter of the running CPU.
///
/// The addition is atomic: a softirq, or another task on a preemptible kernel, can run the same
/// program on the same CPU in the middle of it, for another socket of the slot.
#[inline(always)]
pub(crate) fn add(counter: *mut u64, amount: u64) {
    // SAFETY: every caller passes a field of a table's value: aligned, and alive while the program
    // runs. The target has no compare-and-swap, so the compiler offers no atomic addition. The
    // kernel has had this instruction since 3.18.
    unsafe {
        asm!("lock *(u64 *)({counter} + 0) += {amount}", counter = in(reg) counter, amount = in(reg) amount, options(nostack));
    }
}

/// Counts a socket buffer as the packets that it is on the wire, and returns their number.
///
/// `__sk_buff.len` is the buffer's IP length with one set of headers. The stack or the interface
/// cuts the payload into `gso_segs` pieces and gives each the headers; received packets were merged
/// the same way. Some drivers of virtual machines leave `gso_segs` 0. Without a TCP header there is
/// no payload, and each piece counts the headers that could be read.
#[inline(always)]
pub(crate) fn count(traffic: *mut Traffic, skb: *const __sk_buff, headers: &Headers) -> u32 {
    // SAFETY: `skb` is the program's context and `traffic` a field of a table's value.
    unsafe {
        let whole = (*skb).len;
        let mut bytes = u64::from(whole);
        let without_headers = whole.saturating_sub(headers.length + headers.jumbo);
        let payload = if headers.tcp != 0 { without_headers } else { 0 };
        let mut packets = (*skb).gso_segs;
        if packets == 0 {
            let size = (*skb).gso_size;
            packets = if size == 0 { 1 } else { without_headers.div_ceil(size).max(1) };
        }
        if packets > 1 {
            bytes = bytes + u64::from(packets - 1) * u64::from(headers.length) - u64::from(headers.jumbo);
        }
        add(&raw mut (*traffic).bytes, bytes);
        add(&raw mut (*traffic).packets, u64::from(packets));
        add(&raw mut (*traffic).buffers, 1);
        add(&raw mut (*traffic).payload_bytes, u64::from(payload));
        packets
    }
}
