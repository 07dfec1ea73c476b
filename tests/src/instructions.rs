//! How many instructions the parts of bmpd take that every route goes through ([`crate::parts`]), counted by callgrind: what the machine
//! does besides cannot change them, so that a part that became slower shows however noisy the machine is.

use std::{fmt::Write as _, fs, io, path::Path};

use programs::Program;

use crate::process::INSTALL;

/// Of what size the parts are run.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Routes in the tables.
    pub routes: usize,
    /// Interfaces of the host on which pins are resolved.
    pub interfaces: u32,
}

/// Instructions that a part took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The part, with its group.
    pub part: String,
    /// How many, for all its routes.
    pub instructions: u64,
}

/// Has `hot`, the program of this package, run all parts, and counts the instructions of each.
///
/// # Errors
/// If valgrind is not there or fails, or does not count as many parts as were run.
pub fn count(hot: &Path, size: Size) -> io::Result<Vec<Count>> {
    let folder = tempfile::tempdir()?;
    let mut valgrind = Program::Valgrind.command();
    // What is counted inside `measured`, and nothing else, is written to a file of its own when the part is told.
    valgrind.args(["--tool=callgrind", "--collect-atstart=no"]);
    valgrind.args(["--toggle-collect=hot::measured*", "--dump-before=hot::tell*"]);
    valgrind.arg(format!("--callgrind-out-file={}", folder.path().join("counts").display()));
    valgrind.arg(hot).args([size.routes.to_string(), size.interfaces.to_string()]);
    let output = valgrind
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot start valgrind: {error}{INSTALL}")))?;
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        return Err(io::Error::other(format!("{valgrind:?}: {}: {complained}", output.status)));
    }
    let parts = said.lines().enumerate();
    parts
        .map(|(number, part)| {
            let file = folder.path().join(format!("counts.{}", number + 1));
            let instructions = total(&fs::read_to_string(&file)?)
                .ok_or_else(|| io::Error::other(format!("callgrind counted nothing of `{part}`: {complained}")))?;
            Ok(Count { part: part.to_owned(), instructions })
        })
        .collect()
}

/// The sum at the end of what callgrind writes (`totals: N`, the profile data format of the valgrind manual).
fn total(profile: &str) -> Option<u64> {
    let total = profile.lines().find_map(|line| line.strip_prefix("totals: "))?;
    total.trim().parse().ok().filter(|instructions| *instructions > 0)
}

/// The size at which the counts are kept.
pub const SIZE: Size = Size { routes: 20_000, interfaces: 64 };
/// A count this far from the kept one, up or down, is another count. What is left to chance (the seeds of hash tables) is far below.
pub const TOLERANCE: f64 = 0.05;
/// Tells the checks to keep what they count as what is to be counted from now on.
pub const BLESS: &str = "BMPD_BLESS";

/// Where the counts are kept.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt");
/// How this was compiled, which `hot` was too: the column its counts are in.
const COLUMN: usize = match (cfg!(debug_assertions), incremental()) {
    (true, true) => 0,
    (true, false) => 1,
    (false, _) => 2,
};
/// An incremental build is made of other, smaller pieces, across which less is put in line.
const COLUMNS: [&str; 3] = ["incremental", "dev", "release"];

/// Whether builds of the dev profile are incremental, as cargo decides it: they are unless the environment says no.
const fn incremental() -> bool {
    match option_env!("CARGO_INCREMENTAL") {
        Some(said) => !matches!(said.as_bytes(), b"0"),
        None => true,
    }
}

/// The counts that were kept, by part: those of each of [`COLUMNS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    compiler: String,
    counts: Vec<(String, [Option<u64>; COLUMNS.len()])>,
}

impl Kept {
    /// Reads them.
    ///
    /// # Errors
    /// If the file cannot be read, or a line of it is none.
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
            let counts = counts.try_into().map_err(|_| wrong("not a count for each way of compiling"))?;
            kept.counts.push((part.to_owned(), counts));
        }
        Ok(kept)
    }

    /// The compiler that made what was counted, where it is another than the one at hand: then the counts say nothing.
    #[must_use]
    pub fn of_another_compiler(&self) -> Option<&str> {
        (self.compiler != compiler()).then_some(&*self.compiler)
    }

    /// Each count as a part of the kept one; `None` where none was kept.
    #[must_use]
    pub fn ratios<'a>(&self, counts: &'a [Count]) -> Vec<(&'a Count, Option<f64>)> {
        let kept =
            |part: &str| self.counts.iter().find(|(name, _)| name == part).and_then(|(_, counts)| counts[COLUMN]);
        counts
            .iter()
            .map(|count| (count, kept(&count.part).map(|kept| count.instructions as f64 / kept as f64)))
            .collect()
    }

    /// Keeps these counts from now on. Those of what is compiled in other ways stay, if they are by the same compiler.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(mut self, counts: &[Count]) -> io::Result<()> {
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
        let Size { routes, interfaces } = SIZE;
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

/// What the compiler says of itself, or nothing where there is none.
fn compiler() -> String {
    let output = Program::Rustc.command().arg("--version").output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back_as_it_was_written() {
        let kept = Kept {
            compiler: "rustc 1.2.3".to_owned(),
            counts: vec![
                ("feed: dump".to_owned(), [Some(1), None, Some(4)]),
                ("parse: bmp frames".to_owned(), [Some(20), Some(3), None]),
            ],
        };
        assert_eq!(Kept::parse(&kept.text()), Ok(kept));
        assert!(Kept::parse("feed: dump 5").is_err_and(|why| why.starts_with("line 1: no counts")));
    }

    #[test]
    fn the_total_of_a_profile_is_found_and_must_be_something() {
        assert_eq!(total("version: 1\nfn=(1)\n12 3\n\ntotals: 3\n"), Some(3));
        assert_eq!(total("totals: 0\n"), None);
        assert_eq!(total("version: 1\n"), None);
    }
}
