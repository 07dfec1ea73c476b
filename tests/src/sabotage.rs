//! The harm that a careless root can do to bmpd's pinned BPF objects.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::DirBuilderExt},
    },
    path::{Path, PathBuf},
};

/// Commands of bpf(2), from `enum bpf_cmd` (linux/bpf.h).
const MAP_DELETE_ELEM: libc::c_long = 3;
const MAP_GET_NEXT_KEY: libc::c_long = 4;
const PROG_LOAD: libc::c_long = 5;
const OBJ_GET: libc::c_long = 7;
const PROG_ATTACH: libc::c_long = 8;
const LINK_UPDATE: libc::c_long = 29;
const LINK_DETACH: libc::c_long = 34;

/// Detaches a pinned link, as `bpftool link detach` does.
///
/// # Panics
/// If the kernel refuses.
pub fn detach(link: &Path) {
    bpf(LINK_DETACH, &mut open(link).as_raw_fd());
}

/// Replaces the program of a pinned link by one that passes everything. Its program type and attach
/// type must be those of the link (linux/bpf.h).
///
/// # Panics
/// If the kernel refuses.
pub fn replace(link: &Path, program_type: u32, attach_type: u32) {
    let (link, program) = (open(link), pass_all(program_type, attach_type));
    bpf(LINK_UPDATE, &mut [link.as_raw_fd(), program.as_raw_fd(), 0, 0]);
}

/// Attaches a program that passes everything to a hook of a cgroup, exclusively. It lives as long
/// as the cgroup.
///
/// # Panics
/// If the kernel refuses.
pub fn occupy(cgroup: &Path, program_type: u32, attach_type: u32) {
    let folder = fs::File::open(cgroup).unwrap_or_else(|e| panic!("{}: {e}", cgroup.display()));
    let program = pass_all(program_type, attach_type);
    bpf(PROG_ATTACH, &mut [folder.as_raw_fd().cast_unsigned(), program.as_raw_fd().cast_unsigned(), attach_type, 0]);
}

/// Attaches a program that denies everything to a hook of a cgroup, beside others. It lives as long
/// as the cgroup.
///
/// # Panics
/// If the kernel refuses.
pub fn deny_all(cgroup: &Path, program_type: u32, attach_type: u32) {
    /// `BPF_F_ALLOW_MULTI` (linux/bpf.h).
    const ALLOW_MULTI: u32 = 2;
    let folder = fs::File::open(cgroup).unwrap_or_else(|e| panic!("{}: {e}", cgroup.display()));
    let program = answer(0, program_type, attach_type);
    let (folder, program) = (folder.as_raw_fd().cast_unsigned(), program.as_raw_fd().cast_unsigned());
    bpf(PROG_ATTACH, &mut [folder, program, attach_type, ALLOW_MULTI]);
}

/// Deletes every entry of a pinned hash map with keys of `key_bytes` bytes, as `bpftool map delete`
/// does. Returns how many there were.
///
/// # Panics
/// If the kernel refuses.
pub fn empty(table: &Path, key_bytes: usize) -> usize {
    #[repr(C)]
    struct MapKeyAttributes {
        table: u64,
        key: u64,
        next_key: u64,
        flags: u64,
    }
    let table = open(table);
    let descriptor = u64::try_from(table.as_raw_fd()).expect("the map is open");
    let mut key = vec![0_u8; key_bytes];
    for count in 0.. {
        let mut first = MapKeyAttributes { table: descriptor, key: 0, next_key: key.as_mut_ptr() as u64, flags: 0 };
        match try_bpf(MAP_GET_NEXT_KEY, &mut first) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return count,
            Err(error) => panic!("cannot read the next key: {error}"),
            Ok(_) => {}
        }
        bpf(
            MAP_DELETE_ELEM,
            &mut MapKeyAttributes { table: descriptor, key: key.as_ptr() as u64, next_key: 0, flags: 0 },
        );
    }
    unreachable!("the loop returns at the last key")
}

/// The part of `union bpf_attr` for loading a program.
#[repr(C)]
#[derive(Default)]
struct ProgramLoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    attach_type: u32,
}

fn pass_all(program_type: u32, attach_type: u32) -> OwnedFd {
    answer(1, program_type, attach_type)
}

/// Loads the program `r0 = value; exit`.
fn answer(value: u8, program_type: u32, attach_type: u32) -> OwnedFd {
    let instructions: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, value, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let license = c"GPL";
    let mut load = ProgramLoadAttributes {
        program_type,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        attach_type,
        ..ProgramLoadAttributes::default()
    };
    let descriptor = bpf(PROG_LOAD, &mut load);
    // SAFETY: the kernel has just opened this descriptor for the caller.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn open(path: &Path) -> OwnedFd {
    #[repr(C)]
    struct PinnedObjectAttributes {
        path: u64,
        descriptor: i32,
        flags: u32,
    }
    let name = CString::new(path.as_os_str().as_bytes()).expect("a path has no NUL");
    let descriptor = bpf(OBJ_GET, &mut PinnedObjectAttributes { path: name.as_ptr() as u64, descriptor: 0, flags: 0 });
    // SAFETY: the kernel has just opened this descriptor for the caller.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn bpf<T>(command: libc::c_long, attributes: &mut T) -> i32 {
    try_bpf(command, attributes).unwrap_or_else(|error| panic!("bpf command {command}: {error}"))
}

fn try_bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: every caller passes the part of the union that its command reads, with its size.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    i32::try_from(result).ok().filter(|value| *value >= 0).ok_or_else(io::Error::last_os_error)
}

/// A test's own BPF file system, which the test may unmount. Dropping it unmounts it and removes
/// its folder.
#[derive(Debug)]
pub struct PrivateBpffs(PathBuf);

impl PrivateBpffs {
    /// Mounts a new BPF file system.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn new(name: &str) -> Self {
        let path = PathBuf::from(format!("/run/bmpd-lab-{name}-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let bpffs = Self(path);
        bpffs.mount();
        bpffs
    }

    /// Returns a folder in it.
    pub fn folder(&self) -> String {
        self.0.join("bmpd").to_str().expect("the path is made of ASCII").to_owned()
    }

    /// Mounts it again, empty.
    pub fn mount(&self) {
        let path = self.path();
        // SAFETY: the strings live through the call.
        let refused =
            unsafe { libc::mount(c"bpf".as_ptr(), path.as_ptr(), c"bpf".as_ptr(), 0, c"mode=0700".as_ptr().cast()) };
        assert_eq!(refused, 0, "mount: {}", io::Error::last_os_error());
    }

    /// Unmounts it, even while files in it are open.
    pub fn unmount(&self) {
        let path = self.path();
        // SAFETY: the string lives through the call.
        let refused = unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        assert_eq!(refused, 0, "umount: {}", io::Error::last_os_error());
    }

    fn path(&self) -> CString {
        CString::new(self.0.as_os_str().as_bytes()).expect("a path has no NUL")
    }
}

impl Drop for PrivateBpffs {
    fn drop(&mut self) {
        let path = self.path();
        // The last unmount removes its pins, and so detaches their links.
        // SAFETY: the string lives through the call.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        let _ = fs::remove_dir(&self.0);
    }
}
