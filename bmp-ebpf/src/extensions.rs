//! What stands between an IPv6 header and TCP: extension headers (RFC 8200 section 4), and the IP header that an encapsulation hides.

use core::mem::size_of;
use core::ptr;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_xdp_load_bytes};

/// `IPPROTO_*` (linux/in.h, linux/in6.h).
pub(crate) const TCP: u8 = 6;
const HOP_BY_HOP: u8 = 0;
const IPV4: u8 = 4;
const IPV6: u8 = 41;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// How many headers are read: all extension headers that Linux takes, and two IP headers.
const HEADERS: usize = 8;

/// A hop-by-hop header with the jumbo payload option alone (RFC 2675): its first bytes but for the next header, and its length.
const JUMBO: [u8; 3] = [0, 0xc2, 4];
const JUMBO_LENGTH: u32 = 8;

/// Length of an IPv4 and an IPv6 header without options.
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

/// A packet that is read by copying, so that the verifier need not follow where in it.
pub(crate) trait Packet {
    /// Copies bytes out of the packet; false if it has not as many there.
    fn load<const N: usize>(&self, offset: u32, to: &mut [u8; N]) -> bool;
}

/// A socket buffer as the cgroup's programs see it: it begins with the IP header.
pub(crate) struct Buffer(pub(crate) *const __sk_buff);

impl Packet for Buffer {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32, to: &mut [u8; N]) -> bool {
        // SAFETY: the pointer is the program's context, and the room as long as said.
        unsafe { bpf_skb_load_bytes(self.0.cast(), offset, to.as_mut_ptr().cast(), N as u32) == 0 }
    }
}

/// A frame as an xdp program sees it.
pub(crate) struct Frame(pub(crate) *const xdp_md);

impl Packet for Frame {
    #[inline(always)]
    fn load<const N: usize>(&self, offset: u32, to: &mut [u8; N]) -> bool {
        // SAFETY: as above.
        unsafe { bpf_xdp_load_bytes(self.0.cast_mut(), offset, to.as_mut_ptr().cast(), N as u32) == 0 }
    }
}

/// Who may still change where a packet goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// It has come to this host. Nothing is read behind a routing header that leads to another, nor inside an encapsulation.
    Received,
    /// It is this host's own: what is inside is what its socket has sent.
    Sent,
}

/// How far a walk has come.
#[repr(C)]
pub(crate) struct Walk {
    /// Where the next header is.
    pub(crate) offset: u32,
    /// What it is, as `IPPROTO_*`.
    pub(crate) next: u32,
    /// How many of the bytes that were passed no wire carries: the kernel takes the jumbo payload option out of what it cuts into
    /// segments.
    pub(crate) jumbo: u32,
    /// The addresses of the last IP header; IPv4 in the first word.
    pub(crate) source: [u32; 4],
    /// The final destination, where a routing header has others before it.
    pub(crate) destination: [u32; 4],
}

impl Walk {
    /// A walk that begins behind an IPv6 header without extensions.
    #[inline(always)]
    pub(crate) fn new(offset: u32, next: u8, source: [u32; 4], destination: [u32; 4]) -> Self {
        Self { offset, next: next.into(), jumbo: 0, source, destination }
    }

    /// Whether it has come to TCP.
    #[inline(always)]
    pub(crate) fn is_at_tcp(&self) -> bool {
        self.next == u32::from(TCP)
    }

    /// Goes on to TCP, or as far as can be read.
    #[inline(always)]
    pub(crate) fn go(&mut self, packet: &impl Packet, side: Side) {
        for _ in 0..HEADERS {
            if self.is_at_tcp() || !self.pass(packet, side) {
                return;
            }
        }
    }

    /// Passes one header. False if it is none that has another behind it.
    #[inline(always)]
    fn pass(&mut self, packet: &impl Packet, side: Side) -> bool {
        let kind = self.next as u8;
        if side == Side::Sent && kind == IPV6 {
            return self.pass_ipv6(packet);
        }
        if side == Side::Sent && kind == IPV4 {
            return self.pass_ipv4(packet);
        }
        // The shortest there are.
        let mut first = [0; 8];
        if !packet.load(self.offset, &mut first) {
            return false;
        }
        let length = u32::from(first[1]);
        self.offset += match kind {
            HOP_BY_HOP if first[1] == JUMBO[0] && first[2] == JUMBO[1] && first[3] == JUMBO[2] => {
                self.jumbo += JUMBO_LENGTH;
                JUMBO_LENGTH
            }
            HOP_BY_HOP | DESTINATION_OPTIONS => (length + 1) * 8,
            // With segments left, it is another host that the packet is for now.
            ROUTING if first[3] != 0 => {
                if side == Side::Received {
                    return false;
                }
                // The last segment comes first (RFC 8754 section 2); so does the only one of RFC 6275.
                let mut last = [0; 16];
                if packet.load(self.offset + 8, &mut last) {
                    self.destination = words(last);
                }
                (length + 1) * 8
            }
            ROUTING => (length + 1) * 8,
            // Of a later fragment there is no header to read.
            FRAGMENT if first[2] == 0 && first[3] & 0xf8 == 0 => 8,
            AUTHENTICATION => (length + 2) * 4,
            _ => return false,
        };
        self.next = first[0].into();
        true
    }

    #[inline(always)]
    fn pass_ipv6(&mut self, packet: &impl Packet) -> bool {
        let mut header = [0; IPV6_HEADER];
        if !packet.load(self.offset, &mut header) {
            return false;
        }
        // SAFETY: both addresses are inside the header.
        unsafe {
            self.source = header.as_ptr().add(8).cast::<[u32; 4]>().read_unaligned();
            self.destination = header.as_ptr().add(24).cast::<[u32; 4]>().read_unaligned();
        }
        self.next = header[6].into();
        self.offset += IPV6_HEADER as u32;
        true
    }

    #[inline(always)]
    fn pass_ipv4(&mut self, packet: &impl Packet) -> bool {
        let mut header = [0; IPV4_HEADER];
        if !packet.load(self.offset, &mut header) {
            return false;
        }
        // SAFETY: both addresses are inside the header.
        unsafe {
            self.source = [header.as_ptr().add(12).cast::<u32>().read_unaligned(), 0, 0, 0];
            self.destination = [header.as_ptr().add(16).cast::<u32>().read_unaligned(), 0, 0, 0];
        }
        self.next = header[9].into();
        self.offset += u32::from(header[0] & 0x0f) * 4;
        true
    }
}

/// An address as keys and pins have it, from its bytes.
#[inline(always)]
fn words(octets: [u8; 16]) -> [u32; 4] {
    const { assert!(size_of::<[u32; 4]>() == 16) };
    // SAFETY: same size, any bit pattern is a value.
    unsafe { ptr::from_ref(&octets).cast::<[u32; 4]>().read_unaligned() }
}
