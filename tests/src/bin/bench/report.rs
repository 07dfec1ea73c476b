//! The report: samples, their median and spread, ratios, and their goals.

use std::{fmt::Write as _, io};

use serde_json::{Value, json};

use crate::subject::SubjectKind;

/// The machine of the measurement.
pub(crate) struct BenchMachine {
    cores: usize,
    processor: String,
    kernel: String,
}

impl BenchMachine {
    pub(crate) fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: name.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, name)| name).to_owned(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// Values of one measurement, one for each run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Converts the values to another unit.
    pub(crate) fn each(&self, change: impl Fn(f64) -> f64) -> Self {
        Self(self.0.iter().map(|value| change(*value)).collect())
    }

    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            length if length % 2 == 1 => sorted[length / 2],
            length => (sorted[length / 2 - 1] + sorted[length / 2]) / 2.0,
        }
    }

    /// Returns half the range, relative to the median.
    fn spread(&self) -> f64 {
        let (least, most) =
            self.0.iter().fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(*value), most.max(*value)));
        // Equal values have no spread, even if all are zero.
        if least >= most { 0.0 } else { (most - least) / 2.0 / self.median().abs() }
    }
}

/// The goal of a ratio.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RatioGoal {
    AtLeast(f64),
    AtMost(f64),
}

impl RatioGoal {
    fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(least) => ratio >= least,
            Self::AtMost(most) => ratio <= most,
        }
    }

    fn in_words(self) -> String {
        match self {
            Self::AtLeast(least) => format!("at least {}", (least * 1000.0).round() / 1000.0),
            Self::AtMost(most) => format!("at most {}", (most * 1000.0).round() / 1000.0),
        }
    }
}

struct ReportRow {
    bench: &'static str,
    subject: String,
    what: &'static str,
    unit: &'static str,
    samples: Samples,
}

struct ReportRatio {
    bench: &'static str,
    what: String,
    ratio: f64,
    goal: RatioGoal,
}

/// All measurements.
pub(crate) struct BenchReport {
    machine: BenchMachine,
    routes: usize,
    runs: usize,
    subjects: Vec<(String, String)>,
    absent: Vec<(String, String)>,
    rows: Vec<ReportRow>,
    ratios: Vec<ReportRatio>,
    notes: Vec<String>,
}

impl BenchReport {
    pub(crate) fn new(machine: BenchMachine, routes: usize, runs: usize) -> Self {
        let (subjects, absent, rows, ratios, notes) = Default::default();
        Self { machine, routes, runs, subjects, absent, rows, ratios, notes }
    }

    pub(crate) fn subject(&mut self, name: &str, version: &str) {
        self.subjects.push((name.to_owned(), version.to_owned()));
    }

    /// Notes a subject that is not measured, and why.
    pub(crate) fn absent(&mut self, name: &str, why: &str) {
        self.absent.push((name.to_owned(), why.to_owned()));
    }

    pub(crate) fn row(
        &mut self,
        bench: &'static str,
        subject: &str,
        what: &'static str,
        unit: &'static str,
        samples: Samples,
    ) {
        self.rows.push(ReportRow { bench, subject: subject.to_owned(), what, unit, samples });
    }

    pub(crate) fn ratio(&mut self, bench: &'static str, what: String, ratio: f64, goal: RatioGoal) {
        self.ratios.push(ReportRatio { bench, what, ratio, goal });
    }

    /// Returns the measurement of a subject. A failure of another program becomes a note, so that
    /// the rest can be measured.
    pub(crate) fn measured<T>(
        &mut self,
        bench: &'static str,
        kind: SubjectKind,
        measured: io::Result<T>,
    ) -> io::Result<Option<T>> {
        match measured {
            Ok(measured) => Ok(Some(measured)),
            Err(error) if kind != SubjectKind::Bmpd => {
                self.note(format!("{bench}: {} could not be measured: {error}.", kind.name()));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Adds a note, once.
    pub(crate) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// True if every ratio meets its goal.
    pub(crate) fn passed(&self) -> bool {
        self.ratios.iter().all(|ratio| ratio.goal.is_met(ratio.ratio))
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let BenchMachine { cores, processor, kernel } = &self.machine;
        writeln!(
            text,
            "{} routes, median of {} runs and half their range, on {cores} cores of {processor}, Linux {kernel}.",
            self.routes, self.runs
        )?;
        let subjects: Vec<_> = self.subjects.iter().map(|(name, version)| format!("{name} {version}")).collect();
        writeln!(text, "Measured: {}.", subjects.join(", "))?;
        for (name, why) in &self.absent {
            writeln!(text, "Not measured: {name} ({why}).")?;
        }
        let rows = self.rows.iter().map(|row| {
            let median = row.samples.median();
            [
                row.bench.to_owned(),
                row.what.to_owned(),
                row.subject.clone(),
                format!("{} {}", number(median), row.unit),
                format!("±{:.0} %", 100.0 * row.samples.spread()),
            ]
        });
        writeln!(text)?;
        table(text, ["bench", "what", "subject", "value", "spread"], rows)?;
        let ratios = self.ratios.iter().map(|ratio| {
            let verdict = if ratio.goal.is_met(ratio.ratio) { "pass" } else { "FAIL" };
            [
                ratio.bench.to_owned(),
                ratio.what.clone(),
                // Small ratios need one more digit.
                if ratio.ratio.abs() < 1.0 { format!("{:.3}", ratio.ratio) } else { format!("{:.2}", ratio.ratio) },
                ratio.goal.in_words(),
                verdict.to_owned(),
            ]
        });
        writeln!(text)?;
        table(text, ["bench", "ratio", "is", "is to be", ""], ratios)?;
        for note in &self.notes {
            writeln!(text, "\n{note}")?;
        }
        Ok(())
    }

    pub(crate) fn json(&self) -> String {
        let BenchMachine { cores, processor, kernel } = &self.machine;
        let map = |pairs: &[(String, String)]| {
            Value::Object(pairs.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect())
        };
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                json!({ "bench": row.bench, "what": row.what, "subject": row.subject, "unit": row.unit, "median": row.samples.median(), "samples": row.samples.0 })
            })
            .collect();
        let ratios: Vec<_> = self
            .ratios
            .iter()
            .map(|ratio| json!({ "bench": ratio.bench, "what": ratio.what, "ratio": ratio.ratio, "goal": ratio.goal.in_words(), "passed": ratio.goal.is_met(ratio.ratio) }))
            .collect();
        let all = json!({
            "machine": { "cores": cores, "processor": processor, "kernel": kernel },
            "routes": self.routes,
            "runs": self.runs,
            "subjects": map(&self.subjects),
            "absent": map(&self.absent),
            "rows": rows,
            "ratios": ratios,
            "notes": self.notes,
        });
        format!("{all:#}\n")
    }
}

/// Formats a number with grouped digits, and with as many decimals as matter.
fn number(value: f64) -> String {
    if value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = if value < 0.0 { "-".to_owned() } else { String::new() };
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn table<const COLUMNS: usize>(
    text: &mut String,
    heading: [&str; COLUMNS],
    rows: impl Iterator<Item = [String; COLUMNS]>,
) -> std::fmt::Result {
    let rows: Vec<_> = std::iter::once(heading.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..COLUMNS).map(width).collect();
    for (number, row) in rows.iter().enumerate() {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(text, "| {} |", cells.join(" | "))?;
        if number == 0 {
            let lines: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
            writeln!(text, "| {} |", lines.join(" | "))?;
        }
    }
    Ok(())
}
