//! The sizes of tables, and larger tables in the place of those that an earlier bmpd left.
//!
//! Tables never shrink: a bmpd that is started for fewer sessions takes the tables as they are. For
//! more sessions it makes larger tables beside them, and fills them with what is in force. Then it
//! puts the programs that use them under the links. Sockets keep their tags: their table has no
//! size.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapInfo, PerCpuArray};
use bmp_ebpf::{Counters, KeyHistory, NO_SLOT, PIN_LIVE, Pin, PinKey, keys_for, slots_for, table};

use super::counters::sum;
use super::home::Layout;
use super::object::find;

/// How many sessions the kernel tables have room for: `--sessions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Room(u32);

impl Room {
    /// The largest, which takes some 16 MiB of kernel memory for each CPU.
    pub const MAX: u32 = 65_536;

    /// Returns `None` for no sessions, and for more than [`Self::MAX`].
    pub fn new(sessions: u32) -> Option<Self> {
        (1..=Self::MAX).contains(&sessions).then_some(Self(sessions))
    }

    /// Returns the number of sessions.
    pub fn sessions(self) -> usize {
        self.0 as usize
    }
}

impl Default for Room {
    fn default() -> Self {
        Self(bmp_ebpf::SESSIONS)
    }
}

impl std::str::FromStr for Room {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || format!("a number from 1 to {} is expected", Self::MAX);
        text.parse().ok().and_then(Self::new).ok_or_else(refused)
    }
}

impl std::fmt::Display for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Tables with an entry for each key.
const BY_KEY: [&str; 2] = [table::PINS, table::HISTORY];
/// Tables with an entry for each slot.
const BY_SLOT: [&str; 3] = [table::SLOTS, table::OWNERS, table::COUNTERS];

/// The sizes of the tables whose size depends on the sessions.
pub(super) struct TableSizes {
    /// Entries by name.
    entries: BTreeMap<&'static str, u32>,
    /// The tables that are there and too small.
    growing: Vec<&'static str>,
}

impl TableSizes {
    /// Returns the sizes for a folder that may hold some of the tables already.
    pub(super) fn of(room: Room, layout: Option<&Layout>) -> anyhow::Result<Self> {
        let mut sizes = Self { entries: BTreeMap::new(), growing: Vec::new() };
        let all = BY_KEY.map(|name| (name, keys_for(room.0))).into_iter();
        for (name, wanted) in all.chain(BY_SLOT.map(|name| (name, slots_for(room.0)))) {
            let path = layout.map(|layout| layout.table(name)).filter(|path| path.exists());
            let found = match path {
                Some(path) => MapInfo::from_pin(&path).with_context(|| path.display().to_string())?.max_entries(),
                None => wanted,
            };
            if found < wanted {
                sizes.growing.push(name);
            }
            sizes.entries.insert(name, found.max(wanted));
        }
        Ok(sizes)
    }

    /// Returns how many entries a table gets; `None` if its size does not depend on the sessions.
    pub(super) fn of_table(&self, name: &str) -> Option<u32> {
        self.entries.get(name).copied()
    }

    /// Returns how many slots there are.
    pub(super) fn slots(&self) -> u32 {
        BY_SLOT.iter().filter_map(|name| self.of_table(name)).min().unwrap_or_default()
    }

    /// Returns where a table is pinned until [`Self::replace`].
    pub(super) fn path(&self, layout: &Layout, name: &str) -> PathBuf {
        if self.growing.contains(&name) { layout.table(&format!("{name}-larger")) } else { layout.table(name) }
    }

    /// Removes larger tables that a start which was cut short has left.
    pub(super) fn clear(&self, layout: &Layout) -> anyhow::Result<()> {
        for name in &self.growing {
            let path = self.path(layout, name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Fills the larger tables with what is in force. Call it before their programs run.
    pub(super) fn fill(&self, ebpf: &mut Ebpf, layout: &Layout) -> anyhow::Result<()> {
        for name in &self.growing {
            fill(name, old(layout, name)?, find(ebpf.map_mut(name), name)?)
                .with_context(|| format!("cannot fill a larger table {name}"))?;
        }
        Ok(())
    }

    /// Puts the larger tables in the place of the smaller ones. Call it when their programs run.
    pub(super) fn replace(&self, ebpf: &mut Ebpf, layout: &Layout) -> anyhow::Result<()> {
        if self.growing.contains(&table::COUNTERS) {
            keep_counted(ebpf, layout).context("cannot keep what was counted in a smaller table")?;
        }
        for name in &self.growing {
            let (from, to) = (self.path(layout, name), layout.table(name));
            fs::rename(&from, &to).with_context(|| format!("cannot move {} to {}", from.display(), to.display()))?;
        }
        Ok(())
    }
}

/// Opens a pinned table.
fn old(layout: &Layout, name: &str) -> anyhow::Result<MapData> {
    let path = layout.table(name);
    MapData::from_pin(&path).with_context(|| path.display().to_string())
}

fn fill(name: &str, from: MapData, to: &mut Map) -> anyhow::Result<()> {
    match name {
        table::PINS => {
            let (from, mut to) = (HashMap::<_, PinKey, u32>::try_from(Map::HashMap(from))?, HashMap::try_from(to)?);
            from.iter().try_for_each(|entry| entry.and_then(|(key, slot)| to.insert(key, slot, 0)))?;
        }
        table::HISTORY => {
            let (from, mut to) =
                (HashMap::<_, PinKey, KeyHistory>::try_from(Map::HashMap(from))?, HashMap::try_from(to)?);
            from.iter().try_for_each(|entry| entry.and_then(|(key, history)| to.insert(key, history, 0)))?;
        }
        table::SLOTS => {
            let (from, mut to) = (Array::<_, Pin>::try_from(Map::Array(from))?, Array::try_from(to)?);
            (0..from.len()).try_for_each(|slot| to.set(slot, from.get(&slot, 0)?, 0))?;
        }
        table::OWNERS => {
            let (from, mut to) = (Array::<_, PinKey>::try_from(Map::Array(from))?, Array::try_from(to)?);
            (0..from.len()).try_for_each(|slot| to.set(slot, from.get(&slot, 0)?, 0))?;
        }
        // Slot 0 has no owner. `keep_counted` keeps the counters of the others.
        table::COUNTERS => {
            let from = PerCpuArray::<_, Counters>::try_from(Map::PerCpuArray(from))?;
            PerCpuArray::try_from(to)?.set(NO_SLOT, from.get(&NO_SLOT, 0)?, 0)?;
        }
        _ => bail!("nothing says how a larger table {name} gets the entries of the smaller one"),
    }
    Ok(())
}

/// Adds the counters of slots in use to the history of their keys. The larger table counts from
/// zero, so that no count made while it was filled is lost.
fn keep_counted(ebpf: &mut Ebpf, layout: &Layout) -> anyhow::Result<()> {
    let counters = PerCpuArray::<_, Counters>::try_from(Map::PerCpuArray(old(layout, table::COUNTERS)?))?;
    let slots = Array::<_, Pin>::try_from(Map::Array(old(layout, table::SLOTS)?))?;
    let owners = Array::<_, PinKey>::try_from(Map::Array(old(layout, table::OWNERS)?))?;
    let pins = HashMap::<_, PinKey, u32>::try_from(Map::HashMap(old(layout, table::PINS)?))?;
    let mut history: HashMap<_, PinKey, KeyHistory> = find(ebpf.map_mut(table::HISTORY), table::HISTORY)?.try_into()?;
    for slot in NO_SLOT + 1..counters.len().min(slots.len()).min(owners.len()) {
        let key = owners.get(&slot, 0)?;
        if slots.get(&slot, 0)?.flags & PIN_LIVE == 0 || pins.get(&key, 0).is_err() {
            continue;
        }
        let mut counted = history.get(&key, 0).map(|history| history.counters).unwrap_or_default();
        counted += sum(&counters.get(&slot, 0)?);
        history.insert(key, KeyHistory { counters: counted, slot: NO_SLOT, generation: 0 }, 0)?;
    }
    Ok(())
}
