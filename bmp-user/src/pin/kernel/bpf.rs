//! Commands of bpf(2) that aya has no functions for: pinned objects, links, and reading tables
//! whole.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya::Pod;

/// `enum bpf_cmd` (linux/bpf.h).
const OBJ_PIN: libc::c_long = 6;
const OBJ_GET: libc::c_long = 7;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const PROG_QUERY: libc::c_long = 16;
const MAP_LOOKUP_BATCH: libc::c_long = 24;
const LINK_CREATE: libc::c_long = 28;
const LINK_UPDATE: libc::c_long = 29;
const LINK_DETACH: libc::c_long = 34;

/// `BPF_LINK_TYPE_CGROUP` (linux/bpf.h).
pub(super) const LINK_TYPE_CGROUP: u32 = 3;
/// `BPF_LINK_TYPE_XDP`.
pub(super) const LINK_TYPE_XDP: u32 = 6;

/// The kind of a BPF object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ObjectKind {
    Link,
    Program,
    Table,
}

/// `struct bpf_link_info` (linux/bpf.h). The fields behind the program are those of a cgroup link;
/// a method reads those of an XDP link.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LinkInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) program: u32,
    reserved: u32,
    /// 0 when the cgroup is gone.
    pub(super) cgroup: u64,
    pub(super) attach_type: u32,
    rest: [u32; 9],
}

impl LinkInfo {
    /// Returns the interface index of an XDP link; 0 if the interface is gone.
    pub(super) fn xdp_ifindex(&self) -> u32 {
        let [a, b, c, d, ..] = self.cgroup.to_ne_bytes();
        u32::from_ne_bytes([a, b, c, d])
    }
}

/// Calls `bpf(2)` with the part of `union bpf_attr` that a command reads.
fn call<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: every caller gives the part of the union that its command reads, with its size; the
    // kernel takes the rest as zero.
    let returned = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    match libc::c_int::try_from(returned) {
        Ok(value) if value >= 0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The attributes of `OBJ_PIN` and `OBJ_GET`.
#[repr(C)]
struct ObjectPath {
    path: u64,
    descriptor: i32,
    flags: u32,
}

fn object(command: libc::c_long, path: &Path, descriptor: i32) -> io::Result<libc::c_int> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    call(command, &mut ObjectPath { path: path.as_ptr() as u64, descriptor, flags: 0 })
}

/// Pins an object in a BPF file system.
pub(super) fn pin(path: &Path, object_: BorrowedFd<'_>) -> io::Result<()> {
    object(OBJ_PIN, path, object_.as_raw_fd()).map(drop)
}

/// Opens a pinned object.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    let descriptor = object(OBJ_GET, path, 0)?;
    // SAFETY: the kernel has just opened it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Returns the kind of the object. proc_pid_fdinfo(5) tells it, and differs less between kernels
/// than the objects' names.
pub(super) fn kind(object: &OwnedFd) -> Option<ObjectKind> {
    let shown = fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", object.as_raw_fd())).ok()?;
    // A link shows its program too.
    let kinds = [("link_id:", ObjectKind::Link), ("prog_id:", ObjectKind::Program), ("map_id:", ObjectKind::Table)];
    kinds.into_iter().find(|(field, _)| shown.lines().any(|line| line.starts_with(field))).map(|(_, kind)| kind)
}

/// Attaches a program to a cgroup by a link.
pub(super) fn attach(program: BorrowedFd<'_>, cgroup: &File, attach_type: u32) -> io::Result<OwnedFd> {
    create(program, cgroup.as_raw_fd(), attach_type, 0)
}

/// The programs on a hook of a cgroup itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attached {
    /// The id of the first program, if there is one.
    pub(super) first: Option<u32>,
    /// `BPF_F_*` with which the first was attached.
    pub(super) flags: u32,
}

/// Asks which programs are on a hook of a cgroup.
pub(super) fn query(cgroup: &File, attach_type: u32) -> io::Result<Attached> {
    #[repr(C)]
    struct Query {
        target: i32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        padding: u32,
    }
    let mut ids = [0_u32];
    let (target, ids_at) = (cgroup.as_raw_fd(), ids.as_mut_ptr() as u64);
    let mut query = Query { target, attach_type, query_flags: 0, attach_flags: 0, ids: ids_at, count: 1, padding: 0 };
    match call(PROG_QUERY, &mut query) {
        // There is more than one program: the kernel returns the first.
        Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {}
        result => drop(result?),
    }
    Ok(Attached { first: (query.count > 0).then_some(ids[0]), flags: query.attach_flags })
}

/// Attaches a program to an interface of this namespace by a link. `flags` are `XDP_FLAGS_*_MODE`
/// (linux/if_link.h).
pub(super) fn attach_xdp(program: BorrowedFd<'_>, ifindex: u32, flags: u32) -> io::Result<OwnedFd> {
    /// `BPF_XDP` of `enum bpf_attach_type` (linux/bpf.h).
    const XDP: u32 = 37;
    create(program, ifindex.cast_signed(), XDP, flags)
}

fn create(program: BorrowedFd<'_>, target: i32, attach_type: u32, flags: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Create {
        program: i32,
        target: i32,
        attach_type: u32,
        flags: u32,
    }
    let program = program.as_raw_fd();
    let descriptor = call(LINK_CREATE, &mut Create { program, target, attach_type, flags })?;
    // SAFETY: the kernel has just opened it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Puts another program under a link: every packet and connect meets one of the two. **The kernel
/// does not compare attach types.**
pub(super) fn replace(link: &OwnedFd, program: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct LinkUpdate {
        link: i32,
        program: i32,
        flags: u32,
        old: i32,
    }
    let (link, program) = (link.as_raw_fd(), program.as_raw_fd());
    call(LINK_UPDATE, &mut LinkUpdate { link, program, flags: 0, old: 0 }).map(drop)
}

/// Detaches a link, whoever else holds it.
pub(super) fn detach(link: &OwnedFd) -> io::Result<()> {
    call(LINK_DETACH, &mut link.as_raw_fd()).map(drop)
}

/// Asks the kernel about a link.
pub(super) fn link_info(link: &OwnedFd) -> io::Result<LinkInfo> {
    #[repr(C)]
    struct Get {
        descriptor: i32,
        length: u32,
        info: u64,
    }
    let mut info = LinkInfo::default();
    let length = size_of::<LinkInfo>() as u32;
    call(OBJ_GET_INFO_BY_FD, &mut Get { descriptor: link.as_raw_fd(), length, info: (&raw mut info) as u64 })?;
    Ok(info)
}

/// Reads all entries of a hash table, about `likely` of them.
pub(super) fn entries<K: Pod, V: Pod>(table: &OwnedFd, likely: u32) -> io::Result<Vec<(K, V)>> {
    batches(table, None, likely, usize::MAX)
}

/// Reads `count` entries of an array, from number `first` on.
pub(super) fn part_of_array<V: Pod>(table: &OwnedFd, first: u32, count: u32) -> io::Result<Vec<(u32, V)>> {
    batches(table, first.checked_sub(1), count, count as usize)
}

/// Reads entries until there are `most`, `room` of them by each system call. `behind` is the
/// kernel's position of the first one.
fn batches<K: Pod, V: Pod>(table: &OwnedFd, behind: Option<u32>, room: u32, most: usize) -> io::Result<Vec<(K, V)>> {
    #[repr(C)]
    struct Batch {
        behind: u64,
        last: u64,
        keys: u64,
        values: u64,
        count: u32,
        table: i32,
        element_flags: u64,
        flags: u64,
    }
    let mut room = room.max(1);
    let mut behind = behind;
    let mut found = Vec::new();
    loop {
        let mut keys = vec![0_u8; room as usize * size_of::<K>()];
        let mut values = vec![0_u8; room as usize * size_of::<V>()];
        let mut last = 0_u32;
        let mut batch = Batch {
            behind: behind.as_ref().map_or(0, |behind| std::ptr::from_ref(behind) as u64),
            last: (&raw mut last) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: room,
            table: table.as_raw_fd(),
            element_flags: 0,
            flags: 0,
        };
        let ended = match call(MAP_LOOKUP_BATCH, &mut batch) {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            // A bucket of the hash table holds more.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && room < 1 << 24 => {
                room *= 2;
                continue;
            }
            Err(error) => return Err(error),
        };
        let count = batch.count.min(room) as usize;
        let keys = keys.chunks_exact(size_of::<K>()).map(read::<K>);
        found.extend(keys.zip(values.chunks_exact(size_of::<V>()).map(read::<V>)).take(count));
        if ended || count == 0 || found.len() >= most {
            return Ok(found);
        }
        behind = Some(last);
    }
}

/// Reads a value that the kernel wrote.
fn read<T: Pod>(bytes: &[u8]) -> T {
    assert_eq!(bytes.len(), size_of::<T>());
    // SAFETY: any bytes are a `T`, there are enough, and they need not be aligned.
    unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) }
}
