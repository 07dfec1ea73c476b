//! What a process has in the kernel's BPF, and whether it is still there.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use aya::{
    maps::{Array, HashMap, Map, MapData, MapInfo, PerCpuArray, loaded_maps},
    programs::{loaded_links, loaded_programs},
};
use bmp_ebpf::{Counters, Pin, PinKey, table};

use crate::wait::{PATIENCE, until};

/// Identifiers of BPF objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Programs.
    pub programs: BTreeSet<u32>,
    /// Maps.
    pub maps: BTreeSet<u32>,
    /// Links.
    pub links: BTreeSet<u32>,
}

impl Objects {
    /// What a process holds file descriptors of.
    pub fn of(pid: u32) -> Self {
        let mut objects = Self::default();
        let folder = format!("/proc/{pid}/fdinfo");
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder}: {e}")).flatten() {
            // A descriptor may be closed meanwhile.
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let id = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name))?;
                line.trim().parse::<u32>().ok()
            };
            // A link names its program too; which is then held by the link alone.
            match (id("link_id:"), id("prog_id:"), id("map_id:")) {
                (Some(link), program, _) => {
                    objects.links.insert(link);
                    objects.programs.extend(program);
                }
                (None, Some(program), _) => {
                    objects.programs.insert(program);
                }
                (None, None, map) => objects.maps.extend(map),
            }
        }
        objects
    }

    /// Those that the kernel still has.
    pub fn remaining(&self) -> Self {
        // An object that goes while the lists are read is gone: its error is skipped.
        let programs = loaded_programs().flatten().map(|program| program.id());
        let maps = loaded_maps().flatten().map(|map| map.id());
        let links = loaded_links().flatten().map(|link| link.id());
        Self {
            programs: programs.filter(|id| self.programs.contains(id)).collect(),
            maps: maps.filter(|id| self.maps.contains(id)).collect(),
            links: links.filter(|id| self.links.contains(id)).collect(),
        }
    }

    /// Waits until the kernel has none of them any more; it frees them some time after the last descriptor is closed.
    pub fn wait_gone(&self) {
        until(&format!("the kernel is rid of {self:?}"), PATIENCE, || {
            (self.remaining() == Self::default()).then_some(())
        });
    }

    fn map(&self, name: &str) -> MapData {
        let named = |id: &u32| MapInfo::from_id(*id).is_ok_and(|info| info.name_as_str() == Some(name));
        let id = self.maps.iter().copied().find(named).unwrap_or_else(|| panic!("no table {name} among {self:?}"));
        MapData::from_id(id).unwrap_or_else(|e| panic!("table {name}: {e}"))
    }

    /// The process's table of slots.
    pub fn slots(&self) -> Array<MapData, Pin> {
        Map::Array(self.map(table::SLOTS)).try_into().expect("SLOTS is an array of pins")
    }

    /// The process's table of pins.
    pub fn pins(&self) -> HashMap<MapData, PinKey, u32> {
        Map::HashMap(self.map(table::PINS)).try_into().expect("PINS is a hash of pin keys")
    }

    /// The process's table of counters.
    pub fn counters(&self) -> PerCpuArray<MapData, Counters> {
        Map::PerCpuArray(self.map(table::COUNTERS)).try_into().expect("COUNTERS is a per-CPU array")
    }
}

/// The host's BPF file systems, where pinned objects would be.
pub fn bpffs() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
    let bpf = |line: &str| {
        let mut words = line.split(' ');
        let target = words.nth(1)?;
        (words.next() == Some("bpf")).then(|| Path::new(target).to_owned())
    };
    mounts.lines().filter_map(bpf).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_bpf_has_no_objects() {
        assert_eq!(Objects::of(std::process::id()), Objects::default());
        Objects::default().wait_gone();
    }
}
