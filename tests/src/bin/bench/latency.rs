//! Latency of single updates, from the sender's write to the station's read: through bmpd, and over
//! a direct connection.
//!
//! Both ends share one clock. bmpd adds the difference of the two, at each percentile, measured in
//! turns.

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread::sleep,
    time::{Duration, Instant},
};

use lab::{
    bgp::{self, Ipv4Prefix},
    bmp::{self, PRE_POLICY, ReportedPeer},
    netns::Netns,
};
use nix::sys::prctl::set_timerslack;

use crate::{
    BenchSetting, PATIENCE,
    arrivals::Arrivals,
    feeder::BgpFeeder,
    frames::FrameStream,
    links::{PEER, PLAIN_PORT, STATION},
    ordinal, relay,
    report::{BenchReport, RatioGoal, Samples},
    say,
    station::{BenchReader, CountingStation},
    subject::{BenchSubject, RELAY, SubjectKind, bgp_address},
};

/// Updates a second.
const RATES: [u32; 3] = [1_000, 10_000, 100_000];
/// Duration of one turn at a rate.
const TIME: Duration = Duration::from_millis(200);
/// Turns in one run, alternating between both ways so that a changing load hits both alike.
const TURNS: usize = 10;
/// Time between the start of the receiver and the first update.
const BEFORE: Duration = Duration::from_millis(20);
/// Percentiles and their names.
const PERCENTILES: [(f64, &str); 3] = [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")];
/// Rate, percentile, and the milliseconds that bmpd may add there.
const MOST_ADDED: (u32, &str, f64) = (10_000, "p99", 1.0);
/// The part of a rate that the sender must reach for its figures to count.
const ENOUGH: f64 = 0.95;

/// Many updates that differ in their number only. Each is a host route of 10.0.0.0/8, which the
/// synthetic table leaves out. The number is in its last bytes.
struct NumberedUpdates {
    bytes: Vec<u8>,
    /// Bytes of each update.
    length: usize,
    count: usize,
}

impl NumberedUpdates {
    /// Encodes the updates. Each round has other attributes, so that every update is a change.
    fn new(count: usize, round: u32, wrap: impl Fn(&[u8]) -> Vec<u8>) -> Self {
        let mut bytes = Vec::new();
        let community = [&[0xc0, 8, 4][..], &round.to_be_bytes()].concat();
        for number in 0..count {
            let prefix = Ipv4Prefix { network: (0x0a00_0000 | number as u32).into(), length: 32 };
            bytes.extend(wrap(&bgp::announce_with(&[prefix], PEER.1, PEER.0, &community)));
        }
        Self { length: bytes.len() / count.max(1), bytes, count }
    }

    fn some(&self, from: usize, to: usize) -> &[u8] {
        self.bytes.get(from * self.length..to * self.length).unwrap_or_default()
    }
}

/// A way through bmpd, which has the table already.
struct MeasuredPath<'a> {
    bench: &'static str,
    /// Sends bytes to bmpd.
    send: &'a mut dyn FnMut(&[u8]) -> io::Result<()>,
    /// True if bmpd receives BMP, and not BGP.
    relayed: bool,
    /// The station's end.
    arrivals: Arrivals,
    /// The sender's host.
    sender: &'a Netns,
}

/// Measures from a BGP peer to a station.
pub(crate) fn live(setting: &BenchSetting, report: &mut BenchReport) -> io::Result<()> {
    let station = CountingStation::listen(&setting.links.station, setting.links.station_address())?;
    let _subject = BenchSubject::start(SubjectKind::Bmpd, &setting.links)?;
    let mut arrivals = Arrivals::new(station.accept(PATIENCE)?)?;
    let mut feeder = BgpFeeder::connect(&setting.links.peer, PEER.0, PEER.1, bgp_address())?;
    feeder.send(&setting.table.bytes)?;
    is_the_table(&arrivals.skip(setting.routes())?, setting)?;
    let mut send = |bytes: &[u8]| feeder.send(bytes).map(drop);
    let way = MeasuredPath { bench: "live", send: &mut send, relayed: false, arrivals, sender: &setting.links.peer };
    run(way, setting, report)
}

/// Measures from a BMP daemon beside bmpd to a station.
pub(crate) fn relay(setting: &BenchSetting, report: &mut BenchReport) -> io::Result<()> {
    let station = CountingStation::listen(&setting.links.station, setting.links.station_address())?;
    let _subject = BenchSubject::relay(&setting.links, 1)?;
    let mut arrivals = Arrivals::new(station.accept(PATIENCE)?)?;
    let mut daemon = relay::connect(setting, RELAY)?;
    daemon.set_nodelay(true)?;
    daemon.write_all(&FrameStream::packed(&setting.table).bytes)?;
    is_the_table(&arrivals.skip(setting.routes())?, setting)?;
    let mut send = |bytes: &[u8]| daemon.write_all(bytes);
    let way = MeasuredPath { bench: "relay", send: &mut send, relayed: true, arrivals, sender: &setting.links.router };
    run(way, setting, report)
}

fn is_the_table(reader: &BenchReader, setting: &BenchSetting) -> io::Result<()> {
    if reader.sum == setting.table.sum {
        return Ok(());
    }
    Err(io::Error::other("bmpd sent other routes than it was fed"))
}

/// Measures each rate, in turns with a direct connection.
fn run(way: MeasuredPath<'_>, setting: &BenchSetting, report: &mut BenchReport) -> io::Result<()> {
    let bench = way.bench;
    let (mut direct, mut direct_arrivals) = connect(setting, way.sender)?;
    let mut send_direct = |bytes: &[u8]| direct.write_all(bytes);
    let mut arrivals = way.arrivals;
    let framed = |update: &[u8]| bmp::route_monitoring(&ReportedPeer::default(), PRE_POLICY, update);
    let mut round = 0;
    for rate in RATES {
        let (mut through, mut alone, mut added) = <([Samples; 3], [Samples; 3], [Samples; 3])>::default();
        let mut behind = false;
        for run in 0..=setting.runs {
            say(&format!("{bench}: latency at {rate} updates/s, {}", ordinal(run)))?;
            let (mut own, mut plain) = <(Latencies, Latencies)>::default();
            for _ in 0..TURNS {
                round += 1;
                let count = (f64::from(rate) * TIME.as_secs_f64()) as usize;
                let (as_bgp, as_bmp) =
                    (NumberedUpdates::new(count, round, <[u8]>::to_vec), NumberedUpdates::new(count, round, framed));
                let sent = if way.relayed { &as_bmp } else { &as_bgp };
                own.measure(sent, &as_bgp, rate, way.send, &mut arrivals)?;
                plain.measure(&as_bmp, &as_bgp, rate, &mut send_direct, &mut direct_arrivals)?;
            }
            own.sort();
            plain.sort();
            if run == 0 {
                continue;
            }
            for (who, took) in [("bmpd", &own), ("the direct connection", &plain)] {
                if took.pace() < ENOUGH * f64::from(rate) {
                    behind = true;
                    report.note(format!(
                        "{bench}: at {rate} updates/s the sender to {who} did not keep up: {:.0} updates/s.",
                        took.pace()
                    ));
                }
            }
            for (index, (part, _)) in PERCENTILES.iter().enumerate() {
                let (own, plain) = (own.percentile(*part), plain.percentile(*part));
                through[index].push(own);
                alone[index].push(plain);
                added[index].push(own - plain);
            }
        }
        for (index, (_, name)) in PERCENTILES.iter().enumerate() {
            if (rate, *name) == (MOST_ADDED.0, MOST_ADDED.1) {
                let (own, plain) = (through[index].median() / 1000.0, alone[index].median() / 1000.0);
                let what = format!("latency that is added at {rate} updates/s, {name}, in ms");
                let is = if behind {
                    // Late sending hides how long the updates would have waited.
                    f64::INFINITY
                } else if plain < MOST_ADDED.2 {
                    added[index].median() / 1000.0
                } else {
                    own
                };
                if plain >= MOST_ADDED.2 {
                    // The difference of two large times says nothing, even if it is small.
                    report.note(format!(
                        "{bench}: a direct connection alone has a {name} of {plain:.2} ms at {rate} updates/s on this machine, so that all of the time through bmpd is taken for what it adds."
                    ));
                }
                report.ratio(bench, what, is, RatioGoal::AtMost(MOST_ADDED.2));
            }
        }
        for (what, samples) in [("through bmpd", through), ("direct", alone), ("added by bmpd", added)] {
            for ((_, name), samples) in PERCENTILES.iter().zip(samples) {
                report.row(bench, &format!("{what}, {rate} updates/s"), name, "µs", samples);
            }
        }
    }
    Ok(())
}

/// Connects the same hosts directly, with only the kernel in between.
fn connect(setting: &BenchSetting, sender: &Netns) -> io::Result<(TcpStream, Arrivals)> {
    let address = SocketAddr::from((STATION, PLAIN_PORT));
    let listener = setting.links.station.enter(|| TcpListener::bind(address))?;
    let stream = sender.enter(|| TcpStream::connect(address))?;
    stream.set_nodelay(true)?;
    Ok((stream, Arrivals::new(listener.accept()?.0)?))
}

/// Latencies of many updates in µs, and the time of sending them.
#[derive(Default)]
struct Latencies {
    micros: Vec<f64>,
    sending: Duration,
}

impl Latencies {
    /// Sends updates at a pace, and collects their arrivals. `expected` holds each UPDATE as it
    /// must arrive.
    fn measure(
        &mut self,
        sent: &NumberedUpdates,
        expected: &NumberedUpdates,
        rate: u32,
        send: &mut dyn FnMut(&[u8]) -> io::Result<()>,
        arrivals: &mut Arrivals,
    ) -> io::Result<()> {
        let began = Instant::now();
        let (at, arrived) = std::thread::scope(|scope| {
            let taking = scope.spawn(|| arrivals.take(expected.some(0, 1), expected.count, began));
            sleep(BEFORE);
            let at = paced(sent, rate, began, send);
            (at, taking.join().map_err(|_| io::Error::other("the receiver failed")))
        });
        let (at, arrived) = (at?, arrived??);
        let took = at.iter().zip(&arrived).map(|(sent, arrived)| arrived.saturating_sub(*sent));
        self.micros.extend(took.map(|took| took.as_secs_f64() * 1e6));
        self.sending += at.last().zip(at.first()).map_or(Duration::ZERO, |(last, first)| *last - *first);
        Ok(())
    }

    fn sort(&mut self) {
        self.micros.sort_by(f64::total_cmp);
    }

    /// Returns the updates sent in a second.
    fn pace(&self) -> f64 {
        self.micros.len() as f64 / self.sending.as_secs_f64()
    }

    /// Returns a percentile. Call [`Self::sort`] first.
    fn percentile(&self, part: f64) -> f64 {
        let last = self.micros.len().saturating_sub(1);
        self.micros.get((part * last as f64).round() as usize).copied().unwrap_or(f64::NAN)
    }
}

/// Sends each update when it is due. Returns the time of each write, since `began`.
///
/// The machine does not wake for every update. Updates that are due together go in one write, as
/// from a BGP speaker.
fn paced(
    updates: &NumberedUpdates,
    rate: u32,
    began: Instant,
    send: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Vec<Duration>> {
    // The default timer slack may lengthen a sleep by 50 µs.
    set_timerslack(1)?;
    let mut at = Vec::with_capacity(updates.count);
    let start = Instant::now();
    while at.len() < updates.count {
        let now = start.elapsed();
        let due = ((now.as_secs_f64() * f64::from(rate)) as usize + 1).min(updates.count);
        if due > at.len() {
            let written = began.elapsed();
            send(updates.some(at.len(), due))?;
            at.resize(due, written);
        }
        let next = Duration::from_secs_f64(at.len() as f64 / f64::from(rate));
        sleep(next.saturating_sub(start.elapsed()));
    }
    Ok(at)
}
