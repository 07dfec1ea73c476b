//! The object file of the programs: its programs and tables, and their verification.

use std::io;

use anyhow::{anyhow, bail};
use aya::Ebpf;
use aya::maps::MapType;
use aya::programs::{Program, ProgramError};
use bmp_ebpf::{
    Counters, EVENTS_BYTES, GUARDED_MAX, GuardKey, Guarded, KeyHistory, LinkKey, Pin, PinKey, RefusedTraffic, Tag,
    VRF_LINKS_MAX, program, table,
};
use tracing::debug;

/// The object file that the build script made.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bmp-programs"));

/// A program of the cgroup.
#[derive(Clone, Copy)]
pub(super) struct CgroupProgram {
    pub(super) name: &'static str,
    /// `enum bpf_attach_type` (linux/bpf.h).
    pub(super) attach_type: u32,
}

/// The programs of the cgroup in the order in which they are attached. Those of `connect` come
/// last: a tagged socket's packets are looked at from the first on.
pub(super) const CGROUP_PROGRAMS: [CgroupProgram; 5] = [
    CgroupProgram { name: program::EGRESS, attach_type: 1 },
    CgroupProgram { name: program::INGRESS, attach_type: 0 },
    CgroupProgram { name: program::LIFECYCLE, attach_type: 3 },
    CgroupProgram { name: program::CONNECT4, attach_type: 10 },
    CgroupProgram { name: program::CONNECT6, attach_type: 11 },
];

/// Returns the names of all programs.
pub(super) fn program_names() -> impl Iterator<Item = &'static str> {
    CGROUP_PROGRAMS.iter().map(|program| program.name).chain([program::GUARD])
}

/// How often a verification that was broken off is begun: more often than signals come.
const VERIFICATIONS_MAX: usize = 8;

/// `BPF_F_NO_PREALLOC` and `BPF_F_CLONE` (linux/bpf.h).
const NO_PREALLOC: u32 = 1 << 0;
const CLONE: u32 = 1 << 9;

/// The flags that tables differ by. Some kernels add their own to arrays.
pub(super) const TABLE_FLAGS: u32 = NO_PREALLOC | CLONE;

/// A table that outlives bmpd.
#[derive(Clone, Copy)]
pub(super) struct KernelTable {
    pub(super) name: &'static str,
    pub(super) kind: MapType,
    /// Bytes of a key.
    pub(super) key: usize,
    /// Bytes of a value.
    pub(super) value: usize,
    /// Number of entries; `None` if it depends on the sessions ([`super::room`]).
    pub(super) entries: Option<u32>,
    /// Some of [`TABLE_FLAGS`].
    pub(super) flags: u32,
}

const fn shape<K, V>(name: &'static str, kind: MapType, entries: Option<u32>, flags: u32) -> KernelTable {
    KernelTable { name, kind, key: size_of::<K>(), value: size_of::<V>(), entries, flags }
}

/// The tables that outlive bmpd.
pub(super) const TABLES: [KernelTable; 10] = [
    shape::<PinKey, u32>(table::PINS, MapType::Hash, None, 0),
    shape::<u32, Pin>(table::SLOTS, MapType::Array, None, 0),
    shape::<u32, Tag>(table::TAGS, MapType::SkStorage, Some(0), NO_PREALLOC | CLONE),
    shape::<u32, Counters>(table::COUNTERS, MapType::PerCpuArray, None, 0),
    shape::<(), ()>(table::EVENTS, MapType::RingBuf, Some(EVENTS_BYTES), 0),
    shape::<u32, PinKey>(table::OWNERS, MapType::Array, None, 0),
    shape::<LinkKey, u32>(table::VRFS, MapType::Hash, Some(VRF_LINKS_MAX), NO_PREALLOC),
    shape::<GuardKey, Guarded>(table::GUARDED, MapType::Hash, Some(GUARDED_MAX), NO_PREALLOC),
    shape::<GuardKey, RefusedTraffic>(table::REFUSED, MapType::PerCpuHash, Some(GUARDED_MAX), NO_PREALLOC),
    shape::<PinKey, KeyHistory>(table::HISTORY, MapType::Hash, None, NO_PREALLOC),
];

/// Unwraps a program or table that was looked up by this name.
///
/// # Errors
///
/// The object file has none of this name.
pub(super) fn find<T>(found: Option<T>, name: &str) -> anyhow::Result<T> {
    found.ok_or_else(|| anyhow!("the BPF object has no `{name}`: bmpd was built with other programs than its own"))
}

/// Returns the program of this name.
pub(super) fn program<'a>(programs: &'a Ebpf, name: &str) -> anyhow::Result<&'a Program> {
    find(programs.program(name), name)
}

/// Has the kernel verify all programs.
pub(super) fn verify(programs: &mut Ebpf) -> anyhow::Result<()> {
    for name in program_names() {
        verify_one(name, find(programs.program_mut(name), name)?)?;
    }
    Ok(())
}

/// Has the kernel verify a program. It breaks off with `EAGAIN` where the process gets a signal
/// meanwhile (`do_check` in kernel/bpf/verifier.c), which says nothing about the program.
fn verify_one(name: &str, program: &mut Program) -> anyhow::Result<()> {
    let mut result = load(name, program)?;
    for _ in 1..VERIFICATIONS_MAX {
        match &result {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == io::ErrorKind::WouldBlock => {
                result = load(name, program)?;
            }
            _ => break,
        }
    }
    result.map_err(|error| refusal(name, error))
}

fn load(name: &str, program: &mut Program) -> anyhow::Result<Result<(), ProgramError>> {
    Ok(match program {
        Program::CgroupSkb(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::Xdp(program) => program.load(),
        _ => bail!("the BPF object's `{name}` is of another type: bmpd was built with other programs than its own"),
    })
}

/// Cuts the verifier's log of a refusal, which can be thousands of lines, down to its last reason.
fn refusal(name: &str, error: ProgramError) -> anyhow::Error {
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        return anyhow::Error::new(error).context(format!("cannot load the BPF program `{name}`"));
    };
    let log = verifier_log.to_string();
    debug!("BPF program `{name}`: {log}");
    let statistics = ["verification time", "stack depth", "processed "];
    let reason = log
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty() && !statistics.iter().any(|statistic| line.starts_with(statistic)));
    anyhow::Error::new(io_error).context(match reason {
        Some(reason) => format!("this kernel's verifier refuses the BPF program `{name}`: {reason}"),
        None => format!("cannot load the BPF program `{name}`"),
    })
}
