//! cgroup/connect4 and connect6: a connect to a station is bound as the station's pin says, and the
//! socket tagged. Otherwise it fails with EPERM before anything leaves.
//!
//! The destination is not final here: another program may rewrite it, and the kernel replaces an
//! unspecified address. `lifecycle` looks again when it is final.

use core::mem::size_of;
use core::ptr;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_bind, bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_setsockopt};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use bmp_ebpf::{EVENT_REFUSED, InetAddress, InetFamily, NO_SLOT, PIN_SOURCE, Pin, PinKey, ROLE_CONNECT, TAG_OWN, Tag};

use crate::deny::{DenialCause, count_denial};
use crate::maps::{SLOTS, TAGS};
use crate::packet::words;
use crate::pin::{generation, is_on_link, is_open, is_source, may_be_bound_to, slot_for, source_of, vrf_of};
use crate::{events, log};

/// What the kernel is told: the connect goes on, or fails with EPERM.
const ALLOW: i32 = 1;
const REFUSE: i32 = 0;

/// `SOCK_STREAM`, `SOL_SOCKET`, `SO_MARK` and `SO_BINDTOIFINDEX` (asm-generic/socket.h).
const SOCK_STREAM: u32 = 1;
const SOL_SOCKET: i32 = 1;
const SO_MARK: i32 = 36;
const SO_BINDTOIFINDEX: i32 = 62;

/// `struct sockaddr_in` (linux/in.h).
#[repr(C)]
struct SockaddrIn {
    family: u16,
    port: u16,
    address: [u32; 1],
    zero: [u8; 8],
}

/// `struct sockaddr_in6` (linux/in6.h).
#[repr(C)]
struct SockaddrIn6 {
    family: u16,
    port: u16,
    flowinfo: u32,
    address: [u32; 4],
    scope: u32,
}

/// Named in [`bmp_ebpf::program::CONNECT4`].
#[cgroup_sock_addr(connect4)]
pub(crate) fn connect4(ctx: SockAddrContext) -> i32 {
    // SAFETY: `ctx.sock_addr` is the program's context.
    let address = unsafe { (&raw const (*ctx.sock_addr).user_ip4).read_volatile() };
    connect(&ctx, InetFamily::IPV4, [address, 0, 0, 0])
}

/// Named in [`bmp_ebpf::program::CONNECT6`].
#[cgroup_sock_addr(connect6)]
pub(crate) fn connect6(ctx: SockAddrContext) -> i32 {
    // SAFETY: `ctx.sock_addr` is the program's context.
    let address = unsafe { words(&raw const (*ctx.sock_addr).user_ip6) };
    match address {
        // An IPv4-mapped destination (RFC 4291 section 2.5.5.2): IPv4 packets leave.
        [0, 0, prefix, address] if prefix == 0xffff_u32.to_be() => connect(&ctx, InetFamily::IPV4, [address, 0, 0, 0]),
        address => connect(&ctx, InetFamily::IPV6, address),
    }
}

/// Finds the pin of a connect, and holds the socket to it.
#[inline(always)]
fn connect(ctx: &SockAddrContext, family: InetFamily, address: [u32; 4]) -> i32 {
    let sock_addr: *mut bpf_sock_addr = ctx.sock_addr;
    // SAFETY: `sock_addr` is the program's context.
    let (kind, port, sk) = unsafe { ((*sock_addr).type_, (*sock_addr).user_port, (*sock_addr).__bindgen_anon_1.sk) };
    if kind != SOCK_STREAM || sk.is_null() {
        return ALLOW;
    }
    // SAFETY: `ctx` is the program's context, and `sk` the context's socket.
    let (netns, bound) =
        unsafe { (bpf_get_netns_cookie(ctx.as_ptr()), (&raw const (*sk).bound_dev_if).read_volatile()) };
    let key = PinKey {
        netns,
        vrf: vrf_of(netns, bound),
        family,
        role: ROLE_CONNECT,
        port: u16::from_be(port as u16),
        station: InetAddress::from_words(address),
    };
    // SAFETY: the socket is alive while its owner is in `connect`.
    let own = unsafe { TAGS.of(sk) }.is_some_and(|tag| tag.flags & TAG_OWN != 0);
    // No program sees the scope of a link-local destination: the kernel binds the socket to it
    // behind this program. A socket that is bound to nothing yet therefore goes on as it is.
    let is_on_its_link = |slot| bound != 0 && bound != key.vrf && is_on_link(slot, bound);
    let Some(slot) = slot_for(&key, address, own, is_on_its_link) else {
        forget(sk, own);
        return ALLOW;
    };
    match bind(ctx, sk, &key, slot, own) {
        Ok(()) => ALLOW,
        Err(cause) => {
            refuse(ctx, &key, slot, cause);
            REFUSE
        }
    }
}

/// Removes what an earlier, refused connect left on a socket: its destination has no pin.
#[inline(always)]
fn forget(sk: *mut bpf_sock, own: bool) {
    // SAFETY: `sk` is the context's socket and not null.
    unsafe {
        if !own {
            TAGS.delete(sk);
        } else if let Some(tag) = TAGS.of(sk) {
            tag.slot = NO_SLOT;
        }
    }
}

/// Binds the socket as the pin in the slot says, and tags it.
///
/// The interface comes first: the kernel looks for the address in its VRF. A socket with a port and
/// no address cannot be given an address any more, and is refused. Otherwise it might get another
/// source, and every packet would be lost without a word.
#[inline(always)]
fn bind(ctx: &SockAddrContext, sk: *mut bpf_sock, key: &PinKey, slot: u32, own: bool) -> Result<(), DenialCause> {
    // A denial without a slot is not among the slots.
    let pin = SLOTS.get(slot).ok_or(DenialCause::Denied)?;
    let generation = generation(pin);
    is_open(pin)?;
    bind_device(ctx, sk, pin, key.vrf)?;
    mark(ctx, pin)?;
    if pin.flags & PIN_SOURCE != 0 {
        bind_source(ctx, sk, key.family, pin)?;
    }
    let tag = Tag { slot, generation, flags: if own { TAG_OWN } else { 0 }, process: process(), netns: 0 };
    // Without a tag nothing would hold the socket to its pin.
    // SAFETY: the socket is alive while its owner is in `connect`, and not null.
    unsafe { TAGS.put(sk, tag) }.ok_or(DenialCause::Denied)?;
    log::bound(slot, key);
    Ok(())
}

/// Binds the socket to the pin's interface, unless it is bound to an interface that the pin names.
///
/// A socket that a process without privilege bound to the VRF device stays as it is, too: `ip vrf
/// exec` does that, and the kernel lets nobody bind such a socket anew (`sock_bindtoindex_locked`).
/// It is in the right VRF, and `egress` holds it to the pin.
#[inline(always)]
fn bind_device(ctx: &SockAddrContext, sk: *mut bpf_sock, pin: &Pin, vrf: u32) -> Result<(), DenialCause> {
    // SAFETY: `sk` is the context's socket.
    let bound = unsafe { (&raw const (*sk).bound_dev_if).read_volatile() };
    if bound != 0 && bound != vrf {
        return may_be_bound_to(pin, bound);
    }
    if pin.device == 0 {
        return Ok(());
    }
    let mut device = pin.device;
    let value = (&raw mut device).cast();
    // SAFETY: `value` is the address of an integer of the given size.
    let refused = unsafe { bpf_setsockopt(ctx.as_ptr(), SOL_SOCKET, SO_BINDTOIFINDEX, value, size_of::<u32>() as i32) };
    if refused == 0 || bound != 0 { Ok(()) } else { Err(DenialCause::Interface) }
}

/// Puts the pin's mark on the socket: a rule finds the session's own route by it.
#[inline(always)]
fn mark(ctx: &SockAddrContext, pin: &Pin) -> Result<(), DenialCause> {
    if pin.mark == 0 {
        return Ok(());
    }
    let mut mark = pin.mark;
    let value = (&raw mut mark).cast();
    // SAFETY: `value` is the address of an integer of the given size.
    let refused = unsafe { bpf_setsockopt(ctx.as_ptr(), SOL_SOCKET, SO_MARK, value, size_of::<u32>() as i32) };
    if refused == 0 { Ok(()) } else { Err(DenialCause::Mark) }
}

/// Binds the socket to the pin's source, unless it is bound to it.
#[inline(always)]
fn bind_source(ctx: &SockAddrContext, sk: *mut bpf_sock, family: InetFamily, pin: &Pin) -> Result<(), DenialCause> {
    let source = *source_of(pin);
    let refused = if family == InetFamily::IPV4 {
        // An IPv6 socket that is bound to an IPv6 address has 127.0.0.6 here (LOOPBACK4_IPV6 in
        // net/ipv6/af_inet6.c). No pin has that source. SAFETY: `sk` is the context's socket.
        let bound = unsafe { (&raw const (*sk).src_ip4).read_volatile() };
        if bound != 0 {
            return is_source(pin, [bound, 0, 0, 0]);
        }
        let mut address = SockaddrIn { family: family.number().into(), port: 0, address: [source[0]], zero: [0; 8] };
        // SAFETY: a socket address of the given size.
        unsafe { bpf_bind(ctx.sock_addr, ptr::from_mut(&mut address).cast(), size_of::<SockaddrIn>() as i32) }
    } else {
        // SAFETY: `sk` is the context's socket.
        let bound = unsafe { words(&raw const (*sk).src_ip6) };
        if bound != [0; 4] {
            return is_source(pin, bound);
        }
        let mut address =
            SockaddrIn6 { family: family.number().into(), port: 0, flowinfo: 0, address: source, scope: 0 };
        // SAFETY: a socket address of the given size.
        unsafe { bpf_bind(ctx.sock_addr, ptr::from_mut(&mut address).cast(), size_of::<SockaddrIn6>() as i32) }
    };
    if refused == 0 { Ok(()) } else { Err(DenialCause::Source) }
}

/// Counts a refusal, logs it and reports it.
#[inline(always)]
fn refuse(ctx: &SockAddrContext, key: &PinKey, slot: u32, cause: DenialCause) {
    if !count_denial(slot, cause) {
        return;
    }
    report(ctx, key, slot, cause);
    log::refused_connect(slot, key, cause);
}

/// Returns the process that connects: this program runs in its system call.
#[inline(always)]
fn process() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

/// Puts a refusal into the ring.
#[inline(always)]
fn report(ctx: &SockAddrContext, key: &PinKey, slot: u32, cause: DenialCause) {
    let generation = SLOTS.get(slot).map_or(0, |pin| pin.generation);
    let Some(mut entry) = events::reserve() else { return };
    let event = entry.as_mut_ptr();
    // SAFETY: `event` is the entry, and `ctx` the program's context.
    unsafe {
        (*event).cookie = bpf_get_socket_cookie(ctx.as_ptr());
        (*event).slot = slot;
        (*event).generation = generation;
        (*event).process = process();
        (*event).cause = cause.code();
        (*event).kind = EVENT_REFUSED;
        (*event).family = key.family;
        (*event).remote_port = key.port;
        (*event).remote = key.station;
    }
    entry.submit(0);
}
