//! BMP in, BMP out, with the state kept, beside a plain loop that copies the same bytes between two
//! sockets.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use crate::{
    BenchSetting, PATIENCE,
    dump::check_table,
    frames::FrameStream,
    interrupt,
    links::{PLAIN_PORT, STATION, STATION_PORT},
    ordinal,
    report::{BenchReport, RatioGoal, Samples},
    say,
    station::{CountingStation, RouteCount},
    subject::{BenchSubject, RELAY},
};

const BENCH: &str = "relay";
/// Bytes that the copying loop reads at once, as bmpd does.
const COPY: usize = 64 * 1024;
/// The required rate, if the loop is not slower.
const MESSAGES_A_SECOND: f64 = 1_500_000.0;
/// The required part of the loop's rate, if the loop is slower.
const OF_THE_LOOP: f64 = 0.6;

pub(crate) fn run(setting: &BenchSetting, report: &mut BenchReport) -> io::Result<()> {
    let frames = FrameStream::one_a_message(&setting.table);
    let (mut rate, mut bytes, mut cpu) = <(Samples, Samples, Samples)>::default();
    for run in 0..=setting.runs {
        say(&format!("relay: {}", ordinal(run)))?;
        let station = CountingStation::listen(&setting.links.station, setting.links.station_address())?;
        let count = station.count(setting.routes())?;
        let subject = BenchSubject::relay(&setting.links, 2)?;
        count.wait_connected(PATIENCE)?;
        let mut daemon = connect(setting, RELAY)?;
        let before = subject.processor()?;
        let began = Instant::now();
        daemon.write_all(&frames.bytes)?;
        let counted = count.wait_done(PATIENCE)?;
        let took = subject.processor()? - before;
        check_table("bmpd", &counted, &frames)?;
        late(setting, &frames)?;
        if run > 0 {
            let seconds = (counted.last - began).as_secs_f64();
            rate.push(frames.messages as f64 / seconds);
            bytes.push(frames.bytes.len() as f64 / seconds / 1e6);
            cpu.push(took.as_secs_f64());
        }
    }
    let mut copied = Samples::default();
    for run in 0..=setting.runs {
        say(&format!("relay: a loop that copies, {}", ordinal(run)))?;
        let seconds = copy(setting, &frames)?.as_secs_f64();
        if run > 0 {
            copied.push(frames.messages as f64 / seconds);
        }
    }
    let least = MESSAGES_A_SECOND.min(OF_THE_LOOP * copied.median());
    report.ratio(
        BENCH,
        format!("messages/s, to {least:.0} (the less of 1.5 million and 60 % of the loop's)"),
        rate.median() / least,
        RatioGoal::AtLeast(1.0),
    );
    report.row(BENCH, "bmpd", "rate", "messages/s", rate);
    report.row(BENCH, "bmpd", "rate in bytes", "MB/s", bytes);
    report.row(BENCH, "bmpd", "processor time", "s", cpu);
    report.row(BENCH, "a loop that copies", "rate", "messages/s", copied);
    Ok(())
}

/// Checks that a late station receives the same table: bmpd kept the state.
fn late(setting: &BenchSetting, frames: &FrameStream) -> io::Result<()> {
    let address = SocketAddr::from((STATION, STATION_PORT + 1));
    let station = CountingStation::listen(&setting.links.station, address)?;
    check_table("bmpd", &station.count(setting.routes())?.wait_done(PATIENCE)?, frames)
}

pub(crate) fn connect(setting: &BenchSetting, to: SocketAddr) -> io::Result<TcpStream> {
    let started = Instant::now();
    loop {
        interrupt::check()?;
        match setting.links.router.enter(|| TcpStream::connect(to)) {
            Err(error) if started.elapsed() > PATIENCE => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
            connected => return connected,
        }
    }
}

/// Measures the loop, from the first sent byte to the last route at the station.
fn copy(setting: &BenchSetting, frames: &FrameStream) -> io::Result<Duration> {
    let near = SocketAddr::from((Ipv4Addr::LOCALHOST, PLAIN_PORT));
    let listener = setting.links.router.enter(|| TcpListener::bind(near))?;
    let far = SocketAddr::from((STATION, PLAIN_PORT));
    let station = CountingStation::listen(&setting.links.station, far)?;
    let count = station.count(setting.routes())?;
    let mut out = connect(setting, far)?;
    let copying = std::thread::spawn(move || -> io::Result<()> {
        let (mut from, _) = listener.accept()?;
        let mut buffer = vec![0; COPY];
        loop {
            match from.read(&mut buffer)? {
                0 => return Ok(()),
                read => out.write_all(&buffer[..read])?,
            }
        }
    });
    let mut sender = connect(setting, near)?;
    let began = Instant::now();
    sender.write_all(&frames.bytes)?;
    let counted: RouteCount = count.wait_done(PATIENCE)?;
    check_table("the loop", &counted, frames)?;
    drop(sender);
    // The loop ends with its sender.
    let _ = copying.join();
    Ok(counted.last - began)
}
