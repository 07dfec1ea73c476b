//! Loading the programs, and putting them under links: new ones, or those of an earlier bmpd.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context as _, bail};
use aya::maps::MapInfo;
use aya::programs::{Program, ProgramInfo};
use aya::{Ebpf, EbpfLoader};
use bmp_ebpf::program;
use tracing::{info, warn};

use super::home::{Home, Layout};
use super::object::{CGROUP_PROGRAMS, CgroupProgram, KernelTable, OBJECT, TABLE_FLAGS, TABLES, program, verify};
use super::room::{Room, TableSizes};
use super::{bpf, occupied};

/// The programs and tables that are in the kernel now.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    /// The links of [`CGROUP_PROGRAMS`], which end with these if they are not pinned.
    pub(super) links: Vec<OwnedFd>,
    /// True if tables of an earlier bmpd go on.
    pub(super) taken_over: bool,
    /// True if the kernel did not enforce any more what the earlier bmpd had left in force.
    pub(super) has_lapsed: bool,
    /// How many slots the tables have.
    pub(super) slots: u32,
}

/// Loads and attaches the programs. If that fails, what this call made is removed again, and what
/// it found stays.
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
        // The first error is the one to tell.
        let _ = Home::remove(layout.path());
    }
    result.with_context(|| match found {
        true => {
            format!("cannot take over {}, which stays in force (`bmpd detach` removes it)", layout.path().display())
        }
        false => "cannot load the kernel programs".to_owned(),
    })
}

/// Compares the tables in a folder with those of the programs: neither the kernel nor aya does.
///
/// # Errors
///
/// The table that differs.
fn compare(layout: &Layout) -> anyhow::Result<()> {
    for shape in TABLES {
        let path = layout.table(shape.name);
        if !path.exists() {
            // The earlier bmpd's start was cut short: nothing was ever written.
            continue;
        }
        let info = MapInfo::from_pin(&path).with_context(|| path.display().to_string())?;
        let same = info.map_type().is_ok_and(|found| found == shape.kind)
            && (info.key_size() as usize, info.value_size() as usize) == (shape.key, shape.value)
            && shape.entries.is_none_or(|entries| info.max_entries() == entries)
            && info.map_flags() & TABLE_FLAGS == shape.flags;
        if !same {
            bail!("table {} has other sizes", shape.name);
        }
    }
    Ok(())
}

fn load_into(cgroup: &File, layout: Option<&Layout>, found: bool, room: Room) -> anyhow::Result<Loaded> {
    let sizes = TableSizes::of(room, layout)?;
    if let Some(layout) = layout {
        sizes.clear(layout)?;
    }
    let loaded = load_sized(cgroup, layout, found, &sizes);
    if loaded.is_err()
        && let Some(layout) = layout
    {
        // The first error is the one to tell.
        let _ = sizes.clear(layout);
    }
    loaded
}

/// Makes the tables, or opens those of an earlier bmpd in `layout`, and prepares the programs.
pub(super) fn make_tables(layout: Option<&Layout>, sizes: &TableSizes) -> anyhow::Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    for KernelTable { name, .. } in TABLES {
        if let Some(layout) = layout {
            loader.map_pin_path(name, sizes.path(layout, name));
        }
        if let Some(entries) = sizes.of_table(name) {
            loader.map_max_entries(name, entries);
        }
    }
    loader.load(OBJECT).context("cannot make the BPF tables")
}

fn load_sized(cgroup: &File, layout: Option<&Layout>, found: bool, sizes: &TableSizes) -> anyhow::Result<Loaded> {
    let mut ebpf = make_tables(layout, sizes)?;
    if let Some(layout) = layout {
        sizes.fill(&mut ebpf, layout)?;
    }
    // All of them first: nothing is touched if the verifier refuses one.
    verify(&mut ebpf)?;
    let mut links = Vec::with_capacity(CGROUP_PROGRAMS.len());
    let mut taken_over = found;
    let mut lapsed = Vec::new();
    for hook in CGROUP_PROGRAMS {
        let CgroupProgram { name, .. } = hook;
        let code = program(&ebpf, name)?;
        // An earlier bmpd pins its programs before anything else is in force.
        let earlier = layout.and_then(|layout| ProgramInfo::from_pin(layout.program(name)).ok()).map(|info| info.id());
        let held = match layout {
            Some(layout) => hold(code, hook, cgroup, &layout.link(name), earlier),
            None => attach(code, hook, cgroup),
        };
        let held = held.with_context(|| format!("cannot attach the BPF program `{name}` to the cgroup"))?;
        links.push(held.link);
        lapsed.extend(held.lapse.filter(|_| earlier.is_some()).map(|lapse| format!("{lapse} {name}")));
        taken_over |= held.is_earlier;
        if let Some(layout) = layout {
            pin_program(code, &layout.program(name)).with_context(|| format!("cannot pin the BPF program `{name}`"))?;
        }
    }
    if let Some(layout) = layout {
        // It is attached when there is a listener to guard.
        pin_program(program(&ebpf, program::GUARD)?, &layout.program(program::GUARD))
            .context("cannot pin the BPF program `guard`")?;
        sizes.replace(&mut ebpf, layout)?;
    }
    if !lapsed.is_empty() {
        warn!(
            "the kernel did not enforce what an earlier bmpd left in force, and does again: {} (who has root may do so: `bpftool link`)",
            lapsed.join(", ")
        );
    }
    Ok(Loaded { ebpf, links, taken_over, has_lapsed: !lapsed.is_empty(), slots: sizes.slots() })
}

/// A program that is in force.
struct HeldProgram {
    link: OwnedFd,
    /// True if an earlier bmpd made the link.
    is_earlier: bool,
    /// What had become of the link, in words, if it was not in force as an earlier bmpd had left
    /// it.
    lapse: Option<&'static str>,
}

/// Attaches a program by a new link.
fn attach(program: &Program, hook: CgroupProgram, cgroup: &File) -> anyhow::Result<HeldProgram> {
    let link = occupied::attach(program.fd()?.as_fd(), cgroup, hook.attach_type)?;
    Ok(HeldProgram { link, is_earlier: false, lapse: None })
}

/// Puts a program in force: under the pinned link if that is one for this program and cgroup, else
/// under a new one. `earlier` is the id of the earlier bmpd's program.
fn hold(
    program: &Program,
    hook: CgroupProgram,
    cgroup: &File,
    path: &Path,
    earlier: Option<u32>,
) -> anyhow::Result<HeldProgram> {
    const REMOVED: &str = "somebody removed the link of program";
    const DETACHED: &str = "somebody detached, or removed the cgroup of, program";
    const REPLACED: &str = "somebody put another program in the place of";
    let code = program.fd()?.as_fd();
    let old = match bpf::open(path) {
        Ok(old) => old,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let held = attach(program, hook, cgroup)?;
            bpf::pin(path, held.link.as_fd())?;
            return Ok(HeldProgram { lapse: Some(REMOVED), ..held });
        }
        Err(error) => return Err(error).context("what is pinned does not open"),
    };
    // The kernel does not compare: a connect6 program under a connect4 link would pass everything.
    let belongs = |info: &bpf::LinkInfo, cgroup: u64| {
        (info.kind, info.cgroup, info.attach_type) == (bpf::LINK_TYPE_CGROUP, cgroup, hook.attach_type)
    };
    // The inode of a cgroup's folder is the cgroup's id.
    let cgroup_id = cgroup.metadata()?.ino();
    let before = if bpf::kind(&old) == Some(bpf::ObjectKind::Link) { Some(bpf::link_info(&old)?) } else { None };
    if let Some(before) = before.filter(|before| belongs(before, cgroup_id)) {
        bpf::replace(&old, code)?;
        let info = bpf::link_info(&old)?;
        if !belongs(&info, cgroup_id) || info.program != program.info()?.id() {
            bail!("the kernel has put another program under the link than it was given");
        }
        let is_as_left = earlier.is_none_or(|earlier| before.program == earlier);
        return Ok(HeldProgram { link: old, is_earlier: true, lapse: if is_as_left { None } else { Some(REPLACED) } });
    }
    // The link is for another cgroup, or one that is gone. The new one is attached before it goes.
    let held = attach(program, hook, cgroup)?;
    let beside = path.with_file_name(format!("{}-new", file_name(path)));
    // A start that was cut short here may have left one.
    let _ = fs::remove_file(&beside);
    bpf::pin(&beside, held.link.as_fd())?;
    fs::rename(&beside, path)?;
    // The link of another cgroup is in force there.
    let is_detached = before.is_some_and(|before| before.cgroup == 0);
    Ok(HeldProgram { lapse: is_detached.then_some(DETACHED), ..held })
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Pins a program in the place of an earlier one. The link keeps it in force, not the pin.
pub(super) fn pin_program(program: &Program, path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    Ok(bpf::pin(path, program.fd()?.as_fd())?)
}
