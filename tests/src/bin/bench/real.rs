//! Live and dump with recorded tables in place of the synthetic one.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Instant,
};

use crate::{
    BenchSetting, PATIENCE,
    dump::{check_table, one},
    links::{STATION, STATION_PORT},
    ordinal,
    recorded::{self, RecordedTable},
    relay::connect,
    report::{BenchReport, Samples},
    say,
    station::CountingStation,
    subject::{BenchSubject, RELAY},
};

/// The benchmarks to run for each file.
#[derive(Clone, Copy)]
pub(crate) struct WantedBenches {
    pub(crate) live: bool,
    pub(crate) dump: bool,
}

/// Measures these files, or those beside the checkout if there are none. Files without a table are
/// skipped with a note.
pub(crate) fn run(
    setting: &BenchSetting,
    files: &[PathBuf],
    wanted: WantedBenches,
    report: &mut BenchReport,
) -> io::Result<()> {
    if !files.is_empty() {
        return files.iter().try_for_each(|path| file(setting, path, wanted, report));
    }
    match recorded::files() {
        Ok(files) => files.iter().try_for_each(|path| file(setting, path, wanted, report)),
        Err(why) => {
            report.absent("tables that were recorded", &why);
            Ok(())
        }
    }
}

fn file(setting: &BenchSetting, path: &Path, wanted: WantedBenches, report: &mut BenchReport) -> io::Result<()> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    say(&format!("recorded: {name} is read"))?;
    let recorded = RecordedTable::read(path)?;
    let frames = recorded.frames();
    let routes = frames.sum.routes;
    if routes == 0 {
        report.note(format!("{name} has no IPv4 unicast routes at its end: it is not measured."));
        return Ok(());
    }
    let (mut live, mut dump) = <(Samples, Samples)>::default();
    for run in 0..=setting.runs {
        say(&format!("recorded: {name}, {}", ordinal(run)))?;
        let station = CountingStation::listen(&setting.links.station, setting.links.station_address())?;
        let count = station.count(routes)?;
        let subject = BenchSubject::relay(&setting.links, 2)?;
        count.wait_connected(PATIENCE)?;
        let mut daemon = connect(setting, RELAY)?;
        let began = Instant::now();
        daemon.write_all(&frames.bytes)?;
        let counted = count.wait_done(PATIENCE)?;
        check_table("bmpd", &counted, &frames)?;
        if subject.routes() != Some(routes) {
            return Err(io::Error::other(format!("bmpd does not have the {routes} routes of {name}")));
        }
        // A second station connects when the table is loaded.
        let late = CountingStation::listen(&setting.links.station, SocketAddr::from((STATION, STATION_PORT + 1)))?;
        let dumped = late.count(routes)?.wait_done(PATIENCE)?;
        check_table("bmpd", &dumped, &frames)?;
        if run > 0 {
            live.push(routes as f64 / (counted.last - began).as_secs_f64());
            dump.push(routes as f64 / dumped.since_accept.as_secs_f64());
        }
    }
    let of = format!("bmpd, {name}");
    for (bench, samples, wanted) in [("live", live, wanted.live), ("dump", dump, wanted.dump)] {
        if wanted {
            report.row(bench, &of, "routes", "", one(routes as f64));
            report.row(bench, &of, "peers", "", one(recorded.peers() as f64));
            report.row(bench, &of, "rate", "routes/s", samples);
        }
    }
    Ok(())
}
