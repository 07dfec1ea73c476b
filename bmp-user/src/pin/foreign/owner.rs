//! Whose a socket is, and getting at it.

use std::{
    collections::HashMap,
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::Path,
};

use socket2::SockRef;

use crate::escape::Untrusted;

/// A process that holds a socket, and by which descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) process: u32,
    descriptor: RawFd,
}

/// Which process holds which of these sockets, by the numbers of their inodes (proc_pid_fd(5)). Of several the first.
///
/// One that ends meanwhile, or that bmpd may not look at, owns nothing.
pub(super) fn owners(inodes: &[u32]) -> HashMap<u32, Owner> {
    let mut owners = HashMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for entry in processes {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        for descriptor in fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten() {
            let inode = inode_of(&descriptor.path());
            let number = descriptor.file_name().to_str().and_then(|name| name.parse().ok());
            if let (Some(inode), Some(descriptor)) = (inode, number)
                && inodes.contains(&inode)
            {
                owners.entry(inode).or_insert(Owner { process, descriptor });
            }
        }
        if owners.len() == inodes.len() {
            break;
        }
    }
    owners
}

/// The inode of the socket that an entry of /proc/PID/fd leads to, if it is one.
pub(super) fn inode_of(descriptor: &Path) -> Option<u32> {
    fs::read_link(descriptor).ok()?.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// What a process calls itself (proc_pid_comm(5)).
pub(crate) fn name_of(process: u32) -> Option<Untrusted> {
    let name = fs::read(format!("/proc/{process}/comm")).ok()?;
    // The kernel ends it with a line end; one before that is the process's own.
    Some(Untrusted::new(String::from_utf8_lossy(name.strip_suffix(b"\n").unwrap_or(&name))))
}

/// A descriptor of our own for another process's socket, if it still is the one with this cookie (pidfd_getfd(2)).
pub(super) fn socket_of(owner: Owner, cookie: u64) -> io::Result<OwnedFd> {
    let descriptor = |returned: libc::c_long| match libc::c_int::try_from(returned) {
        // SAFETY: the system call has just opened it, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: integers only.
    let process = descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, owner.process, 0) })?;
    // SAFETY: integers only, and the descriptor is open.
    let socket = descriptor(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), owner.descriptor, 0) })?;
    if SockRef::from(&socket).cookie()? != cookie {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the descriptor is of another socket by now"));
    }
    Ok(socket)
}
