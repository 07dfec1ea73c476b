//! May this pin send this? Every hook asks here which pin a connection has, and what it allows.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use bmp_ebpf::{DENY_OWN, EGRESS_MAX, InetFamily, LinkKey, PIN_OWN, PIN_SOURCE, PIN_VRF, Pin, PinKey, Tag};

use crate::branchless::{is, is_below};
use crate::deny::DenialCause;
use crate::maps::{OWNERS, PINS, SLOTS, TAGS, VRFS};

/// The first ten bits of a link-local address (RFC 4291 section 2.5.6), in its first word.
const LINK_LOCAL: u32 = 0xfe80_0000_u32.to_be();
const LINK_LOCAL_BITS: u32 = 0xffc0_0000_u32.to_be();

/// Returns the slot that table `PINS` names for the key.
#[inline(always)]
pub(crate) fn slot_of(key: &PinKey) -> Option<u32> {
    // SAFETY: the value is one word: it is read whole or not at all.
    unsafe { PINS.get(key) }.copied()
}

/// Returns the slot of the key, if its pin is for this socket: for bmpd's own (`own`), or for every
/// process's. A link-local address does not tell its link, so `is_on_link` is asked as well.
#[inline(always)]
pub(crate) fn slot_for(key: &PinKey, address: [u32; 4], own: bool, is_on_link: impl Fn(u32) -> bool) -> Option<u32> {
    let is_meant = |slot: u32| !is_link_local(key.family, address) || is_on_link(slot);
    slot_of(key).filter(|slot| own || (is_for_all(*slot) && is_meant(*slot)))
}

/// True if the slot's pin is for other processes' sockets too. A pin that is gone denies all.
#[inline(always)]
fn is_for_all(slot: u32) -> bool {
    slot != DENY_OWN && SLOTS.get(slot).is_none_or(|pin| pin.flags & PIN_OWN == 0)
}

/// True if the address names a host on one link alone.
#[inline(always)]
fn is_link_local(family: InetFamily, address: [u32; 4]) -> bool {
    family == InetFamily::IPV6 && address[0] & LINK_LOCAL_BITS == LINK_LOCAL
}

/// True if the pin in the slot names the interface. A pin without interfaces means every link.
#[inline(always)]
pub(crate) fn is_on_link(slot: u32, ifindex: u32) -> bool {
    let Some(pin) = SLOTS.get(slot) else { return true };
    let named = |at: usize| is_below(at as u32, pin.egress_count) & is(pin.egress[at], ifindex);
    const { assert!(EGRESS_MAX == 8) };
    let names_none = is(pin.device, 0) & is(pin.egress_count, 0);
    let by_egress = named(0) | named(1) | named(2) | named(3) | named(4) | named(5) | named(6) | named(7);
    names_none | is(pin.device, ifindex) | by_egress != 0
}

/// Returns the tag of the socket that a packet belongs to.
#[inline(always)]
pub(crate) fn tag_of(skb: *const __sk_buff) -> Option<Tag> {
    // SAFETY: `skb` is the program's context, whose fields the verifier checks.
    let sk: *mut bpf_sock = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return None;
    }
    // SAFETY: `sk` is the context's socket and not null.
    unsafe { TAGS.of(sk) }.copied()
}

/// Returns the pin that a tag was given under; `None` if it is gone.
#[inline(always)]
pub(crate) fn pin_of(tag: Tag) -> Option<&'static Pin> {
    let pin = SLOTS.get(tag.slot)?;
    (pin.is_live() && pin.generation == tag.generation).then_some(pin)
}

/// Reads a pin's generation at this very moment.
///
/// Read it before anything else of the pin: if the slot gets another pin meanwhile, a tag of this
/// generation belongs to the earlier pin, and nothing leaves.
#[inline(always)]
pub(crate) fn generation(pin: &Pin) -> u32 {
    // SAFETY: `pin` is a reference.
    unsafe { (&raw const pin.generation).read_volatile() }
}

/// Returns the VRF of a socket that is bound to this interface; 0 is the default VRF.
#[inline(always)]
pub(crate) fn vrf_of(netns: u64, bound: u32) -> u32 {
    if bound == 0 {
        return 0;
    }
    // SAFETY: the value is one word: it is read whole or not at all.
    unsafe { VRFS.get(LinkKey { netns, ifindex: bound, reserved: 0 }) }.copied().unwrap_or(0)
}

/// Where an interface is, seen from a pin of a VRF.
#[derive(Clone, Copy, PartialEq, Eq)]
enum VrfPosition {
    /// It is the VRF device itself. Where the device has a queueing discipline, packets leave by it
    /// and are routed once more (`vrf_xmit` of drivers/net/vrf.c). Received packets seem to come in
    /// by it.
    Device,
    /// It belongs to the VRF.
    Inside,
    /// Neither.
    Outside,
}

/// Returns where an interface is, seen from the VRF of the key that the slot was given for.
#[inline(always)]
fn vrf_position(slot: u32, ifindex: u32) -> VrfPosition {
    let Some(key) = OWNERS.get(slot) else { return VrfPosition::Outside };
    if key.vrf == ifindex {
        VrfPosition::Device
    } else if vrf_of(key.netns, ifindex) == key.vrf {
        VrfPosition::Inside
    } else {
        VrfPosition::Outside
    }
}

/// True if the pin names the interface as one that packets may leave by.
///
/// Written out: older verifiers lose the bound of the pointer that a loop over the array becomes.
#[inline(always)]
fn names_interface(pin: &Pin, ifindex: u32) -> bool {
    const { assert!(EGRESS_MAX == 8) };
    let named = |at: usize| (at as u32) < pin.egress_count && pin.egress[at] == ifindex;
    named(0) || named(1) || named(2) || named(3) || named(4) || named(5) || named(6) || named(7)
}

/// The pin does not deny.
#[inline(always)]
fn is_not_denial(pin: &Pin) -> Result<(), DenialCause> {
    if pin.denies() { Err(DenialCause::Denied) } else { Ok(()) }
}

/// The slot holds a pin, and it does not deny.
#[inline(always)]
pub(crate) fn is_open(pin: &Pin) -> Result<(), DenialCause> {
    if !pin.is_live() {
        return Err(DenialCause::Gone);
    }
    is_not_denial(pin)
}

/// Returns the pin's source as four words.
#[inline(always)]
pub(crate) fn source_of(pin: &Pin) -> &[u32; 4] {
    // SAFETY: sixteen bytes, and the field's offset in `Pin` is a multiple of four.
    unsafe { &*pin.source.octets().as_ptr().cast::<[u32; 4]>() }
}

/// The address is the pin's source, if it has one.
#[inline(always)]
pub(crate) fn is_source(pin: &Pin, address: [u32; 4]) -> Result<(), DenialCause> {
    if pin.flags & PIN_SOURCE != 0 && address != *source_of(pin) {
        return Err(DenialCause::Source);
    }
    Ok(())
}

/// A socket that is bound to this interface may be under the pin.
#[inline(always)]
pub(crate) fn may_be_bound_to(pin: &Pin, bound: u32) -> Result<(), DenialCause> {
    let fits = match (pin.device, pin.egress_count) {
        (0, 0) => true,
        (0, _) => names_interface(pin, bound),
        (device, _) => bound == device,
    };
    if fits { Ok(()) } else { Err(DenialCause::Interface) }
}

/// How a packet that may go on leaves by this interface.
pub(crate) enum Exit {
    /// It leaves the host.
    Host,
    /// The interface is the VRF's device, which routes it once more: it is checked and counted
    /// then.
    VrfDevice,
}

/// A packet with this mark and source may leave by the interface, and how.
#[inline(always)]
pub(crate) fn may_send(pin: &Pin, slot: u32, ifindex: u32, mark: u32, source: [u32; 4]) -> Result<Exit, DenialCause> {
    is_not_denial(pin)?;
    // Another router may be on the right interface.
    if pin.mark != 0 && mark != pin.mark {
        return Err(DenialCause::Mark);
    }
    // Where the VRF's own table has no route, the kernel goes on to those of the default VRF.
    let position = if pin.flags & PIN_VRF != 0 { vrf_position(slot, ifindex) } else { VrfPosition::Inside };
    if position == VrfPosition::Outside {
        return Err(DenialCause::Interface);
    }
    if position == VrfPosition::Inside && pin.egress_count != 0 && !names_interface(pin, ifindex) {
        return Err(DenialCause::Interface);
    }
    is_source(pin, source)?;
    Ok(if position == VrfPosition::Device { Exit::VrfDevice } else { Exit::Host })
}

/// A station's packet to this address may come in by the interface.
#[inline(always)]
pub(crate) fn may_receive(pin: &Pin, slot: u32, ifindex: u32, local: [u32; 4]) -> Result<(), DenialCause> {
    is_open(pin)?;
    if came_elsewhere(pin, slot, ifindex) {
        return Err(DenialCause::Interface);
    }
    is_source(pin, local)
}

/// True if a packet came in by an interface that the pin does not name. In a VRF the packet seems
/// to come in by the VRF device.
#[inline(always)]
pub(crate) fn came_elsewhere(pin: &Pin, slot: u32, ifindex: u32) -> bool {
    let by_vrf = || pin.flags & PIN_VRF != 0 && vrf_position(slot, ifindex) == VrfPosition::Device;
    pin.egress_count != 0 && !names_interface(pin, ifindex) && !by_vrf()
}
