//! The mounts of file systems of one type.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Returns the magic number (linux/magic.h) of the file system that a file is on.
pub(super) fn magic(file: &File) -> io::Result<u32> {
    // SAFETY: all zeroes is a value of this plain structure.
    let mut about: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open and `about` is writable.
    if unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut about) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // The field's type differs between machines; the magic number fits all of them.
    Ok(about.f_type as u32)
}

/// A mount of a file system.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: PathBuf,
    /// True if the file system's root is mounted, as this process sees it, and not a folder of it.
    pub(super) is_whole: bool,
}

/// Returns the mounts of file systems of a type, as the calling thread sees them. A mount above it
/// can hide one.
pub(super) fn all(kind: &str) -> anyhow::Result<Vec<Mount>> {
    let mountinfo = fs::read_to_string("/proc/thread-self/mountinfo").context("/proc/thread-self/mountinfo")?;
    Ok(all_in(&mountinfo, kind))
}

/// Returns the mount points of whole file systems of a type.
pub(super) fn roots(kind: &str) -> anyhow::Result<Vec<PathBuf>> {
    Ok(all(kind)?.into_iter().filter(|mount| mount.is_whole).map(|mount| mount.point).collect())
}

/// Returns the innermost of these mount points that the path is at or below.
pub(super) fn root_of(path: &Path, kind: &str) -> Option<PathBuf> {
    let above = roots(kind).ok()?.into_iter().filter(|root| path.starts_with(root));
    above.max_by_key(|root| root.as_os_str().len())
}

/// Reads a mountinfo (proc_pid_mountinfo(5)): field 4 is the mounted folder of the file system,
/// field 5 the mount point, and the type follows the hyphen.
fn all_in(mountinfo: &str, kind: &str) -> Vec<Mount> {
    let of_kind = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (file_system.split(' ').next()? == kind).then(|| Mount { point: unescape(point), is_whole: root == "/" })
    };
    mountinfo.lines().filter_map(of_kind).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_a_type_are_found_with_whether_they_are_whole() {
        let mountinfo = "\
            24 1 0:22 / /sys rw,relatime - sysfs sysfs rw\n\
            30 24 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n\
            31 24 0:27 / /sys/fs/cgroup/cpu rw shared:10 - cgroup cgroup rw,cpu\n\
            32 24 0:26 /system.slice /bound rw - cgroup2 cgroup2 rw\n\
            33 24 0:26 / /with\\040a\\134space rw - cgroup2 cgroup2 rw\n\
            34 24 0:28 / /sys/fs/bpf rw shared:11 - bpf bpf rw,mode=700\n\
            garbage\n";
        let mount = |point: &str, is_whole| Mount { point: point.into(), is_whole };
        let cgroups = [mount("/sys/fs/cgroup/unified", true), mount("/bound", false), mount("/with a\\space", true)];
        assert_eq!(all_in(mountinfo, "cgroup2"), cgroups);
        assert_eq!(all_in(mountinfo, "bpf"), [mount("/sys/fs/bpf", true)]);
    }
}
