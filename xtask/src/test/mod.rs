//! `cargo xtask test`: installs what the tests need, builds everything once, runs everything, and
//! sums up.

mod host;
mod peers;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

pub(crate) use self::host::BesideRun;
use self::host::HostJobs;
use crate::{
    bare,
    fuzz::{Effort, FuzzCampaign},
    package::{self, PackageFormat},
    packages,
    process::{is_root, say},
    programs::Use,
    progress::Steps,
    setup::setup,
    suite::{self, TestProgram, TestSummary, VM_PREFIX, exit_code},
    vm::{self, VirtualMachine},
    watch::{ProcessWatcher, RunEnd},
};

/// A test program that prints nothing for so long hangs: the harness reports tests of over a
/// minute.
const SILENCE: Duration = Duration::from_secs(600);

/// How many times longer the virtual machine takes for anything beside the tests of this host.
const BESIDE_TESTS: u32 = 3;

/// The test program that makes packages.
const PACKAGE_TESTS: &str = "packages";

/// The options of `cargo xtask test`.
#[derive(Default, clap::Args)]
pub(crate) struct Arguments {
    /// Run the long campaigns too
    #[arg(long)]
    soak: bool,
    /// Only the tests with FRR, BIRD and GoBGP, and those of this Debian instead of this host's
    /// (needs root)
    #[arg(long, value_name = "DEBIAN")]
    peers: Option<vm::DebianRelease>,
    /// Only the tests that have this in their name, or in that of their file
    filter: Option<String>,
}

impl Arguments {
    /// The uses that this command starts programs for.
    pub(crate) fn uses(&self) -> &'static [Use] {
        if self.peers.is_some() { &[Use::Test, Use::Peers] } else { &[Use::Test] }
    }
}

/// Fails if a test failed or did not finish, or if none ran.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match arguments.peers {
        Some(release) => peers::command(arguments, release),
        None => run(arguments, None),
    }
}

/// Runs the tests, and another command beside them, whose failure counts as that of a test.
pub(crate) fn run(arguments: &Arguments, mut beside: Option<BesideRun>) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let long = arguments.soak && arguments.filter.is_none();
    let about = match (long, &arguments.filter) {
        (true, _) => "many hours",
        (false, None) => "about half an hour on two cores the first time, ten minutes once built",
        (false, Some(_)) => "some minutes",
    };
    let names = [
        "packages",
        "eBPF toolchain",
        "build",
        "tests on this host and in the virtual machine, fuzz targets",
        "machines with systemd",
        "daemons of Debian testing",
        "bare Debians",
    ];
    // The last steps are a part of the long campaigns.
    let mut steps = Steps::announce("cargo xtask test", about, if long { &names } else { &names[..4] });
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
    let Some(programs) = suite::build(&watcher, &[])? else { return Ok(ExitCode::FAILURE) };
    if makes_packages(&programs, arguments)? {
        // The other one is built for minutes: the long campaigns have it.
        package::install_packers(if long { &PackageFormat::ALL } else { &[PackageFormat::Deb] })?;
    }
    // A filter names tests, not fuzz targets.
    let mut campaign = match arguments.filter {
        None => Some(FuzzCampaign::of_all(if arguments.soak { Effort::Soak } else { Effort::Short })?),
        Some(_) => None,
    };
    steps.begin();
    let kernel = vm::DebianRelease::of_host();
    let own = vm::ChosenTests {
        kernel,
        root: vm::GuestRoot::HostFiles,
        all: false,
        filters: arguments.filter.as_slice(),
        soak: arguments.soak,
    };
    let machine = match no_machine {
        Some(reason) => {
            say(format_args!("{reason}: the tests that need it are skipped"));
            Ok(None)
        }
        None => VirtualMachine::prepare(&own, &programs, BESIDE_TESTS),
    };
    // Without the machine, the other tests still run.
    let booted = machine.as_ref().ok().and_then(Option::as_ref);
    let jobs = HostJobs { programs: &programs, machine: booted, campaign: campaign.as_mut(), beside: beside.as_mut() };
    let (here, there) = host::run(arguments, &watcher, jobs, &mut summary, &mut skipped)?;
    let fuzzed = campaign.map_or(RunEnd::Success, |campaign| summary.runs("fuzz", &campaign.results()));
    let has_machine = booted.is_some();
    let mut there = machine.map(|machine| {
        drop(machine);
        there
    });
    if long && has_machine && here != RunEnd::Stopped {
        summary.take_all();
        let all = vm::DebianRelease::ALL;
        for kernel in all {
            let choice =
                vm::ChosenTests { kernel, root: vm::GuestRoot::HostFiles, all: true, filters: &[], soak: false };
            match vm::run(&choice, &watcher, &mut summary, &mut skipped) {
                Ok(RunEnd::Success) => {}
                Ok(RunEnd::Failure) => there = Ok(RunEnd::Failure),
                ended => {
                    there = ended;
                    break;
                }
            }
        }
    }
    steps.begin();
    let systemd = match &there {
        Ok(RunEnd::Success | RunEnd::Failure) if long && has_machine && here != RunEnd::Stopped => {
            vm::with_systemd(&watcher).map(|found| summary.runs("machine with systemd", &found))
        }
        _ => Ok(RunEnd::Success),
    };
    steps.begin();
    let newer = match &systemd {
        Ok(RunEnd::Success | RunEnd::Failure) if long && here != RunEnd::Stopped => {
            peers::all(&watcher).map(|found| summary.runs("daemons of another Debian", &found))
        }
        _ => Ok(RunEnd::Success),
    };
    steps.begin();
    let bare = match &newer {
        Ok(RunEnd::Success | RunEnd::Failure) if long && here != RunEnd::Stopped => {
            bare::all(&watcher).map(|found| summary.runs("bare Debian", &found))
        }
        _ => Ok(RunEnd::Success),
    };
    let beside = beside.map_or(RunEnd::Success, |beside| beside.end);
    // Printed even if the virtual machine could not be had: the other tests did run.
    say(summary.report(start.elapsed()));
    Ok(exit_code(&[here, there?, fuzzed, systemd?, newer?, bare?, beside], &summary))
}

/// Returns whether a test of the packages is among those that run.
fn makes_packages(programs: &[TestProgram], arguments: &Arguments) -> anyhow::Result<bool> {
    let Some(program) = programs.iter().find(|program| program.crate_name() == PACKAGE_TESTS) else {
        return Ok(false);
    };
    Ok(!program.tests(arguments.filter.as_slice())?.is_empty())
}
