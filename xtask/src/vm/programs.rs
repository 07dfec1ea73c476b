//! The test programs that cargo builds, and which of them the machine runs.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::Context as _;

use super::Choice;
use crate::{
    process::{self, cargo, say},
    programs::Built,
    test::SILENCE,
    watch::{End, Run, Watcher},
};

/// Begins the names of the test programs whose tests need the machine.
pub(crate) const PREFIX: &str = "vm_";

/// A test program that cargo has built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// What cargo calls it: `tests/vm_bond.rs`, `unittests src/lib.rs`.
    pub(super) name: String,
    pub(super) file: PathBuf,
}

impl Program {
    /// From a line of `cargo test --no-run`: `Executable tests/vm_bond.rs (target/debug/deps/vm_bond-77aa)`.
    fn parse(line: &str) -> Option<Self> {
        let (name, file) = line.trim_start().strip_prefix("Executable ")?.strip_suffix(')')?.split_once(" (")?;
        Some(Self { name: name.to_owned(), file: process::root().join(file) })
    }

    fn crate_name(&self) -> &str {
        let file = self.file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        file.rsplit_once('-').map_or(file, |(name, _hash)| name)
    }

    /// Whether its tests need the machine, and are ignored elsewhere.
    pub(super) fn needs_machine(&self) -> bool {
        self.crate_name().starts_with(PREFIX)
    }

    /// Whether it is a test of this tool: those have nothing to do with a kernel.
    fn is_ours(&self) -> bool {
        [env!("CARGO_PKG_NAME"), "programs"].contains(&self.crate_name())
    }

    /// Whether a test of it is among those with `filters`.
    fn has_any(&self, filters: &[String]) -> anyhow::Result<bool> {
        let tests = process::text(Built::at(&self.file).command().args(["--list", "--format", "terse"]).args(filters))?;
        Ok(tests.lines().any(|line| line.ends_with(": test")))
    }
}

/// Builds all and returns those that are to be run; `None` where that was stopped.
pub(super) fn choose(choice: &Choice<'_>, watcher: &Watcher) -> anyhow::Result<Option<Vec<Program>>> {
    let mut build = cargo();
    // All of it: cargo would choose other features of the dependencies for a part, and build those anew.
    build.args(["test", "--locked", "--workspace", "--no-run"]).stdin(Stdio::null());
    let mut programs = Vec::new();
    let run = Run { what: "the build", group: true, silence: SILENCE };
    let end = watcher.run(&mut build, &run, |line| match Program::parse(line) {
        Some(program) => programs.push(program),
        None => say(line),
    })?;
    match end {
        End::Success => {}
        End::Failure => return Err(anyhow::anyhow!("the tests were not built")),
        End::Stopped => return Ok(None),
    }
    let mut chosen = Vec::new();
    for program in programs {
        let wanted = if choice.all { !program.is_ours() } else { program.needs_machine() };
        let name = || format!("cannot list the tests of {}", program.name);
        if wanted && is_file(&program.file)? && program.has_any(choice.filters).with_context(name)? {
            chosen.push(program);
        }
    }
    Ok(Some(chosen))
}

fn is_file(path: &Path) -> anyhow::Result<bool> {
    path.metadata().map(|file| file.is_file()).with_context(|| format!("cargo has not built {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_read_from_what_cargo_says() {
        let program = Program::parse("  Executable tests/vm_bond.rs (/t/debug/deps/vm_bond-77aa)").unwrap();
        assert_eq!(
            (program.name.as_str(), &*program.file),
            ("tests/vm_bond.rs", Path::new("/t/debug/deps/vm_bond-77aa"))
        );
        assert!(program.needs_machine() && !program.is_ours());
        let program = Program::parse("  Executable unittests src/main.rs (target/debug/deps/xtask-0f)").unwrap();
        assert_eq!(program.file, process::root().join("target/debug/deps/xtask-0f"));
        assert!(!program.needs_machine() && program.is_ours());
        for other in ["   Compiling xtask v0.1.0 (/x)", "    Finished `test` profile in 0.1s", "  Executable"] {
            assert_eq!(Program::parse(other), None, "{other}");
        }
    }
}
