//! A new station at a loaded feed: from accept to the last route, beside a plain sender of as many
//! bytes on the same link.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use crate::{
    BenchSetting, PATIENCE,
    feeder::BgpFeeder,
    frames::FrameStream,
    interrupt,
    links::{PEER, PLAIN_PORT, STATION},
    ordinal,
    report::{BenchReport, RatioGoal, Samples},
    say,
    station::{CountingStation, RouteCount},
    subject::{BenchSubject, SubjectKind, bgp_address},
};

const BENCH: &str = "dump";
/// Runs of the plain sender.
const PLAIN_RUNS: usize = 20;
/// A subject that uses no processor for this long has taken the table.
const QUIET: Duration = Duration::from_secs(3);

/// Returns the number of runs: slow subjects have fewer.
fn runs(kind: SubjectKind, setting: &BenchSetting) -> usize {
    if kind == SubjectKind::Gobgp { 1 } else { setting.runs }
}

pub(crate) fn run(setting: &BenchSetting, report: &mut BenchReport) -> io::Result<()> {
    let mut rates = Vec::new();
    let mut own = None;
    for &kind in &setting.subjects {
        let measured = of(kind, setting, report);
        let Some(dump) = report.measured(BENCH, kind, measured)? else { continue };
        rates.push((kind, dump.rate));
        if kind == SubjectKind::Bmpd {
            own = Some(dump);
        }
    }
    if let Some(DumpMedians { seconds, bytes, announcing, .. }) = own {
        // Routes with common attributes must leave as their peer packed them, or in fewer messages.
        report.ratio(
            BENCH,
            "messages with routes, to those that the peer sent".to_owned(),
            announcing as f64 / setting.table.ends.len() as f64,
            RatioGoal::AtMost(1.0),
        );
        say("dump: a plain sender of as many bytes")?;
        let plain = plain(setting, bytes)?;
        report.ratio(
            BENCH,
            "time, to a plain sender's of the same bytes".to_owned(),
            seconds / plain.median(),
            RatioGoal::AtMost(10.0),
        );
        report.row(BENCH, "plain sender", "time", "ms", plain.each(|seconds| 1e3 * seconds));
    }
    let of = |wanted: SubjectKind| rates.iter().find(|(kind, _)| *kind == wanted).map(|(_, rate)| *rate);
    for (other, least) in [(SubjectKind::Frr, 25.0), (SubjectKind::Bird, 10.0)] {
        if let (Some(own), Some(other_rate)) = (of(SubjectKind::Bmpd), of(other)) {
            report.ratio(
                BENCH,
                format!("routes/s, to {}'s", other.name()),
                own / other_rate,
                RatioGoal::AtLeast(least),
            );
        }
    }
    Ok(())
}

/// The medians of a subject's dumps.
struct DumpMedians {
    /// Routes a second.
    rate: f64,
    seconds: f64,
    bytes: usize,
    /// Messages with routes, in the dump that had most.
    announcing: u64,
}

fn of(kind: SubjectKind, setting: &BenchSetting, report: &mut BenchReport) -> io::Result<DumpMedians> {
    say(&format!("dump: {} is loaded", kind.name()))?;
    let subject = BenchSubject::start(kind, &setting.links)?;
    let mut feeder = BgpFeeder::connect(&setting.links.peer, PEER.0, PEER.1, bgp_address())?;
    // No station listens yet, so nothing is sent while the table is taken.
    feeder.send(&setting.table.bytes)?;
    settled(&subject, setting)?;
    let station = CountingStation::listen(&setting.links.station, setting.links.station_address())?;
    let (mut rate, mut time, mut cpu) = (Samples::default(), Samples::default(), Samples::default());
    let (mut last, mut announcing) = (None, 0);
    for run in 0..=runs(kind, setting) {
        say(&format!("dump: {}, {}", kind.name(), ordinal(run)))?;
        let before = subject.processor()?;
        let count = station.count(setting.routes())?;
        subject.connect(kind, &setting.links)?;
        count.wait_connected(PATIENCE)?;
        let counted = count.wait_done(PATIENCE)?;
        let took = subject.processor()? - before;
        check(kind, &counted, setting, report)?;
        announcing = announcing.max(counted.announcing);
        if run > 0 {
            rate.push(setting.routes() as f64 / counted.since_accept.as_secs_f64());
            time.push(counted.since_accept.as_secs_f64());
            cpu.push(took.as_secs_f64());
        }
        last = Some(counted);
    }
    let mut dump = DumpMedians { rate: rate.median(), seconds: time.median(), bytes: 0, announcing };
    if let Some(counted) = last {
        report.row(BENCH, kind.name(), "bytes sent", "bytes", one(counted.bytes as f64));
        report.row(BENCH, kind.name(), "messages sent", "messages", one(counted.messages as f64));
        dump.bytes = counted.bytes as usize;
    }
    report.row(BENCH, kind.name(), "processor time", "ms", cpu.each(|seconds| 1e3 * seconds));
    report.row(BENCH, kind.name(), "time", "ms", time.each(|seconds| 1e3 * seconds));
    report.row(BENCH, kind.name(), "rate", "routes/s", rate);
    Ok(dump)
}

pub(crate) fn one(value: f64) -> Samples {
    let mut samples = Samples::default();
    samples.push(value);
    samples
}

/// Checks that the counted routes are the fed ones. bmpd must keep attributes byte by byte; other
/// subjects may encode them anew.
pub(crate) fn check(
    kind: SubjectKind,
    counted: &RouteCount,
    setting: &BenchSetting,
    report: &mut BenchReport,
) -> io::Result<()> {
    let same = counted.sum == setting.table.sum;
    if counted.prefixes != setting.table.prefixes || (kind == SubjectKind::Bmpd && !same) {
        return Err(io::Error::other(format!("{} sent other routes than it was fed", kind.name())));
    }
    if !same {
        report.note(format!(
            "{} sends every prefix of the table, with attributes written anew: its hash is over prefixes alone.",
            kind.name()
        ));
    }
    Ok(())
}

/// Checks frames that bmpd relayed, or that were copied.
pub(crate) fn check_table(who: &str, counted: &RouteCount, frames: &FrameStream) -> io::Result<()> {
    if (counted.sum, counted.prefixes) == (frames.sum, frames.prefixes) {
        return Ok(());
    }
    Err(io::Error::other(format!("{who} sent other routes than it was fed")))
}

/// Waits until the subject has the whole table.
pub(crate) fn settled(subject: &BenchSubject, setting: &BenchSetting) -> io::Result<()> {
    let started = std::time::Instant::now();
    let mut last = (subject.processor()?, started);
    loop {
        interrupt::check()?;
        if subject.routes() == Some(setting.routes()) {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            return Err(io::Error::other("the subject did not take the table in time"));
        }
        std::thread::sleep(Duration::from_millis(100));
        // Other subjects report no count. They are done when they use no processor time.
        let now = subject.processor()?;
        if now > last.0 + Duration::from_millis(20) {
            last = (now, std::time::Instant::now());
        } else if subject.routes().is_none() && last.1.elapsed() > QUIET {
            return Ok(());
        }
    }
}

/// Measures how long this many bytes take over a plain connection.
fn plain(setting: &BenchSetting, size: usize) -> io::Result<Samples> {
    let address = SocketAddr::from((STATION, PLAIN_PORT));
    let listener = setting.links.station.enter(|| TcpListener::bind(address))?;
    let bytes = vec![0; size];
    let mut samples = Samples::default();
    for _ in 0..PLAIN_RUNS {
        let taking = {
            let listener = listener.try_clone()?;
            std::thread::spawn(move || -> io::Result<Duration> {
                let (mut stream, _) = listener.accept()?;
                let accepted = std::time::Instant::now();
                let mut buffer = vec![0; 1 << 20];
                let mut received = 0;
                while received < size {
                    match stream.read(&mut buffer)? {
                        0 => break,
                        read => received += read,
                    }
                }
                Ok(accepted.elapsed())
            })
        };
        let mut stream = setting.links.router.enter(|| TcpStream::connect(address))?;
        stream.write_all(&bytes)?;
        let time = taking.join().map_err(|_| io::Error::other("the plain receiver failed"))??;
        samples.push(time.as_secs_f64());
    }
    Ok(samples)
}
