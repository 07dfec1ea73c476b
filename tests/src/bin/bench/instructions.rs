//! `instructions`: instruction counts of the parts on the way of every route. Callgrind counts
//! them, so a noisy machine does not matter.

use std::io;

use lab::instructions::{BLESS, RecordedCounts, SIZE, TOLERANCE, count};

use crate::{
    report::{BenchReport, RatioGoal, Samples},
    say,
};

const BENCH: &str = "instructions";

pub(crate) fn run(report: &mut BenchReport) -> io::Result<()> {
    say(&format!("instructions: {} routes under callgrind", SIZE.routes))?;
    let hot = std::env::current_exe()?.with_file_name("hot");
    let counts = count(&hot, SIZE)?;
    let kept = RecordedCounts::read()?;
    for (count, ratio) in kept.ratios(&counts) {
        let mut samples = Samples::default();
        let (what, items) = if count.part.starts_with("resolve") { ("a pin", 1) } else { ("a route", SIZE.routes) };
        samples.push(count.instructions as f64 / items as f64);
        report.row(BENCH, &count.part, what, "instructions", samples);
        if let (Some(ratio), None) = (ratio, kept.of_another_compiler()) {
            report.ratio(BENCH, format!("{}, to what it took", count.part), ratio, RatioGoal::AtMost(1.0 + TOLERANCE));
        }
    }
    if let Some(other) = kept.of_another_compiler() {
        report.note(format!("The recorded instruction counts are of {other}, so they are not compared."));
    }
    if std::env::var_os(BLESS).is_some() {
        kept.write(&counts)?;
    }
    Ok(())
}
