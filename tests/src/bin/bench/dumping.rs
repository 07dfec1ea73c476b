//! Stations that all dump the whole table at once: the memory that this takes, the cost of each,
//! and the rate of all together.

use std::{
    fs, io,
    io::Write as _,
    net::SocketAddr,
    sync::{Arc, Barrier},
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, Instant},
};

use crate::{
    BenchSetting, PATIENCE,
    frames::FrameStream,
    interrupt,
    links::{STATION, STATION_PORT},
    ordinal,
    relay::connect,
    report::{BenchReport, RatioGoal, Samples},
    say,
    station::{BenchReader, CountingStation, PAUSE, SOME_ROOM},
    subject::{BenchSubject, RELAY},
};

/// Stations that dump at once in `dump`, and the memory in MB that they may add.
const AT_ONCE: (u16, f64) = (16, 32.0);
/// The allowed cost of one in sixteen dumps, relative to a single dump. Every dump is made anew,
/// and others must not slow it.
const COST: f64 = 2.0;

/// The measurements of one run.
struct DumpRun {
    /// Time from the common start of reading to the last route at the last station.
    time: Duration,
    /// Processor time.
    cpu: Duration,
    /// Processor time in user space and in the kernel, to ten milliseconds.
    apart: (Duration, Duration),
    bytes: u64,
    /// Peak memory above the memory before, in MB.
    added: f64,
}

/// Measures the memory that sixteen stations at once add, for `dump`.
pub(crate) fn memory(setting: &BenchSetting, report: &mut BenchReport) -> io::Result<()> {
    const BENCH: &str = "dump";
    let (stations, most) = AT_ONCE;
    let mut added = Samples::default();
    let frames = FrameStream::packed(&setting.table);
    for run in 0..=setting.runs {
        say(&format!("dump: {stations} stations at once, {}", ordinal(run)))?;
        let dumped = dump(setting, &frames, stations)?;
        if run > 0 {
            added.push(dumped.added);
        }
    }
    let what = format!("memory that {stations} stations add while they dump at once, in MB");
    report.ratio(BENCH, what, added.median(), RatioGoal::AtMost(most));
    report.row(BENCH, &format!("{stations} stations at once"), "memory added, at most", "MB", added);
    Ok(())
}

/// Measures the cost of each station and the rate of all together, for `fanout`.
pub(crate) fn fanout(setting: &BenchSetting, numbers: &[u16], report: &mut BenchReport) -> io::Result<()> {
    const BENCH: &str = "fanout";
    let frames = FrameStream::packed(&setting.table);
    let mut costs = Vec::new();
    for &stations in numbers {
        let (mut cost, mut rate, mut added) = <(Samples, Samples, Samples)>::default();
        let (mut user, mut system) = <(Samples, Samples)>::default();
        for run in 0..=setting.runs {
            say(&format!("fanout: {stations} stations dump, {}", ordinal(run)))?;
            let dumped = dump(setting, &frames, stations)?;
            if run == 0 {
                continue;
            }
            let each = |time: Duration| 1e3 * time.as_secs_f64() / f64::from(stations);
            cost.push(each(dumped.cpu));
            user.push(each(dumped.apart.0));
            system.push(each(dumped.apart.1));
            added.push(dumped.added);
            rate.push(dumped.bytes as f64 / dumped.time.as_secs_f64() / 1e6);
        }
        costs.push((stations, cost.median()));
        let subject = format!("{stations} stations that dump");
        report.row(BENCH, &subject, "processor time of each", "ms", cost);
        report.row(BENCH, &subject, "processor time of each, user", "ms", user);
        report.row(BENCH, &subject, "processor time of each, system", "ms", system);
        report.row(BENCH, &subject, "all stations", "MB/s", rate);
        report.row(BENCH, &subject, "memory added, at most", "MB", added);
    }
    if let [(1, one), .., (most, last)] = costs.as_slice() {
        let what = format!("processor time of each of {most} stations that dump, to that of one");
        report.ratio(BENCH, what, last / one, RatioGoal::AtMost(COST));
    }
    Ok(())
}

/// Loads the table while no station listens. Then all stations accept, and read from the same
/// moment on.
fn dump(setting: &BenchSetting, frames: &FrameStream, stations: u16) -> io::Result<DumpRun> {
    let subject = BenchSubject::relay(&setting.links, stations)?;
    let mut daemon = connect(setting, RELAY)?;
    daemon.write_all(&frames.bytes)?;
    loaded(&subject, frames.sum.routes)?;
    forget_most(&subject)?;
    let before = most_resident(&subject)?;
    let (cpu, (user, system)) = (subject.processor()?, subject.cpu());
    // All stations and this thread.
    let begin = Arc::new(Barrier::new(usize::from(stations) + 1));
    let reading = (0..stations).map(|number| {
        let address = SocketAddr::from((STATION, STATION_PORT + number));
        let station = CountingStation::listen(&setting.links.station, address)?;
        let (begin, routes) = (Arc::clone(&begin), frames.sum.routes);
        Ok(spawn(move || -> io::Result<(BenchReader, Instant)> {
            let stream = station.accept(PATIENCE);
            begin.wait();
            let (mut reader, mut room) = (BenchReader::default(), vec![1; SOME_ROOM]);
            let mut stream = stream?;
            stream.set_read_timeout(Some(PAUSE))?;
            let last = reader.read(&mut stream, &mut room, routes)?;
            Ok((reader, last))
        }))
    });
    let reading: Vec<JoinHandle<_>> = reading.collect::<io::Result<_>>()?;
    begin.wait();
    let began = Instant::now();
    let (mut last, mut bytes) = (began, 0);
    for station in reading {
        let (reader, at) = station.join().map_err(|_| io::Error::other("a station failed"))??;
        if (reader.sum, reader.prefixes) != (frames.sum, frames.prefixes) {
            return Err(io::Error::other("bmpd dumped other routes than it was fed"));
        }
        last = last.max(at);
        bytes += reader.bytes;
    }
    let cpu = subject.processor()? - cpu;
    let after = subject.cpu();
    let apart = (after.0 - user, after.1 - system);
    let added = most_resident(&subject)?.saturating_sub(before) as f64 * 1024.0 / 1e6;
    Ok(DumpRun { time: last - began, cpu, apart, bytes, added })
}

/// Waits until the table is loaded and bmpd has finished its work on it.
fn loaded(subject: &BenchSubject, routes: u64) -> io::Result<()> {
    let started = Instant::now();
    while subject.routes() != Some(routes) {
        interrupt::check()?;
        if started.elapsed() > PATIENCE {
            return Err(io::Error::other("bmpd did not take the table in time"));
        }
        sleep(Duration::from_millis(50));
    }
    sleep(Duration::from_secs(1));
    Ok(())
}

/// Resets the peak of resident memory to the present (proc_pid_clear_refs(5)).
fn forget_most(subject: &BenchSubject) -> io::Result<()> {
    fs::write(format!("/proc/{}/clear_refs", subject.pid()), "5")
}

/// Returns the peak of resident memory since the reset, in KiB.
fn most_resident(subject: &BenchSubject) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", subject.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let most = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    most.ok_or_else(|| io::Error::other("the kernel does not report the peak of memory"))
}
