//! The programs' lines in bmpd's log.
//!
//! Each line is a global function, of numbers alone: the verifier follows such a function once, by
//! itself, and not again for each way that leads to it (Documentation/bpf/verifier.rst). A line has
//! more ways through it than all that decides whether to log it.

use aya_log_ebpf::{info, warn};
use bmp_ebpf::{InetFamily, PinKey};

use crate::deny::DenialCause;
use crate::maps::SLOTS;

/// The log target of the lines.
const LOG: &str = "bmp_ebpf";

/// Logs that a socket was bound as the pin in the slot says.
#[inline(always)]
pub(crate) fn bound(slot: u32, key: &PinKey) {
    let [high, low] = halves(key);
    log_bound(slot, key.port.into(), key.family == InetFamily::IPV4, high, low);
}

/// Logs that a connect was refused.
#[inline(always)]
pub(crate) fn refused_connect(slot: u32, key: &PinKey, cause: DenialCause) {
    let [high, low] = halves(key);
    let port_and_cause = u32::from(key.port) << 8 | cause as u32;
    log_refused_connect(slot, port_and_cause, key.family == InetFamily::IPV4, high, low);
}

/// Logs that a packet was dropped that would have left.
#[inline(always)]
pub(crate) fn dropped_packet(slot: u32, ifindex: u32, cause: DenialCause) {
    log_dropped_packet(slot, ifindex, cause as u32);
}

/// Logs that a packet was dropped that had arrived.
#[inline(always)]
pub(crate) fn refused_packet(slot: u32, ifindex: u32, cause: DenialCause) {
    log_refused_packet(slot, ifindex, cause as u32);
}

/// Returns the station's address as two numbers.
#[inline(always)]
fn halves(key: &PinKey) -> [u64; 2] {
    // SAFETY: same size, and any bytes are numbers.
    unsafe { core::mem::transmute::<[u8; 16], [u64; 2]>(*key.station.octets()) }
}

/// Returns the address that two numbers are the halves of.
#[inline(always)]
fn octets(high: u64, low: u64) -> [u8; 16] {
    // SAFETY: same size, and any bytes are an address.
    unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>([high, low]) }
}

/// Returns the first four octets, as an IPv4 address is in them.
#[inline(always)]
fn first(octets: u64) -> [u8; 4] {
    (octets as u32).to_ne_bytes()
}

/// Returns the words for a [`DenialCause`]. All have one length: the verifier wants copies of
/// constant size.
#[inline(always)]
fn words(cause: u32) -> &'static str {
    const WORDS: [[u8; 16]; 8] = {
        let mut words = [*b"unknown cause   "; 8];
        words[DenialCause::Interface as usize] = *b"wrong interface ";
        words[DenialCause::Source as usize] = *b"wrong source IP ";
        words[DenialCause::Mark as usize] = *b"no session mark ";
        words[DenialCause::Denied as usize] = *b"pin denies this ";
        words[DenialCause::Gone as usize] = *b"pin has expired ";
        words[DenialCause::Stranger as usize] = *b"no such station ";
        words
    };
    // SAFETY: ASCII.
    unsafe { core::str::from_utf8_unchecked(&WORDS[cause as usize & 7][..15]) }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn log_bound(slot: u32, port: u32, is_ipv4: bool, high: u64, low: u64) -> u32 {
    let Some(pin) = SLOTS.get(slot) else { return 0 };
    if is_ipv4 {
        info!(
            (), target: LOG,
            "connect: slot {}: {:i} port {}: interface {}, source {:i}", slot, first(high), port, pin.device, pin.source.first_octets()
        );
    } else {
        info!(
            (), target: LOG,
            "connect: slot {}: {:i} port {}: interface {}, source {:i}", slot, octets(high, low), port, pin.device, *pin.source.octets()
        );
    }
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn log_refused_connect(slot: u32, port_and_cause: u32, is_ipv4: bool, high: u64, low: u64) -> u32 {
    let (port, cause) = (port_and_cause >> 8, words(port_and_cause));
    if is_ipv4 {
        warn!((), target: LOG, "connect: slot {}: {:i} port {} refused: {}", slot, first(high), port, cause);
    } else {
        warn!((), target: LOG, "connect: slot {}: {:i} port {} refused: {}", slot, octets(high, low), port, cause);
    }
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn log_dropped_packet(slot: u32, ifindex: u32, cause: u32) -> u32 {
    warn!((), target: LOG, "egress: slot {}: packet by interface {} dropped: {}", slot, ifindex, words(cause));
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn log_refused_packet(slot: u32, ifindex: u32, cause: u32) -> u32 {
    warn!((), target: LOG, "ingress: slot {}: packet by interface {} refused: {}", slot, ifindex, words(cause));
    0
}
