//! Denials: their causes, how they are counted, and how often they are logged.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use bmp_ebpf::{CAUSE_INTERFACE, CAUSE_NO_PIN, CAUSE_SOURCE, GuardKey, NO_SLOT};

use crate::counters::add;
use crate::maps::{COUNTERS, REFUSED};

/// For how many nanoseconds a logged denial keeps later ones of its slot and CPU out of the log.
const LOG_INTERVAL_NS: u64 = 1_000_000_000;

/// Why a connect is refused or a packet dropped.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum DenialCause {
    /// The pin does not name the interface that the socket is bound to or the packet leaves by.
    Interface,
    /// The socket is bound to, or the packet carries, another source address.
    Source,
    /// The socket cannot be given, or the packet does not carry, the pin's mark.
    Mark,
    /// The pin denies.
    Denied,
    /// The pin that the socket was connected under is gone.
    Gone,
    /// A listener's packet comes from, or would go to, an address of no station.
    Stranger,
}

impl DenialCause {
    /// Returns `CAUSE_*` of [`bmp_ebpf`].
    #[inline(always)]
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::Interface | Self::Mark => CAUSE_INTERFACE,
            Self::Source => CAUSE_SOURCE,
            Self::Denied | Self::Gone | Self::Stranger => CAUSE_NO_PIN,
        }
    }
}

/// Counts a denial for the slot, or for [`NO_SLOT`] if there is no such slot. True if this denial
/// is to be logged.
#[inline(always)]
pub(crate) fn count_denial(slot: u32, cause: DenialCause) -> bool {
    let Some(counters) = COUNTERS.get_ptr_mut(slot).or_else(|| COUNTERS.get_ptr_mut(NO_SLOT)) else {
        return false;
    };
    // SAFETY: the pointer is to the table's value and only its fields are named.
    unsafe {
        add(
            match cause {
                DenialCause::Interface => &raw mut (*counters).denied_interface,
                DenialCause::Source => &raw mut (*counters).denied_source,
                DenialCause::Mark => &raw mut (*counters).denied_mark,
                DenialCause::Denied | DenialCause::Gone | DenialCause::Stranger => &raw mut (*counters).denied_no_pin,
            },
            1,
        );
        let now = bpf_ktime_get_ns();
        let is_due = now.wrapping_sub((*counters).logged_ns) >= LOG_INTERVAL_NS;
        if is_due {
            (*counters).logged_ns = now;
        }
        is_due
    }
}

/// Counts a stranger's packet, where table `REFUSED` has an entry for the key.
#[inline(always)]
pub(crate) fn count_stranger(key: &GuardKey, bytes: u64) {
    if let Some(refused) = REFUSED.get_ptr_mut(key) {
        // SAFETY: the pointer is to the table's value and only its fields are named.
        unsafe {
            add(&raw mut (*refused).packets, 1);
            add(&raw mut (*refused).bytes, bytes);
        }
    }
}
