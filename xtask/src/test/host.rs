//! The tests on this host: a few programs at a time, because most of them wait most of the time.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

use anyhow::Context as _;

use super::{Arguments, SILENCE, SKIPPED, SOAK, Summary, TestProgram, build};
use crate::{
    process::{cargo, is_root, root, say, target_dir},
    programs::{Built, Program},
    watch::{End, Run, Said, Watcher},
};

/// A test program, or the examples of the documentation, as it is run.
struct Part {
    /// The line with which cargo announces it.
    heading: String,
    /// Where its tests put those on record that they skip.
    skipped: PathBuf,
    /// What it has said so far.
    said: Vec<String>,
    /// Not yet: it was never begun.
    end: End,
}

/// Builds all, runs all, and shows what each program has said once it has ended. The names of the tests that skip themselves are added
/// to `skipped`.
pub(super) fn run(
    arguments: &Arguments,
    watcher: &Watcher,
    summary: &mut Summary,
    skipped: &mut String,
) -> anyhow::Result<End> {
    let Some(programs) = build(watcher)? else { return Ok(End::Stopped) };
    let folder = target_dir()?.join("skipped-tests");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

    let mut parts = Vec::new();
    let mut commands = Vec::new();
    let mut names = Vec::new();
    // The examples first: they are compiled when they are run.
    let examples = (String::new(), "the examples of the documentation".to_owned(), examples());
    for (place, (heading, name, mut command)) in
        std::iter::once(examples).chain(programs.iter().map(of_program)).enumerate()
    {
        let skipped = folder.join(place.to_string());
        command.args(&arguments.filter).env(SKIPPED, &skipped).env_remove(SOAK).stdin(Stdio::null());
        if arguments.soak {
            command.env(SOAK, "1");
        }
        parts.push(Part { heading, skipped, said: Vec::new(), end: End::Stopped });
        commands.push(command);
        names.push(name);
    }
    // sudo asks for a password only in the terminal's own group.
    let runs: Vec<_> = names.iter().map(|what| Run { what, group: is_root(), silence: SILENCE }).collect();
    let at_once = thread::available_parallelism().map_or(2, |cores| cores.get() + 1);
    watcher.run_all(commands.iter_mut().zip(&runs), at_once, |place, said| {
        let Some(part) = parts.get_mut(place) else { return };
        match said {
            Said::Line(line) => part.said.push(line.to_owned()),
            Said::End(end) => {
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
    Ok([End::Stopped, End::Failure].into_iter().find(|how| ended(*how)).unwrap_or(End::Success))
}

fn of_program(program: &TestProgram) -> (String, String, Command) {
    let heading = format!("     Running {} ({})", program.name, program.file.display());
    let built = Built::at(&program.file);
    let mut command = if is_root() {
        built.command()
    } else {
        // With the environment, by which tests are told things.
        let mut sudo = Program::Sudo.command();
        sudo.args(["-E", "--"]).arg(built);
        sudo
    };
    command.current_dir(root());
    (heading, program.name.clone(), command)
}

/// The examples in the documentation of libraries. Cargo announces those itself.
fn examples() -> Command {
    let mut command = cargo();
    command.args(["test", "--locked", "--workspace", "--doc", "--no-fail-fast"]);
    command
}
