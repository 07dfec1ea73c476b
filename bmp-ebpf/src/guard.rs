//! xdp: drops TCP to an address and port that a listener has, from anybody but its stations, before the stack sees it.
//!
//! It looks at nothing else. What it cannot read for certain it lets pass: the listener's own program is behind it.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use bmp_ebpf::{GuardKey, Guarded, InetAddress, InetFamily, PIN_DENY, PIN_LIVE, PinKey, ROLE_LISTEN};

use crate::extensions::{Frame, Packet as _, Side, TCP, Walk};
use crate::tables::{GUARDED, PINS, SLOTS, count_refused};

/// Length of an Ethernet header, and of a VLAN tag (IEEE 802.1Q) in it.
const ETHERNET: usize = 14;
const TAG: usize = 4;

/// `ETH_P_*` (linux/if_ether.h) in network byte order.
const IPV4: u16 = 0x0800_u16.to_be();
const IPV6: u16 = 0x86dd_u16.to_be();
const VLAN: u16 = 0x8100_u16.to_be();
const SERVICE_VLAN: u16 = 0x88a8_u16.to_be();

/// The VLAN's number in a tag; 0 is a frame of no VLAN, whose tag says its priority alone.
const VLAN_ID: u16 = 0x0fff_u16.to_be();

/// Lengths of the IP headers without options or extensions.
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

/// The first bytes of a TCP header: both ports.
const PORTS: usize = 4;

/// The IPv4 fragment offset's bits (RFC 791 section 3.1).
const IPV4_OFFSET: u16 = 0x1fff_u16.to_be();

/// A TCP segment, or the first fragment of one. Where the family is 0 it is something else.
///
/// No `Option`, for the reason that `packet::Headers` gives.
struct Segment {
    key: GuardKey,
    station: [u32; 4],
    /// The IP packet's bytes.
    bytes: u32,
}

/// Named in [`bmp_ebpf::program::GUARD`].
#[xdp(frags)]
pub(crate) fn guard(ctx: XdpContext) -> u32 {
    let segment = read(ctx.ctx);
    if segment.key.family == InetFamily::NONE {
        return xdp_action::XDP_PASS;
    }
    // SAFETY: bmpd writes an entry once, before any key leads to what it names, and removes it; a mixture would name no pin.
    let Some(guarded) = (unsafe { GUARDED.get(segment.key) }) else { return xdp_action::XDP_PASS };
    if is_station(guarded, &segment) {
        return xdp_action::XDP_PASS;
    }
    count_refused(&segment.key, segment.bytes.into());
    xdp_action::XDP_DROP
}

/// Whether a session has the sender as its station, and is not denied.
#[inline(always)]
fn is_station(guarded: &Guarded, segment: &Segment) -> bool {
    let key = PinKey {
        netns: guarded.netns,
        vrf: guarded.vrf,
        family: segment.key.family,
        role: ROLE_LISTEN,
        port: segment.key.port,
        station: InetAddress::from_words(segment.station),
    };
    // SAFETY: the value is one word: it is read whole or not at all.
    let slot = unsafe { PINS.get(key) }.copied();
    slot.and_then(|slot| SLOTS.get(slot)).is_some_and(|pin| pin.flags & (PIN_LIVE | PIN_DENY) == PIN_LIVE)
}

/// Reads something at an address of the packet. The kernel aligns packets as it likes.
///
/// # Safety
///
/// The bytes are below the packet's end.
#[inline(always)]
unsafe fn at<T: Copy>(address: usize) -> T {
    // SAFETY: as the caller promised.
    unsafe { (address as *const T).read_unaligned() }
}

#[inline(always)]
fn read(xdp: *const xdp_md) -> Segment {
    let mut segment = Segment { key: GuardKey::default(), station: [0; 4], bytes: 0 };
    // SAFETY: `xdp` is the program's context. Packet bytes are read only below `end`, which is what the verifier asks for.
    unsafe {
        let start = (*xdp).data as usize;
        let end = (*xdp).data_end as usize;
        if start + ETHERNET > end {
            return segment;
        }
        let mut protocol: u16 = at(start + 12);
        let mut network = start + ETHERNET;
        // The same as a number, for what is read by copying.
        let mut offset = ETHERNET as u32;
        // A second tag below one of no VLAN is read by Linux too.
        if protocol == VLAN || protocol == SERVICE_VLAN {
            if network + TAG > end || at::<u16>(network) & VLAN_ID != 0 {
                return segment;
            }
            protocol = at(network + 2);
            network += TAG;
            offset += TAG as u32;
            if protocol == VLAN || protocol == SERVICE_VLAN {
                if network + TAG > end || at::<u16>(network) & VLAN_ID != 0 {
                    return segment;
                }
                protocol = at(network + 2);
                network += TAG;
                offset += TAG as u32;
            }
        }
        segment.key.ifindex = (*xdp).ingress_ifindex;
        match protocol {
            IPV4 => ipv4(&mut segment, network, end),
            IPV6 => ipv6(xdp, &mut segment, network, end, offset),
            _ => {}
        }
    }
    segment
}

/// # Safety
///
/// `start` is an address in the packet, and `end` the packet's end.
#[inline(always)]
unsafe fn ipv4(segment: &mut Segment, start: usize, end: usize) {
    if start + IPV4_HEADER > end {
        return;
    }
    // SAFETY: read below the end.
    unsafe {
        let first: u8 = at(start);
        let length = usize::from(first & 0x0f) * 4;
        let total = u16::from_be(at(start + 2));
        // Behind the packet's own end there is padding.
        let whole = first >> 4 == 4 && length >= IPV4_HEADER && usize::from(total) >= length + PORTS;
        if !whole || at::<u16>(start + 6) & IPV4_OFFSET != 0 || at::<u8>(start + 9) != TCP {
            return;
        }
        let ports = start + length;
        if ports + PORTS > end {
            return;
        }
        segment.key.port = u16::from_be(at(ports + 2));
        let mut local = [0; 4];
        segment.station[0] = at(start + 12);
        local[0] = at(start + 16);
        segment.key.local = InetAddress::from_words(local);
        segment.bytes = total.into();
        segment.key.family = InetFamily::IPV4;
    }
}

/// # Safety
///
/// As for [`ipv4`].
#[inline(always)]
unsafe fn ipv6(xdp: *const xdp_md, segment: &mut Segment, start: usize, end: usize, offset: u32) {
    if start + IPV6_HEADER > end {
        return;
    }
    // SAFETY: read below the end.
    unsafe {
        let payload = u16::from_be(at(start + 4));
        let next: u8 = at(start + 6);
        segment.station = at(start + 8);
        segment.key.local = at(start + 24);
        segment.bytes = u32::from(payload) + IPV6_HEADER as u32;
        if next != TCP {
            segment.key.port = port_behind_extensions(xdp, offset, next, segment.bytes);
        } else if usize::from(payload) >= PORTS && start + IPV6_HEADER + PORTS <= end {
            segment.key.port = u16::from_be(at(start + IPV6_HEADER + 2));
        }
        if segment.key.port != 0 {
            segment.key.family = InetFamily::IPV6;
        }
    }
}

/// The port that a TCP segment is for, behind extension headers; 0 if there is none, or behind the packet's own end.
///
/// Out of line, so that other frames do not carry its stack.
#[inline(never)]
fn port_behind_extensions(xdp: *const xdp_md, start: u32, next: u8, bytes: u32) -> u16 {
    let frame = Frame(xdp);
    let mut walk = Walk::new(start + IPV6_HEADER as u32, next, [0; 4], [0; 4]);
    walk.go(&frame, Side::Received);
    let mut ports = [0; PORTS];
    let loaded = frame.load(walk.offset, &mut ports);
    if walk.is_at_tcp() & loaded == 0 || start + bytes < walk.offset + PORTS as u32 {
        return 0;
    }
    u16::from_be_bytes([ports[2], ports[3]])
}
