//! Sockets as foreign processes make them, and a careless root takes them.

use std::{
    fs,
    io::{self, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::netns::Netns;

/// The bindings of a foreign process's socket, made before it connects.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForeignSocket<'a> {
    /// Source address to bind.
    pub source: Option<SocketAddr>,
    /// Interface to bind.
    pub device: Option<&'a str>,
}

impl ForeignSocket<'_> {
    /// Connects to `station` from `netns`, without privilege. An IPv4-mapped station makes an IPv6
    /// socket.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn connect(&self, netns: &Netns, station: SocketAddr) -> io::Result<TcpStream> {
        netns.enter_unprivileged(|| {
            let socket = Socket::new(Domain::for_address(station), Type::STREAM, None)?;
            if let Some(source) = self.source {
                socket.bind(&source.into())?;
            }
            if let Some(device) = self.device {
                socket.bind_device(Some(device.as_bytes()))?;
            }
            socket.connect_timeout(&station.into(), Duration::from_secs(3))?;
            Ok(socket.into())
        })
    }
}

/// `struct tcp_md5sig` (linux/tcp.h).
#[repr(C)]
struct Md5Signature {
    address: libc::sockaddr_storage,
    flags_and_prefix_length: [u8; 2],
    key_length: u16,
    interface: libc::c_int,
    key: [u8; 80],
}

/// Makes a socket sign its segments to `peer`, and accept only signed ones from there (TCP MD5, RFC
/// 2385).
///
/// # Panics
/// If the kernel cannot, or the secret is too long.
pub fn sign_with_md5(socket: &Socket, peer: IpAddr, secret: &str) {
    // SAFETY: zero is valid for every field.
    let mut option = unsafe { std::mem::zeroed::<Md5Signature>() };
    let peer = SockAddr::from(SocketAddr::new(peer, 0));
    // SAFETY: a socket address is plain bytes and never longer than its storage.
    unsafe {
        std::ptr::copy_nonoverlapping(
            peer.as_ptr().cast::<u8>(),
            (&raw mut option.address).cast::<u8>(),
            peer.len() as usize,
        );
    }
    option.key_length = u16::try_from(secret.len()).expect("a secret is short");
    option.key[..secret.len()].copy_from_slice(secret.as_bytes());
    // SAFETY: the kernel reads `option`, whose size is passed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_MD5SIG,
            (&raw const option).cast(),
            size_of::<Md5Signature>() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "TCP MD5: {}", io::Error::last_os_error());
}

/// Sends `messages` and closes the connection.
pub fn send_all(mut stream: TcpStream, messages: &[Vec<u8>]) {
    stream.write_all(&messages.concat()).expect("the station reads the messages");
}

/// Duplicates a process's TCP socket to `station`, as root can (`pidfd_getfd(2)`).
///
/// # Panics
/// If the process has no such socket.
pub fn take(pid: u32, station: SocketAddr) -> Socket {
    let pidfd = pidfd_open(pid).unwrap_or_else(|e| panic!("pidfd_open of {pid}: {e}"));
    let folder = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder}: {e}")).flatten();
    let sockets =
        entries.filter(|entry| fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:")));
    sockets
        .filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok())
        .filter_map(|fd| pidfd_getfd(&pidfd, fd).ok())
        .map(Socket::from)
        .find(|socket| socket.peer_addr().is_ok_and(|peer| peer.as_socket() == Some(station)))
        .unwrap_or_else(|| panic!("process {pid} has no socket to {station}"))
}

fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers, and its descriptor is new.
    unsafe { owned(libc::syscall(libc::SYS_pidfd_open, pid, 0)) }
}

fn pidfd_getfd(pidfd: &OwnedFd, fd: i32) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    // SAFETY: the call takes numbers, and its descriptor is new.
    unsafe { owned(libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0)) }
}

/// # Safety
/// `result` must come from a system call that returns a new descriptor.
unsafe fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(result) {
        // SAFETY: the caller guarantees a new descriptor.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests;
