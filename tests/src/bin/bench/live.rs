//! A table that arrives while a station is connected: from the first fed byte to the last route at
//! the station, and the memory after it.

use std::{io, thread::sleep, time::Duration};

use crate::{
    BenchSetting, PATIENCE,
    dump::check,
    feeder::BgpFeeder,
    links::PEER,
    ordinal,
    report::{BenchReport, RatioGoal, Samples},
    say,
    station::CountingStation,
    subject::{BenchSubject, SubjectKind, bgp_address},
};

const BENCH: &str = "live";
/// Pause between the last route and the reading of memory.
const SETTLING: Duration = Duration::from_secs(5);

pub(crate) fn run(setting: &BenchSetting, report: &mut BenchReport) -> io::Result<()> {
    let (mut rates, mut memories) = (Vec::new(), Vec::new());
    for &kind in &setting.subjects {
        let measured = of(kind, setting, report);
        if let Some((rate, memory)) = report.measured(BENCH, kind, measured)? {
            rates.push((kind, rate));
            memories.push((kind, memory));
        }
    }
    let of = |values: &[(SubjectKind, f64)], wanted: SubjectKind| {
        values.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| *value)
    };
    for (other, least, most) in [(SubjectKind::Frr, 25.0, 0.1), (SubjectKind::Bird, 4.0, 1.0 / 3.0)] {
        if let (Some(own), Some(other_rate)) = (of(&rates, SubjectKind::Bmpd), of(&rates, other)) {
            report.ratio(
                BENCH,
                format!("routes/s, to {}'s", other.name()),
                own / other_rate,
                RatioGoal::AtLeast(least),
            );
        }
        if let (Some(own), Some(other_memory)) = (of(&memories, SubjectKind::Bmpd), of(&memories, other)) {
            report.ratio(BENCH, format!("memory, to {}'s", other.name()), own / other_memory, RatioGoal::AtMost(most));
        }
    }
    Ok(())
}

/// Returns the medians of a subject: routes a second, and memory in MiB.
fn of(kind: SubjectKind, setting: &BenchSetting, report: &mut BenchReport) -> io::Result<(f64, f64)> {
    let (mut rate, mut cpu, mut memory, mut journal) = <(Samples, Samples, Samples, Samples)>::default();
    let runs = if kind == SubjectKind::Bmpd { setting.runs } else { setting.runs.min(3) };
    for run in 0..=runs {
        say(&format!("live: {}, {}", kind.name(), ordinal(run)))?;
        let station = CountingStation::listen(&setting.links.station, setting.links.station_address())?;
        let count = station.count(setting.routes())?;
        let subject = BenchSubject::start(kind, &setting.links)?;
        count.wait_connected(PATIENCE)?;
        let mut feeder = BgpFeeder::connect(&setting.links.peer, PEER.0, PEER.1, bgp_address())?;
        // Wait until the session's Peer Up is at the station.
        sleep(Duration::from_millis(500));
        let before = subject.processor()?;
        let began = feeder.send(&setting.table.bytes)?;
        let counted = count.wait_done(PATIENCE)?;
        let took = subject.processor()? - before;
        check(kind, &counted, setting, report)?;
        if run == 0 {
            continue;
        }
        rate.push(setting.routes() as f64 / (counted.last - began).as_secs_f64());
        cpu.push(took.as_secs_f64());
        sleep(SETTLING);
        let kept = subject.journal_bytes() as f64 / MIB;
        memory.push(subject.resident() as f64 / 1024.0 - kept);
        journal.push(kept);
    }
    let medians = (rate.median(), memory.median());
    report.row(BENCH, kind.name(), "rate", "routes/s", rate);
    report.row(BENCH, kind.name(), "processor time", "s", cpu);
    report.row(BENCH, kind.name(), "resident memory", "MiB", memory);
    if kind == SubjectKind::Bmpd {
        report.row(BENCH, kind.name(), "journal, not part of it", "MiB", journal);
    }
    Ok(medians)
}

const MIB: f64 = 1024.0 * 1024.0;
