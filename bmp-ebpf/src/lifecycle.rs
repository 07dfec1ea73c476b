//! sock_ops: looks for the pin of a connection when its ends are final, reports the connections
//! that tagged sockets make and lose, and counts their retransmissions.
//!
//! The kernel calls it a few times in the life of every TCP socket. A socket without a tag costs
//! one look-up of its tag at each call, and one of its pin for each connection.

use aya_ebpf::bindings::{bpf_sock, bpf_sock_ops};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_sock_ops_cb_flags_set};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use bmp_ebpf::{
    EVENT_ACCEPTED, EVENT_CLOSED, EVENT_CONNECTED, InetAddress, InetFamily, NO_SLOT, PinKey, ROLE_CONNECT, ROLE_LISTEN,
    TAG_OWN, Tag,
};

use crate::counters::add;
use crate::events;
use crate::listener;
use crate::maps::{COUNTERS, SLOTS, TAGS};
use crate::packet::words;
use crate::pin::{generation, is_on_link, pin_of, slot_for, vrf_of};

/// What the kernel is told. `reply` stays 0: the kernel does as without a program.
const GO_ON: u32 = 1;

/// `BPF_SOCK_OPS_*` (linux/bpf.h): the events that the program acts on.
const TCP_CONNECT: u32 = 3;
const ACTIVE_ESTABLISHED: u32 = 4;
const PASSIVE_ESTABLISHED: u32 = 5;
const RETRANSMIT: u32 = 9;
const STATE: u32 = 10;

/// `BPF_SOCK_OPS_RETRANS_CB_FLAG` and `BPF_SOCK_OPS_STATE_CB_FLAG` (linux/bpf.h): the kernel calls
/// the program for these on request.
const WANTED: u32 = 1 << 1 | 1 << 2;

/// `BPF_TCP_SYN_SENT`, `BPF_TCP_CLOSE`, `BPF_TCP_SYN_RECV` (linux/bpf.h).
const SYN_SENT: u32 = 2;
const SYN_RECV: u32 = 3;
const CLOSE: u32 = 7;

/// Named in [`bmp_ebpf::program::LIFECYCLE`].
#[sock_ops]
pub(crate) fn lifecycle(ctx: SockOpsContext) -> u32 {
    let ops = ctx.ops;
    // SAFETY: `ops` is the program's context, whose fields the verifier checks.
    let operation = unsafe { (*ops).op };
    match operation {
        TCP_CONNECT | ACTIVE_ESTABLISHED | PASSIVE_ESTABLISHED | RETRANSMIT | STATE => follow(ops, operation),
        _ => {}
    }
    GO_ON
}

/// Acts on an event of a socket.
#[inline(always)]
fn follow(ops: *mut bpf_sock_ops, operation: u32) {
    // SAFETY: as above.
    let sk: *mut bpf_sock = unsafe { (*ops).__bindgen_anon_2.sk };
    if sk.is_null() {
        return;
    }
    match operation {
        TCP_CONNECT => look_again(ops, sk, ROLE_CONNECT),
        PASSIVE_ESTABLISHED => accept(ops, sk),
        _ => {}
    }
    // SAFETY: `sk` is the context's socket and not null.
    let Some(tag) = (unsafe { TAGS.of(sk) }).copied() else { return };
    if tag.slot == NO_SLOT {
        return;
    }
    // SAFETY: `ops` is the program's context.
    let [first, second, third] = unsafe {
        let arguments = (&raw const (*ops).__bindgen_anon_1.args).cast::<u32>();
        [arguments.read_volatile(), arguments.add(1).read_volatile(), arguments.add(2).read_volatile()]
    };
    match operation {
        // From here on, so that a failed attempt is reported too.
        TCP_CONNECT => request_callbacks(ops),
        ACTIVE_ESTABLISHED => {
            request_callbacks(ops);
            report(ops, tag, EVENT_CONNECTED, SYN_SENT);
        }
        PASSIVE_ESTABLISHED => {
            request_callbacks(ops);
            report(ops, tag, EVENT_ACCEPTED, SYN_RECV);
        }
        // The arguments: sequence number, number of segments, and the error if they were not sent.
        RETRANSMIT if third == 0 => {
            if pin_of(tag).is_some()
                && let Some(counters) = COUNTERS.get_ptr_mut(tag.slot)
            {
                // SAFETY: the pointer is to the table's value and only its field is named.
                add(unsafe { &raw mut (*counters).retransmits }, u64::from(second));
            }
        }
        // The arguments: the state before and after.
        STATE if second == CLOSE => report(ops, tag, EVENT_CLOSED, first),
        _ => {}
    }
}

/// A listener has accepted the socket: bmpd's own listener, or another process's.
#[inline(always)]
fn accept(ops: *mut bpf_sock_ops, sk: *mut bpf_sock) {
    // SAFETY: `sk` is the context's socket and not null.
    match unsafe { TAGS.of(sk) } {
        Some(tag) if tag.is_listener() => join_session(ops, sk, tag),
        _ => look_again(ops, sk, ROLE_LISTEN),
    }
}

/// The far end of a connection, of the family on the wire.
struct FarEnd {
    family: InetFamily,
    address: [u32; 4],
}

/// Reads the far end of the connection.
#[inline(always)]
fn far_end(ops: *mut bpf_sock_ops) -> FarEnd {
    // SAFETY: `ops` is the program's context. Each word is read by itself, as the verifier wants
    // it.
    unsafe {
        let address = words(&raw const (*ops).remote_ip6);
        let mapped = address[0] == 0 && address[1] == 0 && address[2] == 0xffff_u32.to_be();
        if (&raw const (*ops).family).read_volatile() == u32::from(InetFamily::IPV6.number()) && !mapped {
            FarEnd { family: InetFamily::IPV6, address }
        } else {
            FarEnd { family: InetFamily::IPV4, address: [(&raw const (*ops).remote_ip4).read_volatile(), 0, 0, 0] }
        }
    }
}

/// Reads the index of the interface that a socket is bound to; 0 is none.
#[inline(always)]
fn bound_to(sk: *mut bpf_sock) -> u32 {
    // SAFETY: `sk` is the context's socket and not null.
    unsafe { (&raw const (*sk).bound_dev_if).read_volatile() }
}

/// Puts the socket under the pin of its far end, or under none.
///
/// Both ends of the connection are final: other programs, the kernel and bmpd may have changed the
/// destination or the pin since `connect`. Nothing has left but a listener's SYN-ACK.
///
/// It is too late to bind the socket: `egress` drops packets that do not fit the pin. The socket is
/// hashed by now, so bmpd finds it when it puts a pin in force after this look.
#[inline(always)]
fn look_again(ops: *mut bpf_sock_ops, sk: *mut bpf_sock, role: u8) {
    // SAFETY: `ops` is the program's context. Each word is read by itself.
    let (netns, port) = unsafe {
        let netns = bpf_get_netns_cookie(ops.cast());
        // The kernel gives the local port in host byte order and the remote one in network byte
        // order.
        let port = match role {
            ROLE_CONNECT => u32::from_be((&raw const (*ops).remote_port).read_volatile()),
            _ => (&raw const (*ops).local_port).read_volatile(),
        };
        (netns, port as u16)
    };
    let (far, bound) = (far_end(ops), bound_to(sk));
    let vrf = vrf_of(netns, bound);
    let key = PinKey { netns, vrf, family: far.family, role, port, station: InetAddress::from_words(far.address) };
    // SAFETY: `sk` is the context's socket and not null.
    let before = unsafe { TAGS.of(sk) }.copied().unwrap_or_default();
    let own = before.is_own();
    let Some(slot) = slot_for(&key, far.address, own, |slot| is_on_link(slot, bound)) else {
        // bmpd's own socket stays with its session, wherever another program led the destination.
        if before.slot != NO_SLOT && !own {
            // SAFETY: as above.
            unsafe { TAGS.delete(sk) };
        }
        return;
    };
    let generation = SLOTS.get(slot).map_or(0, generation);
    if (before.slot, before.generation) != (slot, generation) {
        // SAFETY: as above. Without memory for a tag the socket stays as it was.
        let _ = unsafe { TAGS.put(sk, Tag { slot, generation, ..before }) };
    }
}

/// Puts a socket that bmpd's listener has accepted under its session's pin, before anything of it
/// leaves. A socket of no session stays as it is, and nothing of it ever leaves.
#[inline(always)]
fn join_session(ops: *mut bpf_sock_ops, sk: *mut bpf_sock, tag: &mut Tag) {
    let far = far_end(ops);
    // SAFETY: `ops` is the program's context.
    let port = unsafe { (&raw const (*ops).local_port).read_volatile() } as u16;
    let slot = listener::slot_of(tag.netns, bound_to(sk), far.family, port, far.address);
    if slot == NO_SLOT {
        return;
    }
    if let Some(pin) = SLOTS.get(slot)
        && pin.admits()
    {
        tag.generation = generation(pin);
        tag.slot = slot;
        tag.flags = TAG_OWN;
    }
}

/// Requests calls for this socket's retransmissions and changes of state. Requests of other
/// programs stay.
#[inline(always)]
fn request_callbacks(ops: *mut bpf_sock_ops) {
    // SAFETY: `ops` is the program's context.
    unsafe {
        let flags = (&raw const (*ops).bpf_sock_ops_cb_flags).read_volatile();
        // The kernel refuses unknown flags alone, and has known these since Linux 4.16.
        let _ = bpf_sock_ops_cb_flags_set(ops, (flags | WANTED) as i32);
    }
}

/// Puts an event into the ring.
#[inline(always)]
fn report(ops: *mut bpf_sock_ops, tag: Tag, kind: u16, state: u32) {
    let Some(mut entry) = events::reserve() else { return };
    let event = entry.as_mut_ptr();
    // SAFETY: `ops` is the program's context, each word of it read by itself, as the verifier wants
    // it. `event` is the entry.
    unsafe {
        (*event).cookie = bpf_get_socket_cookie(ops.cast());
        (*event).slot = tag.slot;
        (*event).generation = tag.generation;
        (*event).flags = tag.flags;
        (*event).process = tag.process;
        (*event).kind = kind;
        (*event).state = state as u16;
        // The kernel gives the local port in host byte order and the remote one in network byte
        // order.
        (*event).local_port = (&raw const (*ops).local_port).read_volatile() as u16;
        (*event).remote_port = u32::from_be((&raw const (*ops).remote_port).read_volatile()) as u16;
        let remote = words(&raw const (*ops).remote_ip6);
        let mapped = remote[0] == 0 && remote[1] == 0 && remote[2] == 0xffff_u32.to_be();
        let (to_local, to_remote) = ((&raw mut (*event).local).cast::<u32>(), (&raw mut (*event).remote).cast::<u32>());
        if (&raw const (*ops).family).read_volatile() == u32::from(InetFamily::IPV6.number()) && !mapped {
            (*event).family = InetFamily::IPV6;
            let local = words(&raw const (*ops).local_ip6);
            for at in 0..4 {
                to_local.add(at).write(local[at]);
                to_remote.add(at).write(remote[at]);
            }
        } else {
            (*event).family = InetFamily::IPV4;
            to_local.write((&raw const (*ops).local_ip4).read_volatile());
            to_remote.write((&raw const (*ops).remote_ip4).read_volatile());
        }
    }
    entry.submit(0);
}
