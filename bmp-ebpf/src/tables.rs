//! The tables, and counting in them.

use core::arch::asm;
use core::ptr;

use aya_ebpf::bindings::bpf_map_type::BPF_MAP_TYPE_SK_STORAGE;
use aya_ebpf::bindings::{__sk_buff, BPF_F_CLONE, BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_sk_storage_delete, bpf_sk_storage_get};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::ring_buf::RingBufEntry;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, PerCpuHashMap, RingBuf};
use bmp_ebpf::{
    CAUSE_INTERFACE, CAUSE_NO_PIN, CAUSE_SOURCE, Counters, EGRESS_MAX, EVENTS_BYTES, GUARDED_MAX, GuardKey, Guarded,
    KernelEvent, KeyHistory, LinkKey, NO_SLOT, PIN_LIVE, Pin, PinKey, RefusedTraffic, SESSIONS, Tag, VRF_LINKS_MAX,
    keys_for, slots_for,
};

/// See [`bmp_ebpf::table::PINS`].
#[map]
pub(crate) static PINS: HashMap<PinKey, u32> = HashMap::with_max_entries(keys_for(SESSIONS), 0);

/// See [`bmp_ebpf::table::SLOTS`].
#[map]
pub(crate) static SLOTS: Array<Pin> = Array::with_max_entries(slots_for(SESSIONS), 0);

/// See [`bmp_ebpf::table::COUNTERS`].
#[map]
pub(crate) static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(slots_for(SESSIONS), 0);

/// See [`bmp_ebpf::table::EVENTS`].
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);

/// See [`bmp_ebpf::table::OWNERS`].
#[map]
pub(crate) static OWNERS: Array<PinKey> = Array::with_max_entries(slots_for(SESSIONS), 0);

/// See [`bmp_ebpf::table::HISTORY`].
#[map]
static HISTORY: HashMap<PinKey, KeyHistory> = HashMap::with_max_entries(keys_for(SESSIONS), BPF_F_NO_PREALLOC);

/// See [`bmp_ebpf::table::VRFS`].
#[map]
pub(crate) static VRFS: HashMap<LinkKey, u32> = HashMap::with_max_entries(VRF_LINKS_MAX, BPF_F_NO_PREALLOC);

/// See [`bmp_ebpf::table::GUARDED`].
#[map]
pub(crate) static GUARDED: HashMap<GuardKey, Guarded> = HashMap::with_max_entries(GUARDED_MAX, BPF_F_NO_PREALLOC);

/// See [`bmp_ebpf::table::REFUSED`].
#[map]
pub(crate) static REFUSED: PerCpuHashMap<GuardKey, RefusedTraffic> =
    PerCpuHashMap::with_max_entries(GUARDED_MAX, BPF_F_NO_PREALLOC);

/// See [`bmp_ebpf::table::TAGS`]. The kernel makes socket storage only for a table that BTF describes.
#[btf_map]
pub(crate) static TAGS: Tags = Tags::new();

/// Socket storage that a listener hands on to the sockets it accepts.
///
/// Of every field only the type means something: the loader reads it in BTF. (aya has such a table without `BPF_F_CLONE` only.)
#[repr(C)]
pub(crate) struct Tags {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const Tag,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

// SAFETY: nothing is ever read through the pointers.
unsafe impl Sync for Tags {}

impl Tags {
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
        }
    }

    /// The tag of a socket.
    ///
    /// # Safety
    ///
    /// `sk` is a socket of the program's context and not null. Sockets that are not full ones have no tag.
    #[inline(always)]
    pub(crate) unsafe fn of<'a>(&'static self, sk: *mut bpf_sock) -> Option<&'a mut Tag> {
        let table = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the table is a socket storage, and no value is given because none is to be made. What is there lives as long as the
        // socket, which outlives the program's run.
        unsafe { bpf_sk_storage_get(table, sk.cast(), ptr::null_mut(), 0).cast::<Tag>().as_mut() }
    }

    /// Gives a socket a tag. `None` if there is no memory for it.
    ///
    /// # Safety
    ///
    /// As for [`Self::of`].
    #[inline(always)]
    pub(crate) unsafe fn put(&'static self, sk: *mut bpf_sock, mut tag: Tag) -> Option<()> {
        let table = ptr::from_ref(self).cast_mut().cast();
        let value = (&raw mut tag).cast();
        // SAFETY: as above; the value is what a new tag begins as.
        let stored = unsafe { bpf_sk_storage_get(table, sk.cast(), value, BPF_SK_STORAGE_GET_F_CREATE.into()) };
        // SAFETY: as above.
        *unsafe { stored.cast::<Tag>().as_mut() }? = tag;
        Some(())
    }

    /// Takes a socket's tag away, if it has one.
    ///
    /// # Safety
    ///
    /// As for [`Self::of`].
    #[inline(always)]
    pub(crate) unsafe fn delete(&'static self, sk: *mut bpf_sock) {
        let table = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the table is a socket storage. The answer says whether there was a tag.
        let _ = unsafe { bpf_sk_storage_delete(table, sk.cast()) };
    }
}

/// The log target of the programs' own lines.
pub(crate) const LOG: &str = "bmp_ebpf";

/// How long a denial keeps later ones of its slot on its CPU out of the log, in nanoseconds.
const LOG_INTERVAL_NS: u64 = 1_000_000_000;

/// Why a connect is refused or a packet dropped.
#[derive(Clone, Copy)]
pub(crate) enum Cause {
    /// The socket is bound to, or the packet leaves by, an interface that the pin does not name.
    Interface,
    /// The socket is bound to, or the packet carries, another source address.
    Source,
    /// The socket cannot be given, or the packet does not carry, the pin's mark.
    Mark,
    /// The pin says deny.
    Denied,
    /// The pin that the socket was connected under is no longer there.
    Gone,
    /// It comes to a listener from, or would leave one for, somebody who is no station.
    Stranger,
}

impl Cause {
    /// See `CAUSE_*` in [`bmp_ebpf`].
    #[inline(always)]
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::Interface | Self::Mark => CAUSE_INTERFACE,
            Self::Source => CAUSE_SOURCE,
            Self::Denied | Self::Gone | Self::Stranger => CAUSE_NO_PIN,
        }
    }

    /// The words for the log. All are of one length, so that the verifier sees a copy of constant size.
    #[inline(always)]
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Interface => "wrong interface",
            Self::Source => "wrong source IP",
            Self::Mark => "no session mark",
            Self::Denied => "pin denies this",
            Self::Gone => "pin has expired",
            Self::Stranger => "no such station",
        }
    }
}

/// The tag of the socket that a packet belongs to.
#[inline(always)]
pub(crate) fn tag_of(skb: *const __sk_buff) -> Option<Tag> {
    // SAFETY: `skb` is the program's context, whose fields the verifier checks.
    let sk: *mut bpf_sock = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return None;
    }
    // SAFETY: `sk` is the context's socket and not null.
    unsafe { TAGS.of(sk) }.copied()
}

/// The interface index of the VRF that a socket is in which is bound to this interface; 0 is the default VRF.
#[inline(always)]
pub(crate) fn vrf_of(netns: u64, bound: u32) -> u32 {
    if bound == 0 {
        return 0;
    }
    // SAFETY: the value is one word: it is read whole or not at all.
    unsafe { VRFS.get(LinkKey { netns, ifindex: bound, reserved: 0 }) }.copied().unwrap_or(0)
}

/// Where an interface is, seen from a pin of a VRF.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// It is the VRF device itself: a packet that leaves by it is routed once more (`vrf_xmit` of drivers/net/vrf.c), where the device has
    /// a queueing discipline; one that comes in seems to come in by it.
    Device,
    /// It is one of the VRF's.
    Inside,
    /// It is none of them.
    Outside,
}

/// Where an interface is, seen from the VRF of the key that a slot was given for.
#[inline(always)]
pub(crate) fn whereabouts(slot: u32, ifindex: u32) -> Whereabouts {
    let Some(key) = OWNERS.get(slot) else { return Whereabouts::Outside };
    if key.vrf == ifindex {
        Whereabouts::Device
    } else if vrf_of(key.netns, ifindex) == key.vrf {
        Whereabouts::Inside
    } else {
        Whereabouts::Outside
    }
}

/// The pin that a tag was given under; `None` if it is not there any more.
#[inline(always)]
pub(crate) fn pin_of(tag: Tag) -> Option<&'static Pin> {
    let pin = SLOTS.get(tag.slot)?;
    (pin.flags & PIN_LIVE != 0 && pin.generation == tag.generation).then_some(pin)
}

/// Whether the pin names the interface as one that packets may leave by.
///
/// Written out, because older verifiers lose the bound of the pointer that the compiler makes of a loop over the array.
#[inline(always)]
pub(crate) fn names_interface(pin: &Pin, ifindex: u32) -> bool {
    const { assert!(EGRESS_MAX == 8) };
    let named = |at: usize| (at as u32) < pin.egress_count && pin.egress[at] == ifindex;
    named(0) || named(1) || named(2) || named(3) || named(4) || named(5) || named(6) || named(7)
}

/// Counts a packet from no station, where there is an entry for it.
#[inline(always)]
pub(crate) fn count_refused(key: &GuardKey, bytes: u64) {
    if let Some(refused) = REFUSED.get_ptr_mut(key) {
        // SAFETY: the pointer is to the table's value and only its fields are named.
        unsafe {
            add(&raw mut (*refused).packets, 1);
            add(&raw mut (*refused).bytes, bytes);
        }
    }
}

/// Adds to one counter of the running CPU.
///
/// The addition is atomic because a softirq, or on a preemptible kernel another task, can run the same program on the same CPU
/// in the middle of it, for another socket of the slot.
#[inline(always)]
pub(crate) fn add(counter: *mut u64, amount: u64) {
    // SAFETY: every caller passes a field of a table's value: aligned, and alive while the program runs. The target has no
    // compare-and-swap, so the compiler offers no atomic addition of its own; the kernel has had this one since 3.18.
    unsafe {
        asm!("lock *(u64 *)({counter} + 0) += {amount}", counter = in(reg) counter, amount = in(reg) amount, options(nostack));
    }
}

/// Room for an event in the ring, all zeroes but the time. Where there is none, that is counted.
#[inline(always)]
pub(crate) fn event() -> Option<RingBufEntry<KernelEvent>> {
    let Some(mut entry) = EVENTS.reserve::<KernelEvent>(0) else {
        if let Some(counters) = COUNTERS.get_ptr_mut(NO_SLOT) {
            // SAFETY: the pointer is to the table's value and only its field is named.
            add(unsafe { &raw mut (*counters).events_lost }, 1);
        }
        return None;
    };
    let event = entry.as_mut_ptr();
    // SAFETY: `event` is the entry.
    unsafe {
        ptr::write_bytes(event.cast::<u64>(), 0, size_of::<KernelEvent>() / size_of::<u64>());
        (*event).time_ns = bpf_ktime_get_ns();
    }
    Some(entry)
}

/// Counts a denial in the slot's counters, or in those of [`NO_SLOT`], and tells whether it is time to log one.
#[inline(always)]
pub(crate) fn count_denial(slot: u32, cause: Cause) -> bool {
    let Some(counters) = COUNTERS.get_ptr_mut(slot).or_else(|| COUNTERS.get_ptr_mut(NO_SLOT)) else { return false };
    // SAFETY: the pointer is to the table's value and only its fields are named.
    unsafe {
        add(
            match cause {
                Cause::Interface => &raw mut (*counters).denied_interface,
                Cause::Source => &raw mut (*counters).denied_source,
                Cause::Mark => &raw mut (*counters).denied_mark,
                Cause::Denied | Cause::Gone | Cause::Stranger => &raw mut (*counters).denied_no_pin,
            },
            1,
        );
        let now = bpf_ktime_get_ns();
        let due = now.wrapping_sub((*counters).logged_ns) >= LOG_INTERVAL_NS;
        if due {
            (*counters).logged_ns = now;
        }
        due
    }
}
