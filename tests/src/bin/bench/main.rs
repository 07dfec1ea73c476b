//! Benchmarks of bmpd beside the programs that could take its place, in one run on one machine.
//!
//! A BGP peer feeds a synthetic table. A station counts the routes and checks that they are the
//! same. Installed subjects get the same input and the same station. The report names the others.

mod arrivals;
mod chart;
mod churn;
mod connect;
mod dump;
mod dumping;
mod fanout;
mod feeder;
mod frames;
mod front_door;
mod instructions;
mod interrupt;
mod latency;
mod links;
mod live;
mod others;
mod pin;
mod real;
mod recorded;
mod relay;
mod report;
mod scale;
mod station;
mod subject;
mod tls;
mod watch;

use std::{
    fs::{self, File},
    io::{self, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, builder::RangedU64ValueParser};
use lab::table::{TableShape, UpdateTable};
use programs::Use;

use links::{BenchLinks, PEER};
use others::OtherLoad;
use report::{BenchMachine, BenchReport};
use subject::SubjectKind;

/// The benchmarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Benchmark {
    /// A new station at a loaded feed
    Dump,
    /// A table that arrives while a station is connected, and the memory that it takes
    Live,
    /// BMP from a daemon to a station, with the state kept
    Relay,
    /// 1 to 64 stations that follow
    Fanout,
    /// Seven stations beside a stalled one
    Slow,
    /// The whole table withdrawn and announced again, many times
    Churn,
    /// Growing numbers of peers and routes
    Scale,
    /// The cost of the kernel programs, for a packet and for throughput
    Pin,
    /// 256 sessions: until they are established, move and come back, and displaying them
    Connect,
    /// 500 routers behind a relay and 3 stations, with a connection for each router and without
    FrontDoor,
    /// A dump over TLS
    Tls,
    /// Instructions of the parts on the way of every route, under callgrind
    Instructions,
}

/// Measures bmpd, and the installed programs that could take its place
#[derive(Parser)]
#[command(name = "bench", version)]
struct BenchArguments {
    /// Benchmarks to run; all by default
    names: Vec<Benchmark>,
    /// Routes in the table
    #[arg(long, default_value_t = 1_000_000, value_parser = RangedU64ValueParser::<usize>::new().range(1..=scale::MOST as u64))]
    routes: usize,
    /// Runs of each measurement, after a warm-up
    #[arg(long, default_value_t = 5, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    runs: usize,
    /// A recorded table (MRT: table dumps, updates) for live and dump; those in ../shared/data/mrt
    /// by default
    #[arg(long, value_name = "FILE")]
    mrt: Vec<PathBuf>,
    /// Stations in fanout (beside one alone) and in slow
    #[arg(long, value_parser = clap::value_parser!(u16).range(2..=1000))]
    stations: Option<u16>,
    /// File for the results as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// File for a chart (SVG) of the rates of dump and live
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
    /// Measure nothing: draw --chart from files that earlier runs wrote with --json
    #[arg(long, value_name = "JSON", value_delimiter = ',', requires = "chart")]
    figures: Vec<PathBuf>,
    /// Programs to compare with
    #[arg(long, value_delimiter = ',', default_values_t = [SubjectKind::Frr, SubjectKind::Gobgp, SubjectKind::Bird])]
    compare: Vec<SubjectKind>,
}

impl std::fmt::Display for SubjectKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name().to_lowercase())
    }
}

/// The common input of all benchmarks.
struct BenchSetting {
    links: BenchLinks,
    table: UpdateTable,
    runs: usize,
    /// Number of stations, if chosen.
    stations: Option<u16>,
    /// Subjects that can be measured, bmpd first.
    subjects: Vec<SubjectKind>,
}

impl BenchSetting {
    fn routes(&self) -> u64 {
        self.table.sum.routes
    }
}

/// Returns the parameters of the BGP peer's table.
fn shape(routes: usize) -> TableShape {
    TableShape { routes, asn: PEER.1, next_hop: PEER.0, ..TableShape::default() }
}

/// The longest time for one step.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let arguments = BenchArguments::parse();
    Use::declare(&[Use::Bench, Use::Compare]);
    // The lab reports failures by panics, which are printed by the time they arrive here.
    let outcome = catch_unwind(AssertUnwindSafe(|| interrupt::watch().and_then(|()| run(&arguments))));
    // After an interrupt, other failures are its consequences.
    match interrupt::check().and_then(|()| outcome.unwrap_or(Ok(false))) {
        Ok(passed) if passed => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            // If stderr is gone too, nobody reads this.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &BenchArguments) -> io::Result<bool> {
    if let (Some(chart), false) = (&arguments.chart, arguments.figures.is_empty()) {
        return fs::write(chart, chart::from_files(&arguments.figures)?).map(|()| true);
    }
    for path in arguments.json.iter().chain(&arguments.chart) {
        // Find out before an hour of measuring that the file cannot be written.
        File::options()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    }
    for path in &arguments.mrt {
        File::open(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    }
    let mut report = BenchReport::new(BenchMachine::here(), arguments.routes, arguments.runs);
    let mut subjects = Vec::new();
    for kind in std::iter::once(SubjectKind::Bmpd)
        .chain(arguments.compare.iter().copied().filter(|kind| *kind != SubjectKind::Bmpd))
    {
        match kind.version() {
            Ok(version) => {
                report.subject(kind.name(), &version);
                subjects.push(kind);
            }
            Err(why) => report.absent(kind.name(), &why),
        }
    }
    say(&format!("a table of {} routes", arguments.routes))?;
    let table = UpdateTable::new(&shape(arguments.routes));
    let (runs, stations) = (arguments.runs, arguments.stations);
    let setting = BenchSetting { links: BenchLinks::new()?, table, runs, stations, subjects };
    let others = OtherLoad::from_now()?;
    let measured = measure(arguments, &setting, &mut report);
    if let Err(error) = &measured {
        // Report the measurements up to the failure.
        report.note(format!("This is not all: {error}."));
    }
    others.note(&mut report)?;
    if let Some(path) = &arguments.json {
        fs::write(path, report.json())?;
    }
    let mut out = io::stdout().lock();
    writeln!(out, "\n{}", report.markdown())?;
    if let Some(path) = &arguments.chart {
        fs::write(path, chart::draw(&[report.json()])?)?;
    }
    measured.map(|()| report.passed())
}

/// Runs the chosen benchmarks, one after the other.
fn measure(arguments: &BenchArguments, setting: &BenchSetting, report: &mut BenchReport) -> io::Result<()> {
    let wanted = |bench: Benchmark| arguments.names.is_empty() || arguments.names.contains(&bench);
    if wanted(Benchmark::Dump) {
        dump::run(setting, report)?;
        dumping::memory(setting, report)?;
    }
    if wanted(Benchmark::Live) {
        live::run(setting, report)?;
        latency::live(setting, report)?;
    }
    let recorded = real::WantedBenches { live: wanted(Benchmark::Live), dump: wanted(Benchmark::Dump) };
    if recorded.live || recorded.dump {
        real::run(setting, &arguments.mrt, recorded, report)?;
    }
    if wanted(Benchmark::Relay) {
        relay::run(setting, report)?;
        latency::relay(setting, report)?;
    }
    if wanted(Benchmark::Fanout) {
        fanout::run(setting, report)?;
    }
    if wanted(Benchmark::Slow) {
        fanout::slow(setting, report)?;
    }
    if wanted(Benchmark::Churn) {
        churn::run(setting, report)?;
    }
    if wanted(Benchmark::Scale) {
        scale::run(setting, report)?;
    }
    if wanted(Benchmark::Pin) {
        pin::run(setting, report)?;
    }
    if wanted(Benchmark::Connect) {
        connect::run(setting, report)?;
    }
    if wanted(Benchmark::FrontDoor) {
        front_door::run(setting, report)?;
    }
    if wanted(Benchmark::Tls) {
        tls::run(setting, report)?;
    }
    if wanted(Benchmark::Instructions) {
        instructions::run(report)?;
    }
    Ok(())
}

/// Names a run in progress messages.
fn ordinal(run: usize) -> String {
    if run == 0 { "warm-up".to_owned() } else { format!("run {run}") }
}

/// Reports progress, and fails after an interrupt.
fn say(what: &str) -> io::Result<()> {
    interrupt::check()?;
    let mut out = io::stderr().lock();
    writeln!(out, "  · {what}")
}
