//! Many stations that follow at once: the cost of each, and the cost of a stalled one to the
//! others.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    BenchSetting, PATIENCE,
    dump::check_table,
    dumping,
    frames::FrameStream,
    links::{STATION, STATION_PORT},
    ordinal,
    relay::connect,
    report::{BenchReport, RatioGoal, Samples},
    say,
    station::CountingStation,
    subject::{BenchSubject, RELAY},
};

/// Numbers of stations that follow or dump.
const STATIONS: [u16; 4] = [1, 4, 16, 64];
/// Stations in `slow`.
const SLOW: u16 = 8;
/// Pairs of measurements in a run of `slow`, with and without the stalled station. A table reaches
/// all stations in a tenth of a second, so one pair says little.
const PAIRS: usize = 8;
/// A number of stations, and their allowed user time relative to one station. The encoding is
/// shared between stations; only some system calls are not.
const USER_TIME: (u16, f64) = (16, 3.0);

/// The measurements of one run.
struct FollowRun {
    /// Time from the first fed byte to the last route at the last station.
    time: Duration,
    user: Duration,
    system: Duration,
    bytes: u64,
    /// Resident memory at the end, in MiB.
    memory: f64,
    /// Bytes that bmpd has not yet sent to stalled stations.
    behind: u64,
}

/// Runs the benchmark `fanout`.
pub(crate) fn run(setting: &BenchSetting, report: &mut BenchReport) -> io::Result<()> {
    const BENCH: &str = "fanout";
    let frames = FrameStream::packed(&setting.table);
    let mut users = Vec::new();
    let numbers = setting.stations.map_or_else(|| STATIONS.to_vec(), |stations| vec![1, stations]);
    for &stations in &numbers {
        let (mut user, mut system, mut rate, mut memory) = <(Samples, Samples, Samples, Samples)>::default();
        for run in 0..=setting.runs {
            say(&format!("fanout: {stations} stations, {}", ordinal(run)))?;
            let followed = follow(setting, &frames, stations, 0)?;
            if run == 0 {
                continue;
            }
            user.push(followed.user.as_secs_f64());
            system.push(followed.system.as_secs_f64());
            rate.push(followed.bytes as f64 / followed.time.as_secs_f64() / 1e6);
            memory.push(followed.memory);
        }
        users.push((stations, user.median()));
        let subject = format!("{stations} stations");
        let each = |samples: &Samples| samples.each(|seconds| 1e3 * seconds / f64::from(stations));
        report.row(BENCH, &subject, "processor time of each, user", "ms", each(&user));
        report.row(BENCH, &subject, "processor time of each, system", "ms", each(&system));
        report.row(BENCH, &subject, "processor time, user", "s", user);
        report.row(BENCH, &subject, "processor time, system", "s", system);
        report.row(BENCH, &subject, "all stations", "MB/s", rate);
        report.row(BENCH, &subject, "resident memory", "MiB", memory);
    }
    let of = |wanted: u16| users.iter().find(|(stations, _)| *stations == wanted).map(|(_, user)| *user);
    let (stations, most) = setting.stations.map_or(USER_TIME, |stations| (stations, USER_TIME.1));
    if let (Some(one), Some(many)) = (of(1), of(stations)) {
        // More than sixteen stations may use proportionally more.
        let most = most * f64::from(stations.max(USER_TIME.0)) / f64::from(USER_TIME.0);
        report.ratio(
            BENCH,
            format!("user time of {stations} stations, to that of one"),
            many / one,
            RatioGoal::AtMost(most),
        );
    }
    dumping::fanout(setting, &numbers, report)
}

/// Runs the benchmark `slow`.
pub(crate) fn slow(setting: &BenchSetting, report: &mut BenchReport) -> io::Result<()> {
    const BENCH: &str = "slow";
    let frames = FrameStream::packed(&setting.table);
    // One of the stations is the stalled one.
    let others = setting.stations.unwrap_or(SLOW).saturating_sub(1).max(1);
    let (mut alone, mut beside, mut ratios) = <(Samples, Samples, Samples)>::default();
    let (mut behind, mut all_taken_by_kernel) = (Samples::default(), false);
    for run in 0..=setting.runs {
        say(&format!("slow: {}", ordinal(run)))?;
        for pair in 0..PAIRS {
            let mut throughput = |stalled| {
                let followed = follow(setting, &frames, others, stalled)?;
                all_taken_by_kernel |= stalled > 0 && followed.behind == 0;
                if stalled > 0 && run > 0 {
                    behind.push(followed.behind as f64 / 1e6);
                }
                io::Result::Ok(followed.bytes as f64 / followed.time.as_secs_f64() / 1e6)
            };
            // In turns, each first as often, so that a changing load hits both alike.
            let (undisturbed, with_one_more) = if pair % 2 == 0 {
                let undisturbed = throughput(0)?;
                (undisturbed, throughput(1)?)
            } else {
                let with_one_more = throughput(1)?;
                (throughput(0)?, with_one_more)
            };
            if run > 0 {
                alone.push(undisturbed);
                beside.push(with_one_more);
                ratios.push(with_one_more / undisturbed);
            }
        }
    }
    report.row(BENCH, "the stalled station", "not sent to it by then", "MB", behind);
    if all_taken_by_kernel {
        report.note("slow: the kernel took all of the table for the stalled station: with so few routes none is stalled, and nothing is compared.".to_owned());
    } else {
        report.ratio(
            BENCH,
            format!("throughput of {others} beside a stalled one, to {others} alone"),
            ratios.median(),
            RatioGoal::AtLeast(0.95),
        );
    }
    report.row(BENCH, &format!("{others} stations"), "throughput", "MB/s", alone);
    report.row(BENCH, &format!("{others} stations and a stalled one"), "throughput of the others", "MB/s", beside);
    Ok(())
}

/// Feeds a table that `stations` stations follow beside `stalled` stations that read nothing.
fn follow(setting: &BenchSetting, frames: &FrameStream, stations: u16, stalled: u16) -> io::Result<FollowRun> {
    let address = |number: u16| SocketAddr::from((STATION, STATION_PORT + number));
    let listen = |number: u16| CountingStation::listen(&setting.links.station, address(number));
    let listeners: Vec<_> = (0..stations).map(listen).collect::<io::Result<_>>()?;
    let counts: Vec<_> =
        listeners.iter().map(|station| station.count_on_the_way(frames.sum.routes)).collect::<io::Result<_>>()?;
    // The kernel accepts connections for these, and nobody reads.
    let _stalled: Vec<_> = (stations..stations + stalled).map(listen).collect::<io::Result<_>>()?;
    let subject = BenchSubject::relay(&setting.links, stations + stalled)?;
    counts.iter().try_for_each(|count| count.wait_connected(PATIENCE))?;
    let mut daemon = connect(setting, RELAY)?;
    let before = subject.cpu();
    let began = Instant::now();
    daemon.write_all(&frames.bytes)?;
    let mut last = began;
    let mut bytes = 0;
    for count in &counts {
        let counted = count.wait_done(PATIENCE)?;
        check_table("bmpd", &counted, frames)?;
        last = last.max(counted.last);
        bytes += counted.bytes;
    }
    let after = subject.cpu();
    let memory = subject.resident() as f64 / 1024.0;
    let behind = not_sent(&subject, stations, stalled)?;
    Ok(FollowRun { time: last - began, user: after.0 - before.0, system: after.1 - before.1, bytes, memory, behind })
}

/// Returns the bytes that are not yet sent to the stalled stations. Their sessions must be up.
fn not_sent(subject: &BenchSubject, stations: u16, stalled: u16) -> io::Result<u64> {
    let sessions = subject.sessions();
    let behind = (stations..stations + stalled).map(|number| {
        let port = STATION_PORT + number;
        let session = sessions.iter().find(|session| session["port"] == port && session["state"] == "up");
        let behind = session.and_then(|session| session["feed"]["lag_bytes"].as_u64());
        behind.ok_or_else(|| io::Error::other(format!("the session to the stalled station at port {port} is not up")))
    });
    behind.sum()
}
