//! Runs the tests on this host, a few programs at a time: most of them wait most of the time.

use std::{
    fs,
    num::NonZero,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

use anyhow::Context as _;

use super::{Arguments, SILENCE};
use crate::{
    fuzz::FuzzCampaign,
    peers,
    process::{cargo, is_root, root, say, target_dir},
    programs::{Built, Program},
    suite::{SKIPPED, SOAK, TestProgram, TestSummary},
    vm::VirtualMachine,
    watch::{ProcessWatcher, RunEnd, RunOutput, SideBySide, WatchedRun},
};

/// The test programs that take the longest. They come first: a long one at the end would run alone.
const LONGEST: [&str; 14] = [
    "relayed_daemons",
    "session",
    "bmp_user",
    "bgp_tables",
    "relay_settings",
    "slow_stations",
    "setting_effects",
    "adopted",
    "instructions",
    "session_options",
    "packages",
    "next_hop",
    "other_decoders",
    "http",
];

/// A run of a test program, or of the examples in the documentation.
struct TestRun {
    /// The line by which cargo announces it.
    heading: String,
    /// The file in which its tests record that they are skipped.
    skipped: PathBuf,
    /// Its output so far.
    said: Vec<String>,
    /// [`RunEnd::Stopped`] until it has ended.
    end: RunEnd,
}

/// A command that runs beside the tests, and whose output is printed when it has ended.
pub(crate) struct BesideRun {
    name: &'static str,
    /// `None` once it runs.
    command: Option<Command>,
    said: Vec<String>,
    /// [`RunEnd::Stopped`] until it has ended.
    pub(super) end: RunEnd,
}

impl BesideRun {
    pub(crate) fn new(name: &'static str, command: Command) -> Self {
        Self { name, command: Some(command), said: Vec::new(), end: RunEnd::Stopped }
    }

    fn take(&mut self, said: RunOutput<'_>) {
        match said {
            RunOutput::Line(line) => self.said.push(line.to_owned()),
            RunOutput::End(end) => {
                self.end = end;
                say(format_args!("     Running {}", self.name));
                self.said.iter().for_each(say);
            }
        }
    }
}

/// What runs side by side.
pub(super) struct HostJobs<'a> {
    pub(super) programs: &'a [TestProgram],
    pub(super) machine: Option<&'a VirtualMachine>,
    pub(super) campaign: Option<&'a mut FuzzCampaign>,
    pub(super) beside: Option<&'a mut BesideRun>,
}

/// Whose output it is, by its place in its own list.
#[derive(Clone, Copy)]
enum JobKind {
    Machine,
    Beside,
    Tests(usize),
    Fuzz(usize),
}

/// Runs all jobs, and prints the output of each when it has ended. Returns how the test programs
/// ended, and how the machine did.
///
/// Adds the tests that skip themselves to `skipped`.
pub(super) fn run(
    arguments: &Arguments,
    watcher: &ProcessWatcher,
    jobs: HostJobs<'_>,
    summary: &mut TestSummary,
    skipped: &mut String,
) -> anyhow::Result<(RunEnd, RunEnd)> {
    let HostJobs { programs, machine, mut campaign, mut beside } = jobs;
    let folder = target_dir()?.join("skipped-tests");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

    let mut programs: Vec<_> = programs.iter().collect();
    programs
        .sort_by_key(|program| LONGEST.iter().position(|name| *name == program.crate_name()).unwrap_or(LONGEST.len()));
    let mut parts = Vec::new();
    let mut commands = Vec::new();
    let mut names = Vec::new();
    // The examples come first: they are compiled when they run.
    let mut examples = (String::new(), "the examples of the documentation".to_owned(), examples());
    examples.2.args(&arguments.filter);
    let of_program = |program: &TestProgram| {
        let (heading, name, mut command) = of_program(program);
        command.args(program.filters(arguments.filter.as_slice()));
        (heading, name, command)
    };
    for (place, (heading, name, mut command)) in
        std::iter::once(examples).chain(programs.into_iter().map(of_program)).enumerate()
    {
        let skipped = folder.join(place.to_string());
        command.env(SKIPPED, &skipped).stdin(Stdio::null());
        with_soak(&mut command, arguments.soak);
        peers::choose_own(&mut command);
        parts.push(TestRun { heading, skipped, said: Vec::new(), end: RunEnd::Stopped });
        commands.push(command);
        names.push(name);
    }
    // sudo asks for a password only in the terminal's own process group.
    let runs: Vec<_> = names.iter().map(|what| WatchedRun { what, group: is_root(), silence: SILENCE }).collect();
    let guest = WatchedRun { what: VirtualMachine::NAME, group: true, silence: SILENCE };
    let name = beside.as_ref().map_or("", |beside| beside.name);
    let watched_beside = WatchedRun { what: name, group: true, silence: 3 * SILENCE };
    let mut booted = machine.map(BootedMachine::new);
    let mut boot = machine.map(VirtualMachine::command);
    let mut command_beside = beside.as_mut().and_then(|beside| beside.command.take());
    let mut targets = campaign.as_mut().map(|campaign| campaign.commands()).unwrap_or_default();
    // What takes the longest comes first. The fuzz targets use what the others leave at the end.
    let boot = boot.iter_mut().map(|command| (JobKind::Machine, command, &guest));
    let command_beside = command_beside.iter_mut().map(|command| (JobKind::Beside, command, &watched_beside));
    let tests = commands.iter_mut().zip(&runs).enumerate();
    let tests = tests.map(|(place, (command, run))| (JobKind::Tests(place), command, run));
    let targets = targets.iter_mut().enumerate();
    let targets = targets.map(|(place, command)| (JobKind::Fuzz(place), command, &FuzzCampaign::WATCHED));
    let (kinds, jobs): (Vec<_>, Vec<_>) = boot
        .chain(command_beside)
        .chain(tests)
        .chain(targets)
        .map(|(kind, command, run)| (kind, (command, run)))
        .unzip();
    // The machine uses one core, as long as it runs. Many tests wait most of their time.
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let at_once = SideBySide { least: cores + 1, most: cores + 4 };
    watcher.run_all(jobs, at_once, |place, said| match kinds.get(place) {
        Some(JobKind::Machine) => {
            if let Some(booted) = &mut booted {
                booted.take(said, summary, skipped);
            }
        }
        Some(JobKind::Beside) => {
            if let Some(beside) = &mut beside {
                beside.take(said);
            }
        }
        Some(JobKind::Tests(place)) => {
            if let Some(part) = parts.get_mut(*place) {
                part.take(said, summary, skipped);
            }
        }
        Some(JobKind::Fuzz(place)) => {
            if let Some(campaign) = &mut campaign {
                campaign.take(*place, said);
            }
        }
        None => {}
    })?;
    let ended = |how| parts.iter().any(|part| part.end == how);
    let here = [RunEnd::Stopped, RunEnd::Failure].into_iter().find(|how| ended(*how)).unwrap_or(RunEnd::Success);
    Ok((here, booted.map_or(RunEnd::Success, |booted| booted.end)))
}

impl TestRun {
    /// Takes what the program does. At its end, prints its lines and counts its tests.
    fn take(&mut self, said: RunOutput<'_>, summary: &mut TestSummary, skipped: &mut String) {
        match said {
            RunOutput::Line(line) => self.said.push(line.to_owned()),
            RunOutput::End(end) => {
                self.end = end;
                skipped.push_str(&fs::read_to_string(&self.skipped).unwrap_or_default());
                for line in std::iter::once(&self.heading).chain(&self.said) {
                    say(line);
                    summary.take(line, || skipped.clone());
                }
            }
        }
    }
}

/// The virtual machine while it runs beside the tests of this host.
struct BootedMachine<'a> {
    machine: &'a VirtualMachine,
    /// Its lines, each with the tests that had skipped themselves when it was printed.
    said: Vec<(String, String)>,
    /// Whether it has printed its last line.
    finished: bool,
    /// [`RunEnd::Stopped`] until it has ended.
    end: RunEnd,
}

impl<'a> BootedMachine<'a> {
    fn new(machine: &'a VirtualMachine) -> Self {
        say(machine.heading());
        Self { machine, said: Vec::new(), finished: false, end: RunEnd::Stopped }
    }

    /// Takes what the machine does. At its end, prints its lines, counts its tests in `summary`,
    /// and adds those that skipped themselves to `skipped`.
    fn take(&mut self, said: RunOutput<'_>, summary: &mut TestSummary, skipped: &mut String) {
        match said {
            RunOutput::Line(line) if VirtualMachine::is_last(line) => self.finished = true,
            RunOutput::Line(line) => self.said.push((line.to_owned(), self.machine.skipped())),
            RunOutput::End(end) => {
                for (line, skips) in &self.said {
                    say(line);
                    summary.take_elsewhere(line, || format!("{skipped}{skips}"));
                }
                skipped.push_str(&self.machine.skipped());
                self.end = self.machine.verdict(end, self.finished);
            }
        }
    }
}

/// Asks a test program for its long campaigns, or for none.
pub(super) fn with_soak(command: &mut Command, soak: bool) {
    command.env_remove(SOAK);
    if soak {
        command.env(SOAK, "1");
    }
}

fn of_program(program: &TestProgram) -> (String, String, Command) {
    let heading = format!("     Running {} ({})", program.name, program.file.display());
    let built = Built::at(&program.file);
    let mut command = if is_root() {
        built.command()
    } else {
        // The environment holds the options of the tests.
        let mut sudo = Program::Sudo.command();
        sudo.args(["-E", "--"]).arg(built);
        sudo
    };
    command.current_dir(root());
    (heading, program.name.clone(), command)
}

/// Returns the command that runs the examples in the documentation. Cargo announces them itself.
fn examples() -> Command {
    let mut command = cargo();
    command.args(["test", "--locked", "--workspace", "--doc", "--no-fail-fast"]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_programs_exist() {
        let file = |name: &str| root().join("tests/tests").join(format!("{name}.rs"));
        for name in LONGEST.iter().filter(|name| **name != "bmp_user") {
            assert!(file(name).is_file(), "{} is not there: correct the list", file(name).display());
        }
    }
}
