//! TCP-AO (RFC 5925) of the far ends of bmpd's connections, as the kernel has it (linux/tcp.h). The
//! structures are made byte by byte, so that no mistake of bmpd's own is repeated here.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsRawFd,
};

use socket2::{Domain, Socket, Type};

use crate::skip::skip;

const ADD_KEY: libc::c_int = 38;
const INFO: libc::c_int = 40;

/// A key of a far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FarKey<'a> {
    /// The key id of both directions.
    pub id: u8,
    /// The kernel's name of the algorithm.
    pub algorithm: &'a str,
    /// The secret.
    pub secret: &'a str,
}

impl<'a> FarKey<'a> {
    /// Returns a key with HMAC-SHA-1.
    pub fn sha1(id: u8, secret: &'a str) -> Self {
        Self { id, algorithm: "hmac(sha1)", secret }
    }
}

/// What a connection with TCP-AO uses, and has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AoState {
    /// The key that signs.
    pub current: u8,
    /// The key that the other end is asked for.
    pub next: u8,
    /// Segments with a right signature.
    pub good: u64,
    /// Segments that were dropped: wrong, with an unknown key, unsigned.
    pub dropped: [u64; 3],
}

/// Decides whether the kernel has TCP-AO.
pub fn has_kernel_support() -> bool {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
    try_add(&socket, Ipv4Addr::LOCALHOST.into(), FarKey::sha1(1, "probe")).is_ok()
}

/// Decides the same, and skips the running test if the kernel has none.
pub fn is_there() -> bool {
    let is_there = has_kernel_support();
    if !is_there {
        skip("the kernel has no TCP-AO");
    }
    is_there
}

/// Gives a socket a key for its peer.
///
/// # Panics
/// If the kernel refuses it.
pub fn add_key(socket: &impl AsRawFd, peer: IpAddr, key: FarKey<'_>) {
    try_add(socket, peer, key).unwrap_or_else(|error| panic!("key {} for {peer}: {error}", key.id));
}

fn try_add(socket: &impl AsRawFd, peer: IpAddr, FarKey { id, algorithm, secret }: FarKey<'_>) -> io::Result<()> {
    let mut option = [0_u8; 288];
    let mut put = |at: usize, bytes: &[u8]| option[at..at + bytes.len()].copy_from_slice(bytes);
    let prefix = match peer {
        IpAddr::V4(v4) => {
            put(0, &(libc::AF_INET as u16).to_ne_bytes());
            put(4, &v4.octets());
            32
        }
        IpAddr::V6(v6) => {
            put(0, &(libc::AF_INET6 as u16).to_ne_bytes());
            put(8, &v6.octets());
            128
        }
    };
    put(128, algorithm.as_bytes());
    put(202, &[prefix, id, id]);
    put(207, &[u8::try_from(secret.len()).expect("a secret is short")]);
    put(208, secret.as_bytes());
    set(socket, ADD_KEY, &option)
}

/// Asks the other end of a connection to sign with this key.
///
/// # Panics
/// If the connection has no such key.
pub fn ask_for(socket: &impl AsRawFd, id: u8) {
    let mut option = [0_u8; 48];
    option[..4].copy_from_slice(&2_u32.to_ne_bytes());
    option[7] = id;
    set(socket, INFO, &option).unwrap_or_else(|error| panic!("ask for key {id}: {error}"));
}

/// Returns what a connection uses and has counted.
///
/// # Panics
/// If it is not signed.
pub fn state(socket: &impl AsRawFd) -> AoState {
    let mut option = [0_u8; 48];
    let mut length = option.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `option`.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, INFO, option.as_mut_ptr().cast(), &raw mut length)
    };
    assert_eq!(result, 0, "TCP-AO: {}", io::Error::last_os_error());
    let number = |at: usize| u64::from_ne_bytes(option[at..at + 8].try_into().expect("eight bytes"));
    AoState { current: option[6], next: option[7], good: number(8), dropped: [number(16), number(24), number(32)] }
}

fn set(socket: &impl AsRawFd, name: libc::c_int, option: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel reads `option`, whose size is passed.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            name,
            option.as_ptr().cast(),
            option.len() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
