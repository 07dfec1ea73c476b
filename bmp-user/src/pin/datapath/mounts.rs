//! Where file systems of a kind are mounted.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use anyhow::Context as _;

/// What the file system that a file is on calls itself (linux/magic.h).
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

/// The mount points, as the calling thread sees them, of whole file systems of a type. One can be hidden by a mount above it.
pub(super) fn roots(kind: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mountinfo = fs::read_to_string("/proc/thread-self/mountinfo").context("/proc/thread-self/mountinfo")?;
    Ok(roots_in(&mountinfo, kind))
}

/// In a mountinfo (proc_pid_mountinfo(5)) field 4 is the folder of the file system that is mounted, field 5 where, and the file
/// system's type follows the hyphen.
fn roots_in(mountinfo: &str, kind: &str) -> Vec<PathBuf> {
    let root = |line: &str| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (root == "/" && file_system.split(' ').next()? == kind).then(|| unescape(point))
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn only_whole_file_systems_of_the_type_are_roots() {
        let mountinfo = "\
            24 1 0:22 / /sys rw,relatime - sysfs sysfs rw\n\
            30 24 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n\
            31 24 0:27 / /sys/fs/cgroup/cpu rw shared:10 - cgroup cgroup rw,cpu\n\
            32 24 0:26 /system.slice /bound rw - cgroup2 cgroup2 rw\n\
            33 24 0:26 / /with\\040a\\134space rw - cgroup2 cgroup2 rw\n\
            34 24 0:28 / /sys/fs/bpf rw shared:11 - bpf bpf rw,mode=700\n\
            garbage\n";
        assert_eq!(roots_in(mountinfo, "cgroup2"), [Path::new("/sys/fs/cgroup/unified"), Path::new("/with a\\space")]);
        assert_eq!(roots_in(mountinfo, "bpf"), [Path::new("/sys/fs/bpf")]);
    }
}
