//! Withdraws the whole table, announces it again and changes it, many times, while a station
//! follows: the time of a flap, and the growth of memory.

use std::{
    io,
    thread::sleep,
    time::{Duration, Instant},
};

use lab::table::{TableShape, UpdateTable};

use crate::{
    BenchSetting, PATIENCE,
    dump::{check, one},
    feeder::BgpFeeder,
    links::PEER,
    report::{BenchReport, RatioGoal, Samples},
    say, shape,
    station::CountingStation,
    subject::{BenchSubject, SubjectKind, bgp_address},
    watch::{FollowCount, FollowedConnection},
};

const BENCH: &str = "churn";
/// Number of flaps.
const FLAPS: usize = 8;
/// Number of flaps for slow subjects.
const FEW_FLAPS: usize = 2;
/// Pause between a flap and the reading of memory.
const SETTLING: Duration = Duration::from_secs(1);
/// The allowed growth of memory from the second flap to the last, as a factor.
///
/// The same routes need the same bytes. Freed blocks that the next flap cannot quite reuse add a
/// bounded rest. Six flaps that each leaked a hundredth of the table would exceed this factor.
const GROWTH: f64 = 1.05;
/// The allowed median time of a flap, relative to FRR's.
const TO_FRR: f64 = 0.1;

/// The messages of a flap: the table, the table with other attributes, and its withdrawal.
struct FlapMessages<'a> {
    table: &'a UpdateTable,
    other: UpdateTable,
    withdrawals: Vec<u8>,
}

/// Durations of the three phases of a flap.
struct FlapTimes {
    gone: Duration,
    back: Duration,
    changed: Duration,
}

pub(crate) fn run(setting: &BenchSetting, report: &mut BenchReport) -> io::Result<()> {
    say("churn: a second table with other attributes, and the withdrawals")?;
    let routes = setting.table.sum.routes as usize;
    let other = UpdateTable::new(&TableShape { variant: 1, ..shape(routes) });
    let flap = FlapMessages { table: &setting.table, other, withdrawals: setting.table.withdrawals() };
    let mut times = Vec::new();
    for &kind in &setting.subjects {
        if kind == SubjectKind::Gobgp {
            report.note("GoBGP takes most of a minute for one table: it is left out of churn.".to_owned());
            continue;
        }
        let measured = of(kind, setting, &flap, report);
        let Some((memory, time)) = report.measured(BENCH, kind, measured)? else { continue };
        if kind == SubjectKind::Bmpd {
            let growth = memory.last().zip(memory.get(1)).map_or(f64::NAN, |(last, second)| last / second);
            report.ratio(
                BENCH,
                "memory after the last flap, to that after the second".to_owned(),
                growth,
                RatioGoal::AtMost(GROWTH),
            );
        }
        times.push((kind, time));
    }
    let time = |wanted: SubjectKind| times.iter().find(|(kind, _)| *kind == wanted).map(|(_, time)| *time);
    if let (Some(own), Some(frr)) = (time(SubjectKind::Bmpd), time(SubjectKind::Frr)) {
        report.ratio(BENCH, "time of a flap, to FRR's".to_owned(), own / frr, RatioGoal::AtMost(TO_FRR));
    }
    Ok(())
}

/// Returns memory after each flap, and the median time of a flap.
fn of(
    kind: SubjectKind,
    setting: &BenchSetting,
    flap: &FlapMessages<'_>,
    report: &mut BenchReport,
) -> io::Result<(Vec<f64>, f64)> {
    let flaps = if kind == SubjectKind::Bmpd { FLAPS } else { FEW_FLAPS };
    let station = CountingStation::listen(&setting.links.station, setting.links.station_address())?;
    let subject = BenchSubject::start(kind, &setting.links)?;
    let watch = FollowedConnection::accept(&station, PATIENCE)?;
    let mut feeder = BgpFeeder::connect(&setting.links.peer, PEER.0, PEER.1, bgp_address())?;
    // Wait until the session's Peer Up is at the station.
    sleep(Duration::from_millis(500));
    let fed = FedSubject { kind, watch: &watch, routes: setting.routes() };
    fed.announced(&mut feeder, flap.table)?;
    let (mut gone, mut back, mut changed, mut all) = <(Samples, Samples, Samples, Samples)>::default();
    let mut memory = Vec::new();
    for number in 1..=flaps {
        say(&format!("churn: {}, flap {number} of {flaps}", kind.name()))?;
        let took = fed.flap(&mut feeder, flap)?;
        sleep(SETTLING);
        memory.push((subject.resident() as f64 - subject.journal_bytes() as f64 / 1024.0) / 1024.0);
        // The first flap allocates memory that the others reuse.
        if number > 1 {
            gone.push(took.gone.as_secs_f64());
            back.push(took.back.as_secs_f64());
            changed.push(took.changed.as_secs_f64());
            all.push((took.gone + took.back + took.changed).as_secs_f64());
        }
    }
    drop(watch);
    // After the flaps, the subject must have the table that was fed last.
    let count = station.count(setting.routes())?;
    count.wait_connected(PATIENCE)?;
    check(kind, &count.wait_done(PATIENCE)?, setting, report)?;
    let time = all.median();
    for (what, samples) in [
        ("until all is withdrawn", gone),
        ("until all is back", back),
        ("until all has changed", changed),
        ("a whole flap", all),
    ] {
        report.row(BENCH, kind.name(), what, "s", samples);
    }
    for (what, flap) in [("memory after the second flap", 2), ("memory after the last flap", FLAPS)] {
        if let Some(value) = memory.get(flap - 1) {
            report.row(BENCH, kind.name(), what, "MiB", one(*value));
        }
    }
    Ok((memory, time))
}

/// A subject, and the station that it reports to.
struct FedSubject<'a> {
    kind: SubjectKind,
    watch: &'a FollowedConnection,
    routes: u64,
}

impl FedSubject<'_> {
    /// Withdraws all routes, announces them with other attributes, and changes them back.
    fn flap(&self, feeder: &mut BgpFeeder, flap: &FlapMessages<'_>) -> io::Result<FlapTimes> {
        let gone = self.withdrawn(feeder, flap)?;
        let back = self.announced(feeder, &flap.other)?;
        let changed = self.announced(feeder, flap.table)?;
        Ok(FlapTimes { gone, back, changed })
    }

    fn withdrawn(&self, feeder: &mut BgpFeeder, flap: &FlapMessages<'_>) -> io::Result<Duration> {
        let before = self.watch.seen();
        let began = feeder.send(&flap.withdrawals)?;
        let seen = self.watch.wait(&before, 0, self.routes, PATIENCE)?;
        self.is_right(seen.withdrawn == flap.table.prefixes && seen.sum.routes == 0, "withdrew")?;
        Ok(since(began, &seen))
    }

    fn announced(&self, feeder: &mut BgpFeeder, table: &UpdateTable) -> io::Result<Duration> {
        let before = self.watch.seen();
        let began = feeder.send(&table.bytes)?;
        let seen = self.watch.wait(&before, self.routes, 0, PATIENCE)?;
        // Subjects other than bmpd encode attributes anew.
        let same = seen.prefixes == table.prefixes && (self.kind != SubjectKind::Bmpd || seen.sum == table.sum);
        self.is_right(same && seen.withdrawn.routes == 0, "announced")?;
        Ok(since(began, &seen))
    }

    fn is_right(&self, right: bool, what: &str) -> io::Result<()> {
        if right {
            return Ok(());
        }
        Err(io::Error::other(format!("{} {what} other routes than it was fed", self.kind.name())))
    }
}

fn since(began: Instant, seen: &FollowCount) -> Duration {
    seen.at.duration_since(began)
}
