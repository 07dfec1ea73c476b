//! The headers of a packet: its addresses, and how long its headers are.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::__sk_buff;

use crate::extensions::{HeaderWalk, PacketBytes as _, PacketOrigin, SkbBytes, TCP};

/// `ETH_P_IP` (linux/if_ether.h) in network byte order, as in `__sk_buff.protocol`.
pub(crate) const IPV4: u32 = 0x0800_u16.to_be() as u32;
/// `ETH_P_IPV6` (linux/if_ether.h), likewise.
pub(crate) const IPV6: u32 = 0x86dd_u16.to_be() as u32;

/// Length of an IPv4 header without options (RFC 791 section 3.1).
const IPV4_HEADER: usize = 20;
/// Length of an IPv6 header (RFC 8200 section 3).
const IPV6_HEADER: usize = 40;
/// Length of a TCP header without options (RFC 9293 section 3.1).
const TCP_HEADER: usize = 20;

/// The headers of a packet, with 0 for what could not be read: no pin's source is the unspecified
/// address.
///
/// No `Option`s here: older verifiers refuse the copy of a payload that the compiler leaves
/// unwritten because nobody uses it.
#[repr(C)]
pub(crate) struct Headers {
    /// Source address as [`bmp_ebpf::Pin::source`] holds it; of an encapsulation, the inner
    /// packet's. 0 if the packet is not IP, or its header is not in the linear part of the buffer.
    pub(crate) source: [u32; 4],
    /// Length of all headers to the end of TCP's, which every segment of the buffer carries. Where
    /// there is no TCP header (IPsec), length of the headers that were read.
    pub(crate) length: u32,
    /// Length of the TCP header; 0 where there is none.
    pub(crate) tcp: u32,
    /// Bytes that the buffer has and no segment of it carries.
    pub(crate) jumbo: u32,
}

/// Reads the headers.
///
/// Each branch makes a value of its own, which stays in registers. One value that is zeroed and
/// lent to [`behind_extensions`] would cost every packet a call of `memset`: 27 ns.
#[inline(always)]
pub(crate) fn headers(skb: *const __sk_buff) -> Headers {
    // SAFETY: `skb` is the program's context. Packet bytes are read below `end` only, as the
    // verifier wants it. Unaligned reads are fine: the kernel aligns the IP header to four bytes
    // where the machine needs it.
    unsafe {
        let start = (*skb).data as usize;
        let end = (*skb).data_end as usize;
        let ip = start as *const u8;
        match (*skb).protocol {
            IPV4 if start + IPV4_HEADER <= end => {
                let length = usize::from(*ip & 0x0f) * 4;
                let tcp = if *ip.add(9) == TCP { tcp_length(start + length, end) } else { 0 };
                let source = [ip.add(12).cast::<u32>().read(), 0, 0, 0];
                Headers { source, length: length as u32 + tcp, tcp, jumbo: 0 }
            }
            IPV6 if start + IPV6_HEADER <= end => {
                if *ip.add(6) == TCP {
                    let word = ip.add(8).cast::<u32>();
                    let source = [word.read(), word.add(1).read(), word.add(2).read(), word.add(3).read()];
                    let tcp = tcp_length(start + IPV6_HEADER, end);
                    Headers { source, length: IPV6_HEADER as u32 + tcp, tcp, jumbo: 0 }
                } else {
                    let mut found = MaybeUninit::uninit();
                    behind_extensions(skb, found.as_mut_ptr());
                    found.assume_init()
                }
            }
            _ => Headers { source: [0; 4], length: 0, tcp: 0, jumbo: 0 },
        }
    }
}

/// Writes the headers of an IPv6 packet with others between IP and TCP.
///
/// Out of line, so that other packets do not carry its stack.
///
/// # Safety
///
/// `headers` must be valid for a write.
#[inline(never)]
unsafe fn behind_extensions(skb: *const __sk_buff, headers: *mut Headers) {
    let walk = walk(skb);
    let mut offset = MaybeUninit::<[u8; 1]>::uninit();
    let loaded = SkbBytes(skb).load(walk.offset + 12, &mut offset);
    // SAFETY: as in `walk`.
    let offset = unsafe { offset.assume_init_ref() };
    let tcp = walk.is_at_tcp() * loaded * u32::from(offset[0] >> 4) * 4;
    let length = walk.offset - walk.jumbo + tcp;
    // SAFETY: as the caller promised.
    unsafe { headers.write(Headers { source: walk.source, length, tcp, jumbo: walk.jumbo }) };
}

/// Walks along the headers of an IPv6 packet.
#[inline(always)]
fn walk(skb: *const __sk_buff) -> HeaderWalk {
    let packet = SkbBytes(skb);
    let mut walk = begin_behind_ipv6(&packet);
    walk.go(&packet, PacketOrigin::Sent);
    walk
}

/// Begins a walk behind the fixed header of an IPv6 packet. The header's copy ends here, so that
/// the walk uses its stack.
#[inline(always)]
fn begin_behind_ipv6(packet: &SkbBytes) -> HeaderWalk {
    let mut header = MaybeUninit::<[u8; IPV6_HEADER]>::uninit();
    packet.load(0, &mut header);
    // SAFETY: the helper has written it: zeroes if there are no such bytes.
    let header = unsafe { header.assume_init_ref() };
    // SAFETY: both addresses are inside the header.
    let (source, destination) = unsafe {
        let addresses = header.as_ptr().add(8).cast::<[u32; 4]>();
        (addresses.read_unaligned(), addresses.add(1).read_unaligned())
    };
    HeaderWalk::new(IPV6_HEADER as u32, header[6], source, destination)
}

/// Reads the destination address, in the form of [`Headers::source`]. Packets of listeners alone
/// need it.
#[inline(always)]
pub(crate) fn destination(skb: *const __sk_buff) -> [u32; 4] {
    // SAFETY: as in `headers`.
    unsafe {
        let start = (*skb).data as usize;
        let end = (*skb).data_end as usize;
        let ip = start as *const u8;
        match (*skb).protocol {
            IPV4 if start + IPV4_HEADER <= end => [ip.add(16).cast::<u32>().read(), 0, 0, 0],
            IPV6 if start + IPV6_HEADER <= end => {
                if *ip.add(6) == TCP {
                    let word = ip.add(24).cast::<u32>();
                    [word.read(), word.add(1).read(), word.add(2).read(), word.add(3).read()]
                } else {
                    let mut found = MaybeUninit::uninit();
                    final_destination(skb, found.as_mut_ptr());
                    found.assume_init()
                }
            }
            _ => [0; 4],
        }
    }
}

/// Writes the final destination of an IPv6 packet with others between IP and TCP.
///
/// Out of line, as [`behind_extensions`].
///
/// # Safety
///
/// `destination` must be valid for a write.
#[inline(never)]
unsafe fn final_destination(skb: *const __sk_buff, destination: *mut [u32; 4]) {
    // SAFETY: as the caller promised.
    unsafe { destination.write(walk(skb).destination) };
}

/// Returns the length of the TCP header at `start`; 0 if the packet ends before it does.
#[inline(always)]
unsafe fn tcp_length(start: usize, end: usize) -> u32 {
    if start + TCP_HEADER > end {
        return 0;
    }
    // SAFETY: the packet has 20 bytes from `start` on.
    let offset = unsafe { *((start + 12) as *const u8) } >> 4;
    u32::from(offset) * 4
}

/// Reads four words one by one.
///
/// # Safety
///
/// `words` is the address of such an array in the program's context or in a `bpf_sock`.
#[inline(always)]
pub(crate) unsafe fn words(words: *const [u32; 4]) -> [u32; 4] {
    let word = words.cast::<u32>();
    // SAFETY: as the caller promised.
    unsafe {
        [word.read_volatile(), word.add(1).read_volatile(), word.add(2).read_volatile(), word.add(3).read_volatile()]
    }
}
