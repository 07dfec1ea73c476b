//! cgroup_skb/egress: every packet of a tagged socket leaves as its pin says, or not at all.

use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use aya_log_ebpf::warn;
use bmp_ebpf::{NO_SLOT, PIN_DENY, PIN_SOURCE, PIN_VRF, Pin, TAG_LISTENER, TAG_OWN, Tag};

use crate::listener;
use crate::packet::{Headers, count, headers};
use crate::tables::{COUNTERS, Cause, LOG, Whereabouts, count_denial, names_interface, pin_of, tag_of, whereabouts};

/// What the kernel is told: the packet goes on, or is dropped.
const PASS: i32 = 1;
const DROP: i32 = 0;

/// Named in [`bmp_ebpf::program::EGRESS`].
#[cgroup_skb(egress)]
pub(crate) fn egress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    let Some(mut tag) = tag_of(skb) else { return PASS };
    if tag.flags & TAG_LISTENER != 0 {
        tag = listener::answering(skb, tag);
        if tag.slot == NO_SLOT {
            return drop(&ctx, NO_SLOT, Cause::Stranger);
        }
    }
    if tag.slot == NO_SLOT {
        return PASS;
    }
    let Some(pin) = pin_of(tag) else { return drop(&ctx, NO_SLOT, Cause::Gone) };
    let headers = headers(skb);
    // SAFETY: `skb` is the program's context.
    let (ifindex, mark) = unsafe { ((*skb).ifindex, (*skb).mark) };
    match check(pin, tag, ifindex, mark, &headers) {
        Ok(Leaves::Here) => {}
        Ok(Leaves::Later) => return PASS,
        Err(cause) => return drop(&ctx, tag.slot, cause),
    }
    if let Some(counters) = COUNTERS.get_ptr_mut(tag.slot) {
        // SAFETY: the pointer is to the table's value and only its fields are named.
        let traffic = unsafe {
            if tag.flags & TAG_OWN != 0 { &raw mut (*counters).own_tx } else { &raw mut (*counters).foreign_tx }
        };
        count(traffic, skb, &headers);
    }
    PASS
}

/// Where a packet leaves that may go on.
enum Leaves {
    /// By this interface.
    Here,
    /// This is its VRF's device, which routes it once more: then it is checked again, and counted.
    Later,
}

/// Whether a packet with these headers and this mark may leave by the interface.
#[inline(always)]
fn check(pin: &Pin, tag: Tag, ifindex: u32, mark: u32, headers: &Headers) -> Result<Leaves, Cause> {
    if pin.flags & PIN_DENY != 0 {
        return Err(Cause::Denied);
    }
    // By the right interface there may be another router.
    if pin.mark != 0 && mark != pin.mark {
        return Err(Cause::Mark);
    }
    // Where the VRF's own table has no route, the kernel goes on to those of the default VRF.
    let place = if pin.flags & PIN_VRF != 0 { whereabouts(tag.slot, ifindex) } else { Whereabouts::Inside };
    if place == Whereabouts::Outside {
        return Err(Cause::Interface);
    }
    if place == Whereabouts::Inside && pin.egress_count != 0 && !names_interface(pin, ifindex) {
        return Err(Cause::Interface);
    }
    if pin.flags & PIN_SOURCE != 0 {
        let source = pin.source.octets().as_ptr().cast::<[u32; 4]>();
        // SAFETY: sixteen bytes, and the field's offset in `Pin` is a multiple of four.
        let source = unsafe { &*source };
        if headers.source != *source {
            return Err(Cause::Source);
        }
    }
    Ok(if place == Whereabouts::Device { Leaves::Later } else { Leaves::Here })
}

/// Out of line, so that what leaves as it should does not carry the log's stack.
#[inline(never)]
fn drop(ctx: &SkBuffContext, slot: u32, cause: Cause) -> i32 {
    if count_denial(slot, cause) {
        // SAFETY: `ctx.skb.skb` is the program's context.
        let ifindex = unsafe { (*ctx.skb.skb).ifindex };
        warn!(ctx, target: LOG, "egress: slot {}: packet by interface {} dropped: {}", slot, ifindex, cause.words());
    }
    DROP
}
