//! A program behind bmpd's that rewrites the destinations of connects, as socket load balancers do,
//! and one that does nothing.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};

use super::super::{bpf, cgroup};
use super::world::Namespace;
use crate::sys;

/// `BPF_CGROUP_INET4_CONNECT` and `BPF_PROG_TYPE_CGROUP_SOCK_ADDR` (linux/bpf.h).
const CONNECT4: u32 = 10;
const SOCK_ADDR: u32 = 18;

/// One instruction (linux/bpf.h, `struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    /// The destination in the lower half, the source in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// The program, which ends with its link.
pub(super) struct Rewriter {
    _link: OwnedFd,
}

impl Rewriter {
    /// Leads connects of the namespace to `from` to `to`.
    pub(super) fn new(netns: &Namespace, from: SocketAddrV4, to: SocketAddrV4) -> Self {
        let cookie = netns.run(|| sys::netns_cookie().unwrap());
        let program = load(&instructions(cookie, from, to)).unwrap();
        let root = cgroup::open(None).unwrap().folder;
        Self { _link: bpf::attach(program.as_fd(), &root, CONNECT4).unwrap() }
    }
}

/// Offsets in `struct bpf_sock_addr`.
const ADDRESS: i16 = 4;
const PORT: i16 = 24;

fn instructions(cookie: u64, from: SocketAddrV4, to: SocketAddrV4) -> Vec<Instruction> {
    let address = |ip: Ipv4Addr| i32::from_ne_bytes(ip.octets());
    let port = |port: u16| i32::from(port.to_be());
    vec![
        // r6 = context; r0 = bpf_get_netns_cookie(context)
        insn(0xbf, 6, 1, 0, 0),
        insn(0x85, 0, 0, 0, 122),
        // r1 = cookie, in two parts
        insn(0x18, 1, 0, 0, cookie as i32),
        insn(0x00, 0, 0, 0, (cookie >> 32) as i32),
        // Another namespace: to the end.
        insn(0x5d, 0, 1, 8, 0),
        insn(0x61, 2, 6, ADDRESS, 0),
        insn(0x56, 2, 0, 6, address(*from.ip())),
        insn(0x61, 2, 6, PORT, 0),
        insn(0x56, 2, 0, 4, port(from.port())),
        insn(0xb4, 2, 0, 0, address(*to.ip())),
        insn(0x63, 6, 2, ADDRESS, 0),
        insn(0xb4, 2, 0, 0, port(to.port())),
        insn(0x63, 6, 2, PORT, 0),
        // return 1: the connect goes on
        insn(0xb7, 0, 0, 0, 1),
        insn(0x95, 0, 0, 0, 0),
    ]
}

fn insn(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: from << 4 | to, offset, immediate }
}

/// Returns a program for IPv4 connects that lets all of them go on.
pub(super) fn idle_program() -> OwnedFd {
    load(&[insn(0xb7, 0, 0, 0, 1), insn(0x95, 0, 0, 0, 0)]).unwrap()
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    /// The part of `union bpf_attr` for `BPF_PROG_LOAD`.
    #[repr(C)]
    #[derive(Default)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        /// The verifier's log, the kernel's version and flags.
        log: [u64; 3],
        name: [u8; 16],
        ifindex: u32,
        attach_type: u32,
    }
    const PROG_LOAD: libc::c_long = 5;
    let license = c"MIT OR Apache-2.0";
    let mut attributes = Load {
        kind: SOCK_ADDR,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        attach_type: CONNECT4,
        ..Load::default()
    };
    let size = size_of::<Load>();
    // SAFETY: the structure is the command's part of the union, with its size. Its pointers outlive
    // the call.
    let returned = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw mut attributes, size) };
    match libc::c_int::try_from(returned) {
        // SAFETY: the kernel has just opened it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
