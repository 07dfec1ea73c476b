//! What a packet is: its source address, and what it weighs on the wire.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::__sk_buff;
use bmp_ebpf::Traffic;

use crate::extensions::{Buffer, Packet as _, Side, TCP, Walk};
use crate::tables::add;

/// `ETH_P_IP` and `ETH_P_IPV6` (linux/if_ether.h), as `__sk_buff.protocol` holds them: network byte order.
pub(crate) const IPV4: u32 = 0x0800_u16.to_be() as u32;
/// See [`IPV4`].
pub(crate) const IPV6: u32 = 0x86dd_u16.to_be() as u32;

/// Length of an IPv4 header without options (RFC 791 section 3.1), of an IPv6 header (RFC 8200 section 3) and of a TCP header without
/// options (RFC 9293 section 3.1).
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;

/// The headers of a packet, with 0 for what could not be read: a pin's source is never the unspecified address.
///
/// No `Option`s here: older verifiers refuse the copy of a payload that the compiler knows to be unused and leaves unwritten.
#[repr(C)]
pub(crate) struct Headers {
    /// Source address as [`bmp_ebpf::Pin::source`] holds it; of an encapsulation, the inner packet's. 0 if the packet is not IP or its
    /// header is not in the linear part of the buffer.
    pub(crate) source: [u32; 4],
    /// Length of all headers to the end of TCP's, which every segment of the buffer carries; where TCP's is not found (IPsec), of those
    /// that were read.
    length: u32,
    /// Length of the TCP header; 0 where it is not found.
    tcp: u32,
    /// Bytes that the buffer has and no segment of it carries.
    jumbo: u32,
}

/// Reads the headers.
///
/// Each way makes its own value, which stays in registers. One value that is zeroed first and lent to
/// [`behind_extensions`] costs every packet a call of `memset`, 27 ns.
#[inline(always)]
pub(crate) fn headers(skb: *const __sk_buff) -> Headers {
    // SAFETY: `skb` is the program's context. Packet bytes are read only below `end`, which is what the verifier asks for. Unaligned
    // reads are fine: the kernel aligns the IP header to four bytes where the machine needs it.
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

/// Writes the headers of an IPv6 packet with something between IP and TCP.
///
/// Out of line, so that other packets do not carry its stack.
///
/// # Safety
///
/// `headers` may be written to.
#[inline(never)]
unsafe fn behind_extensions(skb: *const __sk_buff, headers: *mut Headers) {
    let walk = walk(skb);
    let mut offset = [0];
    let loaded = Buffer(skb).load(walk.offset + 12, &mut offset);
    let tcp = walk.is_at_tcp() * loaded * u32::from(offset[0] >> 4) * 4;
    let length = walk.offset - walk.jumbo + tcp;
    // SAFETY: as the caller promised.
    unsafe { headers.write(Headers { source: walk.source, length, tcp, jumbo: walk.jumbo }) };
}

/// Walks along the headers of an IPv6 packet.
#[inline(always)]
fn walk(skb: *const __sk_buff) -> Walk {
    let packet = Buffer(skb);
    let mut header = [0_u8; IPV6_HEADER];
    packet.load(0, &mut header);
    // SAFETY: both addresses are inside the header.
    let (source, destination) = unsafe {
        let addresses = header.as_ptr().add(8).cast::<[u32; 4]>();
        (addresses.read_unaligned(), addresses.add(1).read_unaligned())
    };
    let mut walk = Walk::new(IPV6_HEADER as u32, header[6], source, destination);
    walk.go(&packet, Side::Sent);
    walk
}

/// The destination address as [`Headers::source`] holds the source; only a listener's packets are asked for it.
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

/// As [`behind_extensions`], for the destination.
///
/// # Safety
///
/// `destination` may be written to.
#[inline(never)]
unsafe fn final_destination(skb: *const __sk_buff, destination: *mut [u32; 4]) {
    // SAFETY: as the caller promised.
    unsafe { destination.write(walk(skb).destination) };
}

/// Length of the TCP header that starts there; 0 if it is not there.
#[inline(always)]
unsafe fn tcp_length(start: usize, end: usize) -> u32 {
    if start + TCP_HEADER > end {
        return 0;
    }
    // SAFETY: 20 bytes from `start` on are packet bytes.
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

/// Counts a socket buffer as the packets that it is on the wire, and tells how many these are.
///
/// `__sk_buff.len` is the buffer's IP length with one set of headers. The stack or the interface cuts the payload into `gso_segs` pieces
/// and gives each the headers; what came in was put together the same way. Some drivers of virtual machines leave `gso_segs` 0.
/// Without a TCP header there is no payload, and of the headers those count for each piece that could be read.
#[inline(always)]
pub(crate) fn count(traffic: *mut Traffic, skb: *const __sk_buff, headers: &Headers) -> u32 {
    // SAFETY: `skb` is the program's context and `traffic` a field of a table's value.
    unsafe {
        let whole = (*skb).len;
        let mut bytes = u64::from(whole);
        let without_headers = whole.saturating_sub(headers.length + headers.jumbo);
        let payload = if headers.tcp != 0 { without_headers } else { 0 };
        let mut packets = (*skb).gso_segs;
        if packets == 0 {
            let size = (*skb).gso_size;
            packets = if size == 0 { 1 } else { without_headers.div_ceil(size).max(1) };
        }
        if packets > 1 {
            bytes = bytes + u64::from(packets - 1) * u64::from(headers.length) - u64::from(headers.jumbo);
        }
        add(&raw mut (*traffic).bytes, bytes);
        add(&raw mut (*traffic).packets, u64::from(packets));
        add(&raw mut (*traffic).buffers, 1);
        add(&raw mut (*traffic).payload_bytes, u64::from(payload));
        packets
    }
}
