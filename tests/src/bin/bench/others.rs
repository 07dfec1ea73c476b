//! What else the machine was doing while it was measured.

use std::{fs, io, time::Instant};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};

use crate::report::Report;

/// Less than this part of the processors changes nothing that is worth a word.
const WORTH_A_WORD: f64 = 0.05;

/// Processor time until a moment, in seconds: of all programs, and of this one and those that it started and that have ended.
pub(crate) struct Others {
    all: f64,
    own: f64,
    since: Instant,
}

impl Others {
    pub(crate) fn from_now() -> io::Result<Self> {
        Ok(Self { all: all()?, own: own()?, since: Instant::now() })
    }

    /// Says what part of the processors others have had since then, if it is worth a word.
    pub(crate) fn note(&self, report: &mut Report) -> io::Result<()> {
        let cores = std::thread::available_parallelism()?.get() as f64;
        let others = (all()? - self.all) - (own()? - self.own);
        let part = others / (cores * self.since.elapsed().as_secs_f64());
        if part > WORTH_A_WORD {
            report.note(format!(
                "Other programs had {:.0} % of the processors while this was measured: whatever has to do with time, and latency most of all, is worse for it.",
                100.0 * part
            ));
        }
        Ok(())
    }
}

/// The first line of proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal, in ticks of 10 ms. Interrupts are nobody's.
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
