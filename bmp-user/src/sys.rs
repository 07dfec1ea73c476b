//! System calls and C library functions that none of our libraries offers.

pub(crate) mod kernel_tls;
pub(crate) mod tcp_ao;

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    mem::{MaybeUninit, size_of},
    net::SocketAddr,
    os::{
        fd::{AsRawFd, RawFd},
        unix::{
            fs::{FileTypeExt as _, OpenOptionsExt as _},
            net::UnixDatagram,
        },
    },
    path::Path,
    time::Duration,
};

use socket2::{SockAddr, SockAddrStorage};
use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime as _, SystemTime},
};
use zeroize::Zeroize as _;

/// Returns the host name (hostname(7)), or `unknown`.
pub(crate) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

/// Returns the effective user id of this process (geteuid(2)).
pub(crate) fn user() -> u32 {
    // SAFETY: takes nothing and always succeeds.
    unsafe { libc::geteuid() }
}

/// Returns the effective group id of this process (getegid(2)).
pub(crate) fn group() -> u32 {
    // SAFETY: takes nothing and always succeeds.
    unsafe { libc::getegid() }
}

/// Returns the time of the clock as RFC 3339 writes it, in UTC. Empty for a clock before 1970.
pub(crate) fn time_in_utc() -> String {
    let mut time = String::new();
    // Only a clock before 1970 fails.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    time
}

/// Returns the time since the host started (clock_gettime(2), `CLOCK_MONOTONIC`).
pub(crate) fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec`. This clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Returns the cookie of the calling thread's network namespace (`SO_NETNS_COOKIE`,
/// asm-generic/socket.h). A cookie is unique since the host started.
pub(crate) fn netns_cookie() -> io::Result<u64> {
    /// Older C library headers lack this number.
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = UnixDatagram::unbound()?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the value is eight bytes, as `length` says, and the socket is open.
    let refused = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if refused == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// True if the calling thread's network namespace has an interface with this index
/// (if_indextoname(3)).
pub(crate) fn has_interface(index: u32) -> bool {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer has `IF_NAMESIZE` bytes, the longest that a name can be.
    !unsafe { libc::if_indextoname(index, name.as_mut_ptr()) }.is_null()
}

/// Returns the user id at the other end of a Unix socket (unix(7), `SO_PEERCRED`).
pub(crate) fn peer_user(socket: &impl AsRawFd) -> io::Result<u32> {
    Ok(peer_credentials(socket)?.uid)
}

/// Returns the process id at the other end of a Unix socket (unix(7), `SO_PEERCRED`).
pub(crate) fn peer_process(socket: &impl AsRawFd) -> io::Result<i32> {
    Ok(peer_credentials(socket)?.pid)
}

fn peer_credentials(socket: &impl AsRawFd) -> io::Result<libc::ucred> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `peer`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(peer) }
}

/// Returns the groups of the process at the other end of a Unix socket, its own group first
/// (unix(7), `SO_PEERCRED` and `SO_PEERGROUPS`).
pub(crate) fn peer_groups(socket: &impl AsRawFd) -> io::Result<Vec<u32>> {
    /// `NGROUPS_MAX` of linux/limits.h.
    const MOST: usize = 65_536;
    let mut groups = vec![0_u32; 64];
    loop {
        let mut length = libc::socklen_t::try_from(size_of_val(&*groups)).unwrap_or_default();
        // SAFETY: the kernel writes at most `length` bytes, which is the size of `groups`.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if result == 0 {
            groups.truncate(length as usize / size_of::<u32>());
            groups.insert(0, peer_credentials(socket)?.gid);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || groups.len() >= MOST {
            return Err(error);
        }
        groups.resize(MOST, 0);
    }
}

/// `SO_BINDTOIFINDEX` of asm-generic/socket.h, which the libc crate lacks.
const SO_BINDTOIFINDEX: libc::c_int = 62;

/// Binds a socket to the interface with this index. The socket then sends and receives through no
/// other (socket(7), `SO_BINDTODEVICE`).
pub(crate) fn bind_to_interface(socket: &impl AsRawFd, index: u32) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, SO_BINDTOIFINDEX, index as libc::c_int)
}

/// Marks the packets of a socket (socket(7), `SO_MARK`), so that a routing rule can match them.
pub(crate) fn set_mark(socket: &impl AsRawFd, mark: u32) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_MARK, mark.cast_signed())
}

/// Lets connect(2) choose the port of a socket that is bound to port 0 (ip(7),
/// `IP_BIND_ADDRESS_NO_PORT`). Sessions to different stations can then share a port.
pub(crate) fn bind_address_no_port(socket: &impl AsRawFd) -> io::Result<()> {
    set(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// Sets how many unsent bytes the kernel queues before the socket stops being writable (tcp(7),
/// `TCP_NOTSENT_LOWAT`).
pub(crate) fn set_not_sent_low_water(socket: &impl AsRawFd, bytes: u32) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, bytes as libc::c_int)
}

/// Limits the length of the segments that the socket sends, in bytes (tcp(7), `TCP_MAXSEG`).
pub(crate) fn set_maximum_segment(socket: &impl AsRawFd, bytes: u16) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_MAXSEG, bytes.into())
}

/// Sets how often the kernel repeats a SYN, or the SYN-ACK of a listener (tcp(7), `TCP_SYNCNT`).
pub(crate) fn set_syn_retries(socket: &impl AsRawFd, retries: u32) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_SYNCNT, retries.cast_signed())
}

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C)]
struct TcpMd5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: libc::c_int,
    key: [u8; MD5_KEY],
}

/// `TCP_MD5SIG_MAXKEYLEN` of linux/tcp.h.
const MD5_KEY: usize = 80;

/// Returns an address as the structures of linux/tcp.h have it.
fn kernel_address(address: SocketAddr) -> libc::sockaddr_storage {
    let address = SockAddr::from(address).as_storage();
    // SAFETY: both types have the same size and hold plain bytes: `SockAddrStorage` is the kernel's
    // `sockaddr_storage`.
    unsafe { std::mem::transmute_copy::<SockAddrStorage, libc::sockaddr_storage>(&address) }
}

/// Returns the seconds since 1970 in UTC; 0 for a clock before that.
pub(crate) fn unix_time() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Signs segments to an address and drops unsigned segments from it (tcp(7), `TCP_MD5SIG`; RFC
/// 2385). The port of the address is ignored.
///
/// # Errors
///
/// Fails if the secret has more than 80 bytes, or if the kernel lacks TCP MD5 or the process lacks
/// `CAP_NET_ADMIN`.
pub(crate) fn set_md5_secret(socket: &impl AsRawFd, address: SocketAddr, secret: &str) -> io::Result<()> {
    set_md5_option(socket, libc::TCP_MD5SIG, address, None, secret)
}

/// Does the same for every address of a scope (linux/tcp.h, `TCP_MD5SIG_EXT`).
///
/// # Errors
///
/// As for [`set_md5_secret`].
pub(crate) fn set_md5_secret_of(socket: &impl AsRawFd, scope: tcp_ao::KeyScope, secret: &str) -> io::Result<()> {
    /// The libc crate lacks it.
    const TCP_MD5SIG_EXT: libc::c_int = 32;
    let (address, prefix) = scope.prefix();
    set_md5_option(socket, TCP_MD5SIG_EXT, address, Some(prefix), secret)
}

fn set_md5_option(
    socket: &impl AsRawFd,
    option_name: libc::c_int,
    address: SocketAddr,
    prefix: Option<u8>,
    secret: &str,
) -> io::Result<()> {
    /// `TCP_MD5SIG_FLAG_PREFIX` of linux/tcp.h.
    const PREFIX: u8 = 1;
    let length = u16::try_from(secret.len()).unwrap_or_default();
    let (flags, prefix_length) = (if prefix.is_some() { PREFIX } else { 0 }, prefix.unwrap_or_default());
    let address = kernel_address(address);
    let mut option = TcpMd5Sig { address, flags, prefix_length, key_length: length, interface: 0, key: [0; MD5_KEY] };
    let place = option.key.get_mut(..secret.len()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    place.copy_from_slice(secret.as_bytes());
    // SAFETY: the kernel reads `option`, whose size is passed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option_name,
            (&raw const option).cast(),
            size_of::<TcpMd5Sig>() as libc::socklen_t,
        )
    };
    let result = if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    option.key.zeroize();
    result
}

/// How far a TCP connection has got (`struct tcp_info` of linux/tcp.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpProgress {
    /// Segments sent and not acknowledged.
    pub(crate) unacknowledged: u32,
    /// Window or keepalive probes without an answer.
    pub(crate) probes: u8,
    /// Time since the last acknowledgement arrived.
    pub(crate) last_ack: Duration,
    /// Segments sent again since the connection opened.
    pub(crate) retransmits: u32,
}

/// Signs of life from the far end of a TCP connection, as the kernel knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpPresence {
    /// True if neither end has closed the connection.
    pub(crate) is_established: bool,
    /// Time since the last segment arrived.
    pub(crate) last_heard: Duration,
    /// Bytes received and not yet read.
    pub(crate) unread: usize,
}

/// Asks the kernel for signs of life from the far end of a connection.
pub(crate) fn tcp_presence(socket: &impl AsRawFd) -> io::Result<TcpPresence> {
    /// `TCP_ESTABLISHED` of net/tcp_states.h.
    const ESTABLISHED: u8 = 1;
    let info = tcp_info(socket)?;
    let mut unread: libc::c_int = 0;
    // SAFETY: `FIONREAD` writes one `int`.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut unread) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(TcpPresence {
        is_established: info.tcpi_state == ESTABLISHED,
        last_heard: Duration::from_millis(info.tcpi_last_ack_recv.min(info.tcpi_last_data_recv).into()),
        unread: unread.max(0) as usize,
    })
}

/// Asks the kernel how far a connection has got.
pub(crate) fn tcp_progress(socket: &impl AsRawFd) -> io::Result<TcpProgress> {
    let info = tcp_info(socket)?;
    Ok(TcpProgress {
        unacknowledged: info.tcpi_unacked,
        probes: info.tcpi_probes,
        last_ack: Duration::from_millis(info.tcpi_last_ack_recv.into()),
        retransmits: info.tcpi_total_retrans,
    })
}

fn tcp_info(socket: &impl AsRawFd) -> io::Result<libc::tcp_info> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `info`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `tcp_info` holds only integers. Fields that an older kernel does not write stay zero.
    Ok(unsafe { info.assume_init() })
}

/// Returns the bytes in the send queue that the far end has not acknowledged, sent or unsent
/// (tcp(7), `SIOCOUTQ`).
pub(crate) fn send_queue(socket: &impl AsRawFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: `TIOCOUTQ`, which is `SIOCOUTQ`, writes one `int`.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(bytes.max(0) as usize) }
}

/// Makes glibc use one heap for all threads (mallopt(3), `M_ARENA_MAX`). Call it before the first
/// thread starts.
///
/// A block returns to the heap that it came from, whichever thread frees it. One thread allocates
/// the blocks of the journal and others free them. With several heaps, the process would hold a
/// multiple of the journal's size.
pub(crate) fn one_heap() {
    // SAFETY: the function takes two numbers, and no other thread runs yet.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives the free memory of the heap back to the kernel (malloc_trim(3)). Whoever allocates waits
/// meanwhile, so call it only after much memory was freed.
pub(crate) fn trim_heap() {
    // SAFETY: the function takes a number, and may be called from any thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Returns the clock ticks of a second, in which proc(5) counts (sysconf(3), `_SC_CLK_TCK`).
pub(crate) fn clock_ticks() -> f64 {
    // SAFETY: the function takes a number and returns one.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) as f64 }
}

/// Returns the size of a page of memory in bytes.
pub(crate) fn page_size() -> f64 {
    // SAFETY: the function takes a number and returns one.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as f64 }
}

/// Raises the limit of open files to its hard limit (getrlimit(2), `RLIMIT_NOFILE`). Every session,
/// client of a relay and operator takes one descriptor.
pub(crate) fn raise_file_limit() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit`.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel reads one `rlimit`.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Returns how many files this process may open (getrlimit(2), `RLIMIT_NOFILE`).
pub(crate) fn file_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit`.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return 0;
    }
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

/// Opens a regular file for reading. Never blocks on a file of another type.
///
/// # Errors
///
/// Fails if the file cannot be opened, or is a folder, a FIFO, a socket or a device.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    // Without O_NONBLOCK, opening a FIFO would block until a writer opens it.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let file = match file {
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return Err(not_regular("a socket or a device")),
        opened => opened?,
    };
    let kind = file.metadata()?.file_type();
    let what = if kind.is_file() {
        return Ok(file);
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a FIFO"
    } else {
        "a device"
    };
    Err(not_regular(what))
}

fn not_regular(what: &str) -> io::Error {
    let kind = if what == "a folder" { io::ErrorKind::IsADirectory } else { io::ErrorKind::InvalidInput };
    io::Error::new(kind, format!("it is {what}, and not a regular file"))
}

/// Reads a regular file of at most `largest` bytes as text; see [`open_regular`].
pub(crate) fn read_regular(path: &Path, largest: u64) -> io::Result<String> {
    let mut text = String::new();
    open_regular(path)?.take(largest + 1).read_to_string(&mut text)?;
    if text.len() as u64 > largest {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {largest} bytes")));
    }
    Ok(text)
}

/// Blocks until a descriptor is writable or has failed (poll(2)).
pub(crate) fn wait_writable(descriptor: RawFd) -> io::Result<()> {
    let mut poll = libc::pollfd { fd: descriptor, events: libc::POLLOUT, revents: 0 };
    // SAFETY: the kernel reads and writes one `pollfd`.
    if unsafe { libc::poll(&raw mut poll, 1, -1) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Asks the kernel to back memory with huge pages (madvise(2), `MADV_HUGEPAGE`). Random access then
/// needs fewer TLB entries. Call it before the first write. A kernel without huge pages ignores the
/// request.
pub(crate) fn prefer_huge_pages<T>(memory: &mut [MaybeUninit<T>]) {
    const HUGE: usize = 2 << 20;
    let bytes = memory.as_mut_ptr_range();
    let (start, end) = (bytes.start.addr().next_multiple_of(HUGE), bytes.end.addr() & !(HUGE - 1));
    if start < end {
        // SAFETY: the range lies within the caller's memory, and `MADV_HUGEPAGE` does not change
        // its contents.
        unsafe { libc::madvise(bytes.start.cast::<libc::c_void>().with_addr(start), end - start, libc::MADV_HUGEPAGE) };
    }
}

fn set(socket: &impl AsRawFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the option value is an `int`, and its size is passed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Returns the name of the user with this id, if this host knows one. May block.
pub(crate) fn user_name(uid: u32) -> Option<String> {
    nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.name)
}

/// Returns user id and group id of the user with this name, if this host knows one. May block.
pub(crate) fn user_named(name: &str) -> Option<(u32, u32)> {
    let user = nix::unistd::User::from_name(name).ok().flatten()?;
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

/// Returns the id of the group with this name, if this host knows one. May block.
pub(crate) fn group_named(name: &str) -> Option<u32> {
    Some(nix::unistd::Group::from_name(name).ok().flatten()?.gid.as_raw())
}

#[cfg(test)]
mod tests {
    use std::{ffi::CString, fs, os::unix::ffi::OsStrExt as _};

    use super::*;

    #[test]
    fn a_path_that_is_no_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        let name = CString::new(fifo.as_os_str().as_bytes()).unwrap();
        // SAFETY: the name ends with a zero byte.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        for (path, what) in
            [(fifo.as_path(), "a FIFO"), (folder.path(), "a folder"), (Path::new("/dev/zero"), "a device")]
        {
            let refused = open_regular(path).unwrap_err().to_string();
            assert_eq!(refused, format!("it is {what}, and not a regular file"));
        }
    }

    #[test]
    fn a_file_over_the_limit_is_refused_and_not_cut() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "12345").unwrap();
        assert_eq!(read_regular(file.path(), 5).unwrap(), "12345");
        assert_eq!(read_regular(file.path(), 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
