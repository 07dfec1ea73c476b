//! Stations that all dump the whole table at once: the memory that it takes, what each costs, and how fast all are together.

use std::{
    fs, io,
    io::Write as _,
    net::SocketAddr,
    sync::{Arc, Barrier},
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, Instant},
};

use crate::{
    PATIENCE, Setting,
    frames::Frames,
    interrupt,
    links::{STATION, STATION_PORT},
    ordinal,
    relay::connect,
    report::{Goal, Report, Samples},
    say,
    station::{Reader, SOME_ROOM, Station},
    subject::{RELAY, Subject},
};

/// How many dump at once in `dump`, and what that may add to memory, in MB.
const AT_ONCE: (u16, f64) = (16, 32.0);
/// What one of sixteen may cost, to one alone: each dump is made anew, and none is to be dearer for the others.
const COST: f64 = 2.0;

/// What one run came to.
struct Dumped {
    /// From the moment at which all begin to read to the last route at the last of them.
    time: Duration,
    /// Processor time in all,
    cpu: Duration,
    /// and in user space and in the kernel, to ten milliseconds.
    apart: (Duration, Duration),
    bytes: u64,
    /// What the most memory was above what it was before, in MB.
    added: f64,
}

/// `dump`: what sixteen at once add to memory.
pub(crate) fn memory(setting: &Setting, report: &mut Report) -> io::Result<()> {
    const BENCH: &str = "dump";
    let (stations, most) = AT_ONCE;
    let mut added = Samples::default();
    let frames = Frames::packed(&setting.table);
    for run in 0..=setting.runs {
        say(&format!("dump: {stations} stations at once, {}", ordinal(run)))?;
        let dumped = dump(setting, &frames, stations)?;
        if run > 0 {
            added.push(dumped.added);
        }
    }
    let what = format!("memory that {stations} stations add while they dump at once, in MB");
    report.ratio(BENCH, what, added.median(), Goal::AtMost(most));
    report.row(BENCH, &format!("{stations} stations at once"), "memory added, at most", "MB", added);
    Ok(())
}

/// `fanout`: what each costs, and how fast all are together.
pub(crate) fn fanout(setting: &Setting, numbers: &[u16], report: &mut Report) -> io::Result<()> {
    const BENCH: &str = "fanout";
    let frames = Frames::packed(&setting.table);
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
        report.ratio(BENCH, what, last / one, Goal::AtMost(COST));
    }
    Ok(())
}

/// Loads the table while nobody listens, lets all stations be connected to, and has them read from the same moment on.
fn dump(setting: &Setting, frames: &Frames, stations: u16) -> io::Result<Dumped> {
    let subject = Subject::relay(&setting.links, stations)?;
    let mut daemon = connect(setting, RELAY)?;
    daemon.write_all(&frames.bytes)?;
    loaded(&subject, frames.sum.routes)?;
    forget_most(&subject)?;
    let before = most_resident(&subject)?;
    let (cpu, (user, system)) = (subject.processor()?, subject.cpu());
    // The stations and this thread.
    let begin = Arc::new(Barrier::new(usize::from(stations) + 1));
    let reading = (0..stations).map(|number| {
        let address = SocketAddr::from((STATION, STATION_PORT + number));
        let station = Station::listen(&setting.links.station, address)?;
        let (begin, routes) = (Arc::clone(&begin), frames.sum.routes);
        Ok(spawn(move || -> io::Result<(Reader, Instant)> {
            let stream = station.accept(PATIENCE);
            begin.wait();
            let (mut reader, mut room) = (Reader::default(), vec![1; SOME_ROOM]);
            let last = reader.read(&mut stream?, &mut room, routes)?;
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
            return Err(io::Error::other("what bmpd dumped is not the table that it was fed"));
        }
        last = last.max(at);
        bytes += reader.bytes;
    }
    let cpu = subject.processor()? - cpu;
    let after = subject.cpu();
    let apart = (after.0 - user, after.1 - system);
    let added = most_resident(&subject)?.saturating_sub(before) as f64 * 1024.0 / 1e6;
    Ok(Dumped { time: last - began, cpu, apart, bytes, added })
}

/// Waits until the table is in, and what is done behind it is done.
fn loaded(subject: &Subject, routes: u64) -> io::Result<()> {
    let started = Instant::now();
    while subject.routes() != Some(routes) {
        interrupt::check()?;
        if started.elapsed() > PATIENCE {
            return Err(io::Error::other("the table was not taken in time"));
        }
        sleep(Duration::from_millis(50));
    }
    sleep(Duration::from_secs(1));
    Ok(())
}

/// From now on the most is what it is now (proc_pid_clear_refs(5)).
fn forget_most(subject: &Subject) -> io::Result<()> {
    fs::write(format!("/proc/{}/clear_refs", subject.pid()), "5")
}

/// The most resident memory since then, in KiB.
fn most_resident(subject: &Subject) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", subject.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let most = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    most.ok_or_else(|| io::Error::other("the kernel does not say what the most memory was"))
}
