//! The links, programs and tables that bmpd holds open, so that it can put each back.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use aya::Ebpf;

use super::cgroup::Cgroup;
use super::health::KernelFault;
use super::home::Layout;
use super::load::pin_program;
use super::object::{CGROUP_PROGRAMS, TABLES, program, program_names};
use super::{bpf, occupied};

/// The file that a path leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

/// Returns the file that a path leads to.
fn file_id(path: &Path) -> Option<FileId> {
    let found = fs::symlink_metadata(path).ok()?;
    Some(FileId { device: found.dev(), inode: found.ino() })
}

/// A pinned table.
struct HeldTable {
    name: &'static str,
    object: OwnedFd,
}

/// The links to the cgroup, and all pinned objects but those of guards.
pub(super) struct HeldObjects {
    /// Of [`CGROUP_PROGRAMS`].
    links: Vec<OwnedFd>,
    cgroup_id: u64,
    /// Ids of the programs, by name.
    programs: BTreeMap<&'static str, u32>,
    tables: Vec<HeldTable>,
    pinned: BTreeMap<PathBuf, FileId>,
}

impl HeldObjects {
    pub(super) fn new(links: Vec<OwnedFd>, programs: &Ebpf, layout: Option<&Layout>) -> anyhow::Result<Self> {
        let cgroup_id = links.first().map(bpf::link_info).transpose()?.map_or(0, |info| info.cgroup);
        let id_of = |name| anyhow::Ok((name, program(programs, name)?.info()?.id()));
        let programs = program_names().map(id_of).collect::<Result<_, _>>()?;
        let mut held = Self { links, cgroup_id, programs, tables: Vec::new(), pinned: BTreeMap::new() };
        if let Some(layout) = layout {
            for name in TABLES.map(|table| table.name) {
                let path = layout.table(name);
                let object = bpf::open(&path).with_context(|| path.display().to_string())?;
                held.tables.push(HeldTable { name, object });
            }
            held.note_pinned(layout);
        }
        Ok(held)
    }

    /// Remembers what is pinned now.
    fn note_pinned(&mut self, layout: &Layout) {
        let pinned = self.paths(layout).into_iter();
        self.pinned = pinned.filter_map(|path| file_id(&path).map(|file| (path, file))).collect();
    }

    fn paths(&self, layout: &Layout) -> Vec<PathBuf> {
        let links = CGROUP_PROGRAMS.iter().map(|program| layout.link(program.name));
        let programs = program_names().map(|name| layout.program(name));
        let tables = self.tables.iter().map(|table| layout.table(table.name));
        links.chain(programs).chain(tables).collect()
    }

    /// Returns the id of a program.
    pub(super) fn program_id(&self, name: &str) -> u32 {
        self.programs.get(name).copied().unwrap_or_default()
    }

    /// Returns the faults of links.
    pub(super) fn link_faults(&self) -> Vec<KernelFault> {
        let mut faults = Vec::new();
        for (program, link) in CGROUP_PROGRAMS.iter().zip(&self.links) {
            match bpf::link_info(link) {
                Ok(info) if info.cgroup == self.cgroup_id => {
                    if info.program != self.program_id(program.name) {
                        faults.push(KernelFault::Replaced(program.name));
                    }
                }
                _ => faults.push(KernelFault::Detached(program.name)),
            }
        }
        faults
    }

    /// Returns the pinned objects that are not there any more.
    pub(super) fn unpinned(&self, layout: &Layout) -> impl Iterator<Item = PathBuf> {
        let is_lost = |path: &PathBuf| file_id(path).as_ref() != self.pinned.get(path);
        self.paths(layout).into_iter().filter(is_lost)
    }

    /// Puts programs back under their links, and replaces detached links. `open_cgroup` is asked
    /// for the cgroup if there is one of those.
    pub(super) fn put_back(
        &mut self,
        faults: &[KernelFault],
        programs: &Ebpf,
        layout: Option<&Layout>,
        open_cgroup: impl Fn() -> anyhow::Result<Cgroup>,
    ) -> anyhow::Result<Option<Cgroup>> {
        let mut opened: Option<Cgroup> = None;
        for (hook, link) in CGROUP_PROGRAMS.iter().zip(&mut self.links) {
            let name = hook.name;
            let code = program(programs, name)?.fd()?.as_fd();
            if faults.contains(&KernelFault::Replaced(name)) {
                bpf::replace(link, code).with_context(|| format!("cannot put program {name} back"))?;
            } else if faults.contains(&KernelFault::Detached(name)) {
                let cgroup = match &opened {
                    Some(cgroup) => cgroup,
                    None => opened.insert(open_cgroup()?),
                };
                *link = occupied::attach(code, &cgroup.folder, hook.attach_type)
                    .with_context(|| format!("cannot attach program {name} again"))?;
                // The pinned link is the detached one.
                if let Some(layout) = layout {
                    self.pinned.remove(&layout.link(name));
                }
                self.cgroup_id = bpf::link_info(link)?.cgroup;
            }
        }
        Ok(opened)
    }

    /// Pins everything that is not pinned any more.
    pub(super) fn pin_again(&mut self, programs: &Ebpf, layout: &Layout) -> anyhow::Result<()> {
        let is_lost = |path: &Path| {
            let file = file_id(path);
            file.is_none() || file.as_ref() != self.pinned.get(path)
        };
        for (program, link) in CGROUP_PROGRAMS.iter().zip(&self.links) {
            let path = layout.link(program.name);
            if is_lost(&path) {
                pin(&path, link.as_fd())?;
            }
        }
        for name in program_names() {
            let path = layout.program(name);
            if is_lost(&path) {
                pin_program(program(programs, name)?, &path)
                    .with_context(|| format!("cannot pin {}", path.display()))?;
            }
        }
        for table in &self.tables {
            let path = layout.table(table.name);
            if is_lost(&path) {
                pin(&path, table.object.as_fd())?;
            }
        }
        self.note_pinned(layout);
        Ok(())
    }

    /// Takes the programs off the cgroup, whoever else holds the links.
    pub(super) fn detach(&mut self) -> io::Result<()> {
        self.links.drain(..).try_for_each(|link| bpf::detach(&link))
    }
}

fn pin(path: &Path, object: BorrowedFd<'_>) -> anyhow::Result<()> {
    let _ = fs::remove_file(path);
    bpf::pin(path, object).with_context(|| format!("cannot pin {}", path.display()))
}
