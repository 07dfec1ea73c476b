//! Where the programs are attached: the root of the cgroup v2 hierarchy, under which every process of the host is.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context as _, bail};

use super::mounts;

/// `CGROUP2_SUPER_MAGIC` (linux/magic.h).
const CGROUP2_MAGIC: u32 = 0x6367_7270;

/// Opens the folder to attach to: the one given; else the root that this process sees; else that of a mount that nobody else sees and
/// that goes when the programs are attached.
pub(super) fn open(given: Option<&Path>) -> anyhow::Result<File> {
    if let Some(path) = given {
        let folder = folder(path).with_context(|| format!("--cgroup {}", path.display()))?;
        if !is_cgroup2(&folder)? {
            bail!(
                "--cgroup {}: not a folder of a cgroup v2 file system (`mount -t cgroup2` lists them)",
                path.display()
            );
        }
        return Ok(folder);
    }
    // A mount can be hidden by one above it: what opens there is then something else.
    let seen = mounts::roots("cgroup2")?.into_iter().filter_map(|path| folder(&path).ok());
    for folder in seen {
        if is_cgroup2(&folder)? {
            return Ok(folder);
        }
    }
    mount().context(
        "no cgroup v2 root is mounted here and bmpd cannot mount one for itself: mount it (`mount -t cgroup2 none /sys/fs/cgroup`) or \
         name it with --cgroup",
    )
}

fn folder(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)
}

fn is_cgroup2(folder: &File) -> io::Result<bool> {
    Ok(mounts::magic(folder)? == CGROUP2_MAGIC)
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
