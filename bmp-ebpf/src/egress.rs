//! cgroup_skb/egress: every packet of a tagged socket leaves as its pin says, or not at all.

use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use bmp_ebpf::NO_SLOT;

use crate::counters::count;
use crate::deny::{DenialCause, count_denial};
use crate::maps::COUNTERS;
use crate::packet::headers;
use crate::pin::{Exit, may_send, pin_of, tag_of};
use crate::{listener, log};

/// What the kernel is told: the packet goes on, or is dropped.
const PASS: i32 = 1;
const DROP: i32 = 0;

/// Named in [`bmp_ebpf::program::EGRESS`].
#[cgroup_skb(egress)]
pub(crate) fn egress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    let Some(mut tag) = tag_of(skb) else { return PASS };
    if tag.is_listener() {
        tag = listener::answering(skb, tag);
        if tag.slot == NO_SLOT {
            return drop(&ctx, NO_SLOT, DenialCause::Stranger);
        }
    }
    if tag.slot == NO_SLOT {
        return PASS;
    }
    let Some(pin) = pin_of(tag) else { return drop(&ctx, NO_SLOT, DenialCause::Gone) };
    let headers = headers(skb);
    // SAFETY: `skb` is the program's context.
    let (ifindex, mark) = unsafe { ((*skb).ifindex, (*skb).mark) };
    match may_send(pin, tag.slot, ifindex, mark, headers.source) {
        Ok(Exit::Host) => {}
        Ok(Exit::VrfDevice) => return PASS,
        Err(cause) => return drop(&ctx, tag.slot, cause),
    }
    if let Some(counters) = COUNTERS.get_ptr_mut(tag.slot) {
        // SAFETY: the pointer is to the table's value and only its fields are named.
        let traffic =
            unsafe { if tag.is_own() { &raw mut (*counters).own_tx } else { &raw mut (*counters).foreign_tx } };
        count(traffic, skb, &headers);
    }
    PASS
}

/// Drops a packet, and counts and logs that.
///
/// Out of line, so that packets that pass do not carry the log's stack.
#[inline(never)]
fn drop(ctx: &SkBuffContext, slot: u32, cause: DenialCause) -> i32 {
    if count_denial(slot, cause) {
        // SAFETY: `ctx.skb.skb` is the program's context.
        let ifindex = unsafe { (*ctx.skb.skb).ifindex };
        log::dropped_packet(slot, ifindex, cause);
    }
    DROP
}
