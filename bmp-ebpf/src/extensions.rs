//! The headers between IPv6 and TCP: extension headers (RFC 8200 section 4), and the IP header
//! inside an encapsulation.
//!
//! The walk has no branches (see [`crate::branchless`]): with branches it would have millions of
//! paths.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_xdp_load_bytes};

use crate::branchless::{is, mask, not, opaque};

/// `IPPROTO_*` (linux/in.h, linux/in6.h).
pub(crate) const TCP: u8 = 6;
const HOP_BY_HOP: u32 = 0;
const IPV4: u32 = 4;
const IPV6: u32 = 41;
const ROUTING: u32 = 43;
const FRAGMENT: u32 = 44;
const AUTHENTICATION: u32 = 51;
const DESTINATION_OPTIONS: u32 = 60;

/// How many headers a walk passes (RFC 8200 section 4.1 has no more kinds that Linux takes).
const HEADERS: usize = 6;

/// A hop-by-hop header with the jumbo payload option alone (RFC 2675): type and length of the
/// option, length of the header.
const JUMBO: u32 = 0xc2;
const JUMBO_OPTION: u32 = 4;
const JUMBO_LENGTH: u32 = 8;

/// Length of an IPv6 header.
const IPV6_HEADER: u32 = 40;

/// The bytes of a packet, read by copying: the verifier need not follow where they are.
pub(crate) trait PacketBytes {
    /// Copies bytes out of the packet and returns 1. Returns 0, and bytes without a meaning, if the
    /// packet ends before.
    ///
    /// `to` begins without a value: zeroing it calls `memset`, whose stack frame is one too many
    /// for the verifier of Linux 6.1.
    fn load<const N: usize>(&self, offset: u32, to: &mut MaybeUninit<[u8; N]>) -> u32;
}

/// A socket buffer as the cgroup's programs see it: it begins with the IP header.
pub(crate) struct SkbBytes(pub(crate) *const __sk_buff);

impl PacketBytes for SkbBytes {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32, to: &mut MaybeUninit<[u8; N]>) -> u32 {
        // SAFETY: the pointer is the program's context, and `to` has `N` bytes.
        succeeded(unsafe { bpf_skb_load_bytes(self.0.cast(), offset, to.as_mut_ptr().cast(), N as u32) })
    }
}

/// A frame as an xdp program sees it.
pub(crate) struct XdpBytes(pub(crate) *const xdp_md);

impl PacketBytes for XdpBytes {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32, to: &mut MaybeUninit<[u8; N]>) -> u32 {
        // SAFETY: as above.
        succeeded(unsafe { bpf_xdp_load_bytes(self.0.cast_mut(), offset, to.as_mut_ptr().cast(), N as u32) })
    }
}

/// Where a packet comes from, which decides how far its headers count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PacketOrigin {
    /// Another host. A walk ends at a routing header that leads to another host, and at an
    /// encapsulation.
    Received,
    /// This host: the packet inside an encapsulation is the one that the socket sent.
    Sent,
}

/// A walk along headers, and how far it has come.
#[repr(C)]
pub(crate) struct HeaderWalk {
    /// Where the next header is.
    pub(crate) offset: u32,
    /// The next header's `IPPROTO_*`.
    pub(crate) next: u32,
    /// How many of the passed bytes no wire carries: the kernel takes the jumbo payload option out
    /// of a buffer that it cuts into segments.
    pub(crate) jumbo: u32,
    /// Source address of the last IP header; IPv4 in the first word.
    pub(crate) source: [u32; 4],
    /// Its final destination, also where a routing header has others before it.
    pub(crate) destination: [u32; 4],
}

impl HeaderWalk {
    /// Begins behind the fixed IPv6 header.
    #[inline(always)]
    pub(crate) fn new(offset: u32, next: u8, source: [u32; 4], destination: [u32; 4]) -> Self {
        Self { offset, next: next.into(), jumbo: 0, source, destination }
    }

    /// Returns 1 if the next header is TCP, else 0.
    #[inline(always)]
    pub(crate) fn is_at_tcp(&self) -> u32 {
        is(self.next, TCP.into())
    }

    /// Walks to TCP, or as far as headers can be read.
    #[inline(always)]
    pub(crate) fn go(&mut self, packet: &impl PacketBytes, origin: PacketOrigin) {
        for _ in 0..HEADERS {
            self.pass(packet, origin);
        }
    }

    /// Passes one header, if another can follow it.
    ///
    /// Both copies come before the decisions, which would occupy the stack across a helper's call.
    #[inline(always)]
    fn pass(&mut self, packet: &impl PacketBytes, origin: PacketOrigin) {
        // The shortest header, and the beginning of the one that follows it.
        let mut first = MaybeUninit::<[u8; 12]>::uninit();
        let loaded = packet.load(self.offset, &mut first);
        // The addresses of an IP header or of a routing header.
        let mut addresses = MaybeUninit::<[u8; 32]>::uninit();
        let has_addresses = match origin {
            PacketOrigin::Received => 0,
            PacketOrigin::Sent => packet.load(self.offset + 8, &mut addresses),
        };
        // SAFETY: the helper has written it, and any bytes are a value.
        let first = unsafe { first.assume_init_ref() };
        let byte = |at: usize| u32::from(first[at]);
        let (kind, length) = (self.next, byte(1));
        let hop_by_hop = is(kind, HOP_BY_HOP);
        let options = hop_by_hop | is(kind, DESTINATION_OPTIONS);
        let (routing, fragment, authentication) = (is(kind, ROUTING), is(kind, FRAGMENT), is(kind, AUTHENTICATION));
        let (ipv6, ipv4) = match origin {
            PacketOrigin::Sent => (is(kind, IPV6), is(kind, IPV4)),
            PacketOrigin::Received => (0, 0),
        };
        let jumbo = hop_by_hop & is(length, 0) & is(byte(2), JUMBO) & is(byte(3), JUMBO_OPTION);
        // With segments left, the packet is for another host now.
        let on_its_way = routing & not(is(byte(3), 0));
        // A later fragment has no header.
        let later = fragment & not(is(byte(2), 0) & is(byte(3) & 0xf8, 0));
        let extension = options | routing | fragment | authentication;

        let mut passes = loaded & (extension | ipv6 | ipv4) & not(later);
        match origin {
            PacketOrigin::Received => passes &= not(on_its_way),
            PacketOrigin::Sent => {
                // An IP header that the packet ends in is not passed.
                passes &= not((ipv6 | ipv4) & not(has_addresses));
                let taken = passes & has_addresses;
                // SAFETY: the helper has written them, and any bytes are a value.
                let addresses = unsafe { addresses.assume_init_ref() };
                self.take_addresses(addresses, taken & ipv6, taken & ipv4, taken & on_its_way);
            }
        }
        let size = (options | routing) * (length + 1) * 8
            + fragment * 8
            + authentication * (length + 2) * 4
            + ipv6 * IPV6_HEADER
            + ipv4 * (byte(0) & 0x0f) * 4;
        let next = extension * byte(0) + ipv6 * byte(6) + ipv4 * byte(9);
        self.jumbo += passes * jumbo * JUMBO_LENGTH;
        self.offset += passes * size;
        self.next = passes * next + not(passes) * kind;
    }

    /// Takes the addresses out of an IP header, or the final destination out of a routing header:
    /// at most one of the three is 1.
    #[inline(always)]
    fn take_addresses(&mut self, found: &[u8; 32], ipv6: u32, ipv4: u32, routing: u32) {
        // SAFETY: the index is below eight, and any bytes are a value.
        let word = |at: usize| unsafe { found.as_ptr().add(4 * at).cast::<u32>().read_unaligned() };
        // The last segment comes first (RFC 8754 section 2), and so does the only one (RFC 6275).
        let (by_ipv6, by_ipv4, by_routing) = (mask(ipv6), mask(ipv4), mask(routing));
        for at in 0..4 {
            let (source, destination) = if at == 0 { (word(1), word(2)) } else { (0, 0) };
            self.source[at] = self.source[at] & !(by_ipv6 | by_ipv4) | word(at) & by_ipv6 | source & by_ipv4;
            self.destination[at] = self.destination[at] & !(by_ipv6 | by_ipv4 | by_routing)
                | word(4 + at) & by_ipv6
                | destination & by_ipv4
                | word(at) & by_routing;
        }
    }
}

/// Returns 1 if a helper has returned 0, and 0 if it has returned an error.
#[inline(always)]
fn succeeded(returned: i64) -> u32 {
    opaque((returned.cast_unsigned() >> 63) as u32 ^ 1)
}
