//! Which process holds a socket, and a descriptor of bmpd's own for it.

use std::{
    collections::HashMap,
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
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

/// Returns the process that holds each of these sockets, by the numbers of their inodes
/// (proc_pid_fd(5)). Of several processes the first one counts.
///
/// A process that ends meanwhile, or that bmpd may not inspect, holds nothing.
pub(super) fn holders(inodes: &[u32]) -> HashMap<u32, SocketHolder> {
    let mut holders = HashMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for entry in processes {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        for descriptor in fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten() {
            let inode = inode_of(&descriptor.path());
            let number = descriptor.file_name().to_str().and_then(|name| name.parse().ok());
            if let (Some(inode), Some(descriptor)) = (inode, number)
                && inodes.contains(&inode)
            {
                holders.entry(inode).or_insert(SocketHolder { process, descriptor });
            }
        }
        if holders.len() == inodes.len() {
            break;
        }
    }
    holders
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
    let descriptor = |returned: libc::c_long| match libc::c_int::try_from(returned) {
        // SAFETY: the system call has just opened the descriptor, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: integers only.
    let process = descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, holder.process, 0) })?;
    // SAFETY: integers only, and the descriptor is open.
    let socket =
        descriptor(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), holder.descriptor, 0) })?;
    if SockRef::from(&socket).cookie()? != cookie {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the descriptor is of another socket by now"));
    }
    Ok(socket)
}
