//! What a process takes up: what is to be as before when whatever a test did a thousand times is over.

use std::{fs, path::PathBuf};

use bmp_ebpf::PIN_LIVE;

use crate::{
    bmpd::Bmpd,
    kernel::Objects,
    wait::{PATIENCE, until},
};

/// By how much memory may be more than before, in KiB: what an allocator keeps for the next time, and no leak.
const SLACK: u64 = 4 << 10;

/// What bmpd has at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Resident memory, in KiB.
    pub resident: u64,
    /// Open file descriptors.
    pub descriptors: usize,
    /// BPF programs, tables and links.
    pub objects: Objects,
    /// Entries of the table of pins.
    pub pins: usize,
    /// Slots that are not free.
    pub slots: usize,
}

impl Footprint {
    /// Of a bmpd that enforces by its programs.
    pub fn of(bmpd: &Bmpd) -> Self {
        let objects = bmpd.objects();
        let pins = objects.pins().keys().count();
        let slots = objects.slots().iter().flatten().filter(|pin| pin.flags & PIN_LIVE != 0).count();
        Self { resident: resident(bmpd.pid()), descriptors: descriptors(bmpd.pid()), objects, pins, slots }
    }

    /// Waits until bmpd has no more than it had then: some things go a moment after what needed them.
    pub fn wait_no_more(&self, bmpd: &Bmpd) {
        let what = format!("bmpd has no more than {self:?}; when the waiting began it had {:?}", Self::of(bmpd));
        until(&what, PATIENCE, || {
            let now = Self::of(bmpd);
            let same = now.objects == self.objects && now.pins == self.pins && now.slots <= self.slots;
            (same && now.descriptors <= self.descriptors && now.resident <= self.resident + SLACK).then_some(())
        });
    }
}

/// How many file descriptors a process has open.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(proc(pid, "fd")).expect("the process runs").count()
}

/// Resident memory of a process, in KiB (`VmRSS`, proc_pid_status(5)).
pub fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(proc(pid, "status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim().trim_end_matches(" kB").parse().expect("it is a number")
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
