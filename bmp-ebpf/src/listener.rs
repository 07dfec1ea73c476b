//! A listener is shared by all stations that connect to one address and port, and so has no slot of its own: which session a packet
//! belongs to is found by the station's address, for each packet until the connection is established and its socket has a tag.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::programs::SkBuffContext;
use aya_log_ebpf::warn;
use bmp_ebpf::{
    GuardKey, InetAddress, InetFamily, NO_SLOT, PIN_DENY, PIN_LIVE, PIN_SOURCE, Pin, PinKey, ROLE_LISTEN, TAG_OWN, Tag,
};

use crate::ingress::elsewhere;
use crate::packet::{IPV4, IPV6, count, destination, headers, words};
use crate::tables::{COUNTERS, Cause, LOG, PINS, SLOTS, count_denial, count_refused, vrf_of};

/// What the kernel is told: the packet goes on, or is dropped.
const PASS: i32 = 1;
const DROP: i32 = 0;

/// What a packet's own socket says about where it listens.
struct Place {
    /// Interface index that the socket is bound to.
    bound: u32,
    /// In host byte order; 0 if there is no socket.
    port: u32,
    /// 0 if the packet is neither of the two.
    family: InetFamily,
}

#[inline(always)]
fn place(skb: *const __sk_buff) -> Place {
    let mut place = Place { bound: 0, port: 0, family: InetFamily::NONE };
    // SAFETY: `skb` is the program's context, and the socket is its own, read where it is not null.
    unsafe {
        let sk: *mut bpf_sock = (*skb).__bindgen_anon_2.sk;
        if !sk.is_null() {
            place.bound = (&raw const (*sk).bound_dev_if).read_volatile();
            place.port = (&raw const (*sk).src_port).read_volatile();
        }
        match (*skb).protocol {
            IPV4 => place.family = InetFamily::IPV4,
            IPV6 => place.family = InetFamily::IPV6,
            _ => {}
        }
    }
    place
}

/// The slot of the session that has this station, in a listener's namespace; [`NO_SLOT`] if none has.
#[inline(always)]
pub(crate) fn slot_of(netns: u64, bound: u32, family: InetFamily, port: u16, station: [u32; 4]) -> u32 {
    let key = PinKey {
        netns,
        vrf: vrf_of(netns, bound),
        family,
        role: ROLE_LISTEN,
        port,
        station: InetAddress::from_words(station),
    };
    // SAFETY: the value is one word: it is read whole or not at all.
    unsafe { PINS.get(key) }.copied().unwrap_or(NO_SLOT)
}

/// The tag of the session that an answer of a listener belongs to, by where it goes; of slot [`NO_SLOT`] if it belongs to none.
#[inline(always)]
pub(crate) fn answering(skb: *const __sk_buff, listener: Tag) -> Tag {
    let place = place(skb);
    let slot = slot_of(listener.netns, place.bound, place.family, place.port as u16, destination(skb));
    let mut tag = Tag { slot, flags: TAG_OWN, ..listener };
    if let Some(pin) = SLOTS.get(slot) {
        // SAFETY: `pin` is a reference.
        tag.generation = unsafe { (&raw const pin.generation).read_volatile() };
    }
    tag
}

/// A packet comes to a listener: it goes on if a session has its sender, came by the right interface, and means the right address.
///
/// Out of line, so that other sockets' packets do not carry its stack.
#[inline(never)]
pub(crate) fn receive(ctx: &SkBuffContext, netns: u64) -> i32 {
    let skb = ctx.skb.skb;
    let (place, headers, local) = (place(skb), headers(skb), destination(skb));
    let slot = slot_of(netns, place.bound, place.family, place.port as u16, headers.source);
    if slot == NO_SLOT {
        let key = GuardKey {
            ifindex: 0,
            family: place.family,
            reserved: 0,
            port: place.port as u16,
            local: InetAddress::from_words(local),
        };
        // SAFETY: `skb` is the program's context.
        count_refused(&key, unsafe { (*skb).len }.into());
        return drop(ctx, NO_SLOT, Cause::Stranger);
    }
    let Some(pin) = SLOTS.get(slot) else { return drop(ctx, slot, Cause::Denied) };
    // SAFETY: `skb` is the program's context.
    let ifindex = unsafe { (*skb).ifindex };
    if let Err(cause) = check(pin, slot, ifindex, local) {
        return drop(ctx, slot, cause);
    }
    if let Some(counters) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: the pointer is to the table's value and only its field is named.
        count(unsafe { &raw mut (*counters).own_rx }, skb, &headers);
    }
    PASS
}

#[inline(always)]
fn check(pin: &Pin, slot: u32, ifindex: u32, local: [u32; 4]) -> Result<(), Cause> {
    if pin.flags & PIN_LIVE == 0 {
        return Err(Cause::Gone);
    }
    if pin.flags & PIN_DENY != 0 {
        return Err(Cause::Denied);
    }
    if elsewhere(pin, slot, ifindex) {
        return Err(Cause::Interface);
    }
    if pin.flags & PIN_SOURCE != 0 {
        // SAFETY: sixteen bytes, and the field's offset in `Pin` is a multiple of four.
        let source = unsafe { words(pin.source.octets().as_ptr().cast::<[u32; 4]>()) };
        if local != source {
            return Err(Cause::Source);
        }
    }
    Ok(())
}

#[inline(always)]
fn drop(ctx: &SkBuffContext, slot: u32, cause: Cause) -> i32 {
    if count_denial(slot, cause) {
        // SAFETY: `ctx.skb.skb` is the program's context.
        let ifindex = unsafe { (*ctx.skb.skb).ifindex };
        warn!(ctx, target: LOG, "ingress: slot {}: packet by interface {} refused: {}", slot, ifindex, cause.words());
    }
    DROP
}
