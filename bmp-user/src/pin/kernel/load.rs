//! Loading the programs, and putting them under the links that hold them to the cgroup: new links, or those that an earlier bmpd left.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use aya::maps::{MapInfo, MapType};
use aya::programs::{Program, ProgramError, ProgramInfo};
use aya::{Ebpf, EbpfLoader};
use bmp_ebpf::{
    Counters, EVENTS_BYTES, GUARDED_MAX, GuardKey, Guarded, KeyHistory, LinkKey, Pin, PinKey, RefusedTraffic, Tag,
    VRF_LINKS_MAX, program, table,
};
use tracing::{debug, info, warn};

use super::guard::guard;
use super::home::{Home, Layout};
use super::room::{Room, Sizes};
use super::{bpf, occupied};

/// The object file that the build script made.
pub(super) static PROGRAMS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bmp-programs"));

/// The programs and their attach types (`enum bpf_attach_type`, linux/bpf.h), in the order in which they are attached: `connect` comes
/// last, so that no socket is tagged before its packets are looked at.
pub(super) const HOOKS: [(&str, u32); 5] = [
    (program::EGRESS, 1),
    (program::INGRESS, 0),
    (program::LIFECYCLE, 3),
    (program::CONNECT4, 10),
    (program::CONNECT6, 11),
];

/// How often a verification that is broken off is begun: more often than signals come.
const VERIFICATIONS_MAX: usize = 8;

/// `BPF_F_NO_PREALLOC` and `BPF_F_CLONE` (linux/bpf.h).
const NO_PREALLOC: u32 = 1 << 0;
const CLONE: u32 = 1 << 9;

/// The number of entries depends on how many sessions there is room for: see [`Sizes`].
const BY_SESSIONS: u32 = 0;

/// A table that outlives bmpd: name, type, sizes of key and value, entries and flags.
type Shape = (&'static str, MapType, usize, usize, u32, u32);

const TABLES: [Shape; 10] = [
    (table::PINS, MapType::Hash, size_of::<PinKey>(), size_of::<u32>(), BY_SESSIONS, 0),
    (table::SLOTS, MapType::Array, size_of::<u32>(), size_of::<Pin>(), BY_SESSIONS, 0),
    (table::TAGS, MapType::SkStorage, size_of::<u32>(), size_of::<Tag>(), 0, NO_PREALLOC | CLONE),
    (table::COUNTERS, MapType::PerCpuArray, size_of::<u32>(), size_of::<Counters>(), BY_SESSIONS, 0),
    (table::EVENTS, MapType::RingBuf, 0, 0, EVENTS_BYTES, 0),
    (table::OWNERS, MapType::Array, size_of::<u32>(), size_of::<PinKey>(), BY_SESSIONS, 0),
    (table::VRFS, MapType::Hash, size_of::<LinkKey>(), size_of::<u32>(), VRF_LINKS_MAX, NO_PREALLOC),
    (table::GUARDED, MapType::Hash, size_of::<GuardKey>(), size_of::<Guarded>(), GUARDED_MAX, NO_PREALLOC),
    (table::REFUSED, MapType::PerCpuHash, size_of::<GuardKey>(), size_of::<RefusedTraffic>(), GUARDED_MAX, NO_PREALLOC),
    (table::HISTORY, MapType::Hash, size_of::<PinKey>(), size_of::<KeyHistory>(), BY_SESSIONS, NO_PREALLOC),
];

/// The names of the tables that outlive bmpd.
pub(super) fn tables() -> impl Iterator<Item = &'static str> {
    TABLES.into_iter().map(|(name, ..)| name)
}

/// What is in the kernel now.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    /// The links, which end with these if they are not pinned.
    pub(super) links: Vec<OwnedFd>,
    /// Whether tables of an earlier bmpd go on.
    pub(super) taken_over: bool,
    /// What did not hold sessions to their pins any more when it was taken over, in words.
    pub(super) lapsed: Vec<String>,
    /// How many slots the tables have.
    pub(super) slots: u32,
}

/// Loads and attaches. What this call made itself is gone again if it fails; what it found stays.
pub(super) fn load(cgroup: &File, home: Option<&Home>, room: Room) -> anyhow::Result<Loaded> {
    let Some(home) = home else { return load_into(cgroup, None, false, room) };
    let layout = home.layout();
    let mut found = layout.exists();
    if found && let Err(difference) = compare(&layout) {
        info!(
            "{} is of another bmpd, whose tables have another layout ({difference:#}): it is replaced",
            layout.path().display()
        );
        home.set_aside(&layout)?;
        found = false;
    }
    let made = layout.make().with_context(|| format!("cannot make {}", layout.path().display()));
    let result = made.and_then(|()| load_into(cgroup, Some(&layout), found, room));
    if result.is_err() && !found {
        // The error to tell is the first one.
        let _ = Home::remove(layout.path());
    }
    result.with_context(|| match found {
        true => {
            format!("cannot take over {}, which stays in force (`bmpd detach` removes it)", layout.path().display())
        }
        false => "cannot load the kernel programs".to_owned(),
    })
}

/// Says where the tables in a folder are not what the programs expect: neither the kernel nor aya would.
fn compare(layout: &Layout) -> anyhow::Result<()> {
    for (name, kind, key, value, entries, flags) in TABLES {
        let path = layout.table(name);
        if !path.exists() {
            // The start of that bmpd was cut short: nothing was ever written.
            continue;
        }
        let info = MapInfo::from_pin(&path).with_context(|| path.display().to_string())?;
        // Flags as they are given: some kernels add their own to arrays.
        let same = info.map_type().is_ok_and(|found| found == kind)
            && (info.key_size() as usize, info.value_size() as usize) == (key, value)
            && (entries == BY_SESSIONS || info.max_entries() == entries)
            && info.map_flags() & (NO_PREALLOC | CLONE) == flags;
        if !same {
            bail!("table {name} has other sizes");
        }
    }
    Ok(())
}

fn load_into(cgroup: &File, layout: Option<&Layout>, found: bool, room: Room) -> anyhow::Result<Loaded> {
    let sizes = Sizes::of(room, layout)?;
    if let Some(layout) = layout {
        sizes.clear(layout)?;
    }
    let loaded = load_sized(cgroup, layout, found, &sizes);
    if loaded.is_err()
        && let Some(layout) = layout
    {
        // The error to tell is the first one.
        let _ = sizes.clear(layout);
    }
    loaded
}

fn load_sized(cgroup: &File, layout: Option<&Layout>, found: bool, sizes: &Sizes) -> anyhow::Result<Loaded> {
    let mut loader = EbpfLoader::new();
    for (name, ..) in TABLES {
        if let Some(layout) = layout {
            loader.map_pin_path(name, sizes.path(layout, name));
        }
        if let Some(entries) = sizes.of_table(name) {
            loader.map_max_entries(name, entries);
        }
    }
    let mut ebpf = loader.load(PROGRAMS).context("cannot make the BPF tables")?;
    if let Some(layout) = layout {
        sizes.fill(&mut ebpf, layout)?;
    }
    // All of them first: a program that the verifier refuses is told before anything is touched.
    for name in HOOKS.iter().map(|(name, _)| *name).chain([program::GUARD]) {
        verify(name, find(ebpf.program_mut(name), name)?)?;
    }
    let mut links = Vec::with_capacity(HOOKS.len());
    let mut taken_over = false;
    let mut lapsed = Vec::new();
    for (name, attach_type) in HOOKS {
        let program = find(ebpf.program_mut(name), name)?;
        let path = layout.map(|layout| layout.link(name));
        // What an earlier bmpd pinned, which it does before anything else is in force.
        let earlier = layout.and_then(|layout| ProgramInfo::from_pin(layout.program(name)).ok()).map(|info| info.id());
        let (link, was_there, state) = hold(program, attach_type, cgroup, path.as_deref(), earlier)
            .with_context(|| format!("cannot attach the BPF program `{name}` to the cgroup"))?;
        links.push(link);
        lapsed.extend(state.filter(|_| earlier.is_some()).map(|state| format!("{state} {name}")));
        taken_over |= was_there;
        if let Some(layout) = layout {
            pin_program(program, &layout.program(name))
                .with_context(|| format!("cannot pin the BPF program `{name}`"))?;
        }
    }
    // Where it is attached is decided when there is something to guard.
    if let Some(layout) = layout {
        pin_program(guard(&ebpf)?, &layout.program(program::GUARD)).context("cannot pin the BPF program `guard`")?;
    }
    if let Some(layout) = layout {
        sizes.replace(&mut ebpf, layout)?;
    }
    if !lapsed.is_empty() {
        warn!(
            "the kernel did not enforce what an earlier bmpd left in force, and does again: {} (who has root may do so: `bpftool link`)",
            lapsed.join(", ")
        );
    }
    Ok(Loaded { ebpf, links, taken_over: taken_over || found, lapsed, slots: sizes.slots() })
}

/// Has the kernel verify a program. It breaks off with `EAGAIN` where a signal is told to the process meanwhile (`do_check` in
/// kernel/bpf/verifier.c), which says nothing about the program.
fn verify(name: &str, program: &mut Program) -> anyhow::Result<()> {
    let mut result = load_once(name, program)?;
    for _ in 1..VERIFICATIONS_MAX {
        match &result {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == io::ErrorKind::WouldBlock => {
                result = load_once(name, program)?;
            }
            _ => break,
        }
    }
    loaded(name, result)
}

fn load_once(name: &str, program: &mut Program) -> anyhow::Result<Result<(), ProgramError>> {
    Ok(match program {
        Program::CgroupSkb(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::Xdp(program) => program.load(),
        _ => bail!("the BPF object's `{name}` is of another type: bmpd was built with other programs than its own"),
    })
}

/// Cuts the verifier's account of a refusal, which can be thousands of lines, down to what it says at last.
fn loaded(name: &str, result: Result<(), ProgramError>) -> anyhow::Result<()> {
    let Err(error) = result else { return Ok(()) };
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        return Err(error).with_context(|| format!("cannot load the BPF program `{name}`"));
    };
    let account = verifier_log.to_string();
    debug!("BPF program `{name}`: {account}");
    let statistics = ["verification time", "stack depth", "processed "];
    let reason = account
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty() && !statistics.iter().any(|statistic| line.starts_with(statistic)));
    Err(anyhow::Error::new(io_error).context(match reason {
        Some(reason) => format!("this kernel's verifier refuses the BPF program `{name}`: {reason}"),
        None => format!("cannot load the BPF program `{name}`"),
    }))
}

/// Puts a program in force, under the link that is pinned if it is one for this program and cgroup, else under a new one. Returns the
/// link, whether it was there, and what was not in force as an earlier bmpd, whose program had the number `earlier`, had left it.
fn hold(
    program: &Program,
    attach_type: u32,
    cgroup: &File,
    path: Option<&Path>,
    earlier: Option<u32>,
) -> anyhow::Result<(OwnedFd, bool, Option<&'static str>)> {
    const REMOVED: &str = "somebody removed the link of program";
    const DETACHED: &str = "somebody detached, or removed the cgroup of, program";
    const REPLACED: &str = "somebody put another program in the place of";
    let code = program.fd()?.as_fd();
    let Some(path) = path else { return Ok((occupied::attach(code, cgroup, attach_type)?, false, None)) };
    let old = match bpf::open(path) {
        Ok(old) => old,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let link = occupied::attach(code, cgroup, attach_type)?;
            bpf::pin(path, link.as_fd())?;
            return Ok((link, false, Some(REMOVED)));
        }
        Err(error) => return Err(error).context("what is pinned does not open"),
    };
    // The kernel compares nothing: a connect6 program under a connect4 link would let everything through.
    let belongs = |info: &bpf::LinkInfo, cgroup: u64| {
        (info.kind, info.cgroup, info.attach_type) == (bpf::LINK_TYPE_CGROUP, cgroup, attach_type)
    };
    // The number of a cgroup's folder is the cgroup's.
    let cgroup_id = cgroup.metadata()?.ino();
    let before = if bpf::kind(&old) == Some(bpf::Kind::Link) { Some(bpf::link_info(&old)?) } else { None };
    if let Some(before) = before.filter(|before| belongs(before, cgroup_id)) {
        bpf::replace(&old, code)?;
        let info = bpf::link_info(&old)?;
        if !belongs(&info, cgroup_id) || info.program != program.info()?.id() {
            bail!("the kernel has put another program under the link than it was given");
        }
        let is_as_left = earlier.is_none_or(|earlier| before.program == earlier);
        return Ok((old, true, if is_as_left { None } else { Some(REPLACED) }));
    }
    // For another cgroup, or one that is gone: the new one is attached before the old one goes.
    let link = occupied::attach(code, cgroup, attach_type)?;
    let beside = path.with_file_name(format!("{}-new", file_name(path)));
    // Left by a start that was cut short just here.
    let _ = fs::remove_file(&beside);
    bpf::pin(&beside, link.as_fd())?;
    fs::rename(&beside, path)?;
    // The link of another cgroup is in force there.
    let is_detached = before.is_some_and(|before| before.cgroup == 0);
    Ok((link, false, is_detached.then_some(DETACHED)))
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Pins a program, in the place of an earlier one. It is the link that keeps it in force.
pub(super) fn pin_program(program: &Program, path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    Ok(bpf::pin(path, program.fd()?.as_fd())?)
}

/// What is in the object file under this name.
pub(super) fn find<T>(found: Option<T>, name: &str) -> anyhow::Result<T> {
    found.ok_or_else(|| anyhow!("the BPF object has no `{name}`: bmpd was built with other programs than its own"))
}
