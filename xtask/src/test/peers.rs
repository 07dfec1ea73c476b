//! `cargo xtask test --peers`: the tests with daemons of other projects, with those of another
//! Debian.

use std::{
    fs,
    path::Path,
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{Arguments, SILENCE, host};
use crate::{
    packages,
    peers::PeerDaemons,
    process::{self, is_root, own_program, say, target_dir},
    programs::{Built, Use},
    progress::Steps,
    setup::setup,
    suite::{self, SKIPPED, TestProgram, TestSummary},
    vm::DebianRelease,
    watch::{ProcessWatcher, RunEnd, WatchedRun},
};

/// What a test that starts FRR, BIRD or GoBGP says in its source.
const DAEMON_WORDS: [&str; 6] = ["bird_takes", "frr::", "gobgp::", "peering::", "relayed::", "RelayedDaemon"];

/// What a test that starts BIRD says in its source.
const BIRD_WORDS: [&str; 4] = ["bird", "peering::", "relayed::", "RelayedDaemon"];

/// The modules of the lab that start daemons. Each has tests of its own.
const LAB_MODULES: [&str; 5] = ["daemons::", "frr::", "gobgp::", "peering::", "relayed::"];

/// The crate of the lab.
const LAB: &str = "lab";

/// The results of the test programs so far.
#[derive(Default)]
struct PeerResults {
    summary: TestSummary,
    ends: Vec<RunEnd>,
    /// The tests that skipped themselves, a line each.
    skipped: String,
}

/// Runs the tests once with each BIRD of `release`, and with its FRR and GoBGP. The second time, it
/// runs those alone that start BIRD.
pub(super) fn command(arguments: &Arguments, release: DebianRelease) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let mut steps = Steps::announce(
        &format!("cargo xtask test --peers {release}"),
        "some ten minutes on two cores once built",
        &["packages", "eBPF toolchain", "daemons of the other Debian", "build", "tests"],
    );
    steps.begin();
    packages::require(&[Use::Test, Use::Peers])?;
    steps.begin();
    setup()?;
    steps.begin();
    let peers = PeerDaemons::get(release, false)?;
    for version in peers.versions()? {
        say(format_args!("      {version}"));
    }
    steps.begin();
    let watcher = ProcessWatcher::new()?;
    let Some(programs) = suite::build(&watcher, &[])? else { return Ok(ExitCode::FAILURE) };
    steps.begin();
    let mut results = PeerResults::default();
    'all: for (place, bird) in peers.birds().iter().enumerate() {
        let words = if place == 0 { &DAEMON_WORDS[..] } else { &BIRD_WORDS[..] };
        for program in chosen(&programs, words)? {
            results.run(arguments, &watcher, program, (&peers, bird))?;
            if results.ends.last() == Some(&RunEnd::Stopped) {
                break 'all;
            }
        }
    }
    say(results.summary.report(start.elapsed()));
    Ok(suite::exit_code(&results.ends, &results.summary))
}

/// Runs the tests with the daemons of Debian testing: a part of the long campaigns.
pub(super) fn all(watcher: &ProcessWatcher) -> anyhow::Result<Vec<(String, RunEnd, Duration)>> {
    if !is_root() {
        say("no daemons of another Debian: they need root");
        return Ok(Vec::new());
    }
    let start = Instant::now();
    let release = DebianRelease::Testing;
    let mut command = Built::at(own_program()?).command();
    command.args(["test", "--soak", "--peers", &release.to_string()]);
    let what = format!("Debian {release}");
    // That command watches its test programs itself.
    let run = WatchedRun { what: &what, group: true, silence: 2 * SILENCE };
    let end = watcher.run(&mut command, &run, |line| say(line))?;
    Ok(vec![(what, end, start.elapsed())])
}

/// Returns those of the programs that this host runs and that start a daemon.
fn chosen<'a>(programs: &'a [TestProgram], words: &[&str]) -> anyhow::Result<Vec<&'a TestProgram>> {
    let mut chosen = Vec::new();
    for program in programs.iter().filter(|program| !program.needs_machine() && !program.needs_systemd()) {
        if program.crate_name() == LAB || has_words(&program.name, words)? {
            chosen.push(program);
        }
    }
    Ok(chosen)
}

/// Returns whether the source of an integration test, `tests/adopted.rs`, has one of the words.
fn has_words(name: &str, words: &[&str]) -> anyhow::Result<bool> {
    let source = process::root().join("tests").join(name);
    if !Path::new(name).starts_with("tests") || !source.is_file() {
        return Ok(false);
    }
    let text = fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
    Ok(words.iter().any(|word| text.contains(word)))
}

impl PeerResults {
    fn run(
        &mut self,
        arguments: &Arguments,
        watcher: &ProcessWatcher,
        program: &TestProgram,
        (peers, bird): (&PeerDaemons, &str),
    ) -> anyhow::Result<()> {
        let record = target_dir()?.join("skipped-tests-of-peers");
        // It is absent if no test has skipped itself.
        let _ = fs::remove_file(&record);
        let skipped = || fs::read_to_string(&record).unwrap_or_default();
        let mut command = Built::at(&program.file).command();
        command.current_dir(process::root()).args(program.filters(arguments.filter.as_slice()));
        if program.crate_name() == LAB && arguments.filter.is_none() {
            command.args(LAB_MODULES);
        }
        command.env(SKIPPED, &record).stdin(Stdio::null());
        host::with_soak(&mut command, arguments.soak);
        peers.choose(&mut command, bird);
        let name = format!("{} with {bird}", program.name);
        let mut take = |line: &str| {
            say(line);
            self.summary.take(line, || self.skipped.clone() + &skipped());
        };
        take(&format!("     Running {name} ({})", program.file.display()));
        let end = watcher.run(&mut command, &WatchedRun { what: &name, group: true, silence: SILENCE }, take)?;
        self.skipped.push_str(&skipped());
        self.ends.push(end);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_with_daemons_are_chosen_by_their_sources() {
        let program = |name: &str| TestProgram {
            name: format!("tests/{name}.rs"),
            file: format!("/target/debug/deps/{name}-0f").into(),
        };
        let all = ["adopted", "bgp_peers", "bgp_tables", "counters", "frr_to_pmbmpd", "relayed_daemons", "vm_tcp_ao"];
        let all = all.map(program);
        let names = |words| chosen(&all, words).unwrap().iter().map(|p| p.crate_name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&DAEMON_WORDS), ["adopted", "bgp_peers", "bgp_tables", "frr_to_pmbmpd", "relayed_daemons"]);
        assert_eq!(names(&BIRD_WORDS), ["adopted", "bgp_peers", "bgp_tables", "relayed_daemons"]);
    }

    #[test]
    fn the_modules_of_the_lab_are_there() {
        for module in LAB_MODULES {
            let file = process::root().join("tests/src").join(module.replace("::", ".rs"));
            assert!(file.is_file(), "{} is not there: correct the list", file.display());
        }
    }
}
