//! BPF programs: their run time, a test run with a synthetic packet, and empty programs for
//! comparison.

use std::{
    ffi::CStr,
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::Path,
};

use aya::programs::loaded_programs;
use lab::bmpd::Bmpd;

/// Commands of bpf(2), from `enum bpf_cmd` (linux/bpf.h).
const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;
const LINK_CREATE: libc::c_long = 28;

/// A hook: program type, attach type (`enum bpf_prog_type`, `enum bpf_attach_type`), and the result
/// that passes everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BpfHook {
    kind: u32,
    attach: u32,
    answer: i32,
}

pub(crate) const EGRESS: BpfHook = BpfHook { kind: 8, attach: 1, answer: 1 };
pub(crate) const INGRESS: BpfHook = BpfHook { kind: 8, attach: 0, answer: 1 };
pub(crate) const CONNECT4: BpfHook = BpfHook { kind: 18, attach: 10, answer: 1 };
pub(crate) const CONNECT6: BpfHook = BpfHook { kind: 18, attach: 11, answer: 1 };
pub(crate) const SOCK_OPS: BpfHook = BpfHook { kind: 13, attach: 3, answer: 1 };
/// `XDP_PASS` is 2.
pub(crate) const XDP: BpfHook = BpfHook { kind: 6, attach: 37, answer: 2 };

/// A program, held by a descriptor.
pub(crate) struct LoadedProgram(OwnedFd);

/// Runs of a program and their nanoseconds, while the kernel kept statistics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProgramRunTime {
    pub(crate) count: u64,
    nanoseconds: u64,
}

impl ProgramRunTime {
    /// Returns the average time of a run since `before`.
    pub(crate) fn each_since(self, before: Self) -> f64 {
        (self.nanoseconds - before.nanoseconds) as f64 / (self.count - before.count) as f64
    }
}

impl LoadedProgram {
    /// Finds a program of bmpd by name.
    pub(crate) fn of(bmpd: &Bmpd, name: &str) -> io::Result<Self> {
        let own = bmpd.objects().programs;
        // An error is a program that went while the list was read, so not bmpd's.
        let mut loaded = loaded_programs().flatten();
        let info = loaded.find(|info| own.contains(&info.id()) && info.name_as_str() == Some(name));
        let info =
            info.ok_or_else(|| io::Error::other(format!("bmpd holds no program {name}: is BPF allowed here?")))?;
        let program = info.fd().map_err(io::Error::other)?;
        Ok(Self(program.as_fd().try_clone_to_owned()?))
    }

    /// Loads the program `mov r0, answer; exit`.
    pub(crate) fn empty(hook: BpfHook) -> io::Result<Self> {
        #[repr(C)]
        struct ProgramLoad {
            kind: u32,
            instructions: u32,
            code: u64,
            license: u64,
            log: [u32; 2],
            log_buffer: u64,
            version: u32,
            flags: u32,
            name: [u8; 16],
            ifindex: u32,
            attach: u32,
        }
        const LICENSE: &CStr = c"GPL";
        // struct bpf_insn is operation, registers, offset, immediate: BPF_ALU64 | BPF_MOV | BPF_K
        // on r0, then BPF_JMP | BPF_EXIT.
        let mut code = [0_u8; 16];
        code[0] = 0xb7;
        code[4..8].copy_from_slice(&hook.answer.to_ne_bytes());
        code[8] = 0x95;
        let mut name = [0; 16];
        name[..5].copy_from_slice(b"empty");
        let mut load = ProgramLoad {
            kind: hook.kind,
            instructions: 2,
            code: code.as_ptr() as u64,
            license: LICENSE.as_ptr() as u64,
            log: [0; 2],
            log_buffer: 0,
            version: 0,
            flags: 0,
            name,
            ifindex: 0,
            attach: if hook.kind == XDP.kind { 0 } else { hook.attach },
        };
        open(PROG_LOAD, &mut load, "an empty program cannot be loaded").map(Self)
    }

    /// Attaches it to a cgroup, beside other programs, for as long as the returned link is held.
    pub(crate) fn attach(&self, hook: BpfHook, cgroup: &Path) -> io::Result<OwnedFd> {
        #[repr(C)]
        struct LinkCreate {
            program: i32,
            target: i32,
            attach: u32,
            flags: u32,
        }
        let folder = File::open(cgroup)?;
        let mut create =
            LinkCreate { program: self.0.as_raw_fd(), target: folder.as_raw_fd(), attach: hook.attach, flags: 0 };
        open(LINK_CREATE, &mut create, "an empty program cannot be attached")
    }

    /// Reads its run time (proc_pid_fdinfo(5)).
    pub(crate) fn ran(&self) -> io::Result<ProgramRunTime> {
        let path = format!("/proc/thread-self/fdinfo/{}", self.0.as_raw_fd());
        let shown = fs::read_to_string(&path)?;
        let number = |field: &str| {
            let value = shown.lines().find_map(|line| line.strip_prefix(field)).map(str::trim);
            let value = value.and_then(|value| value.parse().ok());
            value.ok_or_else(|| io::Error::other(format!("{path} has no {field} this kernel keeps no statistics")))
        };
        Ok(ProgramRunTime { count: number("run_cnt:")?, nanoseconds: number("run_time_ns:")? })
    }

    /// Runs it `repeat` times with this frame, as if the frame had arrived on the interface, if one
    /// is given. Returns the program's result and the nanoseconds of one run.
    pub(crate) fn test_run(&self, frame: &[u8], ifindex: Option<u32>, repeat: u32) -> io::Result<(u32, f64)> {
        #[repr(C)]
        #[derive(Default)]
        struct TestRunAttributes {
            program: i32,
            returned: u32,
            size_in: u32,
            size_out: u32,
            data_in: u64,
            data_out: u64,
            repeat: u32,
            duration: u32,
            context_size_in: u32,
            context_size_out: u32,
            context_in: u64,
            context_out: u64,
            flags: u32,
            cpu: u32,
            batch: u32,
            reserved: u32,
        }
        /// `struct xdp_md`: start and end of data, metadata, interface, queue, and outgoing
        /// interface.
        type XdpContext = [u32; 6];
        let context: Option<XdpContext> = ifindex.map(|ifindex| [0, frame.len() as u32, 0, ifindex, 0, 0]);
        let mut run = TestRunAttributes {
            program: self.0.as_raw_fd(),
            size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            repeat,
            context_size_in: context.map_or(0, |context| size_of_val(&context) as u32),
            context_in: context.as_ref().map_or(0, |context| context.as_ptr() as u64),
            ..TestRunAttributes::default()
        };
        call(PROG_TEST_RUN, &mut run)
            .map_err(|error| io::Error::new(error.kind(), format!("BPF_PROG_TEST_RUN: {error}")))?;
        Ok((run.returned, f64::from(run.duration)))
    }
}

impl AsFd for LoadedProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Calls bpf(2) with the part of `union bpf_attr` that a command reads.
fn call<T>(command: libc::c_long, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: every caller passes the part of the union that its command reads, with its size. The
    // kernel takes the rest as zero. Pointers in it are valid until the call returns.
    let returned = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    match i32::try_from(returned) {
        Ok(value) if value >= 0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Calls bpf(2) with a command that returns a descriptor.
fn open<T>(command: libc::c_long, attributes: &mut T, what: &str) -> io::Result<OwnedFd> {
    let descriptor =
        call(command, attributes).map_err(|error| io::Error::new(error.kind(), format!("{what}: {error}")))?;
    // SAFETY: the kernel has just opened this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
