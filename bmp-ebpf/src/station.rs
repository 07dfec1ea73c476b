//! Which pin a connection comes under, by its far end.

use bmp_ebpf::{DENY_OWN, EGRESS_MAX, InetFamily, PIN_OWN, PinKey};

use crate::branchless::{is, is_below};
use crate::tables::{PINS, SLOTS};

/// The first ten bits of a link-local address (RFC 4291 section 2.5.6), in the first word of one.
const LINK_LOCAL: u32 = 0xfe80_0000_u32.to_be();
const LINK_LOCAL_BITS: u32 = 0xffc0_0000_u32.to_be();

/// The slot that the table names for the key.
#[inline(always)]
pub(crate) fn slot_of(key: &PinKey) -> Option<u32> {
    // SAFETY: the value is one word: it is read whole or not at all.
    unsafe { PINS.get(key) }.copied()
}

/// Whether the slot's pin is for other processes' sockets too. One that is not there any more is: it denies.
#[inline(always)]
pub(crate) fn is_for_all(slot: u32) -> bool {
    slot != DENY_OWN && SLOTS.get(slot).is_none_or(|pin| pin.flags & PIN_OWN == 0)
}

/// Whether the address names a host on one link alone.
#[inline(always)]
pub(crate) fn is_link_local(family: InetFamily, address: [u32; 4]) -> bool {
    family == InetFamily::IPV6 && address[0] & LINK_LOCAL_BITS == LINK_LOCAL
}

/// Whether the pin in the slot is about the interface's link. A pin that names no interface is about every link.
#[inline(always)]
pub(crate) fn is_on_link(slot: u32, ifindex: u32) -> bool {
    let Some(pin) = SLOTS.get(slot) else { return true };
    let named = |at: usize| is_below(at as u32, pin.egress_count) & is(pin.egress[at], ifindex);
    const { assert!(EGRESS_MAX == 8) };
    let names_none = is(pin.device, 0) & is(pin.egress_count, 0);
    let by_egress = named(0) | named(1) | named(2) | named(3) | named(4) | named(5) | named(6) | named(7);
    names_none | is(pin.device, ifindex) | by_egress != 0
}
