//! The tables of the programs: written, read, and found again.

use std::collections::{BTreeMap, BTreeSet, HashMap as ByNumber, HashSet};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray, PerCpuValues, RingBuf, SkStorage};
use aya::util::nr_cpus;
use aya_log::EbpfLogger;
use bmp_ebpf::{
    Counters, DENY_OWN, EGRESS_MAX, InetAddress, InetFamily, KeyHistory, LinkKey, NO_SLOT, PIN_LIVE, Pin, PinKey,
    TAG_OWN, Tag, table,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tracing::{debug, info, warn};

use super::book::Book;
use super::cgroup::{Cgroup, Scope};
use super::guard::{Guards, guard};
use super::home::{Home, Layout, Refused};
use super::load::{Loaded, find, load};
use super::slots::Slots;
use super::watch::{Health, Watched};
use super::{super::privilege, Inherited, Mode, Options, Owner, Slot, Untold, cgroup, unexpected};
use crate::tasks;

/// The owner of a slot that is free.
pub(super) const NOBODY: PinKey =
    PinKey { netns: 0, vrf: 0, family: InetFamily::NONE, role: 0, port: 0, station: InetAddress::UNSPECIFIED };

/// The loaded programs, their tables, and the book of slots.
pub(super) struct Kernel {
    pub(super) programs: Ebpf,
    pub(super) watched: Watched,
    pub(super) health: Health,
    /// `--cgroup`.
    pub(super) cgroup: Option<PathBuf>,
    /// Whose sockets the programs see.
    pub(super) scope: Scope,
    pub(super) home: Option<Home>,
    pub(super) guards: Guards,
    pub(super) book: Book,
    pub(super) pins: HashMap<MapData, PinKey, u32>,
    pub(super) pin_slots: Array<MapData, Pin>,
    tags: SkStorage<MapData, Tag>,
    counters: PerCpuArray<MapData, Counters>,
    pub(super) owners: Array<MapData, PinKey>,
    history: HashMap<MapData, PinKey, KeyHistory>,
    pub(super) vrfs: HashMap<MapData, LinkKey, u32>,
    events: Option<RingBuf<MapData>>,
    pub(super) slots: Slots,
    /// What an earlier bmpd left and nobody has decided about yet, by slot number.
    inherited: ByNumber<u32, Inherited>,
    /// Keys that an earlier bmpd denied without a slot, and that nobody has decided about yet.
    inherited_denials: HashSet<PinKey>,
    taken_over: bool,
    log: Option<AbortHandle>,
}

impl Kernel {
    /// Loads the programs and attaches them, or takes over from an earlier bmpd.
    pub(super) fn load(options: &Options, netns: u64) -> anyhow::Result<Self> {
        privilege::check()?;
        Self::try_load(options, netns)
            .map_err(|error| if error.is::<Refused>() { error } else { privilege::explain(error) })
    }

    fn try_load(options: &Options, netns: u64) -> anyhow::Result<Self> {
        let Cgroup { folder: cgroup, scope } = cgroup::open(options.cgroup.as_deref())?;
        if options.mode == Mode::Ebpf
            && let Scope::Cgroup { why } = &scope
        {
            bail!("the programs would see a part of this host alone: {why}");
        }
        let home = Home::open(options.bpffs.as_deref())?;
        let result = load(&cgroup, home.as_ref(), options.room).and_then(|loaded| {
            let fresh = !loaded.taken_over;
            let kernel = Self::assemble(loaded, netns, home.as_ref().map(Home::layout));
            if kernel.is_err()
                && fresh
                && let Some(home) = &home
            {
                // The error to tell is the first one.
                let _ = Home::remove(home.layout().path());
            }
            kernel
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
        kernel.cgroup.clone_from(&options.cgroup);
        kernel.scope = scope;
        if kernel.taken_over {
            kernel
                .restore()
                .context("cannot read the tables that an earlier bmpd left (`bmpd detach` removes them)")?;
            if let Some(home) = &kernel.home {
                kernel.guards.inherit(guard(&kernel.programs)?, &home.layout())?;
            }
        }
        Ok(kernel)
    }

    fn assemble(loaded: Loaded, netns: u64, layout: Option<Layout>) -> anyhow::Result<Self> {
        let mut ebpf = loaded.ebpf;
        let log = forward_log(&mut ebpf);
        Ok(Self {
            book: Book::new(&ebpf, loaded.slots)?,
            pins: find(ebpf.take_map(table::PINS), table::PINS)?.try_into()?,
            pin_slots: find(ebpf.take_map(table::SLOTS), table::SLOTS)?.try_into()?,
            tags: find(ebpf.take_map(table::TAGS), table::TAGS)?.try_into()?,
            counters: find(ebpf.take_map(table::COUNTERS), table::COUNTERS)?.try_into()?,
            owners: find(ebpf.take_map(table::OWNERS), table::OWNERS)?.try_into()?,
            history: find(ebpf.take_map(table::HISTORY), table::HISTORY)?.try_into()?,
            vrfs: find(ebpf.take_map(table::VRFS), table::VRFS)?.try_into()?,
            events: Some(find(ebpf.take_map(table::EVENTS), table::EVENTS)?.try_into()?),
            slots: Slots::new(loaded.slots),
            inherited: ByNumber::new(),
            inherited_denials: HashSet::new(),
            taken_over: loaded.taken_over,
            log,
            watched: Watched::new(loaded.links, &ebpf, layout.as_ref())?,
            health: Health::begin(!loaded.lapsed.is_empty()),
            cgroup: None,
            scope: Scope::Host,
            home: None,
            guards: Guards::new(&mut ebpf, netns)?,
            programs: ebpf,
        })
    }

    /// Finds the slots that an earlier bmpd left.
    fn restore(&mut self) -> anyhow::Result<()> {
        for entry in self.pins.iter() {
            let (key, number) = entry?;
            self.slots.lead(key, number);
        }
        for number in NO_SLOT + 1..self.slots.count() {
            let (pin, key) = (self.pin_slots.get(&number, 0)?, self.owners.get(&number, 0)?);
            let live = pin.flags & PIN_LIVE != 0;
            let slot = self.slots.restore(number, pin.generation, live);
            self.book.set_slot(number, pin);
            self.book.set_owner(number, key);
            if live {
                let in_force = self.slots.number_of(&key) == Some(number);
                let counters = self.counters(number);
                self.inherited.insert(number, Inherited { key, number, pin, in_force, counters });
            } else if let Some(slot) = slot {
                // Between the end of its pin and the entry in the history there is a moment in which bmpd can die.
                self.remember(&key, &slot);
            }
        }
        self.inherited_denials = self.slots.keys_denied().collect();
        for key in self.slots.keys_to_no_pin() {
            warn!("a key of table PINS leads to an empty slot: it is removed");
            self.forget(&key)?;
        }
        let forgotten = |key: &Result<PinKey, _>| key.as_ref().is_ok_and(|key| self.slots.number_of(key).is_none());
        let forgotten: Vec<_> = self.history.keys().filter(forgotten).collect();
        for key in forgotten {
            self.history.remove(&key?)?;
        }
        if let Some(home) = &self.home {
            info!(
                "took over {} from an earlier bmpd: {} slots are in use",
                home.layout().path().display(),
                self.inherited.len()
            );
        }
        Ok(())
    }

    /// See [`super::Datapath::inherited`].
    pub(super) fn inherited(&self) -> Vec<Inherited> {
        let mut all: Vec<_> = self.inherited.values().cloned().collect();
        all.sort_by_key(|inherited| inherited.number);
        all
    }

    /// See [`super::Datapath::taken_over`].
    pub(super) fn taken_over(&self) -> bool {
        self.taken_over
    }

    /// See [`super::Datapath::adopt`].
    pub(super) fn adopt(&mut self, key: &PinKey, pin: &Pin) -> Option<Slot> {
        let plain = |pin: &Pin| Pin { generation: 0, flags: pin.flags & !PIN_LIVE, ..*pin };
        let number = self.slots.number_of(key)?;
        self.inherited.get(&number).filter(|found| plain(&found.pin) == plain(pin))?;
        self.inherited.remove(&number)?;
        self.slots.held(number)
    }

    /// See [`super::Datapath::retire`].
    pub(super) fn retire(&mut self) -> Vec<(PinKey, Slot)> {
        let mut retired = Vec::with_capacity(self.inherited.len());
        for (number, inherited) in std::mem::take(&mut self.inherited) {
            if self.slots.number_of(&inherited.key) == Some(number)
                && let Err(error) = self.forget(&inherited.key)
            {
                unexpected("its pin stays in force", number, error.as_ref());
            }
            retired.extend(self.slots.held(number).map(|slot| (inherited.key, slot)));
        }
        for key in std::mem::take(&mut self.inherited_denials) {
            if let Err(error) = self.forget(&key) {
                warn!("a denial of an earlier bmpd stays in force: {error:#}");
            }
        }
        for folder in self.home.iter().flat_map(Home::others) {
            match Home::remove(&folder) {
                Ok(removed) => info!("{} is replaced: removed its {removed}", folder.display()),
                Err(error) => warn!("what another version of bmpd left stays in force: {error:#}"),
            }
        }
        retired
    }

    /// See [`super::Datapath::place`].
    pub(super) fn place(&mut self, pin: Pin) -> anyhow::Result<Slot> {
        if pin.egress_count as usize > EGRESS_MAX {
            bail!("a pin names at most {EGRESS_MAX} interfaces, not {}", pin.egress_count);
        }
        let Some(slot) = self.slots.take() else {
            bail!(
                "all {} slots of the kernel tables are taken: some are free again within seconds",
                self.slots.count() - 1
            );
        };
        match self.write(pin, &slot) {
            Ok(()) => Ok(slot),
            Err(error) => {
                self.free(&slot);
                Err(error)
            }
        }
    }

    /// See [`super::Datapath::point`].
    pub(super) fn point(&mut self, key: &PinKey, slot: &Slot) -> anyhow::Result<()> {
        if slot.number < DENY_OWN {
            self.set_owner(slot.number, *key).context("cannot write table OWNERS of the kernel")?;
        }
        self.pins.insert(key, slot.number, 0).context("cannot write table PINS of the kernel")?;
        self.slots.lead(*key, slot.number);
        self.inherited_denials.remove(key);
        Ok(())
    }

    /// See [`super::Datapath::has_free_slot`].
    pub(super) fn has_free_slot(&self) -> bool {
        self.slots.has_free()
    }

    fn write(&mut self, pin: Pin, slot: &Slot) -> anyhow::Result<()> {
        let refused = || format!("cannot write slot {} of the kernel tables", slot.number);
        let zero = PerCpuValues::try_from(vec![Counters::default(); nr_cpus().map_err(|(_, error)| error)?])?;
        self.counters.set(slot.number, zero, 0).with_context(refused)?;
        self.set_owner(slot.number, NOBODY).with_context(refused)?;
        // The kernel copies a value piece by piece. A socket of the slot's earlier pin must not see a live mixture: so the whole pin first, not
        // yet live, and then the one bit.
        let dormant = Pin { generation: slot.generation, flags: pin.flags & !PIN_LIVE, ..pin };
        self.pin_slots.set(slot.number, dormant, 0).with_context(refused)?;
        let live = Pin { flags: pin.flags | PIN_LIVE, ..dormant };
        self.pin_slots.set(slot.number, live, 0).with_context(refused)?;
        self.book.set_slot(slot.number, live);
        Ok(())
    }

    fn set_owner(&mut self, number: u32, key: PinKey) -> Result<(), MapError> {
        self.owners.set(number, key, 0)?;
        self.book.set_owner(number, key);
        Ok(())
    }

    /// See [`super::Datapath::remove`].
    pub(super) fn remove(&mut self, key: &PinKey, slot: &Slot) -> anyhow::Result<()> {
        if self.slots.leads(key, slot) { self.forget(key) } else { Ok(()) }
    }

    /// Takes a key out of the table, and its history.
    fn forget(&mut self, key: &PinKey) -> anyhow::Result<()> {
        match self.pins.remove(key) {
            Ok(()) | Err(MapError::KeyNotFound) => {
                self.slots.forget(key);
                // There is mostly none.
                let _ = self.history.remove(key);
                Ok(())
            }
            Err(error) => Err(error).context("cannot write table PINS of the kernel"),
        }
    }

    /// See [`super::Datapath::free`].
    pub(super) fn free(&mut self, slot: &Slot) -> Counters {
        if !self.slots.holds(slot) {
            return Counters::default();
        }
        for key in self.slots.keys_of(slot) {
            if let Err(error) = self.forget(&key) {
                unexpected("it stays taken", slot.number, error.as_ref());
                return self.counters(slot.number);
            }
        }
        // Not live first, then the reading: nothing is counted after it.
        let gone = Pin { generation: slot.generation, ..Pin::default() };
        if let Err(error) = self.pin_slots.set(slot.number, gone, 0) {
            unexpected("it stays taken", slot.number, &error);
            return self.counters(slot.number);
        }
        self.book.set_slot(slot.number, gone);
        match self.owners.get(&slot.number, 0) {
            Ok(key) => self.remember(&key, slot),
            Err(error) => unexpected("its counters are not remembered", slot.number, &error),
        }
        self.slots.give_back(slot);
        self.counters(slot.number)
    }

    /// Adds the last reading of a slot to the history of its key, once, if the key still has a pin; and ends the slot's ownership.
    fn remember(&mut self, key: &PinKey, slot: &Slot) {
        let failed = |error| unexpected("its counters are not remembered", slot.number, &error);
        if *key == NOBODY {
            return;
        }
        if self.slots.number_of(key).is_some() {
            let mut history = self.history.get(key, 0).unwrap_or_default();
            if (history.slot, history.generation) != (slot.number, slot.generation) {
                let mut counters = history.counters;
                counters += self.counters(slot.number);
                history = KeyHistory { counters, slot: slot.number, generation: slot.generation };
                if let Err(error) = self.history.insert(key, history, 0) {
                    return failed(error);
                }
            }
        }
        if let Err(error) = self.set_owner(slot.number, NOBODY) {
            failed(error);
        }
    }

    /// See [`super::Datapath::history`].
    pub(super) fn history(&self, key: &PinKey) -> Counters {
        self.history.get(key, 0).map(|history| history.counters).unwrap_or_default()
    }

    /// A slot's counters, summed over CPUs.
    pub(super) fn counters(&self, slot: u32) -> Counters {
        match self.counters.get(&slot, 0) {
            Ok(values) => sum(&values),
            Err(error) => {
                unexpected("its counters cannot be read", slot, &error);
                Counters::default()
            }
        }
    }

    #[cfg(test)]
    pub(super) fn overwrite(&mut self, slot: &Slot, pin: Pin) {
        let pin = Pin { generation: slot.generation, flags: pin.flags | PIN_LIVE, ..pin };
        self.pin_slots.set(slot.number, pin, 0).unwrap();
    }

    #[cfg(test)]
    pub(super) fn slot_of(&self, key: &PinKey) -> Option<u32> {
        self.pins.get(key, 0).ok()
    }

    /// See [`super::Datapath::set_vrfs`].
    pub(super) fn set_vrfs(
        &mut self,
        netns: u64,
        vrfs: &BTreeMap<u32, u32>,
        first: &BTreeSet<u32>,
    ) -> Result<(), Untold> {
        let mut untold = Untold { vrfs: BTreeSet::new(), why: None };
        // They take room.
        let is_known = |key: &LinkKey| key.netns != netns || vrfs.contains_key(&key.ifindex);
        let unknown: Vec<_> = self.book.vrfs.keys().filter(|key| !is_known(key)).copied().collect();
        for key in unknown {
            match self.vrfs.remove(&key) {
                Ok(()) | Err(MapError::KeyNotFound) => drop(self.book.vrfs.remove(&key)),
                // What it says of a number that no interface has does no harm.
                Err(error) => untold.why = Some(error),
            }
        }
        // Those that sessions are in, and in each the VRF device, which sockets are bound to.
        let mut wanted: Vec<(&u32, &u32)> = vrfs.iter().collect();
        wanted.sort_by_key(|(ifindex, vrf)| (!first.contains(vrf), ifindex != vrf));
        for (&ifindex, &vrf) in wanted {
            let key = LinkKey { netns, ifindex, reserved: 0 };
            if self.book.vrfs.get(&key) == Some(&vrf) {
                continue;
            }
            match self.insert_vrf(key, vrf, first) {
                Ok(()) => drop(self.book.vrfs.insert(key, vrf)),
                Err(error) => {
                    untold.vrfs.insert(vrf);
                    untold.why = Some(error);
                }
            }
        }
        if untold.why.is_none() { Ok(()) } else { Err(untold) }
    }

    /// Where there is no room for an interface of a VRF that sessions are in, another's goes.
    fn insert_vrf(&mut self, key: LinkKey, vrf: u32, first: &BTreeSet<u32>) -> Result<(), MapError> {
        let inserted = self.vrfs.insert(key, vrf, 0);
        if inserted.is_ok() || !first.contains(&vrf) {
            return inserted;
        }
        let other = self.book.vrfs.iter().find(|(_, vrf)| !first.contains(vrf)).map(|(key, _)| *key);
        let Some(other) = other else { return inserted };
        self.vrfs.remove(&other)?;
        self.book.vrfs.remove(&other);
        self.vrfs.insert(key, vrf, 0)
    }

    /// See [`super::Datapath::claim`].
    pub(super) fn claim(&mut self, socket: &impl AsRawFd) -> anyhow::Result<()> {
        let tag = Tag { slot: NO_SLOT, flags: TAG_OWN, process: std::process::id(), ..Tag::default() };
        self.set_tag(socket, tag).context("cannot mark the socket as bmpd's own")
    }

    /// See [`super::Datapath::tag`].
    pub(super) fn tag(&mut self, socket: &impl AsRawFd, slot: &Slot, owner: Owner) -> anyhow::Result<()> {
        if !self.slots.holds(slot) {
            bail!("slot {} is free: no socket can be put under it", slot.number);
        }
        let (flags, process) = match owner {
            Owner::Bmpd => (TAG_OWN, std::process::id()),
            Owner::Process(id) => (0, id),
        };
        let tag = Tag { slot: slot.number, generation: slot.generation, flags, process, netns: 0 };
        self.set_tag(socket, tag).with_context(|| format!("cannot put the socket under slot {}", slot.number))
    }

    pub(super) fn set_tag(&mut self, socket: &impl AsRawFd, tag: Tag) -> anyhow::Result<()> {
        Ok(self.tags.insert(socket, tag, 0)?)
    }

    /// See [`super::Datapath::retag`].
    pub(super) fn retag(&mut self, socket: &impl AsRawFd, from: &Slot, to: &Slot) -> anyhow::Result<bool> {
        let Some(tag) = self.tag_under(socket, from)? else { return Ok(false) };
        if !self.slots.holds(to) {
            bail!("slot {} is free: no socket can be put under it", to.number);
        }
        let tag = Tag { slot: to.number, generation: to.generation, ..tag };
        self.tags.insert(socket, tag, 0).with_context(|| format!("cannot put a socket under slot {}", to.number))?;
        Ok(true)
    }

    /// Whether a socket is under any slot.
    pub(super) fn is_held(&self, socket: &impl AsRawFd) -> anyhow::Result<bool> {
        match self.tags.get(socket, 0) {
            Ok(tag) => Ok(tag.slot != NO_SLOT),
            Err(MapError::KeyNotFound) => Ok(false),
            Err(error) => Err(error).context("cannot read a socket's tag"),
        }
    }

    /// The tag of a socket that is under a slot.
    pub(super) fn tag_under(&self, socket: &impl AsRawFd, slot: &Slot) -> anyhow::Result<Option<Tag>> {
        match self.tags.get(socket, 0) {
            Ok(tag) => Ok(Some(tag).filter(|tag| (tag.slot, tag.generation) == (slot.number, slot.generation))),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error).context("cannot read a socket's tag"),
        }
    }

    /// The ring of events, for the first who asks.
    pub(super) fn take_events(&mut self) -> Option<RingBuf<MapData>> {
        self.events.take()
    }

    /// See [`super::Datapath::detach`]: what is in force stays, but for the guards of listeners, which end with this process.
    pub(super) fn leave(mut self) -> anyhow::Result<()> {
        self.guards.leave()
    }

    /// See [`super::Datapath::detach`].
    pub(super) fn detach(mut self) -> anyhow::Result<()> {
        // Also where links are pinned and somebody holds them open.
        self.watched.detach().context("cannot detach a BPF program from the cgroup")?;
        self.guards.detach_all()?;
        let Some(home) = self.home.take() else { return Ok(()) };
        for folder in home.all() {
            Home::remove(&folder)?;
        }
        home.give_up();
        Ok(())
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        if let Some(log) = &self.log {
            log.abort();
        }
    }
}

/// Adds up what the CPUs counted.
pub(super) fn sum(cpus: &PerCpuValues<Counters>) -> Counters {
    let mut sum = Counters::default();
    cpus.iter().for_each(|of_cpu| sum += *of_cpu);
    sum
}

/// Hands what the programs log on to `log`, until the task is aborted.
fn forward_log(ebpf: &mut Ebpf) -> Option<AbortHandle> {
    if Handle::try_current().is_err() {
        debug!("no runtime: the kernel programs' log is not read");
        return None;
    }
    let logger = match EbpfLogger::init(ebpf) {
        Ok(logger) => logger,
        Err(error) => {
            warn!("the kernel programs' log cannot be read: {error}");
            return None;
        }
    };
    // SAFETY: the descriptor is the logger's ring buffer, which the logger owns and keeps open until it is dropped.
    let registered = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let mut logger = match registered {
        Ok(logger) => logger,
        Err(error) => {
            warn!("the kernel programs' log cannot be waited for: {error}");
            return None;
        }
    };
    let task = tasks::forever("kernel log", async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
    Some(task.abort_handle())
}
