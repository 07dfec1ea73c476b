//! Processor time of other programs during the measurement.

use std::{fs, io, time::Instant};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};

use crate::report::BenchReport;

/// Shares of the processors below this change nothing.
const WORTH_A_WORD: f64 = 0.05;

/// Processor time up to a moment, in seconds: of all programs, and of this one with its ended
/// children.
pub(crate) struct OtherLoad {
    all: f64,
    own: f64,
    since: Instant,
}

impl OtherLoad {
    pub(crate) fn from_now() -> io::Result<Self> {
        Ok(Self { all: all()?, own: own()?, since: Instant::now() })
    }

    /// Notes the share of other programs since then, if it matters.
    pub(crate) fn note(&self, report: &mut BenchReport) -> io::Result<()> {
        let cores = std::thread::available_parallelism()?.get() as f64;
        let others = (all()? - self.all) - (own()? - self.own);
        let part = others / (cores * self.since.elapsed().as_secs_f64());
        if part > WORTH_A_WORD {
            report.note(format!(
                "Other programs used {:.0} % of the processors during the measurement. All times are worse for it, latency most of all.",
                100.0 * part
            ));
        }
        Ok(())
    }
}

/// Sums user, nice, system and steal in the first line of proc_stat(5), in ticks of 10 ms.
/// Interrupts belong to no program.
fn all() -> io::Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let busy: u64 = [0, 1, 2, 7].into_iter().filter_map(|field: usize| ticks.get(field)).sum();
    Ok(busy as f64 / 100.0)
}

fn own() -> io::Result<f64> {
    let mut seconds = 0.0;
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        seconds += (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6;
    }
    Ok(seconds)
}
