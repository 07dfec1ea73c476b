//! `cargo xtask test`: installs what the tests need, builds everything once, runs everything, and
//! sums up.

mod host;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use crate::{
    bare,
    fuzz::{self, Effort},
    packages,
    process::{is_root, say},
    programs::Use,
    progress::Steps,
    setup::setup,
    suite::{TestSummary, VM_PREFIX, exit_code},
    vm,
    watch::{ProcessWatcher, RunEnd},
};

/// A test program that prints nothing for so long hangs: the harness reports tests of over a
/// minute.
const SILENCE: Duration = Duration::from_secs(600);

/// The options of `cargo xtask test`.
#[derive(Default, clap::Args)]
pub(crate) struct Arguments {
    /// Run the long campaigns too
    #[arg(long)]
    soak: bool,
    /// Only the tests whose name contains this
    filter: Option<String>,
}

/// Fails if a test failed or did not finish, or if none ran.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let long = arguments.soak && arguments.filter.is_none();
    let about = match (long, &arguments.filter) {
        (true, _) => "many hours",
        (false, None) => "about half an hour on two cores the first time, a quarter of an hour once built",
        (false, Some(_)) => "some minutes",
    };
    let names = [
        "packages",
        "eBPF toolchain",
        "build and tests on this host",
        "tests in the virtual machine",
        "fuzz targets",
        "bare Debians",
    ];
    // The last step is a part of the long campaigns.
    let mut steps = Steps::announce("cargo xtask test", about, if long { &names } else { &names[..5] });
    steps.begin();
    packages::require(if long { &[Use::Test, Use::Bare] } else { &[Use::Test] })?;
    steps.begin();
    setup()?;
    let no_machine = vm::impossible();
    if !is_root() {
        say("The tests make network namespaces and load kernel programs: sudo runs them as root.");
    }
    steps.begin();
    let watcher = ProcessWatcher::new()?;
    let mut summary = if no_machine.is_none() { TestSummary::without(VM_PREFIX) } else { TestSummary::default() };
    let mut skipped = String::new();
    let here = host::run(arguments, &watcher, &mut summary, &mut skipped)?;
    steps.begin();
    let there = match no_machine {
        Some(reason) => {
            say(format_args!("{reason}: the tests that need it are skipped"));
            Ok(RunEnd::Success)
        }
        None if here == RunEnd::Stopped => Ok(RunEnd::Stopped),
        None => {
            summary.take_all();
            let kernel = vm::DebianRelease::of_host();
            let own =
                vm::ChosenTests { kernel, all: false, filters: arguments.filter.as_slice(), soak: arguments.soak };
            let others = if long { &vm::DebianRelease::ALL[..] } else { &[] };
            let all =
                others.iter().map(|kernel| vm::ChosenTests { kernel: *kernel, all: true, filters: &[], soak: false });
            let mut worst = Ok(RunEnd::Success);
            for choice in std::iter::once(own).chain(all) {
                match vm::run(&choice, &watcher, &mut summary, &mut skipped) {
                    Ok(RunEnd::Success) => {}
                    Ok(RunEnd::Failure) => worst = Ok(RunEnd::Failure),
                    ended => {
                        worst = ended;
                        break;
                    }
                }
            }
            worst
        }
    };
    steps.begin();
    let fuzzed = match &there {
        // A filter names tests, not fuzz targets.
        Ok(RunEnd::Success | RunEnd::Failure) if arguments.filter.is_none() && here != RunEnd::Stopped => {
            let effort = if arguments.soak { Effort::Soak } else { Effort::Short };
            fuzz::all(effort, &watcher).map(|found| summary.runs("fuzz", &found))
        }
        _ => Ok(RunEnd::Success),
    };
    steps.begin();
    let bare = match &fuzzed {
        Ok(RunEnd::Success | RunEnd::Failure) if long && here != RunEnd::Stopped => {
            bare::all(&watcher).map(|found| summary.runs("bare Debian", &found))
        }
        _ => Ok(RunEnd::Success),
    };
    // Printed even if the virtual machine could not be had: the other tests did run.
    say(summary.report(start.elapsed()));
    Ok(exit_code(&[here, there?, fuzzed?, bare?], &summary))
}
