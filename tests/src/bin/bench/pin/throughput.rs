//! Throughput in pairs: the same bytes with and without programs, in turns.

use std::{io, thread};

use super::{
    BENCH, OTHER, PINNED, PinnedBmpd,
    interval::{ConfidenceInterval, median},
    nft::{FlowRule, LoadedRules},
    traffic::{BurstConnection, EndCgroups, stay_on},
};
use crate::{
    BenchSetting,
    links::BenchLinks,
    report::{BenchReport, RatioGoal, Samples},
    say,
};

/// The part of its throughput that a pinned and counted session must keep.
const KEEPS: f64 = 0.97;
/// Pairs of connections in each run of the benchmark.
const PAIRS: usize = 16;
/// Turns of each connection.
const TURNS: usize = 4;
/// Measured bursts in a turn, after one that loads caches.
const BURSTS: usize = 2;
/// Approximate length of a burst, in seconds.
const SECONDS: f64 = 0.01;
/// Bytes sent to find the size of such a burst.
const TRIAL: usize = 64 << 20;

/// One half of a pair.
#[derive(Clone, Copy, Default)]
struct PairHalf<'a> {
    ends: EndCgroups<'a>,
    rule: Option<FlowRule>,
}

pub(super) fn run(setting: &BenchSetting, pinned: &PinnedBmpd, nft: bool, report: &mut BenchReport) -> io::Result<()> {
    let links = &setting.links;
    let mut trial = BurstConnection::open(links, OTHER, TRIAL, EndCgroups::default())?;
    trial.burst()?;
    let rate = TRIAL as f64 / trial.burst()?.as_secs_f64();
    let pairs = ConnectionPairs { links, count: PAIRS * setting.runs, bytes: ((rate * SECONDS) as usize).max(1 << 20) };

    let before = pinned.counted();
    let under =
        PairHalf { ends: EndCgroups { sender: Some(&pinned.cgroup), ..EndCgroups::default() }, ..PairHalf::default() };
    let kept = pairs.measure("a pinned session", PINNED, under, report)?;
    let (counted, sent) = (pinned.counted() - before, pairs.sent());
    if counted < sent {
        return Err(io::Error::other(format!("{sent} bytes were sent under the pin, and {counted} counted")));
    }
    let what = "throughput of a pinned and counted session, to the same without programs (lower end)".to_owned();
    report.ratio(BENCH, what, kept.low, RatioGoal::AtLeast(KEEPS));

    let both = EndCgroups { sender: Some(&pinned.cgroup), receiver: Some(&pinned.cgroup), apart: false };
    pairs.measure("other TCP, both ends beside bmpd", OTHER, PairHalf { ends: both, ..PairHalf::default() }, report)?;
    if nft {
        for rule in [FlowRule::Counts, FlowRule::DropsElsewhere] {
            pairs.measure(rule.name(), OTHER, PairHalf { rule: Some(rule), ..PairHalf::default() }, report)?;
        }
    }
    Ok(())
}

struct ConnectionPairs<'a> {
    links: &'a BenchLinks,
    count: usize,
    /// Bytes of each burst.
    bytes: usize,
}

impl ConnectionPairs<'_> {
    /// Returns the bytes that one half of all pairs sends.
    fn sent(&self) -> u64 {
        ((self.count + 1) * TURNS * (1 + BURSTS) * self.bytes) as u64
    }

    /// Measures the part of throughput that is kept. A pair is two new connections with bursts in
    /// turns. The first pair is a warm-up.
    fn measure(
        &self,
        what: &str,
        port: u16,
        with: PairHalf<'_>,
        report: &mut BenchReport,
    ) -> io::Result<ConfidenceInterval> {
        say(&format!("pin: throughput, {what}"))?;
        let rate = |seconds: f64| self.bytes as f64 * 8.0 / seconds / 1e9;
        let (mut rates, mut plain) = <(Samples, Samples)>::default();
        let mut ratios = Vec::new();
        for pair in 0..=self.count {
            let (with, without) = self.pair(port, with)?;
            if pair > 0 {
                rates.push(rate(with));
                plain.push(rate(without));
                ratios.push(without / with);
            }
        }
        report.row(BENCH, what, "throughput with", "Gbit/s", rates);
        report.row(BENCH, what, "throughput without", "Gbit/s", plain);
        let kept = ConfidenceInterval::of(&ratios);
        report.note(format!(
            "pin: {what}: {:.1} % of the throughput, between {:.1} and {:.1} % (95 %, {} pairs of {} bursts of {} MB).",
            100.0 * kept.median,
            100.0 * kept.low,
            100.0 * kept.high,
            self.count,
            TURNS * BURSTS,
            self.bytes / 1_000_000
        ));
        Ok(kept)
    }

    /// Returns the median seconds of the bursts with and without programs.
    fn pair(&self, port: u16, with: PairHalf<'_>) -> io::Result<(f64, f64)> {
        let mut lines = [
            (BurstConnection::open(self.links, port, self.bytes, with.ends)?, with.rule),
            (BurstConnection::open(self.links, port, self.bytes, EndCgroups::default())?, None),
        ];
        thread::scope(|scope| {
            let sending = scope.spawn(|| -> io::Result<(f64, f64)> {
                stay_on(0);
                let mut seconds = [Vec::new(), Vec::new()];
                for turn in 0..TURNS {
                    // Each goes first in every other turn.
                    for at in [turn % 2, (turn + 1) % 2] {
                        let (line, rule) = &mut lines[at];
                        let _rules = rule.map(|rule| LoadedRules::load(self.links, "tcp", port, rule)).transpose()?;
                        line.burst()?;
                        for _ in 0..BURSTS {
                            seconds[at].push(line.burst()?.as_secs_f64());
                        }
                    }
                }
                let [with, without] = seconds;
                Ok((median(with), median(without)))
            });
            sending.join().map_err(|_| io::Error::other("a thread that sends has failed"))?
        })
    }
}
