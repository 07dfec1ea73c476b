//! What bmpd occupies: memory, descriptors and kernel objects must be as before after a long test.

use std::{fs, path::PathBuf};

use bmp_ebpf::PIN_LIVE;

use crate::{
    bmpd::Bmpd,
    kernel::BpfObjects,
    wait::{PATIENCE, until},
};

/// Allowed growth of memory, in KiB: what an allocator keeps for reuse is no leak.
const SLACK: u64 = 4 << 10;

/// What bmpd occupies at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Resident memory, in KiB.
    pub resident: u64,
    /// Open file descriptors.
    pub descriptors: usize,
    /// BPF programs, maps and links.
    pub objects: BpfObjects,
    /// Entries in the map of pins.
    pub pins: usize,
    /// Slots in use.
    pub slots: usize,
}

impl Footprint {
    /// Measures a bmpd that enforces pins in the kernel.
    pub fn of(bmpd: &Bmpd) -> Self {
        let objects = bmpd.objects();
        let pins = objects.pins().keys().count();
        let slots = objects.slots().iter().flatten().filter(|pin| pin.flags & PIN_LIVE != 0).count();
        Self { resident: resident(bmpd.pid()), descriptors: descriptors(bmpd.pid()), objects, pins, slots }
    }

    /// Waits until bmpd occupies no more than this. Some objects go a moment after their use ends.
    pub fn wait_no_more(&self, bmpd: &Bmpd) {
        let what = format!("bmpd occupies no more than {self:?}; at first it occupied {:?}", Self::of(bmpd));
        until(&what, PATIENCE, || {
            let now = Self::of(bmpd);
            let same = now.objects == self.objects && now.pins == self.pins && now.slots <= self.slots;
            (same && now.descriptors <= self.descriptors && now.resident <= self.resident + SLACK).then_some(())
        });
    }
}

/// Counts the open file descriptors of a process.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(proc(pid, "fd")).expect("the process runs").count()
}

/// Returns the resident memory of a process, in KiB (`VmRSS`, proc_pid_status(5)).
pub fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(proc(pid, "status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim().trim_end_matches(" kB").parse().expect("VmRSS is a number")
}

fn proc(pid: u32, name: &str) -> PathBuf {
    format!("/proc/{pid}/{name}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_and_memory_of_a_process_are_read() {
        let pid = std::process::id();
        assert!(resident(pid) > 100 && descriptors(pid) > 2);
    }
}
