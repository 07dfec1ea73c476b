//! Throughput in pairs: the same bytes with and without, one right after the other.

use std::{io, time::Duration};

use super::{
    BENCH, OTHER, PINNED, Pinned,
    interval::Interval,
    nft::{Rule, Rules},
    traffic::{Ends, bulk},
};
use crate::{
    Setting,
    report::{Goal, Report, Samples},
    say,
};

/// What a pinned and counted session keeps of its throughput, at least.
const KEEPS: f64 = 0.97;
/// How many pairs there are for each run of the benchmark.
const PAIRS: usize = 12;
/// About how long one half of a pair takes.
const SECONDS: f64 = 0.15;
/// What is sent to find out how much that is.
const TRIAL: usize = 256 << 20;

pub(super) fn run(setting: &Setting, pinned: &Pinned, nft: bool, report: &mut Report) -> io::Result<()> {
    let links = &setting.links;
    bulk(links, OTHER, TRIAL, Ends::default())?;
    let rate = TRIAL as f64 / bulk(links, OTHER, TRIAL, Ends::default())?.as_secs_f64();
    let bytes = ((rate * SECONDS) as usize).clamp(32 << 20, 4 << 30);
    let pairs = Pairs { count: PAIRS * setting.runs, bytes };
    let without = |port: u16| bulk(links, port, bytes, Ends::default());

    let under = Ends { sender: Some(&pinned.cgroup), receiver: None };
    let before = pinned.counted();
    let kept = pairs.measure("a pinned session", || bulk(links, PINNED, bytes, under), || without(PINNED), report)?;
    let (counted, sent) = (pinned.counted() - before, (bytes * (pairs.count + 1)) as u64);
    if counted < sent {
        return Err(io::Error::other(format!("{sent} bytes were sent under the pin, and {counted} counted")));
    }
    let what = "throughput of a pinned and counted session, to the same without programs (lower end)".to_owned();
    report.ratio(BENCH, what, kept.low, Goal::AtLeast(KEEPS));

    let both = Ends { sender: Some(&pinned.cgroup), receiver: Some(&pinned.cgroup) };
    pairs.measure("other TCP, both ends beside bmpd", || bulk(links, OTHER, bytes, both), || without(OTHER), report)?;
    if nft {
        for rule in [Rule::Counts, Rule::DropsElsewhere] {
            let with = || {
                let _rules = Rules::load(links, "tcp", OTHER, rule)?;
                bulk(links, OTHER, bytes, Ends::default())
            };
            pairs.measure(rule.name(), with, || without(OTHER), report)?;
        }
    }
    Ok(())
}

struct Pairs {
    count: usize,
    bytes: usize,
}

impl Pairs {
    /// What is kept of the throughput: pairs after a first one for warmth, each half first in every other one.
    fn measure(
        &self,
        what: &str,
        mut with: impl FnMut() -> io::Result<Duration>,
        mut without: impl FnMut() -> io::Result<Duration>,
        report: &mut Report,
    ) -> io::Result<Interval> {
        say(&format!("pin: throughput, {what}"))?;
        let rate = |time: Duration| self.bytes as f64 * 8.0 / time.as_secs_f64() / 1e9;
        let (mut rates, mut plain) = <(Samples, Samples)>::default();
        let mut ratios = Vec::new();
        for pair in 0..=self.count {
            let (with, without) = if pair % 2 == 0 {
                let with = with()?;
                (with, without()?)
            } else {
                let without = without()?;
                (with()?, without)
            };
            if pair > 0 {
                rates.push(rate(with));
                plain.push(rate(without));
                ratios.push(without.as_secs_f64() / with.as_secs_f64());
            }
        }
        report.row(BENCH, what, "throughput with", "Gbit/s", rates);
        report.row(BENCH, what, "throughput without", "Gbit/s", plain);
        let kept = Interval::of(&ratios);
        report.note(format!(
            "pin: {what}: {:.1} % of the throughput, between {:.1} and {:.1} % (95 %, {} pairs of {} MB).",
            100.0 * kept.median,
            100.0 * kept.low,
            100.0 * kept.high,
            self.count,
            self.bytes / 1_000_000
        ));
        Ok(kept)
    }
}
