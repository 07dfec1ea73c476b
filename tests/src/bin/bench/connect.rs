//! 256 sessions at once: the time until all are established, until one has moved to another source,
//! and until one is back after its interface; and the times to display and to scrape them all.

mod carrier;
mod crowd;
mod hosts;
mod scrape;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr},
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use bmp_user::control::{Client, CommandAnswer, Request, read_json};
use lab::{
    bmpd::Bmpd,
    table::{TableShape, UpdateTable},
    topology::STATION_PORT,
};

use crate::{
    BenchSetting,
    dump::one,
    frames::FrameStream,
    ordinal,
    report::{BenchReport, RatioGoal, Samples},
    say,
    subject::RELAY,
};
use crowd::{Crowd, SessionChange};
use hosts::{BenchHosts, INTERFACES, STATIONS, session, source, stations};

const BENCH: &str = "connect";
const PATIENCE: Duration = Duration::from_secs(60);
const SESSIONS: usize = INTERFACES as usize * STATIONS as usize;

/// Seconds within which 256 sessions must be established.
const ALL: f64 = 2.0;
/// Milliseconds within which 256 sessions must be displayed.
const SHOWN: f64 = 100.0;
/// Moves of a session in each run.
const MOVES: u8 = 16;
/// Displays of all sessions in each run.
const LOOKS: usize = 10;
/// Routes in each burst while sessions are displayed.
const ROUTES: usize = 1000;
/// Bursts in a second.
const A_SECOND: u32 = 20;

/// Runs the benchmark `connect`.
pub(crate) fn run(setting: &BenchSetting, report: &mut BenchReport) -> io::Result<()> {
    let hosts = BenchHosts::new();
    started(setting, &hosts, report)?;
    let (bmpd, crowd) = committed(setting, &hosts, report)?;
    moved(setting, &hosts, &bmpd, &crowd, report)?;
    shown(setting, &hosts, &bmpd, &crowd, report)?;
    scrape::run(setting, &hosts, &bmpd, &crowd, report)?;
    drop((bmpd, crowd));
    carrier::run(setting, &hosts, report)
}

/// Returns the value below which `part` of the values lie.
fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Returns the configuration of all sessions, each pinned to its interface, from the BMP view on.
fn sessions() -> String {
    stations().map(|(interface, station)| session(interface, station)).collect()
}

/// Measures from the start of bmpd with 256 sessions in its file.
fn started(setting: &BenchSetting, hosts: &BenchHosts, report: &mut BenchReport) -> io::Result<()> {
    let mut seconds = Vec::new();
    for run in 0..=setting.runs {
        say(&format!("connect: {SESSIONS} sessions from the start, {}", ordinal(run)))?;
        let crowd = Crowd::listen(&hosts.station, STATION_PORT)?;
        let began = Instant::now();
        let _bmpd = Bmpd::start(&hosts.router, &format!("bmp\n{}", sessions()));
        let last = all_established(&crowd)?;
        if run > 0 {
            seconds.push((last - began).as_secs_f64());
        }
    }
    tell("start of bmpd", &seconds, report);
    Ok(())
}

/// Measures from the commit of 256 sessions to a running bmpd. Returns the last bmpd.
fn committed(setting: &BenchSetting, hosts: &BenchHosts, report: &mut BenchReport) -> io::Result<(Bmpd, Crowd)> {
    let (address, port) = (RELAY.ip(), RELAY.port());
    let relay = format!("bmp-relay daemon\n listen {address} port {port}\n");
    let mut seconds = Vec::new();
    let mut last = None;
    for run in 0..=setting.runs {
        say(&format!("connect: {SESSIONS} sessions from a commit, {}", ordinal(run)))?;
        // End the earlier bmpd first.
        drop(last.take());
        let crowd = Crowd::listen(&hosts.station, STATION_PORT)?;
        let bmpd = Bmpd::start(&hosts.router, &relay);
        let mut operator = ControlOperator::at(&bmpd)?;
        operator.type_all("system-view\nbmp\n")?;
        for (interface, station) in stations() {
            operator.type_all(&format!("{}quit\n", session(interface, station)))?;
        }
        let began = Instant::now();
        operator.type_all("commit")?;
        let all = all_established(&crowd)?;
        if run > 0 {
            seconds.push((all - began).as_secs_f64());
        }
        last = Some((bmpd, crowd));
    }
    tell("commit", &seconds, report);
    last.ok_or_else(|| io::Error::other("there was no run"))
}

fn tell(from: &str, seconds: &[f64], report: &mut BenchReport) {
    let what = format!("s from {from} to {SESSIONS} established, the longest");
    report.ratio(BENCH, what, percentile(seconds, 1.0), RatioGoal::AtMost(ALL));
    let mut samples = Samples::default();
    seconds.iter().for_each(|value| samples.push(*value));
    report.row(BENCH, &format!("{SESSIONS} sessions, {from}"), "all established", "s", samples);
}

/// Waits until every station has its session from the expected source. Returns the time of the last
/// one.
fn all_established(crowd: &Crowd) -> io::Result<Instant> {
    let mut wanted: BTreeMap<_, _> = stations().map(|(interface, station)| (station, source(interface))).collect();
    let mut last = Instant::now();
    while !wanted.is_empty() {
        let seen = crowd.next(PATIENCE, &format!("{} more sessions", wanted.len()))?;
        match (seen.what, wanted.remove(&seen.station)) {
            (SessionChange::Established, Some(source)) if source == seen.source => last = seen.at,
            unexpected => return Err(io::Error::other(format!("{seen:?} instead of {unexpected:?}"))),
        }
    }
    Ok(last)
}

/// An operator at bmpd's control socket.
struct ControlOperator(Client);

impl ControlOperator {
    fn at(bmpd: &Bmpd) -> io::Result<Self> {
        Client::connect(bmpd.setup().control()).map(Self).map_err(io::Error::other)
    }

    /// Types lines, each after the answer to the one before.
    fn type_all(&mut self, lines: &str) -> io::Result<()> {
        for line in lines.lines() {
            let request = Request { command: line.trim().to_owned(), ..Request::default() };
            let response = self.0.ask(&request).map_err(io::Error::other)?;
            if let CommandAnswer::Refused(why) = response.answer {
                return Err(io::Error::other(format!("{line}: {why}")));
            }
        }
        Ok(())
    }
}

/// Changes the interface of a session. Measures until its old source is gone, and until it is
/// established from the new one.
fn moved(
    setting: &BenchSetting,
    hosts: &BenchHosts,
    bmpd: &Bmpd,
    crowd: &Crowd,
    report: &mut BenchReport,
) -> io::Result<()> {
    say("connect: sessions that move to another interface")?;
    let (mut ended, mut established) = (Vec::new(), Vec::new());
    let mut operator = ControlOperator::at(bmpd)?;
    operator.type_all("system-view\nbmp")?;
    let mut on: BTreeMap<_, _> = stations().map(|(interface, station)| (station, interface)).collect();
    for turn in 0..usize::from(MOVES) * setting.runs {
        // Consecutive moves are far apart. The next move of a session goes back.
        let Some((home, station)) = stations().nth(turn * 37 % SESSIONS) else { continue };
        let Some(now) = on.get_mut(&station) else { continue };
        let old = *now;
        *now = if old == home { (home + 1) % INTERFACES } else { home };
        operator.type_all(&format!("bmp-session {station}\nconnect-interface p{now}"))?;
        crowd.forget();
        let began = Instant::now();
        operator.type_all("commit\nquit")?;
        let mut left = vec![(SessionChange::Ended, source(old)), (SessionChange::Established, source(*now))];
        while !left.is_empty() {
            let seen = crowd.next(PATIENCE, "a session that moves")?;
            let expected = left.iter().position(|event| seen.station == station && *event == (seen.what, seen.source));
            let expected = expected.ok_or_else(|| io::Error::other(format!("{seen:?} instead of {left:?}")))?;
            left.swap_remove(expected);
            let milliseconds = 1e3 * (seen.at - began).as_secs_f64();
            if seen.what == SessionChange::Ended { &mut ended } else { &mut established }.push(milliseconds);
        }
        if connected(hosts, source(old), station)? {
            return Err(io::Error::other(format!("a connection from the old source to {station} is still there")));
        }
    }
    for (what, least, milliseconds) in [
        ("commit to old source gone, median", "commit to old source gone, 99 of 100", ended),
        ("commit to new source established, median", "commit to new source established, 99 of 100", established),
    ] {
        let mut samples = Samples::default();
        milliseconds.iter().for_each(|value| samples.push(*value));
        report.row(BENCH, "connect-interface changed", what, "ms", samples);
        report.row(BENCH, "connect-interface changed", least, "ms", one(percentile(&milliseconds, 0.99)));
    }
    Ok(())
}

/// True if the router has an established connection from `source` to a station.
fn connected(hosts: &BenchHosts, source: IpAddr, station: IpAddr) -> io::Result<bool> {
    /// `TCP_ESTABLISHED` of include/net/tcp_states.h.
    const ESTABLISHED: &str = "01";
    // Addresses in /proc/net/tcp are in the machine's byte order.
    let address = |ip| match ip {
        IpAddr::V4(ip) => format!("{:08X}:", u32::from_ne_bytes(Ipv4Addr::octets(&ip))),
        IpAddr::V6(_) => String::new(),
    };
    let table = hosts.router.enter(|| fs::read_to_string("/proc/thread-self/net/tcp"))?;
    Ok(table.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().take(4).collect();
        matches!(*fields, [_, local, remote, ESTABLISHED]
            if local.starts_with(&address(source)) && remote.starts_with(&address(station)))
    }))
}

/// Displays all sessions while each of them sends routes.
fn shown(
    setting: &BenchSetting,
    hosts: &BenchHosts,
    bmpd: &Bmpd,
    crowd: &Crowd,
    report: &mut BenchReport,
) -> io::Result<()> {
    say(&format!("connect: {SESSIONS} sessions are shown under load"))?;
    let frames = FrameStream::packed(&UpdateTable::new(&TableShape { routes: ROUTES, ..TableShape::default() }));
    let mut daemon = hosts.router.enter(|| std::net::TcpStream::connect(RELAY))?;
    let stop = AtomicBool::new(false);
    let (milliseconds, bytes, took) = thread::scope(|scope| {
        let feeding = scope.spawn(|| -> io::Result<()> {
            let mut due = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                daemon.write_all(&frames.bytes)?;
                due += Duration::from_secs(1) / A_SECOND;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            Ok(())
        });
        let looked = look(setting, bmpd, crowd);
        stop.store(true, Ordering::Relaxed);
        feeding.join().map_err(|_| io::Error::other("the feeder failed"))??;
        looked
    })?;
    let what = format!("ms to show {SESSIONS} sessions as JSON under load, 99 of 100");
    report.ratio(BENCH, what, percentile(&milliseconds, 0.99), RatioGoal::AtMost(SHOWN));
    let mut samples = Samples::default();
    milliseconds.iter().for_each(|value| samples.push(*value));
    report.row(BENCH, "display bmp session --json", "under load, median", "ms", samples);
    let rate = bytes as f64 / took.as_secs_f64() / 1e6;
    report.row(BENCH, "display bmp session --json", "told to all stations meanwhile", "MB/s", one(rate));
    Ok(())
}

/// Returns the time of each display, the bytes that all stations received meanwhile, and the time
/// of all displays.
fn look(setting: &BenchSetting, bmpd: &Bmpd, crowd: &Crowd) -> io::Result<(Vec<f64>, u64, Duration)> {
    let mut milliseconds = Vec::new();
    let (mut bytes_before, mut began) = (crowd.bytes(), Instant::now());
    for number in 0..=LOOKS * setting.runs {
        // Wait until stations receive something: the display must happen under load.
        let known = crowd.bytes();
        while crowd.bytes() == known {
            if began.elapsed() > PATIENCE {
                return Err(io::Error::other("no station receives anything"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        let start = Instant::now();
        let output = bmpd.bmpctl("display bmp session --json").stdin(Stdio::null()).output()?;
        let took = start.elapsed();
        let answer = String::from_utf8_lossy(&output.stdout);
        let sessions: Vec<serde_json::Value> = read_json(&answer).map_err(io::Error::other)?;
        let up = sessions.iter().filter(|session| session["state"] == "up").count();
        if up != SESSIONS {
            return Err(io::Error::other(format!("{up} of {SESSIONS} sessions are displayed as up")));
        }
        if number == 0 {
            (bytes_before, began) = (crowd.bytes(), Instant::now());
        } else {
            milliseconds.push(1e3 * took.as_secs_f64());
        }
    }
    Ok((milliseconds, crowd.bytes() - bytes_before, began.elapsed()))
}
