//! cgroup_skb/ingress: counts what comes back, and by which interface. It drops only what comes to a listener from somebody who is no
//! station, or by another way than the station's session has.

use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use bmp_ebpf::{NO_SLOT, PIN_VRF, Pin, TAG_LISTENER, TAG_OWN};

use crate::listener;
use crate::packet::{count, headers};
use crate::tables::{COUNTERS, Whereabouts, add, names_interface, pin_of, tag_of, whereabouts};

/// What the kernel is told: the packet goes on.
const PASS: i32 = 1;

/// Named in [`bmp_ebpf::program::INGRESS`].
#[cgroup_skb(ingress)]
pub(crate) fn ingress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    let Some(tag) = tag_of(skb) else { return PASS };
    if tag.flags & TAG_LISTENER != 0 {
        return listener::receive(&ctx, tag.netns);
    }
    if tag.slot == NO_SLOT {
        return PASS;
    }
    let Some(pin) = pin_of(tag) else { return PASS };
    let Some(counters) = COUNTERS.get_ptr_mut(tag.slot) else { return PASS };
    // SAFETY: the pointer is to the table's value and only its fields are named; `skb` is the program's context.
    unsafe {
        let traffic =
            if tag.flags & TAG_OWN != 0 { &raw mut (*counters).own_rx } else { &raw mut (*counters).foreign_rx };
        let packets = count(traffic, skb, &headers(skb));
        if elsewhere(pin, tag.slot, (*skb).ifindex) {
            add(&raw mut (*counters).rx_elsewhere_packets, u64::from(packets));
        }
    }
    PASS
}

/// Whether a packet came in by an interface that the pin does not name. In a VRF only the VRF device is to be seen.
#[inline(always)]
pub(crate) fn elsewhere(pin: &Pin, slot: u32, ifindex: u32) -> bool {
    let by_vrf = || pin.flags & PIN_VRF != 0 && whereabouts(slot, ifindex) == Whereabouts::Device;
    pin.egress_count != 0 && !names_interface(pin, ifindex) && !by_vrf()
}
