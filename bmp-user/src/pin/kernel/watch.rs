//! Whether what was put into the kernel is there still: looked at every [`LOOK`], and mended.
//!
//! Root can take a link off its cgroup (`bpftool link detach`), put another program under it, or remove what is pinned in the BPF file system;
//! a cgroup can be removed, a file system unmounted. Entries of the tables
//! can be changed and removed too ([`super::book`]). Programs, tables and links that are pinned are held open here too, so that each can be put
//! back as it was.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use aya::Ebpf;
use bmp_ebpf::{program, table};
use tracing::{info, warn};

use super::home::{Home, Layout};
use super::load::{HOOKS, find, pin_program, tables};
use super::tables::Kernel;
use super::{Datapath, bpf, cgroup, guard, occupied};

/// How often it is looked at: some fifty system calls, however many sessions there are.
pub(in crate::pin) const LOOK: Duration = Duration::from_secs(2);

/// What is not as it was put into the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// When it was found.
    pub since: Instant,
    /// What is lost, in words.
    pub why: String,
    /// Whether sessions are held to their pins all the same, and only a bmpd that ends leaves them without.
    pub enforced: bool,
    /// Why it is not mended yet, in words.
    pub not_mended: Option<String>,
}

/// What was found since bmpd began.
#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    now: Option<Loss>,
    losses: u64,
}

impl Health {
    /// With `lapsed`, what an earlier bmpd left was lost while none ran.
    pub(super) fn begin(lapsed: bool) -> Self {
        Self { now: None, losses: lapsed.into() }
    }
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A program's link holds it to the cgroup no more.
    Detached(&'static str),
    /// Another program is under its link.
    Replaced(&'static str),
    /// A guard's link holds it to the interface of this index no more, or another program is under it.
    Guard(u32),
    /// Something is not in the BPF file system.
    Unpinned(PathBuf),
    /// So many entries of the table of this name are others than were written, are missing, or do not belong there.
    Entries(&'static str, usize),
    /// A table cannot be compared: why.
    Unreadable(String),
}

impl Fault {
    fn in_words(&self) -> String {
        match self {
            Self::Detached(name) => format!("program {name} was detached from its cgroup"),
            Self::Replaced(name) => format!("another program is in the place of {name}"),
            Self::Guard(ifindex) => format!("program guard was taken off interface {ifindex}"),
            Self::Unpinned(path) => format!("{} was removed", path.display()),
            Self::Entries(name, 1) => format!("an entry of table {name} was removed or changed"),
            Self::Entries(name, count) => format!("{count} entries of table {name} were removed or changed"),
            Self::Unreadable(why) => why.clone(),
        }
    }

    /// Without a guard strangers are refused by the listener's own program.
    fn is_enforced(&self) -> bool {
        matches!(self, Self::Guard(_) | Self::Unpinned(_) | Self::Entries(table::GUARDED, _))
    }
}

/// What mending did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pin) enum Mended {
    /// Nothing was lost.
    Nothing,
    /// All is as it was, and sessions were held to their pins meanwhile.
    Pins,
    /// All is as it was, and connections may have been made meanwhile that no program saw.
    Enforcement,
    /// Something is lost still.
    NotYet,
}

/// What is held to the cgroup, and what is pinned.
pub(super) struct Watched {
    /// As [`HOOKS`].
    links: Vec<OwnedFd>,
    cgroup_id: u64,
    /// Ids of the programs, by name.
    programs: BTreeMap<&'static str, u32>,
    /// The tables that are pinned, by name.
    tables: Vec<(&'static str, OwnedFd)>,
    /// Device and inode of each pinned object.
    pinned: BTreeMap<PathBuf, (u64, u64)>,
}

impl Watched {
    pub(super) fn new(links: Vec<OwnedFd>, programs: &Ebpf, layout: Option<&Layout>) -> anyhow::Result<Self> {
        let cgroup_id = links.first().map(bpf::link_info).transpose()?.map_or(0, |info| info.cgroup);
        let id_of = |name| anyhow::Ok((name, find(programs.program(name), name)?.info()?.id()));
        let programs = program_names().map(id_of).collect::<Result<_, _>>()?;
        let mut watched = Self { links, cgroup_id, programs, tables: Vec::new(), pinned: BTreeMap::new() };
        if let Some(layout) = layout {
            for name in tables() {
                let path = layout.table(name);
                watched.tables.push((name, bpf::open(&path).with_context(|| path.display().to_string())?));
            }
            watched.note(layout);
        }
        Ok(watched)
    }

    /// Remembers what is pinned now.
    fn note(&mut self, layout: &Layout) {
        self.pinned = self.paths(layout).into_iter().filter_map(|path| Some((path.clone(), place(&path)?))).collect();
    }

    fn paths(&self, layout: &Layout) -> Vec<PathBuf> {
        let links = HOOKS.iter().map(|(name, _)| layout.link(name));
        let programs = program_names().map(|name| layout.program(name));
        links.chain(programs).chain(self.tables.iter().map(|(name, _)| layout.table(name))).collect()
    }

    /// Takes the programs off the cgroup, whoever else holds the links.
    pub(super) fn detach(&mut self) -> io::Result<()> {
        self.links.drain(..).try_for_each(|link| bpf::detach(&link))
    }
}

fn program_names() -> impl Iterator<Item = &'static str> {
    HOOKS.iter().map(|(name, _)| *name).chain([program::GUARD])
}

/// Device and inode of what a path leads to.
fn place(path: &Path) -> Option<(u64, u64)> {
    let found = fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

impl Datapath {
    /// Looks whether all is as it was put into the kernel. What is found is mended by the task that keeps the pins, at once.
    pub fn look(&self) -> Option<Loss> {
        let news = self.with(|kernel| {
            let was_lost = kernel.health.now.is_some();
            kernel.look(false);
            kernel.health.now.is_some() && !was_lost
        });
        if news == Some(true) {
            self.inner.lost.notify_one();
        }
        self.loss()
    }

    /// What was lost when it was last looked at.
    pub fn loss(&self) -> Option<Loss> {
        self.with(|kernel| kernel.health.now.clone()).flatten()
    }

    /// How often something was lost since bmpd began.
    pub fn losses(&self) -> u64 {
        self.with(|kernel| kernel.health.losses).unwrap_or_default()
    }

    /// Returns when [`Self::look`] has found something lost.
    pub(in crate::pin) async fn lost(&self) {
        self.inner.lost.notified().await;
    }

    /// Looks, and puts back what is lost.
    pub(in crate::pin) fn mend(&self) -> Mended {
        self.with(Kernel::look_and_mend).unwrap_or(Mended::Nothing)
    }
}

impl Kernel {
    /// With `afresh` all is looked at now; else it may be a moment since the tables were.
    fn faults(&mut self, afresh: bool) -> Vec<Fault> {
        let mut faults = Vec::new();
        for ((name, _), link) in HOOKS.iter().zip(&self.watched.links) {
            match bpf::link_info(link) {
                Ok(info) if info.cgroup == self.watched.cgroup_id => {
                    if self.watched.programs.get(name) != Some(&info.program) {
                        faults.push(Fault::Replaced(name));
                    }
                }
                _ => faults.push(Fault::Detached(name)),
            }
        }
        let guard = self.watched.programs.get(program::GUARD).copied().unwrap_or_default();
        faults.extend(self.guards.lost(guard).into_iter().map(Fault::Guard));
        if let Some(home) = &self.home {
            let layout = home.layout();
            let guards = self.guards.pinned().filter(|path| place(path).is_none());
            let is_lost = |path: &PathBuf| place(path).as_ref() != self.watched.pinned.get(path);
            let lost = self.watched.paths(&layout).into_iter().filter(is_lost);
            faults.extend(lost.chain(guards).map(Fault::Unpinned));
        }
        faults.extend(self.table_faults(afresh));
        faults
    }

    fn look(&mut self, afresh: bool) -> Vec<Fault> {
        let faults = self.faults(afresh);
        let Some(first) = faults.first() else { return faults };
        let more = match faults.len() {
            1 => String::new(),
            count => format!(", and {} more", count - 1),
        };
        let why = format!("{}{more}", first.in_words());
        let enforced = faults.iter().all(Fault::is_enforced);
        match &mut self.health.now {
            Some(loss) => {
                loss.why = why;
                loss.enforced &= enforced;
            }
            None => {
                self.health.losses += 1;
                match enforced {
                    true => warn!("what the kernel enforces would not outlive bmpd, or not as it should: {why}"),
                    false => warn!("the kernel does not enforce: {why}"),
                }
                self.health.now = Some(Loss { since: Instant::now(), why, enforced, not_mended: None });
            }
        }
        faults
    }

    fn look_and_mend(&mut self) -> Mended {
        let faults = self.look(true);
        let Some(loss) = self.health.now.clone() else { return Mended::Nothing };
        let mended = self.put_back(&faults).and_then(|()| match self.faults(true).first() {
            Some(fault) => bail!("{} again", fault.in_words()),
            None => Ok(()),
        });
        match mended {
            Ok(()) => {
                self.health.now = None;
                info!("what the kernel enforces is whole again after {:.1} s", loss.since.elapsed().as_secs_f64());
                if loss.enforced { Mended::Pins } else { Mended::Enforcement }
            }
            Err(error) => {
                let why = format!("{error:#}");
                if let Some(loss) = &mut self.health.now
                    && loss.not_mended.as_ref() != Some(&why)
                {
                    warn!("it is tried again every {} s, as it cannot be mended: {why}", LOOK.as_secs());
                    loss.not_mended = Some(why);
                }
                Mended::NotYet
            }
        }
    }

    /// The links first: it is they that hold the sessions.
    fn put_back(&mut self, faults: &[Fault]) -> anyhow::Result<()> {
        let mut anew = None;
        for (at, (name, attach_type)) in HOOKS.iter().enumerate() {
            let code = find(self.programs.program(name), name)?.fd()?.as_fd();
            let Some(link) = self.watched.links.get_mut(at) else { continue };
            if faults.contains(&Fault::Replaced(name)) {
                bpf::replace(link, code).with_context(|| format!("cannot put program {name} back"))?;
            } else if faults.contains(&Fault::Detached(name)) {
                let cgroup = match &anew {
                    Some(cgroup) => cgroup,
                    None => anew.insert(cgroup::open(self.cgroup.as_deref())?),
                };
                *link = occupied::attach(code, &cgroup.folder, *attach_type)
                    .with_context(|| format!("cannot attach program {name} again"))?;
                // What is pinned is the link that was detached.
                if let Some(home) = &self.home {
                    self.watched.pinned.remove(&home.layout().link(name));
                }
                self.watched.cgroup_id = bpf::link_info(link)?.cgroup;
            }
        }
        if let Some(cgroup) = anew {
            self.scope = cgroup.scope;
        }
        for fault in faults {
            if let Fault::Guard(ifindex) = fault {
                self.guards.put_back(guard::guard(&self.programs)?, *ifindex)?;
            }
        }
        if faults.iter().any(|fault| matches!(fault, Fault::Entries(..))) {
            self.mend_tables()?;
        }
        self.pin_again()
    }

    /// Pins what is not pinned, in the folder that this bmpd has locked.
    fn pin_again(&mut self) -> anyhow::Result<()> {
        let Some(home) = &self.home else { return Ok(()) };
        if !home.is_there() {
            let path = home.path().to_owned();
            let anew = Home::open(Some(&path))?;
            self.home = anew;
        }
        let Some(home) = &self.home else { return Ok(()) };
        let layout = home.layout();
        layout.make().with_context(|| format!("cannot make {}", layout.path().display()))?;
        let is_lost = |path: &PathBuf| place(path).is_none() || place(path).as_ref() != self.watched.pinned.get(path);
        let pin = |path: &Path, object: std::os::fd::BorrowedFd<'_>| {
            let _ = fs::remove_file(path);
            bpf::pin(path, object).with_context(|| format!("cannot pin {}", path.display()))
        };
        for ((name, _), link) in HOOKS.iter().zip(&self.watched.links) {
            let path = layout.link(name);
            if is_lost(&path) {
                pin(&path, link.as_fd())?;
            }
        }
        for name in program_names() {
            let path = layout.program(name);
            if is_lost(&path) {
                pin_program(find(self.programs.program(name), name)?, &path)
                    .with_context(|| format!("cannot pin {}", path.display()))?;
            }
        }
        for (name, table) in &self.watched.tables {
            let path = layout.table(name);
            if is_lost(&path) {
                pin(&path, table.as_fd())?;
            }
        }
        self.guards.pin_again()?;
        self.watched.note(&layout);
        Ok(())
    }
}
