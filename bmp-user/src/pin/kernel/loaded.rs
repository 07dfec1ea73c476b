//! The programs and tables in the kernel: loaded, looked at, mended, and ended.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use aya::Ebpf;
use bmp_ebpf::{PinKey, program, table};
use tokio::task::AbortHandle;
use tracing::{info, warn};

use super::cgroup::{Cgroup, Scope};
use super::health::{Health, KernelFault, LOOK, Mended};
use super::held::HeldObjects;
use super::home::{FolderRefusal, Home, Layout};
use super::load::{Loaded, load};
use super::object;
use super::options::{DatapathMode, DatapathOptions};
use super::slots::PinSlot;
use super::tables::Tables;
use super::xdp_guards::{Guards, Hook, NoGuard};
use super::{cgroup, log};
use crate::pin::privilege;

/// For how long `display` takes a comparison of the tables as new. One that found something is not
/// repeated for it: the loss is known.
pub(super) const FRESH: Duration = Duration::from_millis(500);

/// The programs and tables in the kernel.
pub(super) struct LoadedPrograms {
    pub(super) programs: Ebpf,
    held: HeldObjects,
    pub(super) health: Health,
    /// `--cgroup`.
    cgroup: Option<PathBuf>,
    /// The processes of which the programs see the sockets.
    pub(super) scope: Scope,
    home: Option<Home>,
    pub(super) guards: Guards,
    pub(super) tables: Tables,
    pub(super) taken_over: bool,
    /// When the tables were last compared with what was written.
    compared: Option<Instant>,
    log: Option<AbortHandle>,
}

impl LoadedPrograms {
    /// Loads the programs and attaches them, or takes over from an earlier bmpd.
    pub(super) fn load(options: &DatapathOptions, netns: u64) -> anyhow::Result<Self> {
        privilege::check()?;
        Self::try_load(options, netns)
            .map_err(|error| if error.is::<FolderRefusal>() { error } else { privilege::explain(error) })
    }

    fn try_load(options: &DatapathOptions, netns: u64) -> anyhow::Result<Self> {
        let cgroup = cgroup::open(options.cgroup.as_deref())?;
        if options.mode == DatapathMode::Ebpf
            && let Scope::Cgroup { why } = &cgroup.scope
        {
            bail!("the programs would see a part of this host alone: {why}");
        }
        let home = Home::open(options.bpffs.as_deref())?;
        let result = load(&cgroup.folder, home.as_ref(), options.room).and_then(|loaded| {
            let is_fresh = !loaded.taken_over;
            let assembled = Self::assemble(loaded, options, netns, home.as_ref().map(Home::layout));
            if assembled.is_err()
                && is_fresh
                && let Some(home) = &home
            {
                // The first error is the one to tell.
                let _ = Home::remove(home.layout().path());
            }
            assembled
        });
        let mut kernel = match result {
            Ok(kernel) => kernel,
            Err(error) => {
                if let Some(home) = home {
                    home.give_up();
                }
                return Err(error);
            }
        };
        kernel.home = home;
        kernel.scope = cgroup.scope;
        if kernel.taken_over {
            kernel.restore()?;
        }
        Ok(kernel)
    }

    fn assemble(loaded: Loaded, options: &DatapathOptions, netns: u64, layout: Option<Layout>) -> anyhow::Result<Self> {
        let Loaded { mut ebpf, links, taken_over, has_lapsed, slots } = loaded;
        Ok(Self {
            tables: Tables::take(&mut ebpf, slots)?,
            guards: Guards::take(&mut ebpf, netns)?,
            held: HeldObjects::new(links, &ebpf, layout.as_ref())?,
            health: Health::new(has_lapsed),
            programs: ebpf,
            cgroup: options.cgroup.clone(),
            scope: Scope::Host,
            home: None,
            taken_over,
            compared: None,
            log: None,
        })
    }

    /// Begins to hand the programs' log lines on to `log`.
    pub(super) fn follow_log(&mut self) {
        if self.log.is_none() {
            self.log = log::forward(&mut self.programs);
        }
    }

    /// Takes over what an earlier bmpd left in the tables and on interfaces.
    fn restore(&mut self) -> anyhow::Result<()> {
        let slots = self
            .tables
            .restore()
            .context("cannot read the tables that an earlier bmpd left (`bmpd detach` removes them)")?;
        let Some(home) = &self.home else { return Ok(()) };
        let layout = home.layout();
        info!("took over {} from an earlier bmpd: {slots} slots are in use", layout.path().display());
        self.guards.inherit(object::program(&self.programs, program::GUARD)?, &layout)
    }

    /// See [`Datapath::retire`](super::Datapath::retire).
    pub(super) fn retire(&mut self) -> Vec<(PinKey, PinSlot)> {
        let retired = self.tables.retire();
        for folder in self.home.iter().flat_map(Home::others) {
            match Home::remove(&folder) {
                Ok(removed) => info!("{} is replaced: removed its {removed}", folder.display()),
                Err(error) => warn!("what another version of bmpd left stays in force: {error:#}"),
            }
        }
        retired
    }

    /// See [`Datapath::attach_guard`](super::Datapath::attach_guard).
    pub(super) fn attach_guard(&mut self, ifindex: u32, native: bool) -> Result<Hook, NoGuard> {
        let code = object::program(&self.programs, program::GUARD).map_err(NoGuard::Other)?;
        self.guards.attach(code, self.home.as_ref().map(Home::layout), ifindex, native)
    }

    /// Looks for faults, and records them. With `afresh`, the tables are compared now; else a
    /// comparison of a moment ago will do.
    pub(super) fn look(&mut self, afresh: bool) -> Vec<KernelFault> {
        let faults = self.faults(afresh);
        self.health.record(&faults);
        faults
    }

    fn faults(&mut self, afresh: bool) -> Vec<KernelFault> {
        let mut faults = self.held.link_faults();
        let guard = self.held.program_id(program::GUARD);
        faults.extend(self.guards.lost(guard).into_iter().map(KernelFault::Guard));
        if let Some(home) = &self.home {
            let guards = self.guards.pinned().filter(|path| std::fs::symlink_metadata(path).is_err());
            faults.extend(self.held.unpinned(&home.layout()).chain(guards).map(KernelFault::Unpinned));
        }
        faults.extend(self.table_faults(afresh));
        faults
    }

    fn table_faults(&mut self, afresh: bool) -> Vec<KernelFault> {
        if !afresh && self.compared.is_some_and(|compared| compared.elapsed() < FRESH) {
            return Vec::new();
        }
        self.compared = Some(Instant::now());
        let guarded = || anyhow::Ok((table::GUARDED, self.guards.guarded.differences()?.len()));
        match self.tables.differences().and_then(|tables| Ok((tables, guarded()?))) {
            Ok((tables, guarded)) => {
                let differ = tables.into_iter().chain([guarded]).filter(|(_, count)| *count > 0);
                differ.map(|(name, count)| KernelFault::Entries(name, count)).collect()
            }
            Err(error) => vec![KernelFault::Unreadable(format!("{error:#}"))],
        }
    }

    /// Looks, and puts back what is lost.
    pub(super) fn mend(&mut self) -> Mended {
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

    /// Puts back what is lost. The links come first: they hold the sessions.
    fn put_back(&mut self, faults: &[KernelFault]) -> anyhow::Result<()> {
        let layout = self.home.as_ref().map(Home::layout);
        let cgroup = || cgroup::open(self.cgroup.as_deref());
        let opened = self.held.put_back(faults, &self.programs, layout.as_ref(), cgroup)?;
        if let Some(Cgroup { scope, .. }) = opened {
            self.scope = scope;
        }
        for fault in faults {
            if let KernelFault::Guard(ifindex) = fault {
                self.guards.put_back(object::program(&self.programs, program::GUARD)?, *ifindex)?;
            }
        }
        if faults.iter().any(|fault| matches!(fault, KernelFault::Entries(..))) {
            self.guards.guarded.mend()?;
            self.tables.mend()?;
        }
        self.pin_again()
    }

    /// Pins everything that is not pinned any more, in the folder that this bmpd has locked.
    fn pin_again(&mut self) -> anyhow::Result<()> {
        let Some(home) = &self.home else { return Ok(()) };
        if !home.is_there() {
            let path = home.path().to_owned();
            self.home = Home::open(Some(&path))?;
        }
        let Some(home) = &self.home else { return Ok(()) };
        let layout = home.layout();
        layout.make().with_context(|| format!("cannot make {}", layout.path().display()))?;
        self.held.pin_again(&self.programs, &layout)?;
        self.guards.pin_again()
    }

    /// See [`Datapath::detach`](super::Datapath::detach): everything but guards stays in force. The
    /// listeners behind the guards end with this process.
    pub(super) fn leave(mut self) -> anyhow::Result<()> {
        self.guards.leave()
    }

    /// See [`Datapath::detach`](super::Datapath::detach).
    pub(super) fn detach(mut self) -> anyhow::Result<()> {
        // Also where links are pinned and somebody holds them open.
        self.held.detach().context("cannot detach a BPF program from the cgroup")?;
        self.guards.detach_all()?;
        let Some(home) = self.home.take() else { return Ok(()) };
        for folder in home.all() {
            Home::remove(&folder)?;
        }
        home.give_up();
        Ok(())
    }
}

impl Drop for LoadedPrograms {
    fn drop(&mut self) {
        if let Some(log) = &self.log {
            log.abort();
        }
    }
}
