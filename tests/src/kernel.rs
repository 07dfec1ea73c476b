//! BPF objects of a process, and cgroups for tests.

use std::{
    collections::BTreeSet,
    ffi::{CStr, CString},
    fs::{self, File},
    io::{self, Write as _},
    os::{fd::AsRawFd, unix::ffi::OsStringExt as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use aya::{
    maps::{Array, HashMap, Map, MapData, MapInfo, PerCpuArray, loaded_maps},
    programs::{loaded_links, loaded_programs},
};
use bmp_ebpf::{Counters, Pin, PinKey, table};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use crate::wait::{PATIENCE, until};

/// Identifiers of BPF objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BpfObjects {
    /// Programs.
    pub programs: BTreeSet<u32>,
    /// Maps.
    pub maps: BTreeSet<u32>,
    /// Links.
    pub links: BTreeSet<u32>,
}

impl BpfObjects {
    /// Returns the objects that a process has descriptors of.
    pub fn of(pid: u32) -> Self {
        let mut objects = Self::default();
        let folder = format!("/proc/{pid}/fdinfo");
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder}: {e}")).flatten() {
            // The descriptor may be closed by now; then the text is empty.
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let id = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name))?;
                line.trim().parse::<u32>().ok()
            };
            // A link names its program, which may have no other descriptor.
            match (id("link_id:"), id("prog_id:"), id("map_id:")) {
                (Some(link), program, _) => {
                    objects.links.insert(link);
                    objects.programs.extend(program);
                }
                (None, Some(program), _) => {
                    objects.programs.insert(program);
                }
                (None, None, map) => objects.maps.extend(map),
            }
        }
        objects
    }

    /// Returns the objects that the kernel still has.
    pub fn remaining(&self) -> Self {
        // An object that goes while the list is read causes an error, and is gone.
        let programs = loaded_programs().flatten().map(|program| program.id());
        let maps = loaded_maps().flatten().map(|map| map.id());
        let links = loaded_links().flatten().map(|link| link.id());
        Self {
            programs: programs.filter(|id| self.programs.contains(id)).collect(),
            maps: maps.filter(|id| self.maps.contains(id)).collect(),
            links: links.filter(|id| self.links.contains(id)).collect(),
        }
    }

    /// Waits until the kernel has freed all of them, some time after the last descriptor is closed.
    pub fn wait_gone(&self) {
        until(&format!("the kernel has freed {self:?}"), PATIENCE, || {
            (self.remaining() == Self::default()).then_some(())
        });
    }

    fn map(&self, name: &str) -> MapData {
        let named = |id: &u32| MapInfo::from_id(*id).is_ok_and(|info| info.name_as_str() == Some(name));
        let id = self.maps.iter().copied().find(named).unwrap_or_else(|| panic!("no map {name} among {self:?}"));
        MapData::from_id(id).unwrap_or_else(|e| panic!("map {name}: {e}"))
    }

    /// Opens the process's map of slots.
    pub fn slots(&self) -> Array<MapData, Pin> {
        Map::Array(self.map(table::SLOTS)).try_into().expect("SLOTS is an array of pins")
    }

    /// Opens the process's map of pins.
    pub fn pins(&self) -> HashMap<MapData, PinKey, u32> {
        Map::HashMap(self.map(table::PINS)).try_into().expect("PINS is a hash of pin keys")
    }

    /// Opens the process's map of counters.
    pub fn counters(&self) -> PerCpuArray<MapData, Counters> {
        Map::PerCpuArray(self.map(table::COUNTERS)).try_into().expect("COUNTERS is a per-CPU array")
    }
}

/// A test's own cgroup, to which only bmpd attaches programs. Dropping it removes the cgroup.
#[derive(Debug)]
pub struct TestCgroup(PathBuf);

impl TestCgroup {
    /// Makes a cgroup directly below the root of cgroup v2.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = mounts().swap_remove(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("bmpd-lab-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap_or_else(|e| panic!("cannot make {}: {e}", path.display()));
        Self(path)
    }

    /// Returns the path of the cgroup.
    pub fn path(&self) -> &str {
        self.0.to_str().expect("the path is made of ASCII")
    }

    /// Runs `work` while the whole process is in the cgroup. Sockets and programs that `work` makes
    /// stay in the cgroup. Older sockets keep theirs.
    ///
    /// # Errors
    /// If the process cannot be moved.
    pub fn within<R>(&self, work: impl FnOnce() -> R) -> io::Result<R> {
        let shown = fs::read_to_string("/proc/self/cgroup")?;
        let own = shown.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let root = self.0.parent().unwrap_or(&self.0);
        move_to(&self.0)?;
        let result = work();
        move_to(&root.join(own))?;
        Ok(result)
    }

    /// Moves a process into the cgroup.
    pub fn take(&self, pid: u32) {
        put(&self.0, pid).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Moves a process from the cgroup to the root.
    pub fn release(&self, pid: u32) {
        put(self.0.parent().expect("the cgroup is below the root"), pid).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Makes `command` start its program in the cgroup, and in a cgroup namespace with this root.
    /// With `alone`, its mounts show no other cgroup, as in a container.
    pub fn contain(&self, command: &mut Command, alone: bool) {
        let procs = File::options().write(true).open(self.0.join("cgroup.procs")).expect("root may open cgroup.procs");
        let mounts = mounts().into_iter();
        let mounts: Vec<_> =
            mounts.map(|mount| CString::new(mount.into_os_string().into_vec()).expect("a path has no NUL")).collect();
        // SAFETY: only system calls run between fork and exec, on values of the closure.
        unsafe {
            command.pre_exec(move || {
                (&procs).write_all(b"0")?;
                unshare(CloneFlags::CLONE_NEWCGROUP | CloneFlags::CLONE_NEWNS)?;
                let none: Option<&CStr> = None;
                mount(none, c"/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
                if alone {
                    mounts.iter().try_for_each(|point| umount2(point.as_c_str(), MntFlags::MNT_DETACH))?;
                    mount(none, mounts[0].as_c_str(), Some(c"cgroup2"), MsFlags::empty(), none)?;
                }
                Ok(())
            });
        }
    }

    /// Counts the attached programs of bmpd's attach types, with and without a link.
    pub fn attached(&self) -> usize {
        // enum bpf_attach_type: CGROUP_INET_INGRESS, _EGRESS, CGROUP_SOCK_OPS,
        // CGROUP_INET4_CONNECT, CGROUP_INET6_CONNECT
        [0, 1, 3, 10, 11].into_iter().map(|kind| query(&self.0, kind)).sum()
    }
}

impl Default for TestCgroup {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// A cgroup whose processes may take so much memory: of version 2, or of version 1 where that has
/// the memory controller. Dropping it removes the cgroup.
#[derive(Debug)]
pub struct MemoryCgroup {
    folder: PathBuf,
    /// The files of the most memory that was taken, and of the kills.
    peak: &'static str,
    events: &'static str,
}

impl MemoryCgroup {
    /// Makes a cgroup directly below the root. `None` if this host lets nobody limit memory.
    pub fn new(bytes: u64) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bmpd-lab-memory-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let root = mounts().swap_remove(0);
        // Refused where version 1 has the controller.
        let is_v2 = fs::write(root.join("cgroup.subtree_control"), "+memory").is_ok();
        let (root, limit, peak, events) = if is_v2 {
            (root, "memory.max", "memory.peak", "memory.events")
        } else {
            let v1 = ("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control");
            (PathBuf::from("/sys/fs/cgroup/memory"), v1.0, v1.1, v1.2)
        };
        let folder = root.join(name);
        fs::create_dir(&folder).ok()?;
        let cgroup = Self { folder, peak, events };
        fs::write(cgroup.folder.join(limit), bytes.to_string()).ok()?;
        Some(cgroup)
    }

    /// True if it is a cgroup of version 2.
    pub fn is_v2(&self) -> bool {
        self.peak == "memory.peak"
    }

    /// Makes `command` start its program in the cgroup.
    pub fn start(&self, command: &mut Command) {
        start_in(command, self.folder.to_str().expect("the path is made of ASCII"));
    }

    /// Returns the most bytes that its processes took at one time; `None` if the kernel does not
    /// say (before Linux 6.5).
    pub fn peak(&self) -> Option<u64> {
        fs::read_to_string(self.folder.join(self.peak)).ok()?.trim().parse().ok()
    }

    /// Returns how many processes the kernel killed for want of memory.
    pub fn kills(&self) -> u64 {
        let events = fs::read_to_string(self.folder.join(self.events)).expect("the cgroup has events");
        let killed = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        killed.and_then(|killed| killed.trim().parse().ok()).expect("kills are counted")
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Lists the mount points of cgroup v2.
fn mounts() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
    let mounts: Vec<_> = mounts.lines().filter_map(|line| mount_of(line, "cgroup2")).collect();
    assert!(!mounts.is_empty(), "cgroup v2 is not mounted");
    mounts
}

/// Makes `command` start its program in the cgroup, if that exists.
pub fn start_in(command: &mut Command, cgroup: &str) {
    let Ok(procs) = File::options().write(true).open(Path::new(cgroup).join("cgroup.procs")) else { return };
    // SAFETY: one system call runs between fork and exec, on a descriptor of the closure.
    unsafe {
        command.pre_exec(move || (&procs).write_all(b"0"));
    }
}

/// Moves this process into a cgroup.
fn move_to(cgroup: &Path) -> io::Result<()> {
    put(cgroup, std::process::id())
}

fn put(cgroup: &Path, pid: u32) -> io::Result<()> {
    let file = cgroup.join("cgroup.procs");
    fs::write(&file, pid.to_string())
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))
}

/// Counts the attached programs of an attach type by `BPF_PROG_QUERY` (bpf(2)).
fn query(cgroup: &Path, attach_type: u32) -> usize {
    #[repr(C)]
    #[derive(Default)]
    struct ProgramQuery {
        target_fd: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        prog_cnt: u32,
        reserved: [u32; 9],
    }
    const BPF_PROG_QUERY: libc::c_long = 16;
    let folder = File::open(cgroup).unwrap_or_else(|e| panic!("{}: {e}", cgroup.display()));
    let mut query =
        ProgramQuery { target_fd: folder.as_raw_fd().cast_unsigned(), attach_type, ..ProgramQuery::default() };
    // SAFETY: the structure is the query part of union bpf_attr, zeroed beyond it, with its size.
    // It asks for no array.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut query, size_of::<ProgramQuery>()) };
    assert_eq!(result, 0, "BPF_PROG_QUERY: {}", io::Error::last_os_error());
    query.prog_cnt as usize
}

/// Returns the mount point of a line in /proc/self/mounts, if its file system is of `kind`.
fn mount_of(line: &str, kind: &str) -> Option<PathBuf> {
    let mut words = line.split(' ');
    let target = words.nth(1)?;
    (words.next() == Some(kind)).then(|| target.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_bpf_has_no_objects() {
        assert_eq!(BpfObjects::of(std::process::id()), BpfObjects::default());
        BpfObjects::default().wait_gone();
    }

    #[test]
    fn a_process_is_in_the_cgroup_during_the_work_only() {
        let cgroup = TestCgroup::new();
        let own = || fs::read_to_string("/proc/self/cgroup").unwrap();
        let before = own();
        let meanwhile = cgroup.within(own).unwrap();
        let name = cgroup.0.file_name().unwrap().to_str().unwrap();
        assert!(meanwhile.contains(name), "{meanwhile}");
        assert_eq!(own(), before);
    }

    #[test]
    fn a_new_cgroup_has_no_attached_program() {
        let cgroup = TestCgroup::new();
        assert_eq!(cgroup.attached(), 0);
        let path = cgroup.path().to_owned();
        drop(cgroup);
        assert!(!Path::new(&path).exists());
    }
}
