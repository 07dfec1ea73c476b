//! The test programs that cargo builds.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::Context as _;

use crate::{
    process::{self, cargo, say},
    programs::Built,
    watch::{ProcessWatcher, RunEnd, WatchedRun},
};

/// Cargo prints a line for each crate, and a crate may take minutes on a busy machine.
const BUILD_SILENCE: Duration = Duration::from_secs(1800);

/// A test program that cargo has built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TestProgram {
    /// Cargo's name for it: `tests/vm_bond.rs`, `unittests src/lib.rs`.
    pub(crate) name: String,
    pub(crate) file: PathBuf,
}

impl TestProgram {
    /// Reads `Executable tests/vm_bond.rs (target/debug/deps/vm_bond-77aa)`, of `cargo test
    /// --no-run`.
    fn parse(line: &str) -> Option<Self> {
        let (name, file) = line.trim_start().strip_prefix("Executable ")?.strip_suffix(')')?.split_once(" (")?;
        Some(Self { name: name.to_owned(), file: process::root().join(file) })
    }

    /// Returns the name of its crate: `vm_bond`.
    pub(crate) fn crate_name(&self) -> &str {
        let file = self.file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        file.rsplit_once('-').map_or(file, |(name, _hash)| name)
    }

    /// Returns whether its tests need the virtual machine, and are ignored elsewhere.
    pub(crate) fn needs_machine(&self) -> bool {
        self.crate_name().starts_with(super::VM_PREFIX)
    }

    /// Returns whether its tests need the virtual machine with systemd, and are ignored elsewhere.
    pub(crate) fn needs_systemd(&self) -> bool {
        self.crate_name().starts_with(super::SYSTEMD_PREFIX)
    }

    /// Returns whether it tests this tool. Those tests need no kernel.
    pub(crate) fn is_ours(&self) -> bool {
        [env!("CARGO_PKG_NAME"), "programs"].contains(&self.crate_name())
    }

    /// Returns those of `filters` that its tests are to be chosen by: none if one of them is a part
    /// of its own name, which chooses all of its tests.
    pub(crate) fn filters<'a>(&self, filters: &'a [String]) -> &'a [String] {
        if filters.iter().any(|filter| self.crate_name().contains(filter.as_str())) { &[] } else { filters }
    }

    /// Returns the names of its tests that contain one of `filters`; all if there are none, or if
    /// its own name contains one.
    pub(crate) fn tests(&self, filters: &[String]) -> anyhow::Result<Vec<String>> {
        let mut list = Built::at(&self.file).command();
        list.args(["--list", "--format", "terse"]).args(self.filters(filters));
        let tests = process::text(&mut list)?;
        Ok(tests.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
    }
}

/// Builds all test programs, or those whose name is one of `only` or fits it: `vm_*`. Returns
/// `None` if the build was stopped.
pub(crate) fn build(watcher: &ProcessWatcher, only: &[String]) -> anyhow::Result<Option<Vec<TestProgram>>> {
    let run = WatchedRun { what: "the build", group: true, silence: BUILD_SILENCE };
    // The whole workspace: for a part, cargo would choose other features and build dependencies
    // anew.
    let cargo_with = |words: &[&str]| {
        let mut build = cargo();
        build.args(words).args(["--locked", "--workspace"]).stdin(Stdio::null());
        for name in only {
            build.args(["--test", name]);
        }
        build
    };
    if !only.is_empty() {
        // With `--test`, cargo's `test` builds no program of another package.
        let mut programs = cargo_with(&["build", "--bins", "--examples"]);
        match watcher.run(&mut programs, &run, |line| say(line))? {
            RunEnd::Success => {}
            RunEnd::Failure => anyhow::bail!("bmpd was not built"),
            RunEnd::Stopped => return Ok(None),
        }
    }
    let mut build = cargo_with(&["test", "--no-run"]);
    let mut programs = Vec::new();
    let end = watcher.run(&mut build, &run, |line| match TestProgram::parse(line) {
        Some(program) => programs.push(program),
        None => say(line),
    })?;
    match end {
        RunEnd::Success => {}
        RunEnd::Failure => return Err(anyhow::anyhow!("the tests were not built")),
        RunEnd::Stopped => return Ok(None),
    }
    for program in &programs {
        let built = program.file.metadata().map(|file| file.is_file());
        if !built.with_context(|| format!("cargo has not built {}", program.file.display()))? {
            anyhow::bail!("{} is no file", program.file.display());
        }
    }
    Ok(Some(programs))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_filter_in_the_name_of_a_program_chooses_all_of_its_tests() {
        let program = TestProgram::parse("  Executable tests/vm_bond.rs (/t/debug/deps/vm_bond-77aa)").unwrap();
        let filters = ["vm_bond".to_owned(), "other".to_owned()];
        assert!(program.filters(&filters).is_empty());
        assert_eq!(program.filters(&filters[1..]), ["other"]);
    }

    #[test]
    fn a_test_program_is_read_from_the_output_of_cargo() {
        let program = TestProgram::parse("  Executable tests/vm_bond.rs (/t/debug/deps/vm_bond-77aa)").unwrap();
        assert_eq!(
            (program.name.as_str(), &*program.file),
            ("tests/vm_bond.rs", Path::new("/t/debug/deps/vm_bond-77aa"))
        );
        assert!(program.needs_machine() && !program.is_ours());
        let program = TestProgram::parse("  Executable unittests src/main.rs (target/debug/deps/xtask-0f)").unwrap();
        assert_eq!(program.file, process::root().join("target/debug/deps/xtask-0f"));
        assert!(!program.needs_machine() && program.is_ours());
        let program = TestProgram::parse("  Executable tests/systemd_units.rs (t/debug/deps/systemd_units-1)").unwrap();
        assert!(program.needs_systemd() && !program.needs_machine());
        for other in ["   Compiling xtask v0.1.0 (/x)", "    Finished `test` profile in 0.1s", "  Executable"] {
            assert_eq!(TestProgram::parse(other), None, "{other}");
        }
    }
}
