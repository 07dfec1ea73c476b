//! Many stations that follow at once: what each costs, and what one that takes nothing costs the others.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    PATIENCE, Setting,
    dump::{check_table, one},
    frames::Frames,
    links::{STATION, STATION_PORT},
    relay::connect,
    report::{Goal, Report, Samples},
    say,
    station::Station,
    subject::{RELAY, Subject},
};

/// How many stations follow.
const STATIONS: [u16; 4] = [1, 4, 16, 64];
/// In `slow`: how many are there.
const SLOW: u16 = 8;

/// What one run came to.
struct Followed {
    /// From the first byte fed to the last route at the last station.
    time: Duration,
    user: Duration,
    system: Duration,
    bytes: u64,
    /// Resident memory at the end, in MiB.
    memory: f64,
}

/// `fanout`.
pub(crate) fn run(setting: &Setting, report: &mut Report) -> io::Result<()> {
    const BENCH: &str = "fanout";
    let frames = Frames::packed(&setting.table);
    let mut users = Vec::new();
    for stations in STATIONS {
        let (mut user, mut system, mut rate, mut memory) = <(Samples, Samples, Samples, Samples)>::default();
        for run in 1..=setting.runs {
            say(&format!("fanout: {stations} stations, run {run}"))?;
            let followed = follow(setting, &frames, stations, 0)?;
            user.push(followed.user.as_secs_f64());
            system.push(followed.system.as_secs_f64());
            rate.push(followed.bytes as f64 / followed.time.as_secs_f64() / 1e6);
            memory.push(followed.memory);
        }
        users.push((stations, user.median()));
        let subject = format!("{stations} stations");
        report.row(BENCH, &subject, "processor time, user", "s", user);
        report.row(BENCH, &subject, "processor time, system", "s", system);
        report.row(BENCH, &subject, "all stations", "MB/s", rate);
        report.row(BENCH, &subject, "resident memory", "MiB", memory);
    }
    let of = |wanted: u16| users.iter().find(|(stations, _)| *stations == wanted).map(|(_, user)| *user);
    if let (Some(one), Some(sixteen)) = (of(1), of(16)) {
        report.ratio(BENCH, "user time of 16 stations, to that of one".to_owned(), sixteen / one, Goal::AtMost(3.0));
    }
    Ok(())
}

/// `slow`.
pub(crate) fn slow(setting: &Setting, report: &mut Report) -> io::Result<()> {
    const BENCH: &str = "slow";
    let frames = Frames::packed(&setting.table);
    let (mut alone, mut beside) = <(Samples, Samples)>::default();
    // In turns, so that what changes on the machine changes for both.
    for run in 0..=setting.runs {
        say(&format!("slow: {}", if run == 0 { "warm-up".to_owned() } else { format!("run {run}") }))?;
        let undisturbed = follow(setting, &frames, SLOW - 1, 0)?;
        let with_one_more = follow(setting, &frames, SLOW - 1, 1)?;
        if run > 0 {
            alone.push(undisturbed.bytes as f64 / undisturbed.time.as_secs_f64() / 1e6);
            beside.push(with_one_more.bytes as f64 / with_one_more.time.as_secs_f64() / 1e6);
        }
    }
    let ratio = beside.median() / alone.median();
    report.ratio(
        BENCH,
        "throughput of seven beside a stalled one, to seven alone".to_owned(),
        ratio,
        Goal::AtLeast(0.95),
    );
    report.row(BENCH, "7 stations", "throughput", "MB/s", alone);
    report.row(BENCH, "7 stations and a stalled one", "throughput of the 7", "MB/s", beside);
    report.row(BENCH, "bmpd", "stalled stations", "", one(1.0));
    Ok(())
}

/// Has so many stations follow a table, and others that take nothing.
fn follow(setting: &Setting, frames: &Frames, stations: u16, stalled: u16) -> io::Result<Followed> {
    let address = |number: u16| SocketAddr::from((STATION, STATION_PORT + number));
    let listen = |number: u16| Station::listen(&setting.links.station, address(number));
    let listeners: Vec<_> = (0..stations).map(listen).collect::<io::Result<_>>()?;
    let counts: Vec<_> = listeners.iter().map(|station| station.count(frames.sum.routes)).collect::<io::Result<_>>()?;
    // They are connected to, and nobody reads.
    let _stalled: Vec<_> = (stations..stations + stalled).map(listen).collect::<io::Result<_>>()?;
    let subject = Subject::relay(&setting.links, stations + stalled)?;
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
    Ok(Followed { time: last - began, user: after.0 - before.0, system: after.1 - before.1, bytes, memory })
}
