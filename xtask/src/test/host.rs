//! Runs the tests on this host, a few programs at a time: most of them wait most of the time.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

use anyhow::Context as _;

use super::{Arguments, SILENCE};
use crate::{
    process::{cargo, is_root, root, say, target_dir},
    programs::{Built, Program},
    suite::{SKIPPED, SOAK, TestProgram, TestSummary, build},
    watch::{ProcessWatcher, RunEnd, RunOutput, WatchedRun},
};

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

/// Builds and runs all tests, and prints the output of each program when it has ended.
///
/// Adds the tests that skip themselves to `skipped`.
pub(super) fn run(
    arguments: &Arguments,
    watcher: &ProcessWatcher,
    summary: &mut TestSummary,
    skipped: &mut String,
) -> anyhow::Result<RunEnd> {
    let Some(programs) = build(watcher)? else { return Ok(RunEnd::Stopped) };
    let folder = target_dir()?.join("skipped-tests");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

    let mut parts = Vec::new();
    let mut commands = Vec::new();
    let mut names = Vec::new();
    // The examples come first: they are compiled when they run.
    let examples = (String::new(), "the examples of the documentation".to_owned(), examples());
    for (place, (heading, name, mut command)) in
        std::iter::once(examples).chain(programs.iter().map(of_program)).enumerate()
    {
        let skipped = folder.join(place.to_string());
        command.args(&arguments.filter).env(SKIPPED, &skipped).env_remove(SOAK).stdin(Stdio::null());
        if arguments.soak {
            command.env(SOAK, "1");
        }
        parts.push(TestRun { heading, skipped, said: Vec::new(), end: RunEnd::Stopped });
        commands.push(command);
        names.push(name);
    }
    // sudo asks for a password only in the terminal's own process group.
    let runs: Vec<_> = names.iter().map(|what| WatchedRun { what, group: is_root(), silence: SILENCE }).collect();
    let at_once = thread::available_parallelism().map_or(2, |cores| cores.get() + 1);
    watcher.run_all(commands.iter_mut().zip(&runs), at_once, |place, said| {
        let Some(part) = parts.get_mut(place) else { return };
        match said {
            RunOutput::Line(line) => part.said.push(line.to_owned()),
            RunOutput::End(end) => {
                part.end = end;
                skipped.push_str(&fs::read_to_string(&part.skipped).unwrap_or_default());
                for line in std::iter::once(&part.heading).chain(&part.said) {
                    say(line);
                    summary.take(line, || skipped.clone());
                }
            }
        }
    })?;
    let ended = |how| parts.iter().any(|part| part.end == how);
    Ok([RunEnd::Stopped, RunEnd::Failure].into_iter().find(|how| ended(*how)).unwrap_or(RunEnd::Success))
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
