//! The kernel programs, in one object file.
//!
//! `connect` decides where a session may go and ties its socket to a slot, `lifecycle` does so again when the destination is final and
//! tells what becomes of the socket, `egress` holds every packet of that socket to its slot, and `ingress` counts what comes back. A socket of
//! no session costs one look-up of its socket storage a packet. Where stations connect to this host, `listener` finds the session of each packet, and `guard` keeps everybody else
//! away before the stack sees them.
#![no_std]
#![no_main]
// For the one instruction in `tables::add`. The build of this target needs unstable options anyway (`-Z build-std`).
#![feature(asm_experimental_arch)]

mod branchless;
mod connect;
mod egress;
mod extensions;
mod guard;
mod ingress;
mod lifecycle;
mod listener;
mod packet;
mod station;
mod tables;

/// What the kernel is told at load. None of the helpers used asks for a GPL-compatible program.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 18] = *b"MIT OR Apache-2.0\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
