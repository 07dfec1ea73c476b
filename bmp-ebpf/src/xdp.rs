//! xdp: drops TCP segments of strangers to a listener, before the stack sees them.
//!
//! It passes everything else, and every frame that it cannot read for certain: `ingress` refuses
//! strangers behind it.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use bmp_ebpf::{GuardKey, Guarded, InetAddress, InetFamily, Pin, PinKey, ROLE_LISTEN};

use crate::deny::count_stranger;
use crate::extensions::{HeaderWalk, PacketBytes as _, PacketOrigin, TCP, XdpBytes};
use crate::maps::{GUARDED, SLOTS};
use crate::pin::slot_of;

/// Length of an Ethernet header.
const ETHERNET: usize = 14;
/// Length of a VLAN tag (IEEE 802.1Q) in it.
const VLAN_TAG: usize = 4;
/// How many tags are read. Linux too reads a second tag below one of no VLAN.
const VLAN_TAGS: usize = 2;

/// `ETH_P_*` (linux/if_ether.h) in network byte order.
const IPV4: u16 = 0x0800_u16.to_be();
const IPV6: u16 = 0x86dd_u16.to_be();
const VLAN: u16 = 0x8100_u16.to_be();
const SERVICE_VLAN: u16 = 0x88a8_u16.to_be();

/// The VLAN's number in a tag; 0 is a frame of no VLAN, whose tag has a priority alone.
const VLAN_ID: u16 = 0x0fff_u16.to_be();

/// Lengths of the IP headers without options or extensions.
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

/// Length of both ports, with which a TCP header begins.
const PORTS: usize = 4;

/// The IPv4 fragment offset's bits (RFC 791 section 3.1).
const IPV4_OFFSET: u16 = 0x1fff_u16.to_be();

/// A TCP segment, or the first fragment of one. With [`InetFamily::NONE`] it is some other frame.
///
/// No `Option`, for the reason that `packet::Headers` gives.
struct XdpSegment {
    key: GuardKey,
    sender: [u32; 4],
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
    // SAFETY: bmpd writes an entry once, before any key leads to a session of it, and removes it. A
    // mixture of two entries would name no pin.
    let Some(guarded) = (unsafe { GUARDED.get(segment.key) }) else { return xdp_action::XDP_PASS };
    if is_station(guarded, &segment) {
        return xdp_action::XDP_PASS;
    }
    count_stranger(&segment.key, segment.bytes.into());
    xdp_action::XDP_DROP
}

/// True if the sender is the station of a session that is not denied.
#[inline(always)]
fn is_station(guarded: &Guarded, segment: &XdpSegment) -> bool {
    let key = PinKey {
        netns: guarded.netns,
        vrf: guarded.vrf,
        family: segment.key.family,
        role: ROLE_LISTEN,
        port: segment.key.port,
        station: InetAddress::from_words(segment.sender),
    };
    slot_of(&key).and_then(|slot| SLOTS.get(slot)).is_some_and(Pin::admits)
}

/// Reads a value at an address of the packet, which the kernel aligns as it likes.
///
/// # Safety
///
/// The value must end below the packet's end.
#[inline(always)]
unsafe fn at<T: Copy>(address: usize) -> T {
    // SAFETY: as the caller promised.
    unsafe { (address as *const T).read_unaligned() }
}

/// Reads a frame as far as the ports of a TCP segment.
#[inline(always)]
fn read(xdp: *const xdp_md) -> XdpSegment {
    let mut segment = XdpSegment { key: GuardKey::default(), sender: [0; 4], bytes: 0 };
    // SAFETY: `xdp` is the program's context. Packet bytes are read below `end` only, as the
    // verifier wants it.
    unsafe {
        let start = (*xdp).data as usize;
        let end = (*xdp).data_end as usize;
        if start + ETHERNET > end {
            return segment;
        }
        let mut protocol: u16 = at(start + 12);
        let mut network = start + ETHERNET;
        // The same from the frame's start, for reading by copies.
        let mut offset = ETHERNET as u32;
        for _ in 0..VLAN_TAGS {
            if protocol != VLAN && protocol != SERVICE_VLAN {
                break;
            }
            if network + VLAN_TAG > end || at::<u16>(network) & VLAN_ID != 0 {
                return segment;
            }
            protocol = at(network + 2);
            network += VLAN_TAG;
            offset += VLAN_TAG as u32;
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

/// Reads an IPv4 packet.
///
/// # Safety
///
/// `start` must be an address in the packet, and `end` the packet's end.
#[inline(always)]
unsafe fn ipv4(segment: &mut XdpSegment, start: usize, end: usize) {
    if start + IPV4_HEADER > end {
        return;
    }
    // SAFETY: read below the end.
    unsafe {
        let first: u8 = at(start);
        let length = usize::from(first & 0x0f) * 4;
        let total = u16::from_be(at(start + 2));
        // The frame may be padded behind the packet's own end.
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
        segment.sender[0] = at(start + 12);
        local[0] = at(start + 16);
        segment.key.local = InetAddress::from_words(local);
        segment.bytes = total.into();
        segment.key.family = InetFamily::IPV4;
    }
}

/// Reads an IPv6 packet.
///
/// # Safety
///
/// As for [`ipv4`].
#[inline(always)]
unsafe fn ipv6(xdp: *const xdp_md, segment: &mut XdpSegment, start: usize, end: usize, offset: u32) {
    if start + IPV6_HEADER > end {
        return;
    }
    // SAFETY: read below the end.
    unsafe {
        let payload = u16::from_be(at(start + 4));
        let next: u8 = at(start + 6);
        segment.sender = at(start + 8);
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

/// Returns the destination port of a TCP segment behind extension headers; 0 if the packet has
/// none.
///
/// Out of line, so that other frames do not carry its stack.
#[inline(never)]
fn port_behind_extensions(xdp: *const xdp_md, start: u32, next: u8, bytes: u32) -> u16 {
    let frame = XdpBytes(xdp);
    let mut walk = HeaderWalk::new(start + IPV6_HEADER as u32, next, [0; 4], [0; 4]);
    walk.go(&frame, PacketOrigin::Received);
    let mut ports = MaybeUninit::<[u8; PORTS]>::uninit();
    let loaded = frame.load(walk.offset, &mut ports);
    if walk.is_at_tcp() & loaded == 0 || start + bytes < walk.offset + PORTS as u32 {
        return 0;
    }
    // SAFETY: the helper has written it.
    let ports = unsafe { ports.assume_init_ref() };
    u16::from_be_bytes([ports[2], ports[3]])
}
