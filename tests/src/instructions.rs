//! Instruction counts of the parts of bmpd on the way of every route ([`crate::parts`]).
//!
//! Callgrind counts them, so other load on the machine does not change them. A slower part shows
//! even on a noisy machine.

use std::{fmt::Write as _, fs, io, path::Path};

use programs::Program;

use crate::process::INSTALL;

/// The size of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunSize {
    /// Routes in the tables.
    pub routes: usize,
    /// Interfaces of the host that resolves pins.
    pub interfaces: u32,
}

/// Instructions of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstructionCount {
    /// Group and name of the part.
    pub part: String,
    /// Instructions for all its routes.
    pub instructions: u64,
}

/// Runs all parts by the program `hot`, and counts the instructions of each.
///
/// # Errors
/// If valgrind is missing or fails, or counts fewer parts than ran.
pub fn count(hot: &Path, size: RunSize) -> io::Result<Vec<InstructionCount>> {
    let folder = tempfile::tempdir()?;
    let mut valgrind = Program::Valgrind.command();
    // Callgrind counts inside `measured` only, and writes the counts to a new file at each call of
    // `tell`.
    valgrind.args(["--tool=callgrind", "--collect-atstart=no"]);
    valgrind.args(["--toggle-collect=hot::measured*", "--dump-before=hot::tell*"]);
    valgrind.arg(format!("--callgrind-out-file={}", folder.path().join("counts").display()));
    valgrind.arg(hot).args([size.routes.to_string(), size.interfaces.to_string()]);
    let output = valgrind
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot start valgrind: {error}{INSTALL}")))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        return Err(io::Error::other(format!("{valgrind:?}: {}: {stderr}", output.status)));
    }
    let parts = stdout.lines().enumerate();
    parts
        .map(|(number, part)| {
            let file = folder.path().join(format!("counts.{}", number + 1));
            let instructions = total(&fs::read_to_string(&file)?)
                .ok_or_else(|| io::Error::other(format!("callgrind counted no instruction of `{part}`: {stderr}")))?;
            Ok(InstructionCount { part: part.to_owned(), instructions })
        })
        .collect()
}

/// Reads the total of callgrind's output (`totals: N`, the profile data format in the valgrind
/// manual).
fn total(profile: &str) -> Option<u64> {
    let total = profile.lines().find_map(|line| line.strip_prefix("totals: "))?;
    total.trim().parse().ok().filter(|instructions| *instructions > 0)
}

/// The size of the recorded counts.
pub const SIZE: RunSize = RunSize { routes: 20_000, interfaces: 64 };
/// The tolerated difference from a recorded count, up or down. Randomness (seeds of hash tables)
/// stays far below.
pub const TOLERANCE: f64 = 0.05;
/// Names the variable that makes the checks record their counts.
pub const BLESS: &str = "BMPD_BLESS";

/// The file of recorded counts.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt");
/// The column of this build, whose profile `hot` shares.
const COLUMN: usize = match (cfg!(debug_assertions), incremental()) {
    (true, true) => 0,
    (true, false) => 1,
    (false, _) => 2,
};
/// Names of the columns. An incremental build has smaller units, so the compiler inlines less.
const COLUMNS: [&str; 3] = ["incremental", "dev", "release"];

/// True if the dev profile builds incrementally, as cargo decides it: unless the environment says
/// no.
const fn incremental() -> bool {
    match option_env!("CARGO_INCREMENTAL") {
        Some(value) => !matches!(value.as_bytes(), b"0"),
        None => true,
    }
}

/// The recorded counts of each part, one for each of [`COLUMNS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedCounts {
    compiler: String,
    counts: Vec<(String, [Option<u64>; COLUMNS.len()])>,
}

impl RecordedCounts {
    /// Reads the recorded counts.
    ///
    /// # Errors
    /// If the file cannot be read, or a line is malformed.
    pub fn read() -> io::Result<Self> {
        let text =
            fs::read_to_string(KEPT).map_err(|error| io::Error::new(error.kind(), format!("{KEPT}: {error}")))?;
        Self::parse(&text).map_err(|why| io::Error::other(format!("{KEPT}: {why}")))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut kept = Self::default();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
            let wrong = |what: &str| format!("line {}: {what}: {line}", number + 1);
            if line.starts_with('#') {
                continue;
            }
            if let Some(compiler) = line.strip_prefix("compiler ") {
                compiler.clone_into(&mut kept.compiler);
                continue;
            }
            let (part, counts) = line.split_once("  ").ok_or_else(|| wrong("no counts"))?;
            let counts: Vec<_> = counts.split_whitespace().map(|count| count.parse().ok()).collect();
            let counts = counts.try_into().map_err(|_| wrong("needs one count for each column"))?;
            kept.counts.push((part.to_owned(), counts));
        }
        Ok(kept)
    }

    /// Returns the recorded compiler if it is not the present one. The counts cannot be compared
    /// then.
    #[must_use]
    pub fn of_another_compiler(&self) -> Option<&str> {
        (self.compiler != compiler()).then_some(&*self.compiler)
    }

    /// Returns the ratio of each count to the recorded one, or `None` without a record.
    #[must_use]
    pub fn ratios<'a>(&self, counts: &'a [InstructionCount]) -> Vec<(&'a InstructionCount, Option<f64>)> {
        let kept =
            |part: &str| self.counts.iter().find(|(name, _)| name == part).and_then(|(_, counts)| counts[COLUMN]);
        counts
            .iter()
            .map(|count| (count, kept(&count.part).map(|kept| count.instructions as f64 / kept as f64)))
            .collect()
    }

    /// Records these counts. Counts of other columns stay if their compiler is the present one.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(mut self, counts: &[InstructionCount]) -> io::Result<()> {
        if self.of_another_compiler().is_some() {
            self = Self { compiler: compiler(), counts: Vec::new() };
        }
        let before = std::mem::take(&mut self.counts);
        self.counts = counts
            .iter()
            .map(|count| {
                let of_before = before.iter().find(|(part, _)| *part == count.part);
                let mut all = of_before.map_or_else(Default::default, |(_, all)| *all);
                all[COLUMN] = Some(count.instructions);
                (count.part.clone(), all)
            })
            .collect();
        fs::write(KEPT, self.text())
    }

    fn text(&self) -> String {
        let RunSize { routes, interfaces } = SIZE;
        let mut text = format!(
            "# Instructions that each part takes for {routes} routes, or for one pin of {interfaces} interfaces. Kept by {BLESS}=1.\n\
             compiler {}\n\n\
             # {:<30}",
            self.compiler, "part"
        );
        for column in COLUMNS {
            let _ = write!(text, "  {column:>12}");
        }
        text.push('\n');
        for (part, counts) in &self.counts {
            let _ = write!(text, "{part:<32}");
            for count in counts {
                let count = count.map_or_else(|| "-".to_owned(), |count| count.to_string());
                let _ = write!(text, "  {count:>12}");
            }
            text.push('\n');
        }
        text
    }
}

/// Returns the version of the compiler, or nothing without a compiler.
fn compiler() -> String {
    let output = Program::Rustc.command().arg("--version").output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_counts_are_read_back_as_written() {
        let kept = RecordedCounts {
            compiler: "rustc 1.2.3".to_owned(),
            counts: vec![
                ("feed: dump".to_owned(), [Some(1), None, Some(4)]),
                ("parse: bmp frames".to_owned(), [Some(20), Some(3), None]),
            ],
        };
        assert_eq!(RecordedCounts::parse(&kept.text()), Ok(kept));
        assert!(RecordedCounts::parse("feed: dump 5").is_err_and(|why| why.starts_with("line 1: no counts")));
    }

    #[test]
    fn the_total_of_a_profile_is_found_and_is_not_zero() {
        assert_eq!(total("version: 1\nfn=(1)\n12 3\n\ntotals: 3\n"), Some(3));
        assert_eq!(total("totals: 0\n"), None);
        assert_eq!(total("version: 1\n"), None);
    }
}
