//! The cgroup that the programs are attached to: the root of the host's cgroup v2 hierarchy, which
//! holds every process. Where bmpd cannot have that, a cgroup that bmpd itself is in. Then the
//! programs hold no process outside of it.

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

/// Inode of the hierarchy's root (`KERNFS_ROOT_INO` of fs/kernfs). The root of a cgroup namespace
/// has another.
const HOST_ROOT: u64 = 1;

/// The processes of which the programs see the sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Every process of the host.
    Host,
    /// The processes in one cgroup, with bmpd.
    Cgroup {
        /// Which cgroup, and what is not held, in words.
        why: String,
    },
}

/// A folder to attach to.
#[derive(Debug)]
pub(super) struct Cgroup {
    pub(super) folder: File,
    pub(super) scope: Scope,
}

/// Opens the folder to attach to: the given one, or the host's root where it is mounted or bmpd can
/// mount it for itself, or the root that this process sees.
///
/// # Errors
///
/// There is none, or bmpd is not in it, so that its own sessions would not be held.
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
    // A mount above it can hide one: then another file system opens.
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

/// True if this process is in the cgroup or below it.
///
/// It reads the kernel's list of processes. A path of /proc/self/cgroup may be one of another
/// cgroup namespace than the folder's.
fn holds_this_process(cgroup: &File) -> io::Result<bool> {
    let own = std::process::id();
    let mut folders = vec![PathBuf::from(format!("/proc/thread-self/fd/{}", cgroup.as_raw_fd()))];
    while let Some(folder) = folders.pop() {
        // A threaded cgroup lists threads alone. The first thread has the process's id.
        let listed = ["cgroup.procs", "cgroup.threads"].map(|name| fs::read_to_string(folder.join(name)));
        if listed.iter().flatten().any(|list| list.lines().any(|line| line.parse() == Ok(own))) {
            return Ok(true);
        }
        // A cgroup that was removed meanwhile holds nobody.
        let below = fs::read_dir(&folder).into_iter().flatten().flatten();
        folders
            .extend(below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()));
    }
    Ok(false)
}

/// Mounts cgroup v2 without a mount point (fsopen(2), fsmount(2)). The mount goes with its
/// descriptor.
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
    // The mount's own descriptor names a place only (O_PATH). Programs are attached to the folder.
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
