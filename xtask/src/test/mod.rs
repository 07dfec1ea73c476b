//! `cargo xtask test`: installs what the tests need, builds everything once, runs everything, and sums up.

mod host;
mod programs;
mod summary;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

pub(crate) use self::{
    programs::{TestProgram, build},
    summary::Summary,
};
use crate::{
    bare,
    fuzz::{self, Effort},
    packages,
    process::{is_root, say},
    programs::Use,
    progress::Steps,
    setup::setup,
    vm,
    watch::{End, Watcher},
};

/// Asks the tests for their long campaigns.
pub(crate) const SOAK: &str = "BMPD_SOAK";

/// Names the file to which a test that cannot run on this host appends one line, `NAME: REASON`, before it returns. The test
/// harness counts it as passed: it has no word for what is found out only while a test runs.
pub(crate) const SKIPPED: &str = "BMPD_SKIPPED";

/// Nothing at all said for so long means that a test hangs. The harness itself speaks when one takes more than a minute.
pub(crate) const SILENCE: Duration = Duration::from_secs(600);

/// What `cargo xtask test` can be told.
#[derive(Default, clap::Args)]
pub(crate) struct Arguments {
    /// Run the long campaigns too
    #[arg(long)]
    soak: bool,
    /// Only the tests whose name contains this
    filter: Option<String>,
}

/// Fails where a test failed, did not finish, or none ran at all.
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
    // The last is for the long campaigns.
    let mut steps = Steps::announce("cargo xtask test", about, if long { &names } else { &names[..5] });
    steps.begin();
    packages::require(if long { &[Use::Test, Use::Bare] } else { &[Use::Test] })?;
    steps.begin();
    setup()?;
    let no_machine = vm::impossible();
    if !is_root() {
        say("The tests make network namespaces and load kernel programs: they are run as root, through sudo.");
    }
    steps.begin();
    let watcher = Watcher::new()?;
    let mut summary = if no_machine.is_none() { Summary::without(vm::PREFIX) } else { Summary::default() };
    let mut skipped = String::new();
    let here = host::run(arguments, &watcher, &mut summary, &mut skipped)?;
    steps.begin();
    let there = match no_machine {
        Some(reason) => {
            say(format_args!("{reason}: the tests that need it are skipped"));
            Ok(End::Success)
        }
        None if here == End::Stopped => Ok(End::Stopped),
        None => {
            summary.take_all();
            let kernel = vm::Release::of_host();
            let own = vm::Choice { kernel, all: false, filters: arguments.filter.as_slice(), soak: arguments.soak };
            let others = if long { &vm::Release::ALL[..] } else { &[] };
            let all = others.iter().map(|kernel| vm::Choice { kernel: *kernel, all: true, filters: &[], soak: false });
            let mut worst = Ok(End::Success);
            for choice in std::iter::once(own).chain(all) {
                match vm::run(&choice, &watcher, &mut summary, &mut skipped) {
                    Ok(End::Success) => {}
                    Ok(End::Failure) => worst = Ok(End::Failure),
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
        // Who asks for tests by name has not asked for this.
        Ok(End::Success | End::Failure) if arguments.filter.is_none() && here != End::Stopped => {
            let effort = if arguments.soak { Effort::Soak } else { Effort::Short };
            fuzz::all(effort, &watcher).map(|found| summary.runs("fuzz", &found))
        }
        _ => Ok(End::Success),
    };
    steps.begin();
    let bare = match &fuzzed {
        Ok(End::Success | End::Failure) if long && here != End::Stopped => {
            bare::all(&watcher).map(|found| summary.runs("bare Debian", &found))
        }
        _ => Ok(End::Success),
    };
    // Also where there was no machine to be had: what was run until then has been run.
    say(summary.report(start.elapsed()));
    Ok(exit_code(&[here, there?, fuzzed?, bare?], &summary))
}

/// Whether everything came to its end, and well.
pub(crate) fn exit_code(ends: &[End], summary: &Summary) -> ExitCode {
    let well = ends.iter().all(|end| *end == End::Success) && summary.is_good();
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
