//! Where the programs are attached: the root of the host's cgroup v2 hierarchy, under which every process is. Where that cannot be had, a
//! cgroup that bmpd itself is in; then processes outside of it are not held.

use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::mounts;

/// `CGROUP2_SUPER_MAGIC` (linux/magic.h).
const CGROUP2_MAGIC: u32 = 0x6367_7270;

/// The inode of the folder of the hierarchy's root (`KERNFS_ROOT_INO` of fs/kernfs). What a cgroup namespace shows as its root has another.
const HOST_ROOT: u64 = 1;

/// Whose sockets the programs see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Those of every process of the host.
    Host,
    /// Those of the processes in one cgroup, bmpd among them.
    Cgroup {
        /// Which one, and what would be seen of the whole host, in words.
        why: String,
    },
}

/// A folder to attach to.
#[derive(Debug)]
pub(super) struct Cgroup {
    pub(super) folder: File,
    pub(super) scope: Scope,
}

/// Opens the folder to attach to: the one given; else the host's root, where it is mounted or bmpd can mount it where nobody else sees it; else what
/// this process sees as the root.
///
/// # Errors
///
/// There is none, or bmpd is not in it: its own sessions would not be held.
pub(super) fn open(given: Option<&Path>) -> anyhow::Result<Cgroup> {
    match given {
        Some(path) => named(path),
        None => found(),
    }
}

fn named(path: &Path) -> anyhow::Result<Cgroup> {
    let folder = folder(path).with_context(|| format!("--cgroup {}", path.display()))?;
    if !is_cgroup2(&folder)? {
        bail!("--cgroup {}: not a folder of a cgroup v2 file system (`mount -t cgroup2` lists them)", path.display());
    }
    if is_host_root(&folder)? {
        return Ok(Cgroup { folder, scope: Scope::Host });
    }
    if !holds_this_process(&folder).with_context(|| format!("--cgroup {}", path.display()))? {
        bail!(
            "--cgroup {0}: bmpd itself is not in this cgroup, so that its own sessions would not be held: start it there \
             (`echo $$ > {0}/cgroup.procs` in the shell that starts it), or leave --cgroup out",
            path.display()
        );
    }
    let why = format!("processes outside of --cgroup {} are neither held nor counted", path.display());
    Ok(Cgroup { folder, scope: Scope::Cgroup { why } })
}

fn found() -> anyhow::Result<Cgroup> {
    let mut roots = Vec::new();
    // A mount can be hidden by one above it: what opens there is then something else.
    for mount in mounts::all("cgroup2")? {
        let Ok(folder) = folder(&mount.point) else { continue };
        if !is_cgroup2(&folder)? {
            continue;
        }
        if is_host_root(&folder)? {
            return Ok(Cgroup { folder, scope: Scope::Host });
        }
        if mount.is_whole {
            roots.push((folder, mount.point.display().to_string()));
        }
    }
    match mount() {
        Ok(folder) if is_host_root(&folder)? => return Ok(Cgroup { folder, scope: Scope::Host }),
        Ok(folder) => roots.push((folder, "what bmpd can mount".to_owned())),
        Err(error) if roots.is_empty() => {
            return Err(error).context(
                "no cgroup v2 root is mounted here and bmpd cannot mount one for itself: mount it (`mount -t cgroup2 none /sys/fs/cgroup`) or \
                 name it with --cgroup",
            );
        }
        Err(_) => {}
    }
    let (folder, place) = roots.swap_remove(0);
    if !holds_this_process(&folder)? {
        bail!(
            "{place} is the root of a cgroup namespace that bmpd is not in: mount the host's cgroup v2 hierarchy and name it with --cgroup"
        );
    }
    let why = format!(
        "{place} is the root of a cgroup namespace and not the host's: processes outside of it are neither held nor counted \
         (a container sees the host's with `--cgroupns=host -v /sys/fs/cgroup:/sys/fs/cgroup`)"
    );
    Ok(Cgroup { folder, scope: Scope::Cgroup { why } })
}

fn folder(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)
}

fn is_cgroup2(folder: &File) -> io::Result<bool> {
    Ok(mounts::magic(folder)? == CGROUP2_MAGIC)
}

fn is_host_root(folder: &File) -> io::Result<bool> {
    Ok(folder.metadata()?.ino() == HOST_ROOT)
}

/// Whether this process is in a cgroup or in one below it.
///
/// The kernel lists processes; a path of /proc/self/cgroup would be one of another cgroup namespace where the folder comes from there.
fn holds_this_process(cgroup: &File) -> io::Result<bool> {
    let own = std::process::id();
    let mut folders = vec![PathBuf::from(format!("/proc/thread-self/fd/{}", cgroup.as_raw_fd()))];
    while let Some(folder) = folders.pop() {
        // In a threaded cgroup there are threads alone, the first of them with the process's number.
        let listed = ["cgroup.procs", "cgroup.threads"].map(|name| fs::read_to_string(folder.join(name)));
        if listed.iter().flatten().any(|list| list.lines().any(|line| line.parse() == Ok(own))) {
            return Ok(true);
        }
        // One that is removed meanwhile holds nobody.
        let below = fs::read_dir(&folder).into_iter().flatten().flatten();
        folders
            .extend(below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()));
    }
    Ok(false)
}

/// Mounts cgroup v2 nowhere (fsopen(2), fsmount(2)): the mount has no place in the file tree and goes with its descriptor.
fn mount() -> io::Result<File> {
    /// `FSOPEN_CLOEXEC`, `FSCONFIG_CMD_CREATE`, `FSMOUNT_CLOEXEC` (linux/mount.h).
    const CLOEXEC: libc::c_long = 1;
    const CREATE: libc::c_long = 6;
    const NONE: libc::c_long = 0;

    let descriptor = |returned: libc::c_long| match libc::c_int::try_from(returned) {
        // SAFETY: the system call has just opened it, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    };
    let name: &CStr = c"cgroup2";
    // SAFETY: `name` is a string that lives through the call.
    let context = descriptor(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), CLOEXEC) })?;
    // SAFETY: this command takes neither key nor value.
    if unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), CREATE, NONE, NONE, NONE) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: integers only.
    let mount = descriptor(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOEXEC, NONE) })?;
    // The mount's own descriptor is only a place (O_PATH); the folder is what programs are attached to.
    folder(Path::new(&format!("/proc/thread-self/fd/{}", mount.as_raw_fd())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_cgroup_v2_is_refused_by_name() {
        let error = open(Some(Path::new("/proc"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--cgroup /proc: not a folder of a cgroup v2 file system (`mount -t cgroup2` lists them)"
        );
        let error = open(Some(Path::new("/nowhere/at/all"))).unwrap_err();
        assert_eq!(format!("{error:#}"), "--cgroup /nowhere/at/all: No such file or directory (os error 2)");
    }
}
