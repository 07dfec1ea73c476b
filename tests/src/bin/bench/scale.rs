//! Growth of time and memory: with peers that each have a table, and with the routes of one peer.

use std::{
    io::{self, Write as _},
    net::Ipv4Addr,
    thread::sleep,
    time::{Duration, Instant},
};

use lab::{
    bmp::{self, PRE_POLICY, ReportedPeer},
    table::{RouteSum, TableShape, UpdateTable},
};

use crate::{
    BenchSetting, PATIENCE,
    feeder::BgpFeeder,
    links::PEER,
    ordinal,
    relay::connect,
    report::{BenchReport, RatioGoal, Samples},
    say, shape,
    station::{CountingStation, RouteCount},
    subject::{BenchSubject, RELAY, SubjectKind, bgp_address},
};

const BENCH: &str = "scale";
/// Numbers of peers, each with a tenth of the table's routes.
const PEERS: [u32; 3] = [1, 10, 100];
/// Multiples of the table's routes, for one peer.
const TIMES: [usize; 3] = [1, 2, 4];
/// Most routes in the table of one peer: the address space has no room for more.
pub(crate) const MOST: usize = 4_000_000;
/// Pause between the last route and the reading of memory.
const SETTLING: Duration = Duration::from_secs(5);
/// Most runs of each measurement. Each takes long and starts a new process.
const RUNS: usize = 3;
/// Allowed memory of a route, in bytes.
const BYTES_A_ROUTE: f64 = 80.0;
/// Allowed time of a route in the largest table, relative to the smallest: it waits for memory more
/// often.
const TIME_A_ROUTE: f64 = 2.0;
/// Required free memory for each fed route, in bytes.
const NEEDED: u64 = 150;

/// The measurements of one table size.
#[derive(Default)]
struct SizeFigures {
    routes: usize,
    seconds: Samples,
    cpu: Samples,
    /// Memory in bytes, without the journal.
    memory: Samples,
}

impl SizeFigures {
    fn new(routes: usize) -> Self {
        Self { routes, ..Self::default() }
    }

    fn seconds_a_route(&self) -> f64 {
        self.seconds.median() / self.routes as f64
    }

    fn report(self, subject: &str, report: &mut BenchReport) {
        let routes = self.routes as f64;
        report.row(BENCH, subject, "rate", "routes/s", self.seconds.each(|seconds| routes / seconds));
        report.row(BENCH, subject, "time", "s", self.seconds);
        report.row(BENCH, subject, "processor time", "s", self.cpu);
        report.row(BENCH, subject, "resident memory", "MiB", self.memory.each(|bytes| bytes / MIB));
    }
}

pub(crate) fn run(setting: &BenchSetting, report: &mut BenchReport) -> io::Result<()> {
    peers(setting, report)?;
    routes(setting, report)
}

/// Measures several peers of one daemon. Every second peer has its neighbour's routes and
/// attributes, as clients of one route reflector do. The others have the same routes with
/// attributes of their own.
fn peers(setting: &BenchSetting, report: &mut BenchReport) -> io::Result<()> {
    let each = (setting.table.sum.routes as usize / 10).max(1);
    let mut sizes = Vec::new();
    for peers in PEERS {
        let routes = each * peers as usize;
        if !is_room(routes, report) {
            continue;
        }
        say(&format!("scale: {peers} peers of {each} routes"))?;
        let (bytes, sum) = frames(peers, each);
        let mut size = SizeFigures::new(routes);
        for run in 0..=setting.runs.min(RUNS) {
            say(&format!("scale: {peers} peers of {each} routes, {}", ordinal(run)))?;
            let station = CountingStation::listen(&setting.links.station, setting.links.station_address())?;
            let count = station.count(routes as u64)?;
            let subject = BenchSubject::relay(&setting.links, 1)?;
            count.wait_connected(PATIENCE)?;
            let mut daemon = connect(setting, RELAY)?;
            let before = subject.processor()?;
            let began = Instant::now();
            daemon.write_all(&bytes)?;
            let counted = count.wait_done(PATIENCE)?;
            if run > 0 {
                measured(&mut size, &subject, before, counted.last - began, &counted, sum)?;
            }
        }
        sizes.push((peers, size));
    }
    grows(report, sizes.iter().map(|(_, size)| size), "peers");
    for (peers, size) in sizes {
        size.report(&format!("{peers} peers of {each} routes"), report);
    }
    Ok(())
}

/// Measures one BGP peer with larger tables.
fn routes(setting: &BenchSetting, report: &mut BenchReport) -> io::Result<()> {
    let mut sizes = Vec::new();
    for times in TIMES {
        let routes = times * setting.table.sum.routes as usize;
        if routes > MOST {
            report.note(format!("scale: a table has at most {MOST} routes: {routes} are not measured."));
            continue;
        }
        if !is_room(routes, report) {
            continue;
        }
        say(&format!("scale: a table of {routes} routes"))?;
        let table = UpdateTable::new(&shape(routes));
        let mut size = SizeFigures::new(routes);
        for run in 0..=setting.runs.min(RUNS) {
            say(&format!("scale: {routes} routes of one peer, {}", ordinal(run)))?;
            let station = CountingStation::listen(&setting.links.station, setting.links.station_address())?;
            let count = station.count(routes as u64)?;
            let subject = BenchSubject::start(SubjectKind::Bmpd, &setting.links)?;
            count.wait_connected(PATIENCE)?;
            let mut feeder = BgpFeeder::connect(&setting.links.peer, PEER.0, PEER.1, bgp_address())?;
            // Wait until the session's Peer Up is at the station.
            sleep(Duration::from_millis(500));
            let before = subject.processor()?;
            let began = feeder.send(&table.bytes)?;
            let counted = count.wait_done(PATIENCE)?;
            if run > 0 {
                measured(&mut size, &subject, before, counted.last - began, &counted, table.sum)?;
            }
        }
        sizes.push(size);
    }
    if let [first, .., last] = sizes.as_slice() {
        let (routes, more) = (first.routes, last.routes);
        let slope = (last.memory.median() - first.memory.median()) / (more - routes) as f64;
        report.ratio(
            BENCH,
            format!("bytes of memory for each route more, from {routes} to {more}"),
            slope,
            RatioGoal::AtMost(BYTES_A_ROUTE),
        );
    }
    grows(report, sizes.iter(), "routes of one peer");
    for size in sizes {
        let subject = format!("{} routes of one peer", size.routes);
        size.report(&subject, report);
    }
    Ok(())
}

/// Compares the time of a route in the largest table with that in the smallest.
fn grows<'a>(report: &mut BenchReport, mut sizes: impl Iterator<Item = &'a SizeFigures>, of: &str) {
    if let (Some(first), Some(last)) = (sizes.next(), sizes.last()) {
        let ratio = last.seconds_a_route() / first.seconds_a_route();
        let what = format!("{of}: time a route with {} routes, to that with {}", last.routes, first.routes);
        report.ratio(BENCH, what, ratio, RatioGoal::AtMost(TIME_A_ROUTE));
    }
}

/// Records one run: its time, and memory some seconds later.
fn measured(
    size: &mut SizeFigures,
    subject: &BenchSubject,
    before: Duration,
    time: Duration,
    counted: &RouteCount,
    fed: RouteSum,
) -> io::Result<()> {
    if counted.sum != fed {
        return Err(io::Error::other("bmpd sent other routes than it was fed"));
    }
    let took = subject.processor()? - before;
    size.seconds.push(time.as_secs_f64());
    size.cpu.push(took.as_secs_f64());
    sleep(SETTLING);
    size.memory.push(subject.resident() as f64 * 1024.0 - subject.journal_bytes() as f64);
    Ok(())
}

/// True if this machine has memory for this many routes.
fn is_room(routes: usize, report: &mut BenchReport) -> bool {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let available = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) << 10;
    let needed = NEEDED * routes as u64;
    if available < needed {
        report.note(format!(
            "scale: {routes} routes need about {} MB, and {} MB are free: not measured.",
            needed / 1_000_000,
            available / 1_000_000
        ));
    }
    available >= needed
}

/// Encodes a daemon's stream with this many peers. Returns the checksum over their tables too.
fn frames(peers: u32, each: usize) -> (Vec<u8>, RouteSum) {
    let mut bytes = bmp::initiation("daemon");
    let mut sum = RouteSum::default();
    for number in 0..peers {
        let address = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 1, 0, 1)) + number);
        // Every second peer is like the others.
        let own = if number % 2 == 0 { 0 } else { number };
        let peer = ReportedPeer { address, asn: 65001 + own, router_id: address };
        let table = UpdateTable::new(&TableShape { variant: own, asn: peer.asn, ..shape(each) });
        bytes.extend(bmp::peer_up(&peer));
        for message in table.messages() {
            bytes.extend(bmp::route_monitoring(&peer, PRE_POLICY, message));
        }
        sum.routes += table.sum.routes;
        sum.hash = sum.hash.wrapping_add(table.sum.hash);
    }
    (bytes, sum)
}

const MIB: f64 = 1024.0 * 1024.0;
