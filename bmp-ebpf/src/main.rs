//! The kernel programs, in one object file.
//!
//! A socket of no session costs one look-up of its socket storage for each packet.
//!
//! * Hooks, one file each: [`connect`] binds a session's socket and ties it to a slot.
//!   [`lifecycle`] does so again when the destination is final, and reports the socket's
//!   connections. [`egress`] holds every packet of the socket to its slot. [`ingress`] counts what
//!   it receives, and drops what strangers send to a listener. [`xdp`] drops that before the stack
//!   sees it.
//! * Decisions: [`pin`] compares sockets and packets with pins, [`listener`] finds the session of a
//!   listener's packet, [`deny`] counts and names what is denied.
//! * Reading and writing: [`packet`] and [`extensions`] read headers, [`counters`] counts traffic,
//!   [`events`] writes the ring, [`log`] the lines of the log, [`maps`] has all tables.
//! * [`branchless`] is arithmetic in the place of branches.
#![no_std]
#![no_main]
// For the one instruction in `counters::add`. This target needs unstable options anyway
// (`-Z build-std`).
#![feature(asm_experimental_arch)]

mod branchless;
mod connect;
mod counters;
mod deny;
mod egress;
mod events;
mod extensions;
mod ingress;
mod lifecycle;
mod listener;
mod log;
mod maps;
mod packet;
mod pin;
mod xdp;

/// What the kernel is told at load. No helper in use asks for a GPL-compatible program.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 18] = *b"MIT OR Apache-2.0\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
