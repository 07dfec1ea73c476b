//! What the tables are to hold, and where the kernel's differ: root can remove entries, change them, and add others (`bpftool map delete`).
//!
//! The book has every entry that bmpd wrote into tables `PINS`, `SLOTS`, `OWNERS`, `VRFS` and `GUARDED`. Tables are read whole, in a few
//! system calls each. Of the slots only the ones that are taken are compared: no key leads to another.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use aya::maps::Map;
use aya::{Ebpf, Pod};
use bmp_ebpf::{GuardKey, Guarded, LinkKey, PIN_LIVE, Pin, PinKey, table};

use super::bpf;
use super::load::find;
use super::tables::{Kernel, NOBODY};
use super::watch::Fault;

/// How long what was found about the tables is new enough for `display`.
pub(super) const FRESH: Duration = Duration::from_millis(500);

/// The entries of a table, of which bmpd is the only writer.
pub(super) type Entries<K, V> = HashMap<K, V>;

/// What the tables are to hold. Table `PINS` is in [`super::slots::Slots`], table `GUARDED` in [`super::guard::Guards`].
pub(super) struct Book {
    tables: Tables,
    /// By slot number.
    slots: Vec<Pin>,
    owners: Vec<PinKey>,
    pub(super) vrfs: Entries<LinkKey, u32>,
    /// When the tables were last compared.
    compared: Option<Instant>,
}

/// The tables, to be read whole.
struct Tables {
    pins: OwnedFd,
    slots: OwnedFd,
    owners: OwnedFd,
    vrfs: OwnedFd,
    guarded: OwnedFd,
}

impl Book {
    /// Of empty tables with so many slots. Call it before anybody takes the tables out of `ebpf`.
    pub(super) fn new(ebpf: &Ebpf, slots: u32) -> anyhow::Result<Self> {
        let open = |name: &str| match find(ebpf.map(name), name)? {
            Map::HashMap(data) | Map::Array(data) => Ok(data.fd().as_fd().try_clone_to_owned()?),
            _ => bail!("table {name} is of another type"),
        };
        let tables = Tables {
            pins: open(table::PINS)?,
            slots: open(table::SLOTS)?,
            owners: open(table::OWNERS)?,
            vrfs: open(table::VRFS)?,
            guarded: open(table::GUARDED)?,
        };
        let slots = slots as usize;
        Ok(Self {
            tables,
            slots: vec![Pin::default(); slots],
            owners: vec![NOBODY; slots],
            vrfs: Entries::new(),
            compared: None,
        })
    }

    /// Enters what was written into table `SLOTS`.
    pub(super) fn set_slot(&mut self, number: u32, pin: Pin) {
        if let Some(known) = self.slots.get_mut(number as usize) {
            *known = pin;
        }
    }

    /// Enters what was written into table `OWNERS`.
    pub(super) fn set_owner(&mut self, number: u32, key: PinKey) {
        if let Some(known) = self.owners.get_mut(number as usize) {
            *known = key;
        }
    }
}

/// Where a table differs from the book: the entry that is to be there, or `None` for one that is not.
type Differences<K, V> = Vec<(K, Option<V>)>;

/// Where the tables differ.
struct Changed {
    pins: Differences<PinKey, u32>,
    slots: Differences<u32, Pin>,
    owners: Differences<u32, PinKey>,
    vrfs: Differences<LinkKey, u32>,
    guarded: Differences<GuardKey, Guarded>,
}

impl Kernel {
    /// Compares the tables with the book. For `display` a comparison that was made a moment ago will do, which found nothing: what was
    /// found is known.
    pub(super) fn table_faults(&mut self, afresh: bool) -> Vec<Fault> {
        if !afresh && self.book.compared.is_some_and(|compared| compared.elapsed() < FRESH) {
            return Vec::new();
        }
        self.book.compared = Some(Instant::now());
        let changed = match self.changed() {
            Ok(changed) => changed,
            Err(error) => return vec![Fault::Unreadable(format!("{error:#}"))],
        };
        let counts = [
            (table::PINS, changed.pins.len()),
            (table::SLOTS, changed.slots.len()),
            (table::OWNERS, changed.owners.len()),
            (table::VRFS, changed.vrfs.len()),
            (table::GUARDED, changed.guarded.len()),
        ];
        counts.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| Fault::Entries(name, count)).collect()
    }

    fn changed(&self) -> anyhow::Result<Changed> {
        let Book { tables, slots, owners, vrfs, .. } = &self.book;
        let taken: Vec<u32> = self.slots.taken().collect();
        Ok(Changed {
            pins: of_hash(&tables.pins, self.slots.keys()).context("cannot read table PINS")?,
            slots: of_array(&tables.slots, slots, &taken).context("cannot read table SLOTS")?,
            owners: of_array(&tables.owners, owners, &taken).context("cannot read table OWNERS")?,
            vrfs: of_hash(&tables.vrfs, vrfs).context("cannot read table VRFS")?,
            guarded: of_hash(&tables.guarded, self.guards.book()).context("cannot read table GUARDED")?,
        })
    }

    /// Writes what the tables are to hold, where they hold something else: the keys last, which lead to the rest.
    pub(super) fn mend_tables(&mut self) -> anyhow::Result<()> {
        let changed = self.changed()?;
        for (number, pin) in changed.slots {
            let Some(pin) = pin else { continue };
            let refused = || format!("cannot write slot {number} of the kernel tables");
            // As when it is written first.
            self.pin_slots.set(number, Pin { flags: pin.flags & !PIN_LIVE, ..pin }, 0).with_context(refused)?;
            self.pin_slots.set(number, pin, 0).with_context(refused)?;
        }
        for (number, key) in changed.owners {
            if let Some(key) = key {
                self.owners.set(number, key, 0).context("cannot write table OWNERS of the kernel")?;
            }
        }
        mend(&mut self.vrfs, changed.vrfs).context("cannot write table VRFS of the kernel")?;
        self.guards.mend_table(changed.guarded)?;
        mend(&mut self.pins, changed.pins).context("cannot write table PINS of the kernel")
    }
}

/// Writes the entries of a hash table that differ.
pub(super) fn mend<K: Pod, V: Pod>(
    table: &mut aya::maps::HashMap<aya::maps::MapData, K, V>,
    differences: Differences<K, V>,
) -> Result<(), aya::maps::MapError> {
    // What does not belong there goes first: it takes room.
    let (wanted, strange): (Vec<_>, Vec<_>) = differences.into_iter().partition(|(_, value)| value.is_some());
    for (key, _) in strange {
        match table.remove(&key) {
            Ok(()) | Err(aya::maps::MapError::KeyNotFound) => {}
            Err(error) => return Err(error),
        }
    }
    wanted.into_iter().try_for_each(|(key, value)| value.map_or(Ok(()), |value| table.insert(key, value, 0)))
}

fn of_hash<K: Pod + Eq + Hash, V: Pod + PartialEq>(
    table: &OwnedFd,
    book: &Entries<K, V>,
) -> io::Result<Differences<K, V>> {
    let found: Vec<(K, V)> = bpf::entries(table, book.len() as u32 + 1)?;
    // So it is mostly.
    if found.len() == book.len() && found.iter().all(|(key, value)| book.get(key) == Some(value)) {
        return Ok(Vec::new());
    }
    let found: Entries<K, V> = found.into_iter().collect();
    let wrong =
        book.iter().filter(|(key, value)| found.get(key) != Some(value)).map(|(key, value)| (*key, Some(*value)));
    let strange = found.keys().filter(|key| !book.contains_key(key)).map(|key| (*key, None));
    Ok(wrong.chain(strange).collect())
}

/// `taken` is in order.
fn of_array<V: Pod + PartialEq>(table: &OwnedFd, book: &[V], taken: &[u32]) -> io::Result<Differences<u32, V>> {
    let (Some(first), Some(last)) = (taken.first(), taken.last()) else { return Ok(Vec::new()) };
    let found: Vec<(u32, V)> = bpf::part_of_array(table, *first, last - first + 1)?;
    let of = |number: &u32| {
        let wanted = *book.get(*number as usize)?;
        let is_right = found.get((number - first) as usize) == Some(&(*number, wanted));
        (!is_right).then_some((*number, Some(wanted)))
    };
    Ok(taken.iter().filter_map(of).collect())
}
