//! The tables of the programs, as [`bmp_ebpf::table`] names them.

use core::ptr;

use aya_ebpf::bindings::bpf_map_type::BPF_MAP_TYPE_SK_STORAGE;
use aya_ebpf::bindings::{BPF_F_CLONE, BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_sk_storage_delete, bpf_sk_storage_get};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, PerCpuHashMap, RingBuf};
use bmp_ebpf::{
    Counters, EVENTS_BYTES, GUARDED_MAX, GuardKey, Guarded, KeyHistory, LinkKey, Pin, PinKey, RefusedTraffic, SESSIONS,
    Tag, VRF_LINKS_MAX, keys_for, slots_for,
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

/// See [`bmp_ebpf::table::TAGS`]. The kernel makes socket storage only for a table that BTF
/// describes.
#[btf_map]
pub(crate) static TAGS: Tags = Tags::new();

/// Socket storage that a listener hands on to the sockets it accepts.
///
/// The loader reads the fields' types in BTF; their values mean nothing. aya has such a table
/// without `BPF_F_CLONE` only.
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

    /// Returns the tag of a socket.
    ///
    /// # Safety
    ///
    /// `sk` must be a socket of the program's context, and not null. A request socket has no tag.
    #[inline(always)]
    pub(crate) unsafe fn of<'a>(&'static self, sk: *mut bpf_sock) -> Option<&'a mut Tag> {
        let table = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the table is a socket storage; without a value none is made. A tag lives as long
        // as its socket, which outlives the program's run.
        unsafe { bpf_sk_storage_get(table, sk.cast(), ptr::null_mut(), 0).cast::<Tag>().as_mut() }
    }

    /// Gives a socket a tag. `None` if the kernel has no memory for it.
    ///
    /// # Safety
    ///
    /// As for [`Self::of`].
    #[inline(always)]
    pub(crate) unsafe fn put(&'static self, sk: *mut bpf_sock, mut tag: Tag) -> Option<()> {
        let table = ptr::from_ref(self).cast_mut().cast();
        let value = (&raw mut tag).cast();
        // SAFETY: as above; a new tag begins as the value.
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
        // SAFETY: the table is a socket storage. The result says whether there was a tag.
        let _ = unsafe { bpf_sk_storage_delete(table, sk.cast()) };
    }
}
