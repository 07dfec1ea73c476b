//! TCP-AO (RFC 5925) as Linux 6.7 and newer have it: keys of a socket, and what it has counted
//! (linux/tcp.h; Documentation/networking/tcp_ao.rst of the kernel).

use std::{
    io,
    mem::{MaybeUninit, size_of},
    net::SocketAddr,
    os::fd::AsRawFd,
};

use socket2::{Domain, Protocol, Socket, Type};
use zeroize::Zeroize as _;

use super::kernel_address;

/// Options of `IPPROTO_TCP`, which the libc crate lacks.
const ADD_KEY: libc::c_int = 38;
const DELETE_KEY: libc::c_int = 39;
const INFO: libc::c_int = 40;
const GET_KEYS: libc::c_int = 41;

/// `TCP_AO_MAXKEYLEN`.
const LONGEST_SECRET: usize = 80;

/// The length of each MAC in bytes (RFC 5926 §3.2).
const MAC_LENGTH: u8 = 12;

/// The place of a field of one bit, counted from the first.
const fn bit(number: u32) -> u32 {
    if cfg!(target_endian = "big") { 1 << (31 - number) } else { 1 << number }
}

/// `set_current` and `set_rnext` of the structures below.
const SET_CURRENT: u32 = bit(0);
const SET_NEXT: u32 = bit(1);
/// `del_async` of `struct tcp_ao_del`.
const DELETE_FROM_LISTENER: u32 = bit(2);
/// `get_all` of `struct tcp_ao_getsockopt`, whose field of bits has 16.
const GET_ALL: u16 = if cfg!(target_endian = "big") { 1 << 13 } else { 1 << 2 };

/// `struct tcp_ao_add`.
#[repr(C, align(8))]
struct TcpAoAdd {
    address: libc::sockaddr_storage,
    algorithm: [u8; 64],
    interface: i32,
    flags: u32,
    reserved: u16,
    prefix: u8,
    send_id: u8,
    receive_id: u8,
    mac_length: u8,
    key_flags: u8,
    key_length: u8,
    key: [u8; LONGEST_SECRET],
}

/// `struct tcp_ao_del`.
#[repr(C, align(8))]
struct TcpAoDel {
    address: libc::sockaddr_storage,
    interface: i32,
    flags: u32,
    reserved: u16,
    prefix: u8,
    send_id: u8,
    receive_id: u8,
    current: u8,
    next: u8,
    key_flags: u8,
}

/// `struct tcp_ao_info_opt`.
#[repr(C, align(8))]
#[derive(Clone, Copy, Default)]
struct TcpAoInfoOpt {
    flags: u32,
    reserved: u16,
    current: u8,
    next: u8,
    good: u64,
    bad: u64,
    key_not_found: u64,
    unsigned: u64,
    dropped_icmps: u64,
}

/// `struct tcp_ao_getsockopt`.
#[repr(C, align(8))]
struct TcpAoGetKeys {
    address: libc::sockaddr_storage,
    algorithm: [u8; 64],
    key: [u8; LONGEST_SECRET],
    keys: u32,
    flags: u16,
    send_id: u8,
    receive_id: u8,
    prefix: u8,
    mac_length: u8,
    key_flags: u8,
    key_length: u8,
    interface: i32,
    good: u64,
    bad: u64,
}

/// The far ends that a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KeyScope {
    /// One host.
    Host(std::net::IpAddr),
    /// Every host of the socket's IP version.
    Everyone {
        /// IPv6, and not IPv4.
        ipv6: bool,
    },
}

impl KeyScope {
    /// Returns the address and the length of the prefix. The port is always 0.
    pub(super) fn prefix(self) -> (SocketAddr, u8) {
        use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
        let (address, length) = match self {
            Self::Host(address @ IpAddr::V4(_)) => (address, 32),
            Self::Host(address @ IpAddr::V6(_)) => (address, 128),
            Self::Everyone { ipv6: false } => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            Self::Everyone { ipv6: true } => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
        };
        (SocketAddr::new(address, 0), length)
    }
}

/// A key of a socket.
#[derive(Clone, Copy)]
pub(crate) struct AoKey<'a> {
    /// The id in segments of both directions.
    pub(crate) id: u8,
    /// The kernel's name of the algorithm.
    pub(crate) algorithm: &'a str,
    /// The secret; at most 80 bytes.
    pub(crate) secret: &'a str,
}

/// What a socket with TCP-AO uses, and what it has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AoInfo {
    /// The key that signs what is sent.
    pub(crate) current: Option<u8>,
    /// The key that the far end is asked to sign with (RNextKeyID).
    pub(crate) next: Option<u8>,
    /// Segments with a right signature.
    pub(crate) good: u64,
    /// Segments with a wrong signature.
    pub(crate) bad: u64,
    /// Segments with the id of a key that the socket does not have.
    pub(crate) key_not_found: u64,
    /// Segments without a signature.
    pub(crate) unsigned: u64,
}

/// Asks the kernel whether it has TCP-AO.
///
/// # Errors
///
/// `ENOPROTOOPT` if it has not.
pub(crate) fn probe() -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    match info(&socket) {
        // The kernel has it, and this socket has no key.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        answer => answer.map(|_| ()),
    }
}

/// Gives a socket a key. The first key of a socket has to come before it connects.
///
/// # Errors
///
/// `ENOPROTOOPT` if the kernel has no TCP-AO, `EEXIST` if the socket has a key with this id for the
/// scope, `EKEYREJECTED` if it has a secret of TCP MD5 for it, `ENOENT` if the kernel lacks the
/// algorithm, `InvalidInput` if the secret has more than 80 bytes.
pub(crate) fn add_key(socket: &impl AsRawFd, scope: KeyScope, key: AoKey<'_>) -> io::Result<()> {
    let (address, prefix) = scope.prefix();
    let mut option = TcpAoAdd {
        address: kernel_address(address),
        algorithm: [0; 64],
        interface: 0,
        flags: 0,
        reserved: 0,
        prefix,
        send_id: key.id,
        receive_id: key.id,
        mac_length: MAC_LENGTH,
        key_flags: 0,
        key_length: u8::try_from(key.secret.len()).unwrap_or(u8::MAX),
        key: [0; LONGEST_SECRET],
    };
    let too_long = || io::Error::from(io::ErrorKind::InvalidInput);
    option.algorithm.get_mut(..key.algorithm.len()).ok_or_else(too_long)?.copy_from_slice(key.algorithm.as_bytes());
    option.key.get_mut(..key.secret.len()).ok_or_else(too_long)?.copy_from_slice(key.secret.as_bytes());
    let result = set(socket, ADD_KEY, &option);
    option.key.zeroize();
    result
}

/// Takes a key from a connection. From now on `current` signs, and `next` is asked for.
///
/// # Errors
///
/// `ENOENT` if the socket lacks one of the keys.
pub(crate) fn delete_key(socket: &impl AsRawFd, scope: KeyScope, id: u8, current: u8, next: u8) -> io::Result<()> {
    let forced = TcpAoDel { flags: SET_CURRENT | SET_NEXT, current, next, ..deletion(scope, id) };
    set(socket, DELETE_KEY, &forced)
}

/// Takes a key from a socket that listens.
///
/// # Errors
///
/// `ENOENT` if the socket lacks the key.
pub(crate) fn delete_listener_key(socket: &impl AsRawFd, scope: KeyScope, id: u8) -> io::Result<()> {
    set(socket, DELETE_KEY, &TcpAoDel { flags: DELETE_FROM_LISTENER, ..deletion(scope, id) })
}

fn deletion(scope: KeyScope, id: u8) -> TcpAoDel {
    let (address, prefix) = scope.prefix();
    TcpAoDel {
        address: kernel_address(address),
        interface: 0,
        flags: 0,
        reserved: 0,
        prefix,
        send_id: id,
        receive_id: id,
        current: 0,
        next: 0,
        key_flags: 0,
    }
}

/// Asks the far end of a connection, or of one that is to be opened, to sign with `next`. With
/// `current`, this end signs with that key at once; otherwise it does once the far end asks for it.
///
/// # Errors
///
/// `ENOENT` if the socket lacks the key.
pub(crate) fn choose_keys(socket: &impl AsRawFd, current: Option<u8>, next: u8) -> io::Result<()> {
    let flags = SET_NEXT | if current.is_some() { SET_CURRENT } else { 0 };
    set(socket, INFO, &TcpAoInfoOpt { flags, current: current.unwrap_or_default(), next, ..TcpAoInfoOpt::default() })
}

/// Returns what a socket uses, and what it has counted.
///
/// # Errors
///
/// `ENOENT` if the socket has no TCP-AO, `ENOPROTOOPT` if the kernel has none.
pub(crate) fn info(socket: &impl AsRawFd) -> io::Result<AoInfo> {
    let mut option = TcpAoInfoOpt::default();
    get(socket, INFO, &raw mut option)?;
    Ok(AoInfo {
        current: (option.flags & SET_CURRENT != 0).then_some(option.current),
        next: (option.flags & SET_NEXT != 0).then_some(option.next),
        good: option.good,
        bad: option.bad,
        key_not_found: option.key_not_found,
        unsigned: option.unsigned,
    })
}

/// Returns the ids of the keys that a connection has.
///
/// # Errors
///
/// As for [`info`].
pub(crate) fn key_ids(socket: &impl AsRawFd) -> io::Result<Vec<u8>> {
    let mut room = 8;
    loop {
        // SAFETY: all fields are integers, for which zero is a value.
        let fresh = || unsafe { MaybeUninit::<TcpAoGetKeys>::zeroed().assume_init() };
        let mut keys: Vec<TcpAoGetKeys> = (0..room).map(|_| fresh()).collect();
        let Some(first) = keys.first_mut() else { return Ok(Vec::new()) };
        (first.keys, first.flags) = (u32::try_from(room).unwrap_or(u32::MAX), GET_ALL);
        // The kernel writes as many structures as there is room for, and how many keys there are
        // into the first.
        let result = get(socket, GET_KEYS, keys.as_mut_ptr());
        let found = keys.first().map_or(0, |first| first.keys as usize);
        let ids = keys.iter().take(found).map(|key| key.send_id).collect();
        keys.iter_mut().for_each(|key| key.key.zeroize());
        result?;
        if found <= room {
            return Ok(ids);
        }
        room = found;
    }
}

fn set<T>(socket: &impl AsRawFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let (value, length) = (std::ptr::from_ref(value), size_of::<T>() as libc::socklen_t);
    // SAFETY: the kernel reads `length` bytes, which is the size of the value.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option, value.cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `value` points to as many structures as the first of them says, or to one.
fn get<T>(socket: &impl AsRawFd, option: libc::c_int, value: *mut T) -> io::Result<()> {
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads and writes structures of `length` bytes, and no more than there are.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option, value.cast(), &raw mut length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::{mem::offset_of, net::Ipv4Addr};

    use super::*;

    #[test]
    fn the_structures_have_the_layout_of_the_kernel() {
        let sizes =
            [size_of::<TcpAoAdd>(), size_of::<TcpAoDel>(), size_of::<TcpAoInfoOpt>(), size_of::<TcpAoGetKeys>()];
        assert_eq!(sizes, [288, 144, 48, 304]);
        let add = [
            offset_of!(TcpAoAdd, algorithm),
            offset_of!(TcpAoAdd, flags),
            offset_of!(TcpAoAdd, prefix),
            offset_of!(TcpAoAdd, key_length),
            offset_of!(TcpAoAdd, key),
        ];
        assert_eq!(add, [128, 196, 202, 207, 208]);
        let del = [offset_of!(TcpAoDel, interface), offset_of!(TcpAoDel, prefix), offset_of!(TcpAoDel, key_flags)];
        assert_eq!(del, [128, 138, 143]);
        let info = [offset_of!(TcpAoInfoOpt, current), offset_of!(TcpAoInfoOpt, good)];
        assert_eq!(info, [6, 8]);
        let get = [
            offset_of!(TcpAoGetKeys, key),
            offset_of!(TcpAoGetKeys, keys),
            offset_of!(TcpAoGetKeys, send_id),
            offset_of!(TcpAoGetKeys, interface),
            offset_of!(TcpAoGetKeys, good),
        ];
        assert_eq!(get, [192, 272, 278, 284, 288]);
    }

    /// Returns a socket with two keys, or says that this kernel has none.
    fn socket_with_keys() -> Option<(Socket, KeyScope)> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        let scope = KeyScope::Host(Ipv4Addr::LOCALHOST.into());
        for (id, algorithm) in [(1, "hmac(sha1)"), (2, "cmac(aes128)")] {
            match add_key(&socket, scope, AoKey { id, algorithm, secret: "hunter2" }) {
                Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => return None,
                added => added.unwrap(),
            }
        }
        Some((socket, scope))
    }

    #[test]
    fn a_kernel_without_tcp_ao_says_so_and_one_with_it_keeps_keys() {
        let Some((socket, scope)) = socket_with_keys() else {
            assert_eq!(probe().unwrap_err().raw_os_error(), Some(libc::ENOPROTOOPT));
            return;
        };
        probe().unwrap();
        let mut ids = key_ids(&socket).unwrap();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2]);
        choose_keys(&socket, Some(2), 2).unwrap();
        let AoInfo { current, next, .. } = info(&socket).unwrap();
        assert_eq!((current, next), (Some(2), Some(2)));
        delete_key(&socket, scope, 2, 1, 1).unwrap();
        assert_eq!((key_ids(&socket).unwrap(), info(&socket).unwrap().current), (vec![1], Some(1)));
        let again = add_key(&socket, scope, AoKey { id: 1, algorithm: "hmac(sha1)", secret: "hunter2" });
        assert_eq!(again.unwrap_err().raw_os_error(), Some(libc::EEXIST));
    }

    #[test]
    fn a_secret_that_is_too_long_for_the_kernel_is_refused_here() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        let secret = "x".repeat(LONGEST_SECRET + 1);
        let key = AoKey { id: 1, algorithm: "hmac(sha1)", secret: &secret };
        let refused = add_key(&socket, KeyScope::Everyone { ipv6: false }, key).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }
}
