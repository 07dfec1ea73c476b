//! The tables of pins: written, read, and found again.

use std::collections::{HashMap as ByNumber, HashSet};
use std::os::fd::AsRawFd;

use anyhow::{Context as _, bail};
use aya::Ebpf;
use aya::maps::{HashMap, MapData, PerCpuArray, PerCpuValues, RingBuf};
use aya::util::nr_cpus;
use bmp_ebpf::{
    Counters, DENY_OWN, EGRESS_MAX, InetAddress, InetFamily, KeyHistory, NO_SLOT, PIN_LIVE, Pin, PinKey, table,
};
use tracing::warn;

use super::counters::sum;
use super::object::find;
use super::slots::{Inherited, PinSlot, SlotBook};
use super::tags::TagTable;
use super::target::SocketOwner;
use super::vrfs::VrfTable;
use super::written::{WrittenArray, WrittenMap};

/// The owner of a free slot.
const NOBODY: PinKey =
    PinKey { netns: 0, vrf: 0, family: InetFamily::NONE, role: 0, port: 0, station: InetAddress::UNSPECIFIED };

/// The tables that hold sessions to their pins, and the book of slots.
pub(super) struct Tables {
    pub(super) pins: WrittenMap<PinKey, u32>,
    slots: WrittenArray<Pin>,
    owners: WrittenArray<PinKey>,
    pub(super) vrfs: VrfTable,
    pub(super) tags: TagTable,
    counters: PerCpuArray<MapData, Counters>,
    history: HashMap<MapData, PinKey, KeyHistory>,
    events: Option<RingBuf<MapData>>,
    pub(super) book: SlotBook,
    /// Slots that an earlier bmpd left and nobody has decided about yet, by number.
    inherited: ByNumber<u32, Inherited>,
    /// Keys that an earlier bmpd denied without a slot, and that nobody has decided about yet.
    inherited_denials: HashSet<PinKey>,
}

impl Tables {
    /// Takes the tables, with `slots` slots, out of those of the object file.
    pub(super) fn take(ebpf: &mut Ebpf, slots: u32) -> anyhow::Result<Self> {
        Ok(Self {
            pins: WrittenMap::take(ebpf, table::PINS)?,
            slots: WrittenArray::take(ebpf, table::SLOTS, slots, Pin::default())?,
            owners: WrittenArray::take(ebpf, table::OWNERS, slots, NOBODY)?,
            vrfs: VrfTable::take(ebpf)?,
            tags: TagTable::take(ebpf)?,
            counters: find(ebpf.take_map(table::COUNTERS), table::COUNTERS)?.try_into()?,
            history: find(ebpf.take_map(table::HISTORY), table::HISTORY)?.try_into()?,
            events: Some(find(ebpf.take_map(table::EVENTS), table::EVENTS)?.try_into()?),
            book: SlotBook::new(slots),
            inherited: ByNumber::new(),
            inherited_denials: HashSet::new(),
        })
    }

    /// Finds the slots that an earlier bmpd left, and returns how many are in use.
    pub(super) fn restore(&mut self) -> anyhow::Result<usize> {
        self.pins.inherit()?;
        for number in NO_SLOT + 1..self.book.count() {
            let (pin, key) = (self.slots.inherit(number)?, self.owners.inherit(number)?);
            let slot = self.book.restore(number, pin.generation, pin.is_live());
            if pin.is_live() {
                let in_force = self.slot_of(&key) == Some(number);
                let counters = self.counters(number);
                self.inherited.insert(number, Inherited { key, number, pin, in_force, counters });
            } else if let Some(slot) = slot {
                // bmpd may have died between the end of the slot's pin and the entry in the
                // history.
                self.remember(&key, &slot);
            }
        }
        let denials = self.pins.written().iter().filter(|(_, number)| **number >= DENY_OWN);
        self.inherited_denials = denials.map(|(key, _)| *key).collect();
        for key in self.keys_without_a_pin() {
            warn!("a key of table PINS leads to an empty slot: it is removed");
            self.forget(&key)?;
        }
        let forgotten = |key: &Result<PinKey, _>| key.as_ref().is_ok_and(|key| self.slot_of(key).is_none());
        let forgotten: Vec<_> = self.history.keys().filter(forgotten).collect();
        for key in forgotten {
            self.history.remove(&key?)?;
        }
        Ok(self.inherited.len())
    }

    /// Returns the keys that lead to free slots. No order of writing leaves any.
    fn keys_without_a_pin(&self) -> Vec<PinKey> {
        let is_free = |number: u32| number < DENY_OWN && self.book.held(number).is_none();
        self.pins.written().iter().filter(|(_, number)| is_free(**number)).map(|(key, _)| *key).collect()
    }

    /// Returns the slot that the key leads to.
    fn slot_of(&self, key: &PinKey) -> Option<u32> {
        self.pins.written().get(key).copied()
    }

    /// See [`Datapath::inherited`](super::Datapath::inherited).
    pub(super) fn inherited(&self) -> Vec<Inherited> {
        let mut all: Vec<_> = self.inherited.values().cloned().collect();
        all.sort_by_key(|inherited| inherited.number);
        all
    }

    /// See [`Datapath::adopt`](super::Datapath::adopt).
    pub(super) fn adopt(&mut self, key: &PinKey, pin: &Pin) -> Option<PinSlot> {
        let plain = |pin: &Pin| Pin { generation: 0, flags: pin.flags & !PIN_LIVE, ..*pin };
        let number = self.slot_of(key)?;
        self.inherited.get(&number).filter(|found| plain(&found.pin) == plain(pin))?;
        self.inherited.remove(&number)?;
        self.book.held(number)
    }

    /// See [`Datapath::retire`](super::Datapath::retire).
    pub(super) fn retire(&mut self) -> Vec<(PinKey, PinSlot)> {
        let mut retired = Vec::with_capacity(self.inherited.len());
        for (number, inherited) in std::mem::take(&mut self.inherited) {
            if self.slot_of(&inherited.key) == Some(number)
                && let Err(error) = self.forget(&inherited.key)
            {
                warn_of_slot(number, "its pin stays in force", error.as_ref());
            }
            retired.extend(self.book.held(number).map(|slot| (inherited.key, slot)));
        }
        for key in std::mem::take(&mut self.inherited_denials) {
            if let Err(error) = self.forget(&key) {
                warn!("a denial of an earlier bmpd stays in force: {error:#}");
            }
        }
        retired
    }

    /// See [`Datapath::place`](super::Datapath::place).
    pub(super) fn place(&mut self, pin: Pin) -> anyhow::Result<PinSlot> {
        if pin.egress_count as usize > EGRESS_MAX {
            bail!("a pin names at most {EGRESS_MAX} interfaces, not {}", pin.egress_count);
        }
        let Some(slot) = self.book.take() else {
            bail!(
                "all {} slots of the kernel tables are taken: some are free again within seconds",
                self.book.count() - 1
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

    fn write(&mut self, pin: Pin, slot: &PinSlot) -> anyhow::Result<()> {
        let context = || format!("cannot write slot {} of the kernel tables", slot.number);
        let cpus = nr_cpus().map_err(|(_, error)| error)?;
        let zero = PerCpuValues::try_from(vec![Counters::default(); cpus])?;
        self.counters.set(slot.number, zero, 0).with_context(context)?;
        self.owners.set(slot.number, NOBODY).with_context(context)?;
        self.write_pin(slot.number, Pin { generation: slot.generation, ..pin })
    }

    /// Writes a pin whole and not live first, and then the one bit: the kernel copies a value piece
    /// by piece, and a socket of the slot's earlier pin must not see a live mixture.
    fn write_pin(&mut self, number: u32, pin: Pin) -> anyhow::Result<()> {
        let context = || format!("cannot write slot {number} of the kernel tables");
        self.slots.set(number, Pin { flags: pin.flags & !PIN_LIVE, ..pin }).with_context(context)?;
        self.slots.set(number, Pin { flags: pin.flags | PIN_LIVE, ..pin }).with_context(context)
    }

    /// See [`Datapath::point`](super::Datapath::point).
    pub(super) fn point(&mut self, key: &PinKey, slot: &PinSlot) -> anyhow::Result<()> {
        if !slot.is_shared_denial() {
            self.owners.set(slot.number, *key).context("cannot write table OWNERS of the kernel")?;
        }
        self.pins.insert(*key, slot.number).context("cannot write table PINS of the kernel")?;
        self.inherited_denials.remove(key);
        Ok(())
    }

    /// See [`Datapath::remove`](super::Datapath::remove).
    pub(super) fn remove(&mut self, key: &PinKey, slot: &PinSlot) -> anyhow::Result<()> {
        if self.slot_of(key) == Some(slot.number) { self.forget(key) } else { Ok(()) }
    }

    /// Takes a key out of the table, and its history.
    fn forget(&mut self, key: &PinKey) -> anyhow::Result<()> {
        self.pins.remove(key).context("cannot write table PINS of the kernel")?;
        // Most keys have none.
        let _ = self.history.remove(key);
        Ok(())
    }

    /// See [`Datapath::free`](super::Datapath::free).
    pub(super) fn free(&mut self, slot: &PinSlot) -> Counters {
        if !self.book.holds(slot) {
            return Counters::default();
        }
        let keys = self.pins.written().iter().filter(|(_, number)| **number == slot.number);
        let keys: Vec<PinKey> = keys.map(|(key, _)| *key).collect();
        for key in keys {
            if let Err(error) = self.forget(&key) {
                warn_of_slot(slot.number, "it stays taken", error.as_ref());
                return self.counters(slot.number);
            }
        }
        // First the slot is not live any more, then it is read: nothing is counted after that.
        let gone = Pin { generation: slot.generation, ..Pin::default() };
        if let Err(error) = self.slots.set(slot.number, gone) {
            warn_of_slot(slot.number, "it stays taken", &error);
            return self.counters(slot.number);
        }
        match self.owners.get(slot.number) {
            Ok(key) => self.remember(&key, slot),
            Err(error) => warn_of_slot(slot.number, "its counters are not remembered", &error),
        }
        self.book.give_back(slot);
        self.counters(slot.number)
    }

    /// Adds the last reading of a slot to the history of its key, once, if the key still has a pin.
    /// The slot then has no owner.
    fn remember(&mut self, key: &PinKey, slot: &PinSlot) {
        let failed = |error| warn_of_slot(slot.number, "its counters are not remembered", &error);
        if *key == NOBODY {
            return;
        }
        if self.slot_of(key).is_some() {
            let mut history = self.history.get(key, 0).unwrap_or_default();
            if (history.slot, history.generation) != (slot.number, slot.generation) {
                history.counters += self.counters(slot.number);
                (history.slot, history.generation) = (slot.number, slot.generation);
                if let Err(error) = self.history.insert(key, history, 0) {
                    return failed(error);
                }
            }
        }
        if let Err(error) = self.owners.set(slot.number, NOBODY) {
            failed(error);
        }
    }

    /// See [`Datapath::history`](super::Datapath::history).
    pub(super) fn history(&self, key: &PinKey) -> Counters {
        self.history.get(key, 0).map(|history| history.counters).unwrap_or_default()
    }

    /// Returns a slot's counters, summed over CPUs.
    pub(super) fn counters(&self, slot: u32) -> Counters {
        match self.counters.get(&slot, 0) {
            Ok(cpus) => sum(&cpus),
            Err(error) => {
                warn_of_slot(slot, "its counters cannot be read", &error);
                Counters::default()
            }
        }
    }

    /// See [`Datapath::tag`](super::Datapath::tag).
    pub(super) fn tag(&mut self, socket: &impl AsRawFd, slot: &PinSlot, owner: SocketOwner) -> anyhow::Result<()> {
        self.tags.tag(socket, slot, &self.book, owner)
    }

    /// See [`Datapath::retag`](super::Datapath::retag).
    pub(super) fn retag(&mut self, socket: &impl AsRawFd, from: &PinSlot, to: &PinSlot) -> anyhow::Result<bool> {
        self.tags.retag(socket, from, to, &self.book)
    }

    /// See [`Datapath::confirm`](super::Datapath::confirm).
    pub(super) fn confirm(&mut self, socket: &impl AsRawFd, key: &PinKey) -> anyhow::Result<()> {
        if self.tags.is_held(socket)? { Ok(()) } else { self.admit(socket, key) }
    }

    /// See [`Datapath::admit`](super::Datapath::admit).
    pub(super) fn admit(&mut self, socket: &impl AsRawFd, key: &PinKey) -> anyhow::Result<()> {
        let slot = self.slot_of(key).and_then(|number| self.book.held(number));
        let slot = slot.context("the session has no pin any more")?;
        if self.slots.get(slot.number)?.denies() {
            bail!("the session is denied");
        }
        self.tag(socket, &slot, SocketOwner::Bmpd)
    }

    /// Returns the ring of events to the first caller.
    pub(super) fn take_events(&mut self) -> Option<RingBuf<MapData>> {
        self.events.take()
    }

    /// Compares the tables with what was written. Returns the tables that differ, and in how many
    /// entries. Of the slots the taken ones alone are compared: no key leads to another.
    pub(super) fn differences(&self) -> anyhow::Result<Vec<(&'static str, usize)>> {
        let taken: Vec<u32> = self.book.taken().collect();
        Ok(vec![
            (table::PINS, self.pins.differences()?.len()),
            (table::SLOTS, self.slots.differences(&taken)?.len()),
            (table::OWNERS, self.owners.differences(&taken)?.len()),
            (table::VRFS, self.vrfs.0.differences()?.len()),
        ])
    }

    /// Writes the tables again where they differ. The keys come last: they lead to the rest.
    pub(super) fn mend(&mut self) -> anyhow::Result<()> {
        let taken: Vec<u32> = self.book.taken().collect();
        for (number, pin) in self.slots.differences(&taken)? {
            self.write_pin(number, pin)?;
        }
        for (number, key) in self.owners.differences(&taken)? {
            self.owners.set(number, key).context("cannot write table OWNERS of the kernel")?;
        }
        self.vrfs.0.mend()?;
        self.pins.mend()
    }

    #[cfg(test)]
    pub(super) fn overwrite(&mut self, slot: &PinSlot, pin: Pin) {
        let pin = Pin { generation: slot.generation, flags: pin.flags | PIN_LIVE, ..pin };
        self.slots.overwrite(slot.number, pin);
    }
}

/// Logs that a write or a reading failed that should not fail.
fn warn_of_slot(slot: u32, what: &str, error: &dyn std::error::Error) {
    warn!("slot {slot}: {what}: {error}");
}
