//! Where the programs are attached: the root of the cgroup v2 hierarchy, under which every process of the host is.

use std::ffi::{CStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

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
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").context("/proc/thread-self/mountinfo")?;
    let seen = roots(&mounts).into_iter().filter_map(|path| folder(&path).ok());
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
    // SAFETY: all zeroes is a value of this plain structure.
    let mut about: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open and `about` is writable.
    if unsafe { libc::fstatfs(folder.as_raw_fd(), &raw mut about) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // The field's type differs between machines; the magic number fits all of them.
    Ok(about.f_type as u32 == CGROUP2_MAGIC)
}

/// The mount points of cgroup v2 roots in a mountinfo (proc_pid_mountinfo(5)): field 4 is the folder of the file system that is mounted,
/// field 5 where, and the file system's type follows the hyphen.
fn roots(mountinfo: &str) -> Vec<PathBuf> {
    let root = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (root == "/" && file_system.split(' ').next()? == "cgroup2").then(|| unescape(point))
    };
    mountinfo.lines().filter_map(root).collect()
}

/// Undoes the octal escapes of space, tab, newline and backslash.
fn unescape(field: &str) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after.get(..3).filter(|_| byte == b'\\');
        let escaped = escaped.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        path.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    OsString::from_vec(path).into()
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
    fn only_whole_cgroup_v2_file_systems_are_roots() {
        let mountinfo = "\
            24 1 0:22 / /sys rw,relatime - sysfs sysfs rw\n\
            30 24 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n\
            31 24 0:27 / /sys/fs/cgroup/cpu rw shared:10 - cgroup cgroup rw,cpu\n\
            32 24 0:26 /system.slice /bound rw - cgroup2 cgroup2 rw\n\
            33 24 0:26 / /with\\040a\\134space rw - cgroup2 cgroup2 rw\n\
            garbage\n";
        assert_eq!(roots(mountinfo), [Path::new("/sys/fs/cgroup/unified"), Path::new("/with a\\space")]);
    }

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
