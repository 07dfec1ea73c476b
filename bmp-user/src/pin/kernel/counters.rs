//! Sums of counters over CPUs.

use aya::maps::PerCpuValues;
use bmp_ebpf::Counters;

/// Adds up what the CPUs counted.
pub(super) fn sum(cpus: &PerCpuValues<Counters>) -> Counters {
    let mut sum = Counters::default();
    cpus.iter().for_each(|of_cpu| sum += *of_cpu);
    sum
}
