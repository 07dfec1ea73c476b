//! The cost of one run of a program: with a synthetic packet (`BPF_PROG_TEST_RUN`), by the kernel's
//! statistics under traffic, and by the time of a datagram.
//!
//! Every cost is relative to an empty program or to none, measured in turns.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use aya::sys::{Stats, enable_stats};
use bmp_ebpf::program;
use lab::{kernel::TestCgroup, passive};

use super::{
    BENCH, LISTENING, OTHER, PINNED, PinnedBmpd,
    bpf::{BpfHook, CONNECT4, CONNECT6, EGRESS, INGRESS, LoadedProgram, ProgramRunTime, SOCK_OPS, XDP},
    interval::ConfidenceInterval,
    nft::{FlowRule, LoadedRules},
    packets::syn,
    traffic::{self, DatagramSockets, EndCgroups, bulk, connections},
};
use crate::{
    BenchSetting,
    links::STATION,
    report::{BenchReport, RatioGoal, Samples},
    say,
};

/// Allowed cost of `egress` over an empty program, in nanoseconds, for sockets without a tag.
const UNTAGGED: f64 = 25.0;
/// Allowed cost of `egress` over an empty program, in nanoseconds, for sockets with a tag.
const TAGGED: f64 = 70.0;

/// Runs of a program with one packet, in one batch.
const REPEAT: u32 = 500_000;
/// Batches in each run of the benchmark.
const BATCHES: usize = 4;
/// Bytes sent while the kernel keeps statistics.
const BYTES: usize = 256 << 20;
/// Connections made while the kernel keeps statistics.
const CONNECTIONS: usize = 200;
/// Small messages sent while the kernel keeps statistics.
const MESSAGES: usize = 50_000;

/// The router's address towards the station.
const LOCAL: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// An address that is no station's.
const STRANGER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 99);

/// A test run of a program with a frame, beside an empty program.
struct ProgramTest<'a> {
    what: &'static str,
    program: &'a LoadedProgram,
    empty: &'a LoadedProgram,
    frame: &'a [u8],
    /// The interface of the frame's arrival.
    ifindex: Option<u32>,
    /// The expected result.
    answer: u32,
}

impl ProgramTest<'_> {
    /// Measures the cost over the empty program, several times.
    fn measure(&self, batches: usize) -> io::Result<Samples> {
        let mut more = Samples::default();
        for batch in 0..=batches {
            let (answer, own) = self.program.test_run(self.frame, self.ifindex, REPEAT)?;
            if answer != self.answer {
                return Err(io::Error::other(format!("{}: it returned {answer}", self.what)));
            }
            let (_, empty) = self.empty.test_run(self.frame, self.ifindex, REPEAT)?;
            if batch > 0 {
                more.push(own - empty);
            }
        }
        Ok(more)
    }
}

/// Runs the programs that see every packet by `BPF_PROG_TEST_RUN`. The packet's socket is the
/// kernel's own, without a tag.
pub(super) fn tested(setting: &BenchSetting, pinned: &PinnedBmpd, report: &mut BenchReport) -> io::Result<()> {
    say("pin: programs by BPF_PROG_TEST_RUN")?;
    let frame = syn((LOCAL, 40_000), (STATION, OTHER));
    for (name, hook) in [(program::EGRESS, EGRESS), (program::INGRESS, INGRESS)] {
        let (program, empty) = (LoadedProgram::of(&pinned.bmpd, name)?, LoadedProgram::empty(hook)?);
        let tested = ProgramTest {
            what: "over an empty program, no tag, test run",
            program: &program,
            empty: &empty,
            frame: &frame,
            ifindex: None,
            answer: 1,
        };
        let more = tested.measure(BATCHES * setting.runs)?;
        if name == program::EGRESS {
            let what = "ns, egress over an empty program, packets without a tag, test run".to_owned();
            report.ratio(BENCH, what, more.median(), RatioGoal::AtMost(UNTAGGED));
        }
        report.row(BENCH, name, tested.what, "ns", more);
    }
    Ok(())
}

/// Runs the guard of a listening session by `BPF_PROG_TEST_RUN`.
pub(super) fn guard(setting: &BenchSetting, report: &mut BenchReport) -> io::Result<()> {
    say("pin: the guard by BPF_PROG_TEST_RUN")?;
    let session = format!("  tcp listen port {LISTENING}\n  connect-interface to-station\n");
    let (_cgroup, bmpd) = super::bmpd(&setting.links, &session);
    passive::guarded(&bmpd, STATION.into());
    let (program, empty) = (LoadedProgram::of(&bmpd, program::GUARD)?, LoadedProgram::empty(XDP)?);
    let ifindex = Some(setting.links.router.ifindex("to-station"));
    // XDP_DROP and XDP_PASS (linux/bpf.h).
    let (drop, pass) = (1, 2);
    for (what, from, port, answer) in [
        ("over an empty program, other port, test run", STATION, OTHER, pass),
        ("over an empty program, a station's, test run", STATION, LISTENING, pass),
        ("over an empty program, a stranger's, test run", STRANGER, LISTENING, drop),
    ] {
        let frame = syn((from, 40_000), (LOCAL, port));
        let tested = ProgramTest { what, program: &program, empty: &empty, frame: &frame, ifindex, answer };
        // The interface index belongs to the router's namespace.
        let more = setting.links.router.enter(|| tested.measure(setting.runs))?;
        report.row(BENCH, program::GUARD, what, "ns", more);
    }
    Ok(())
}

/// A program of bmpd and an empty program at the same hook: both see the same packets.
struct ProgramPair {
    name: &'static str,
    own: LoadedProgram,
    empty: LoadedProgram,
    _link: std::os::fd::OwnedFd,
}

impl ProgramPair {
    fn new(pinned: &PinnedBmpd, name: &'static str, hook: BpfHook) -> io::Result<Self> {
        let (own, empty) = (LoadedProgram::of(&pinned.bmpd, name)?, LoadedProgram::empty(hook)?);
        let link = empty.attach(hook, pinned.cgroup.path().as_ref())?;
        Ok(Self { name, own, empty, _link: link })
    }

    fn ran(&self) -> io::Result<(ProgramRunTime, ProgramRunTime)> {
        Ok((self.own.ran()?, self.empty.ran()?))
    }
}

/// Statistics before and after some traffic.
struct LiveTraffic<'a> {
    programs: &'a [ProgramPair],
    /// Cost of each program over the empty one beside it.
    more: Vec<Samples>,
    /// Time of the empty program.
    empty: Vec<Samples>,
}

impl<'a> LiveTraffic<'a> {
    fn new(programs: &'a [ProgramPair]) -> Self {
        let none = vec![Samples::default(); programs.len()];
        Self { programs, more: none.clone(), empty: none }
    }

    /// Reads the statistics before and after the traffic.
    fn around(&mut self, traffic: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let before: Vec<_> = self.programs.iter().map(ProgramPair::ran).collect::<io::Result<_>>()?;
        traffic()?;
        for (at, (beside, (own_before, empty_before))) in self.programs.iter().zip(before).enumerate() {
            let (own, empty) = beside.ran()?;
            let (runs, of_empty) = (own.count - own_before.count, empty.count - empty_before.count);
            // Between two readings one packet may pass.
            if runs == 0 || runs.abs_diff(of_empty) > 1 + runs / 100 {
                let name = beside.name;
                return Err(io::Error::other(format!(
                    "{name} ran {runs} times, an empty program beside it {of_empty}"
                )));
            }
            let (own, empty) = (own.each_since(own_before), empty.each_since(empty_before));
            self.more[at].push(own - empty);
            self.empty[at].push(empty);
        }
        Ok(())
    }

    fn report(self, what: &'static str, what_empty: &'static str, report: &mut BenchReport) {
        for ((beside, more), empty) in self.programs.iter().zip(self.more).zip(self.empty) {
            report.row(BENCH, beside.name, what, "ns", more);
            report.row(BENCH, &format!("an empty program beside {}", beside.name), what_empty, "ns", empty);
        }
    }
}

/// Reads the kernel's statistics while a pinned session and another connection send.
pub(super) fn live(setting: &BenchSetting, pinned: &PinnedBmpd, report: &mut BenchReport) -> io::Result<()> {
    say("pin: programs by run-time statistics")?;
    let links = &setting.links;
    let _kept = enable_stats(Stats::RunTime).map_err(io::Error::other)?;
    let batches = BATCHES * setting.runs;
    let ends = EndCgroups { sender: Some(&pinned.cgroup), ..EndCgroups::default() };
    {
        let programs =
            [ProgramPair::new(pinned, program::EGRESS, EGRESS)?, ProgramPair::new(pinned, program::INGRESS, INGRESS)?];
        let (mut tagged, mut untagged) = (LiveTraffic::new(&programs), LiveTraffic::new(&programs));
        let (mut messages, mut apart) = (LiveTraffic::new(&programs), LiveTraffic::new(&programs));
        bulk(links, PINNED, BYTES, ends)?;
        let before = pinned.counted();
        for _ in 0..batches {
            tagged.around(|| bulk(links, PINNED, BYTES, ends).map(drop))?;
            apart.around(|| bulk(links, PINNED, BYTES, EndCgroups { apart: true, ..ends }).map(drop))?;
            untagged.around(|| bulk(links, OTHER, BYTES, ends).map(drop))?;
            messages.around(|| traffic::messages(links, PINNED, MESSAGES, ends).map(drop))?;
        }
        let (counted, sent) = (pinned.counted() - before, (2 * batches * BYTES) as u64);
        if counted < sent {
            return Err(io::Error::other(format!("{sent} bytes were sent under the pin, and {counted} counted")));
        }
        let what = "ns, egress over an empty program, packets of a pinned session, run-time statistics".to_owned();
        report.ratio(BENCH, what, tagged.more[0].median(), RatioGoal::AtMost(TAGGED));
        tagged.report("over an empty program, pinned session, live", "pinned session, live", report);
        apart.report("over an empty program, pinned, two processors", "pinned session, two processors", report);
        messages.report("over an empty program, pinned session, small, live", "pinned session, small, live", report);
        untagged.report("over an empty program, no tag, live", "no tag, live", report);
    }
    let by_ipv4 = [
        ProgramPair::new(pinned, program::CONNECT4, CONNECT4)?,
        ProgramPair::new(pinned, program::LIFECYCLE, SOCK_OPS)?,
    ];
    let by_ipv6 = [ProgramPair::new(pinned, program::CONNECT6, CONNECT6)?];
    for (programs, station) in [(&by_ipv4[..], STATION.into()), (&by_ipv6[..], STATION.to_ipv6_mapped().into())] {
        let (mut tagged, mut untagged) = (LiveTraffic::new(programs), LiveTraffic::new(programs));
        let to = |port| connections(links, SocketAddr::new(station, port), CONNECTIONS, &pinned.cgroup);
        for _ in 0..batches {
            tagged.around(|| to(PINNED))?;
            untagged.around(|| to(OTHER))?;
        }
        tagged.report("over an empty program, connections of a pin, live", "connections of a pin, live", report);
        untagged.report("over an empty program, other connections, live", "other connections, live", report);
    }
    Ok(())
}

/// The conditions of a datagram.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DatagramCondition {
    Nothing,
    Bmpd,
    Empty,
    Rule(FlowRule),
}

impl DatagramCondition {
    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "no program, no rule",
            Self::Bmpd => "bmpd",
            Self::Empty => "an empty egress program",
            Self::Rule(rule) => rule.name(),
        }
    }
}

/// Measures how much longer a datagram takes under bmpd, and under a matching rule, than without
/// programs and rules.
pub(super) fn datagrams(
    setting: &BenchSetting,
    pinned: &PinnedBmpd,
    nft: bool,
    report: &mut BenchReport,
) -> io::Result<()> {
    say("pin: single datagrams")?;
    let links = &setting.links;
    let (cgroup, empty) = (TestCgroup::new(), LoadedProgram::empty(EGRESS)?);
    let _link = empty.attach(EGRESS, cgroup.path().as_ref())?;
    let (beside_bmpd, beside_empty) =
        (DatagramSockets::new(links, OTHER, &pinned.cgroup)?, DatagramSockets::new(links, OTHER + 1, &cgroup)?);
    let mut ways = vec![DatagramCondition::Nothing, DatagramCondition::Bmpd, DatagramCondition::Empty];
    if nft {
        ways.extend([FlowRule::Counts, FlowRule::DropsElsewhere].map(DatagramCondition::Rule));
    }
    let send = |under: DatagramCondition| match under {
        DatagramCondition::Nothing => beside_bmpd.send(false),
        DatagramCondition::Bmpd => beside_bmpd.send(true),
        DatagramCondition::Empty => beside_empty.send(true),
        DatagramCondition::Rule(rule) => {
            let rules = LoadedRules::load(links, "udp", OTHER, rule)?;
            let took = beside_bmpd.send(false)?;
            if rule == FlowRule::Counts && rules.counted()? == 0 {
                return Err(io::Error::other("the rule of nftables has counted nothing of what was sent"));
            }
            Ok(took)
        }
    };
    let mut took = vec![Vec::new(); ways.len()];
    for round in 0..=BATCHES * setting.runs {
        // Rotate, so that each condition is first now and then.
        for at in (0..ways.len()).map(|at| (at + round) % ways.len()) {
            let nanoseconds = send(ways[at])?;
            if round > 0 {
                took[at].push(nanoseconds);
            }
        }
    }
    let samples = |values: &[f64]| {
        let mut samples = Samples::default();
        values.iter().for_each(|value| samples.push(*value));
        samples
    };
    for (under, values) in ways.iter().zip(&took) {
        if *under == DatagramCondition::Nothing {
            report.row(BENCH, under.name(), "a datagram", "ns", samples(values));
            continue;
        }
        let more: Vec<_> = values.iter().zip(&took[0]).map(|(with, without)| with - without).collect();
        let ConfidenceInterval { low, median, high } = ConfidenceInterval::of(&more);
        let name = under.name();
        report
            .note(format!("pin: a datagram more under {name}: {median:.0} ns, between {low:.0} and {high:.0} (95 %)."));
        report.row(BENCH, name, "more a datagram, not pinned", "ns", samples(&more));
    }
    Ok(())
}
