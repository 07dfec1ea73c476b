//! The programs and tables themselves.

use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray, PerCpuValues, SkStorage};
use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSockAddr, ProgramError};
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use bmp_ebpf::{
    Counters, EGRESS_MAX, NO_SLOT, PIN_LIVE, Pin, PinKey, SLOTS_MAX, TAG_OWN, Tag, Traffic, program, table,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tracing::{debug, warn};

use super::slots::Slots;
use super::{super::privilege, Slot, cgroup, unexpected};

/// The object file that the build script made.
static PROGRAMS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bmp-programs"));

/// The loaded programs, their tables, and the book of slots.
pub(super) struct Kernel {
    /// Holds the programs and their links, which end with it.
    _programs: Ebpf,
    pins: HashMap<MapData, PinKey, u32>,
    pin_slots: Array<MapData, Pin>,
    tags: SkStorage<MapData, Tag>,
    counters: PerCpuArray<MapData, Counters>,
    slots: Slots,
    log: Option<AbortHandle>,
}

impl Kernel {
    /// Loads the programs and attaches them.
    pub(super) fn load(cgroup: Option<&Path>) -> anyhow::Result<Self> {
        privilege::check()?;
        Self::try_load(cgroup).map_err(privilege::explain)
    }

    fn try_load(cgroup: Option<&Path>) -> anyhow::Result<Self> {
        let cgroup = cgroup::open(cgroup)?;
        let mut ebpf = EbpfLoader::new().load(PROGRAMS).context("cannot make the BPF tables")?;
        // `connect` comes last: no socket is tagged before its packets are looked at.
        for (name, attach_type) in
            [(program::EGRESS, CgroupSkbAttachType::Egress), (program::INGRESS, CgroupSkbAttachType::Ingress)]
        {
            let program: &mut CgroupSkb = find(ebpf.program_mut(name), name)?.try_into()?;
            loaded(name, program.load())?;
            let attached = program.attach(&cgroup, attach_type, CgroupAttachMode::Single);
            attached.with_context(|| format!("cannot attach the BPF program `{name}` to the cgroup"))?;
        }
        for name in [program::CONNECT4, program::CONNECT6] {
            let program: &mut CgroupSockAddr = find(ebpf.program_mut(name), name)?.try_into()?;
            loaded(name, program.load())?;
            let attached = program.attach(&cgroup, CgroupAttachMode::Single);
            attached.with_context(|| format!("cannot attach the BPF program `{name}` to the cgroup"))?;
        }
        let log = forward_log(&mut ebpf);
        Ok(Self {
            pins: find(ebpf.take_map(table::PINS), table::PINS)?.try_into()?,
            pin_slots: find(ebpf.take_map(table::SLOTS), table::SLOTS)?.try_into()?,
            tags: find(ebpf.take_map(table::TAGS), table::TAGS)?.try_into()?,
            counters: find(ebpf.take_map(table::COUNTERS), table::COUNTERS)?.try_into()?,
            slots: Slots::new(),
            log,
            _programs: ebpf,
        })
    }

    /// See [`super::Datapath::place`].
    pub(super) fn place(&mut self, pin: Pin) -> anyhow::Result<Slot> {
        if pin.egress_count as usize > EGRESS_MAX {
            bail!("a pin names at most {EGRESS_MAX} interfaces, not {}", pin.egress_count);
        }
        let Some(slot) = self.slots.take() else {
            bail!("all {} slots of the kernel tables are taken: some are free again within seconds", SLOTS_MAX - 1);
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
        self.pins.insert(key, slot.number, 0).context("cannot write table PINS of the kernel")?;
        self.slots.lead(*key, slot);
        Ok(())
    }

    fn write(&mut self, pin: Pin, slot: &Slot) -> anyhow::Result<()> {
        let refused = || format!("cannot write slot {} of the kernel tables", slot.number);
        let zero = PerCpuValues::try_from(vec![Counters::default(); nr_cpus().map_err(|(_, error)| error)?])?;
        self.counters.set(slot.number, zero, 0).with_context(refused)?;
        // The kernel copies a value piece by piece. A socket of the slot's earlier pin must not see a live mixture: so the whole pin first, not
        // yet live, and then the one bit.
        let dormant = Pin { generation: slot.generation, flags: pin.flags & !PIN_LIVE, ..pin };
        self.pin_slots.set(slot.number, dormant, 0).with_context(refused)?;
        self.pin_slots.set(slot.number, Pin { flags: pin.flags | PIN_LIVE, ..dormant }, 0).with_context(refused)
    }

    /// See [`super::Datapath::remove`].
    pub(super) fn remove(&mut self, key: &PinKey, slot: &Slot) -> anyhow::Result<()> {
        if !self.slots.leads(key, slot) {
            return Ok(());
        }
        match self.pins.remove(key) {
            Ok(()) | Err(MapError::KeyNotFound) => {
                self.slots.forget(key);
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
            if let Err(error) = self.remove(&key, slot) {
                unexpected("it stays taken", slot.number, error.as_ref());
                return self.counters(slot.number);
            }
        }
        // Not live first, then the reading: nothing is counted after it.
        let gone = Pin { generation: slot.generation, ..Pin::default() };
        match self.pin_slots.set(slot.number, gone, 0) {
            Ok(()) => self.slots.give_back(slot),
            Err(error) => unexpected("it stays taken", slot.number, &error),
        }
        self.counters(slot.number)
    }

    /// A slot's counters, summed over CPUs.
    pub(super) fn counters(&self, slot: u32) -> Counters {
        match self.counters.get(&slot, 0) {
            Ok(values) => values.iter().fold(Counters::default(), |sum, of_cpu| add(&sum, of_cpu)),
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

    /// See [`super::Datapath::claim`].
    pub(super) fn claim(&mut self, socket: &impl AsRawFd) -> anyhow::Result<()> {
        let tag = Tag { slot: NO_SLOT, generation: 0, flags: TAG_OWN };
        self.tags.insert(socket, tag, 0).context("cannot mark the socket as bmpd's own")
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        if let Some(log) = &self.log {
            log.abort();
        }
    }
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

/// What is in the object file under this name.
fn find<T>(found: Option<T>, name: &str) -> anyhow::Result<T> {
    found.ok_or_else(|| anyhow!("the BPF object has no `{name}`: bmpd was built with other programs than its own"))
}

/// Hands what the programs log on to `log`, until the task is aborted.
fn forward_log(ebpf: &mut Ebpf) -> Option<AbortHandle> {
    let Ok(runtime) = Handle::try_current() else {
        debug!("no runtime: the kernel programs' log is not read");
        return None;
    };
    let logger = match EbpfLogger::init(ebpf) {
        Ok(logger) => logger,
        Err(error) => {
            warn!("the kernel programs' log cannot be read: {error}");
            return None;
        }
    };
    let task = runtime.spawn(async move {
        // SAFETY: the descriptor is the logger's ring buffer, which the logger owns and keeps open until it is dropped.
        let registered = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
        let mut logger = match registered {
            Ok(logger) => logger,
            Err(error) => return warn!("the kernel programs' log cannot be waited for: {error}"),
        };
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
    Some(task.abort_handle())
}

fn add(a: &Counters, b: &Counters) -> Counters {
    Counters {
        own_tx: add_traffic(&a.own_tx, &b.own_tx),
        own_rx: add_traffic(&a.own_rx, &b.own_rx),
        foreign_tx: add_traffic(&a.foreign_tx, &b.foreign_tx),
        foreign_rx: add_traffic(&a.foreign_rx, &b.foreign_rx),
        rx_elsewhere_packets: a.rx_elsewhere_packets + b.rx_elsewhere_packets,
        denied_interface: a.denied_interface + b.denied_interface,
        denied_source: a.denied_source + b.denied_source,
        denied_no_pin: a.denied_no_pin + b.denied_no_pin,
        retransmits: a.retransmits + b.retransmits,
        events_lost: a.events_lost + b.events_lost,
        // Not a sum: when something was last logged on any CPU.
        logged_ns: a.logged_ns.max(b.logged_ns),
    }
}

fn add_traffic(a: &Traffic, b: &Traffic) -> Traffic {
    Traffic {
        bytes: a.bytes + b.bytes,
        packets: a.packets + b.packets,
        buffers: a.buffers + b.buffers,
        payload_bytes: a.payload_bytes + b.payload_bytes,
    }
}
