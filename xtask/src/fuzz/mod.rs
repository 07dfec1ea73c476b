//! `cargo xtask fuzz`: libFuzzer on every parser and on the feed.
//!
//! The coverage that guides libFuzzer is a pass of LLVM, which stable Rust has too. It is for the
//! project's own crates alone: cargo calls this program as their compiler's wrapper ([`compile`]),
//! and shares all other crates with the tests.

mod figures;

use std::{
    env, fs, mem,
    num::NonZero,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use self::figures::{FuzzFigures, table};
use crate::{
    packages,
    process::{cannot_start, cargo, own_program, run, say, target_dir},
    programs::{self, Built, Use},
    setup::setup,
    watch::{ProcessWatcher, RunEnd, RunOutput, SideBySide, WatchedRun},
};

/// The variable that tells this program that it is the compiler's wrapper.
const WRAPPER: &str = "BMPD_FUZZ_COMPILE";

/// The options that the wrapper adds: counters at every edge, and the operands of comparisons.
const COVERAGE: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "--cfg=fuzzing",
];

/// A fuzz target: a function of `tests/fuzz/src/target`.
struct FuzzTarget {
    name: &'static str,
    /// The longest input, in bytes.
    longest: u32,
    /// The executions by default: some seconds of them.
    runs: u64,
    /// The executions in a long campaign.
    soak: u64,
    /// Whether it has a dictionary.
    words: bool,
}

const PARSER: u64 = 10_000_000;
const TARGETS: [FuzzTarget; 12] = [
    FuzzTarget { name: "bmp", longest: 4096, runs: 75_000, soak: PARSER, words: false },
    FuzzTarget { name: "bgp", longest: 4096, runs: 100_000, soak: PARSER, words: false },
    FuzzTarget { name: "update", longest: 4096, runs: 75_000, soak: PARSER, words: false },
    FuzzTarget { name: "mrt", longest: 4096, runs: 100_000, soak: PARSER, words: false },
    FuzzTarget { name: "replay", longest: 2048, runs: 4_000, soak: PARSER, words: false },
    FuzzTarget { name: "config", longest: 200, runs: 8_000, soak: PARSER, words: true },
    FuzzTarget { name: "control", longest: 200, runs: 5_000, soak: PARSER, words: true },
    FuzzTarget { name: "keychain", longest: 160, runs: 50_000, soak: PARSER, words: false },
    FuzzTarget { name: "certificate", longest: 1024, runs: 100_000, soak: PARSER, words: false },
    FuzzTarget { name: "tls", longest: 300, runs: 5_000, soak: PARSER, words: false },
    FuzzTarget { name: "proxy", longest: 400, runs: 150_000, soak: PARSER, words: false },
    FuzzTarget { name: "feed", longest: 8192, runs: 2_000, soak: 1_000_000, words: false },
];

/// The options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only these targets: bmp, bgp, update, mrt, replay, config, control, keychain, certificate,
    /// tls, proxy, feed
    targets: Vec<String>,
    /// Executions of each target
    #[arg(long)]
    runs: Option<u64>,
    /// The executions of a long campaign: 10 million of each parser
    #[arg(long, conflicts_with = "runs")]
    soak: bool,
    /// Processes for each target
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// Execute one target once, with this input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["runs", "soak"])]
    replay: Option<PathBuf>,
}

/// The number of executions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Effort {
    /// As in everybody's tests.
    Short,
    /// As in a long campaign.
    Soak,
    /// This number, of each target.
    Runs(u64),
}

/// Fails if a target found something.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let targets = chosen(&arguments.targets)?;
    packages::require(&[Use::Fuzz])?;
    setup()?;
    if let Some(input) = &arguments.replay {
        let [target] = targets[..] else { bail!("--replay takes the name of one target before it") };
        let folder = FuzzFolder::prepare(&targets, Effort::Short)?;
        return run(folder.program(target).command().arg(input)).map(|()| ExitCode::SUCCESS);
    }
    let effort = match (arguments.runs, arguments.soak) {
        (Some(runs), _) => Effort::Runs(runs),
        (None, soak) => {
            if soak {
                Effort::Soak
            } else {
                Effort::Short
            }
        }
    };
    let watcher = ProcessWatcher::new()?;
    let mut campaign = FuzzCampaign::prepare(&targets, effort, usize::from(arguments.jobs))?;
    let mut commands = campaign.commands();
    // Each target uses one core, or as many as `--jobs` says.
    let at_once = thread::available_parallelism().map_or(1, NonZero::get) / usize::from(arguments.jobs);
    let jobs = commands.iter_mut().map(|command| (command, &FuzzCampaign::WATCHED));
    watcher.run_all(jobs, SideBySide::exactly(at_once), |place, said| campaign.take(place, said))?;
    let well = campaign.results().iter().all(|(_, end, _)| *end == RunEnd::Success);
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static FuzzTarget>> {
    if names.is_empty() {
        return Ok(TARGETS.iter().collect());
    }
    let all = || TARGETS.map(|target| target.name).join(", ");
    let find = |name: &String| {
        let found = TARGETS.iter().find(|target| target.name == *name);
        found.with_context(|| format!("there is no target `{name}`; there are {}", all()))
    };
    names.iter().map(find).collect()
}

/// The targets that run, and what they have found. They run beside each other, and beside other
/// programs.
pub(crate) struct FuzzCampaign {
    figures: Vec<FuzzFigures>,
    commands: Vec<Command>,
    starts: Vec<Option<Instant>>,
}

impl FuzzCampaign {
    /// Builds all targets, for a part of the tests.
    pub(crate) fn of_all(effort: Effort) -> anyhow::Result<Self> {
        Self::prepare(&TARGETS.iter().collect::<Vec<_>>(), effort, 1)
    }

    fn prepare(targets: &[&'static FuzzTarget], effort: Effort, jobs: usize) -> anyhow::Result<Self> {
        let folder = FuzzFolder::prepare(targets, effort)?;
        let mut campaign = Self { figures: Vec::new(), commands: Vec::new(), starts: vec![None; targets.len()] };
        for target in targets {
            let runs = match effort {
                Effort::Short => target.runs,
                Effort::Soak => target.soak,
                Effort::Runs(runs) => runs,
            };
            campaign.commands.push(folder.command(target, runs, jobs)?);
            campaign.figures.push(FuzzFigures::new(target.name));
        }
        Ok(campaign)
    }

    /// How a target is watched: libFuzzer finds hangs itself.
    pub(crate) const WATCHED: WatchedRun<'static> =
        WatchedRun { what: "a fuzz target", group: true, silence: Duration::from_secs(24 * 3600) };

    /// Returns the command of each target.
    pub(crate) fn commands(&mut self) -> Vec<Command> {
        mem::take(&mut self.commands)
    }

    /// Takes what the target at this place does.
    pub(crate) fn take(&mut self, place: usize, said: RunOutput<'_>) {
        let (Some(figures), Some(start)) = (self.figures.get_mut(place), self.starts.get_mut(place)) else { return };
        let start = *start.get_or_insert_with(Instant::now);
        match said {
            RunOutput::Line(line) => figures.take(line),
            RunOutput::End(end) => {
                figures.end = end;
                figures.took = start.elapsed();
                if end == RunEnd::Failure {
                    say(figures.said());
                    if let Some(input) = &figures.input {
                        let name = figures.name;
                        say(format_args!("again: cargo xtask fuzz {name} --replay {}", Path::new(input).display()));
                    }
                }
            }
        }
    }

    /// Prints the figures, and returns the name, end and duration of each target.
    pub(crate) fn results(&self) -> Vec<(String, RunEnd, Duration)> {
        say(table(&self.figures));
        self.figures.iter().map(|figures| (figures.name.to_owned(), figures.end, figures.took)).collect()
    }
}

/// The folder `target/fuzz`: seeds, the corpus that grows, and inputs that broke something.
struct FuzzFolder {
    path: PathBuf,
    programs: PathBuf,
}

impl FuzzFolder {
    /// Builds the targets and writes their seeds.
    fn prepare(targets: &[&FuzzTarget], effort: Effort) -> anyhow::Result<Self> {
        packages::require(&[Use::Fuzz])?;
        let target_dir = target_dir()?;
        let folder = Self { path: target_dir.join("fuzz"), programs: target_dir.join("debug") };
        let seeds = folder.path.join("seeds");
        if seeds.exists() {
            fs::remove_dir_all(&seeds).with_context(|| format!("cannot remove {}", seeds.display()))?;
        }
        // With the tests' package, cargo chooses the features of the tests and shares their crates.
        let shared = ["build", "--locked", "--quiet", "--package=bmp-fuzz", "--package=bmp-tests"];
        run(cargo().args(shared).arg("--bin=seeds"))?;
        run(Built::at(folder.programs.join("seeds")).command().arg(&seeds))?;
        say("fuzz: building the targets");
        let mut build = cargo();
        build.args(shared).arg("--features=bmp-fuzz/libfuzzer");
        build.args(targets.iter().map(|target| format!("--bin=fuzz_{}", target.name)));
        // Optimisation takes longer than some thousand executions save.
        let own: &[_] = if matches!(effort, Effort::Short) { &[] } else { &["bmp-user", "bmp-fuzz", "libfuzzer-sys"] };
        for own in own {
            build.arg(format!("--config=profile.dev.package.{own}.opt-level=3"));
        }
        let own = own_program()?;
        run(build.env("RUSTC_WORKSPACE_WRAPPER", own).env(WRAPPER, "1")).context("the fuzz targets were not built")?;
        Ok(folder)
    }

    fn program(&self, target: &FuzzTarget) -> Built {
        Built::at(self.programs.join(format!("fuzz_{}", target.name)))
    }

    fn command(&self, target: &FuzzTarget, runs: u64, jobs: usize) -> anyhow::Result<Command> {
        let (corpus, broken) = (self.path.join("corpus").join(target.name), self.path.join("broken"));
        for folder in [&corpus, &broken] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let seeds = self.path.join("seeds");
        let mut fuzz = self.program(target).command();
        fuzz.arg(format!("-runs={runs}")).arg(format!("-max_len={}", target.longest));
        // An input that takes a minute hangs. The targets themselves bound their memory.
        fuzz.args(["-timeout=60", "-rss_limit_mb=2048", "-print_final_stats=1"]);
        if jobs > 1 {
            fuzz.arg(format!("-fork={jobs}"));
        }
        fuzz.arg(format!("-artifact_prefix={}/{}-", broken.display(), target.name));
        if target.words {
            fuzz.arg(format!("-dict={}", seeds.join(format!("{}.dict", target.name)).display()));
        }
        fuzz.arg(&corpus).arg(seeds.join(target.name));
        Ok(fuzz)
    }
}

/// Returns whether cargo has called this program in the compiler's place.
pub(crate) fn is_compiler() -> bool {
    env::var_os(WRAPPER).is_some()
}

/// Becomes the compiler. Adds coverage for crates of the targets, but not for build scripts, macros
/// and cargo's questions about the compiler.
pub(crate) fn compile() -> anyhow::Result<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    let compiler = arguments.next().context("the compiler's wrapper was called without a compiler")?;
    let arguments: Vec<_> = arguments.collect();
    let follows = |first: &str, second: &str| {
        arguments.windows(2).any(|pair| pair[0].to_str() == Some(first) && pair[1].to_str() == Some(second))
    };
    let is_crate = arguments.iter().any(|argument| argument == "--crate-name");
    let is_tool = follows("--crate-name", "build_script_build") || follows("--crate-type", "proc-macro");
    let mut command = programs::compiler(compiler);
    command.args(&arguments);
    if is_crate && !is_tool {
        command.args(COVERAGE);
    }
    let error = command.exec();
    Err(error).with_context(|| cannot_start(&command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_of_the_crate_is_run() {
        let manifest = fs::read_to_string(crate::process::root().join("tests/fuzz/Cargo.toml")).unwrap();
        let names = manifest.lines().filter_map(|line| line.strip_prefix("name = \"fuzz_")?.strip_suffix('"'));
        assert_eq!(names.collect::<Vec<_>>(), TARGETS.map(|target| target.name));
    }

    #[test]
    fn targets_are_chosen_by_name_and_by_default_all() {
        let names = |given: &[&str]| {
            let given: Vec<_> = given.iter().map(|name| (*name).to_owned()).collect();
            chosen(&given).map(|targets| targets.iter().map(|target| target.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).unwrap().len(), TARGETS.len());
        assert_eq!(names(&["feed", "bmp"]).unwrap(), ["feed", "bmp"]);
        assert!(names(&["bnp"]).unwrap_err().to_string().starts_with("there is no target `bnp`; there are bmp, bgp"));
    }
}
