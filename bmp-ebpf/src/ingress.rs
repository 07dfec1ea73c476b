//! cgroup_skb/ingress: counts what tagged sockets receive, and by which interface.
//!
//! It drops packets to a listener alone: those of strangers, and those of stations that come by
//! another interface or to another address than the session's pin says.

use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use bmp_ebpf::{GuardKey, InetAddress, NO_SLOT};

use crate::counters::{add, count};
use crate::deny::{DenialCause, count_denial, count_stranger};
use crate::maps::{COUNTERS, SLOTS};
use crate::packet::{destination, headers};
use crate::pin::{came_elsewhere, may_receive, pin_of, tag_of};
use crate::{listener, log};

/// What the kernel is told: the packet goes on, or is dropped.
const PASS: i32 = 1;
const DROP: i32 = 0;

/// Named in [`bmp_ebpf::program::INGRESS`].
#[cgroup_skb(ingress)]
pub(crate) fn ingress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    let Some(tag) = tag_of(skb) else { return PASS };
    if tag.is_listener() {
        return receive(&ctx, tag.netns);
    }
    if tag.slot == NO_SLOT {
        return PASS;
    }
    let Some(pin) = pin_of(tag) else { return PASS };
    let Some(counters) = COUNTERS.get_ptr_mut(tag.slot) else { return PASS };
    // SAFETY: the pointer is to the table's value and only its fields are named; `skb` is the
    // program's context.
    unsafe {
        let traffic = if tag.is_own() { &raw mut (*counters).own_rx } else { &raw mut (*counters).foreign_rx };
        let packets = count(traffic, skb, &headers(skb));
        if came_elsewhere(pin, tag.slot, (*skb).ifindex) {
            add(&raw mut (*counters).rx_elsewhere_packets, u64::from(packets));
        }
    }
    PASS
}

/// A packet comes to a listener.
///
/// Out of line, so that other sockets' packets do not carry its stack.
#[inline(never)]
fn receive(ctx: &SkBuffContext, netns: u64) -> i32 {
    let skb = ctx.skb.skb;
    let (socket, headers, local) = (listener::listening_socket(skb), headers(skb), destination(skb));
    let (family, port) = (socket.family, socket.port as u16);
    let slot = listener::slot_of(netns, socket.bound, family, port, headers.source);
    if slot == NO_SLOT {
        let local = InetAddress::from_words(local);
        let key = GuardKey { ifindex: 0, family, reserved: 0, port, local };
        // SAFETY: `skb` is the program's context.
        count_stranger(&key, unsafe { (*skb).len }.into());
        return drop(ctx, NO_SLOT, DenialCause::Stranger);
    }
    let Some(pin) = SLOTS.get(slot) else { return drop(ctx, slot, DenialCause::Denied) };
    // SAFETY: `skb` is the program's context.
    let ifindex = unsafe { (*skb).ifindex };
    if let Err(cause) = may_receive(pin, slot, ifindex, local) {
        return drop(ctx, slot, cause);
    }
    if let Some(counters) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: the pointer is to the table's value and only its field is named.
        count(unsafe { &raw mut (*counters).own_rx }, skb, &headers);
    }
    PASS
}

/// Drops a packet, and counts and logs that.
///
/// Out of line, so that [`receive`] does not carry the log's stack. Verifiers add up the stack of
/// [`ingress`], [`receive`] and the walk along extension headers: 512 bytes are the limit.
#[inline(never)]
fn drop(ctx: &SkBuffContext, slot: u32, cause: DenialCause) -> i32 {
    if count_denial(slot, cause) {
        // SAFETY: `ctx.skb.skb` is the program's context.
        let ifindex = unsafe { (*ctx.skb.skb).ifindex };
        log::refused_packet(slot, ifindex, cause);
    }
    DROP
}
