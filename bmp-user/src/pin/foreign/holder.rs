//! Which process holds a socket, and a descriptor of bmpd's own for it.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::Path,
};

use socket2::SockRef;

use crate::escape::Untrusted;

/// A process that holds a socket, and its descriptor for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketHolder {
    pub(super) process: u32,
    descriptor: RawFd,
}

/// The most descriptors of a process that are copied to find a socket among them.
const COPIES_MAX: RawFd = 1 << 16;

/// Returns the process that holds each of these sockets, by the numbers of their inodes
/// (proc_pid_fd(5)). Of several processes the first one counts.
///
/// A process that ends meanwhile, or that bmpd may not inspect, holds nothing.
pub(super) fn holders(inodes: &[u32]) -> HashMap<u32, SocketHolder> {
    let mut holders = HashMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for entry in processes {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let found = match fs::read_dir(entry.path().join("fd")) {
            Ok(descriptors) => descriptors
                .flatten()
                .filter_map(|entry| Some((inode_of(&entry.path())?, entry.file_name().to_str()?.parse().ok()?)))
                .collect(),
            // The folder is open to its user and to root. CAP_SYS_PTRACE is for copies.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => sockets_by_copies(process),
            Err(_) => Vec::new(),
        };
        for (inode, descriptor) in found.into_iter().filter(|(inode, _)| inodes.contains(inode)) {
            holders.entry(inode).or_insert(SocketHolder { process, descriptor });
        }
        if holders.len() == inodes.len() {
            break;
        }
    }
    holders
}

/// Returns inode and descriptor of each socket of a process, by a copy of each of its descriptors.
/// Empty if bmpd may not take copies.
fn sockets_by_copies(process: u32) -> Vec<(u32, RawFd)> {
    let Ok(opened) = open_process(process) else { return Vec::new() };
    let mut sockets = Vec::new();
    for descriptor in 0..descriptor_slots(process).min(COPIES_MAX) {
        match copy_of(&opened, descriptor).map(File::from) {
            Ok(copy) => {
                let metadata = copy.metadata().ok().filter(|metadata| metadata.file_type().is_socket());
                sockets.extend(metadata.and_then(|metadata| Some((metadata.ino().try_into().ok()?, descriptor))));
            }
            // Nothing is open there.
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => {}
            Err(_) => break,
        }
    }
    sockets
}

/// Returns the size of a process's table of descriptors (`FDSize` of proc_pid_status(5)).
fn descriptor_slots(process: u32) -> RawFd {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")?.trim().parse().ok());
    size.unwrap_or_default()
}

/// Returns the inode of the socket that an entry of /proc/PID/fd leads to, if it is a socket.
pub(super) fn inode_of(descriptor: &Path) -> Option<u32> {
    fs::read_link(descriptor).ok()?.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Returns the name that a process gives itself (proc_pid_comm(5)).
pub(crate) fn name_of(process: u32) -> Option<Untrusted> {
    let name = fs::read(format!("/proc/{process}/comm")).ok()?;
    // The kernel ends the name with one line feed. Any other is the process's own.
    Some(Untrusted::new(String::from_utf8_lossy(name.strip_suffix(b"\n").unwrap_or(&name))))
}

/// Returns a descriptor of bmpd's own for another process's socket (pidfd_getfd(2)).
///
/// # Errors
///
/// The descriptor leads to a socket with another cookie by now (`NotFound`), the process is gone
/// (`ESRCH`), or bmpd may not inspect it.
pub(super) fn socket_of(holder: SocketHolder, cookie: u64) -> io::Result<OwnedFd> {
    let socket = copy_of(&open_process(holder.process)?, holder.descriptor)?;
    if SockRef::from(&socket).cookie()? != cookie {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the descriptor is of another socket by now"));
    }
    Ok(socket)
}

fn open_process(process: u32) -> io::Result<OwnedFd> {
    // SAFETY: integers only.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) })
}

fn copy_of(process: &OwnedFd, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: integers only, and the descriptor of the process is open.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })
}

/// Owns the descriptor that a system call has just opened.
fn descriptor(returned: libc::c_long) -> io::Result<OwnedFd> {
    match libc::c_int::try_from(returned) {
        // SAFETY: the system call has just opened the descriptor, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_socket_is_found_by_copies_as_by_the_folder_of_its_process() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = Path::new("/proc/self/fd").join(socket.as_raw_fd().to_string());
        let inode = inode_of(&own).unwrap();
        let expected = SocketHolder { process: std::process::id(), descriptor: socket.as_raw_fd() };
        assert_eq!(holders(&[inode]).get(&inode), Some(&expected));
        assert!(sockets_by_copies(std::process::id()).contains(&(inode, socket.as_raw_fd())));
    }
}
