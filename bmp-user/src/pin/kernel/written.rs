//! Tables that bmpd alone writes, with a copy of what it wrote.
//!
//! Root can remove entries, change them, and add others (`bpftool map delete`). So the kernel's
//! tables are compared with the copies, and written again where they differ. Tables are read whole,
//! in a few system calls each.

use std::collections::HashMap as Copies;
use std::hash::Hash;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, bail};
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use aya::{Ebpf, Pod};

use super::bpf;
use super::object::find;

/// An entry of a hash table that differs from bmpd's copy.
pub(super) struct DifferentEntry<K, V> {
    key: K,
    /// The value that bmpd wrote; `None` if bmpd wrote no such entry.
    wanted: Option<V>,
}

/// A hash table.
pub(super) struct WrittenMap<K, V> {
    name: &'static str,
    table: HashMap<MapData, K, V>,
    /// The same table, for reading it whole.
    object: OwnedFd,
    written: Copies<K, V>,
}

impl<K: Pod + Eq + Hash, V: Pod + PartialEq> WrittenMap<K, V> {
    /// Takes the table of this name out of the object file's tables. Nothing is written yet.
    pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> anyhow::Result<Self> {
        let object = duplicate(ebpf, name)?;
        let table = find(ebpf.take_map(name), name)?.try_into()?;
        Ok(Self { name, table, object, written: Copies::new() })
    }

    /// Takes what an earlier bmpd left in the table as written.
    pub(super) fn inherit(&mut self) -> Result<(), MapError> {
        self.written = self.table.iter().collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Returns what bmpd wrote.
    pub(super) fn written(&self) -> &Copies<K, V> {
        &self.written
    }

    /// Reads the kernel's value.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.table.get(key, 0).ok()
    }

    /// Reads the kernel's entries.
    pub(super) fn entries(&self) -> impl Iterator<Item = Result<(K, V), MapError>> {
        self.table.iter()
    }

    /// Writes an entry.
    pub(super) fn insert(&mut self, key: K, value: V) -> Result<(), MapError> {
        self.table.insert(key, value, 0)?;
        self.written.insert(key, value);
        Ok(())
    }

    /// Removes an entry, if there is one.
    pub(super) fn remove(&mut self, key: &K) -> Result<(), MapError> {
        remove(&mut self.table, key)?;
        self.written.remove(key);
        Ok(())
    }

    /// Compares the table with the copy.
    pub(super) fn differences(&self) -> anyhow::Result<Vec<DifferentEntry<K, V>>> {
        let found: io::Result<Vec<(K, V)>> = bpf::entries(&self.object, self.written.len() as u32 + 1);
        let found = found.with_context(|| format!("cannot read table {}", self.name))?;
        // The common case.
        let is_written = |(key, value): &(K, V)| self.written.get(key) == Some(value);
        if found.len() == self.written.len() && found.iter().all(is_written) {
            return Ok(Vec::new());
        }
        let found: Copies<K, V> = found.into_iter().collect();
        let strange = found.keys().filter(|key| !self.written.contains_key(key));
        let strange = strange.map(|key| DifferentEntry { key: *key, wanted: None });
        let wrong = self.written.iter().filter(|(key, value)| found.get(key) != Some(value));
        let wrong = wrong.map(|(key, value)| DifferentEntry { key: *key, wanted: Some(*value) });
        // Strange entries go first: they take room.
        Ok(strange.chain(wrong).collect())
    }

    /// Writes what bmpd wrote where the table differs.
    pub(super) fn mend(&mut self) -> anyhow::Result<()> {
        for DifferentEntry { key, wanted } in self.differences()? {
            match wanted {
                Some(value) => self.table.insert(key, value, 0),
                None => remove(&mut self.table, &key),
            }
            .with_context(|| format!("cannot write table {} of the kernel", self.name))?;
        }
        Ok(())
    }
}

/// Removes an entry, if there is one.
fn remove<K: Pod, V: Pod>(table: &mut HashMap<MapData, K, V>, key: &K) -> Result<(), MapError> {
    match table.remove(key) {
        Err(MapError::KeyNotFound) => Ok(()),
        result => result,
    }
}

/// An array by slot.
pub(super) struct WrittenArray<V: Pod> {
    name: &'static str,
    table: Array<MapData, V>,
    /// The same table, for reading it whole.
    object: OwnedFd,
    written: Vec<V>,
}

impl<V: Pod + PartialEq> WrittenArray<V> {
    /// Takes the table of this name, in which `count` slots have the value `empty`, out of the
    /// object file's tables.
    pub(super) fn take(ebpf: &mut Ebpf, name: &'static str, count: u32, empty: V) -> anyhow::Result<Self> {
        let object = duplicate(ebpf, name)?;
        let table = find(ebpf.take_map(name), name)?.try_into()?;
        Ok(Self { name, table, object, written: vec![empty; count as usize] })
    }

    /// Takes the value that an earlier bmpd left in a slot as written, and returns it.
    pub(super) fn inherit(&mut self, slot: u32) -> Result<V, MapError> {
        let value = self.get(slot)?;
        self.note(slot, value);
        Ok(value)
    }

    /// Reads the kernel's value.
    pub(super) fn get(&self, slot: u32) -> Result<V, MapError> {
        self.table.get(&slot, 0)
    }

    /// Writes the value of a slot.
    pub(super) fn set(&mut self, slot: u32, value: V) -> Result<(), MapError> {
        self.table.set(slot, value, 0)?;
        self.note(slot, value);
        Ok(())
    }

    fn note(&mut self, slot: u32, value: V) {
        if let Some(written) = self.written.get_mut(slot as usize) {
            *written = value;
        }
    }

    /// Compares slots, of which the numbers are in order, with the copy. Returns the slots that
    /// differ, with the value that bmpd wrote.
    pub(super) fn differences(&self, slots: &[u32]) -> anyhow::Result<Vec<(u32, V)>> {
        let (Some(first), Some(last)) = (slots.first(), slots.last()) else { return Ok(Vec::new()) };
        let found: io::Result<Vec<(u32, V)>> = bpf::part_of_array(&self.object, *first, last - first + 1);
        let found = found.with_context(|| format!("cannot read table {}", self.name))?;
        let difference = |slot: &u32| {
            let wanted = *self.written.get(*slot as usize)?;
            let is_right = found.get((slot - first) as usize) == Some(&(*slot, wanted));
            (!is_right).then_some((*slot, wanted))
        };
        Ok(slots.iter().filter_map(difference).collect())
    }

    /// Changes a value without a note of it, as root would.
    #[cfg(test)]
    pub(super) fn overwrite(&mut self, slot: u32, value: V) {
        self.table.set(slot, value, 0).unwrap();
    }
}

/// Opens a table of the object file once more.
fn duplicate(ebpf: &Ebpf, name: &str) -> anyhow::Result<OwnedFd> {
    match find(ebpf.map(name), name)? {
        Map::HashMap(data) | Map::Array(data) => Ok(data.fd().as_fd().try_clone_to_owned()?),
        _ => bail!("table {name} is of another type"),
    }
}
