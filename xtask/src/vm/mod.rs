//! `cargo xtask vm`: tests on a Debian kernel in QEMU. It has VRF, bond, VLAN, dummy and netem,
//! which the kernel of a container or a cloud machine often lacks.
//!
//! The machine has no network. It sees this host's files read-only, below an overlay in memory, and
//! so the built programs and the daemons of the tests. With `--systemd` it has a Debian of its own
//! on a disk, and systemd is its process 1. It is emulated by default: slower, and it works
//! everywhere.

mod archive;
mod guest;
mod kernel;
mod machine;
mod release;
mod systemd;

use std::{
    env::consts::ARCH,
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

pub(crate) use self::{archive::SuiteArchive, release::DebianRelease};
use self::{
    guest::{GuestFiles, GuestWork},
    kernel::DebianKernel,
    machine::Accelerator,
};
use crate::{
    binaries::{self, Profile},
    packages,
    process::{self, is_root, own_program, quietly, say, target_dir},
    programs::{Built, Use},
    progress::Steps,
    setup::setup,
    suite::{self, TestProgram, TestSummary},
    watch::{ProcessWatcher, RunEnd, WatchedRun},
};

/// The options of `cargo xtask vm`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The kernel of Debian 12, 13 or testing; by default this host's own Debian, or 13 for
    /// `--systemd`
    #[arg(long, value_name = "DEBIAN")]
    kernel: Option<DebianRelease>,
    /// The tests that need systemd as process 1, on a Debian of the kernel's release (needs root
    /// the first time)
    #[arg(long, conflicts_with = "all")]
    systemd: bool,
    /// All tests of bmpd, not only those that need the machine
    #[arg(long)]
    all: bool,
    /// Instead of tests, the benchmarks, with what follows as their arguments:
    /// `vm --bench -- tls --routes 100000`
    #[arg(long, conflicts_with_all = ["systemd", "all"])]
    bench: bool,
    /// Only the tests that have one of these in their name, or in that of their file
    #[arg(value_name = "TEST-FILTER")]
    filters: Vec<String>,
}

impl Arguments {
    /// The uses that this command starts programs for.
    pub(crate) fn uses(&self) -> &'static [Use] {
        match (self.systemd, self.bench) {
            (true, _) => &[Use::Systemd],
            (false, true) => &[Use::Vm, Use::Bench],
            (false, false) => &[Use::Vm],
        }
    }
}

/// The root file system of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GuestRoot {
    /// This host's files. A script is process 1.
    HostFiles,
    /// A Debian of the kernel's release. systemd is process 1.
    Systemd,
}

/// The tests to run, and how.
pub(crate) struct ChosenTests<'a> {
    /// The Debian whose kernel boots.
    pub(crate) kernel: DebianRelease,
    /// The root file system.
    pub(crate) root: GuestRoot,
    /// Also the tests that need no machine.
    pub(crate) all: bool,
    /// Only tests whose name contains one of these; all if there are none.
    pub(crate) filters: &'a [String],
    /// The long campaigns too.
    pub(crate) soak: bool,
}

impl ChosenTests<'_> {
    /// Returns the names of the test programs to build, as patterns; none for all.
    fn needed(&self) -> Vec<String> {
        let prefix = match self.root {
            GuestRoot::Systemd => suite::SYSTEMD_PREFIX,
            GuestRoot::HostFiles if self.all => return Vec::new(),
            GuestRoot::HostFiles => suite::VM_PREFIX,
        };
        let is_file = |filter: &String| {
            filter.starts_with(prefix) && process::root().join(format!("tests/tests/{filter}.rs")).is_file()
        };
        let names_files = !self.filters.is_empty() && self.filters.iter().all(is_file);
        if names_files { self.filters.to_vec() } else { vec![format!("{prefix}*")] }
    }
}

/// Fails if a test failed or did not finish, or if none ran.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    if let Some(reason) = impossible() {
        bail!("{reason}");
    }
    if arguments.bench {
        return benchmarks(arguments);
    }
    let (root, default, what) = if arguments.systemd {
        (GuestRoot::Systemd, DebianRelease::Thirteen, "cargo xtask vm --systemd, on Debian")
    } else {
        (GuestRoot::HostFiles, DebianRelease::of_host(), "cargo xtask vm, on the kernel of Debian")
    };
    let kernel = arguments.kernel.unwrap_or(default);
    let mut steps = Steps::announce(
        &format!("{what} {kernel}"),
        "about 5 minutes on two cores once built, all tests half an hour",
        &["packages", "eBPF toolchain", "build, kernel and tests"],
    );
    steps.begin();
    packages::require(arguments.uses())?;
    steps.begin();
    setup()?;
    steps.begin();
    let watcher = ProcessWatcher::new()?;
    let mut summary = TestSummary::default();
    let choice = ChosenTests { kernel, root, all: arguments.all, filters: &arguments.filters, soak: false };
    let end = run(&choice, &watcher, &mut summary, &mut String::new())?;
    say(summary.report(start.elapsed()));
    Ok(suite::exit_code(&[end], &summary))
}

/// Runs the benchmarks in the machine. They are fair there to what they compare, and slow.
fn benchmarks(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    packages::require(arguments.uses())?;
    let folder = binaries::build(Profile::Release, &["bench", "hot"])?;
    let kernel = arguments.kernel.unwrap_or(DebianRelease::of_host());
    let work = GuestWork::Bench { folder: &folder, arguments: &arguments.filters };
    let place = VirtualMachine::folder()?;
    let lock = lock(&place)?;
    let kernel = DebianKernel::get(&place, kernel)?;
    let guest = GuestFiles::prepare(&place, &kernel, &work)?;
    let machine = VirtualMachine { kernel, accelerator: Accelerator::chosen()?, guest, programs: 0, _lock: lock };
    say(format_args!("booting Linux {} in QEMU ({})", machine.kernel.release, machine.accelerator));
    let run = WatchedRun { what: VirtualMachine::NAME, group: true, silence: VirtualMachine::SILENCE };
    let (mut finished, mut failed) = (false, false);
    let end = ProcessWatcher::new()?.run(&mut machine.command(), &run, |line| {
        finished |= VirtualMachine::is_last(line);
        failed |= line == guest::BENCH_FAILED;
        if !finished {
            say(line);
        }
    })?;
    let has_passed = machine.verdict(end, finished) == RunEnd::Success && !failed;
    Ok(if has_passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the tests that need systemd on Debian 13 and on testing: a part of the long campaigns.
pub(crate) fn with_systemd(watcher: &ProcessWatcher) -> anyhow::Result<Vec<(String, RunEnd, Duration)>> {
    let mut found = Vec::new();
    if !is_root() {
        say("no machines with systemd: they need root");
        return Ok(found);
    }
    let program = Built::at(own_program()?);
    for kernel in [DebianRelease::Thirteen, DebianRelease::Testing] {
        let start = Instant::now();
        let name = format!("Debian {kernel}");
        let mut command = program.command();
        command.args(["vm", "--systemd", "--kernel", &kernel.to_string()]);
        let run = WatchedRun { what: &name, group: true, silence: VirtualMachine::SILENCE };
        let end = watcher.run(&mut command, &run, |line| say(line))?;
        found.push((name, end, start.elapsed()));
        if end == RunEnd::Stopped {
            break;
        }
    }
    Ok(found)
}

/// Returns why this host can have no virtual machine; `None` if it can.
pub(crate) fn impossible() -> Option<String> {
    let (debian, name) = packages::host();
    match (debian, ARCH) {
        (true, "x86_64") => None,
        (false, _) => Some(format!("the virtual machine needs Debian's packages, and this is {name}")),
        (true, _) => Some(format!("the virtual machine is an x86_64 one, and this is {ARCH}")),
    }
}

/// Builds all tests and runs the chosen ones in the machine. Adds the tests that skip themselves to
/// `skipped`, which holds those of other programs.
pub(crate) fn run(
    choice: &ChosenTests<'_>,
    watcher: &ProcessWatcher,
    summary: &mut TestSummary,
    skipped: &mut String,
) -> anyhow::Result<RunEnd> {
    let Some(programs) = suite::build(watcher, &choice.needed())? else { return Ok(RunEnd::Stopped) };
    let Some(machine) = VirtualMachine::prepare(choice, &programs, 1)? else { return Ok(RunEnd::Success) };
    say(machine.heading());
    let run = WatchedRun { what: VirtualMachine::NAME, group: true, silence: VirtualMachine::SILENCE };
    let mut finished = false;
    let end = watcher.run(&mut machine.command(), &run, |line| {
        if VirtualMachine::is_last(line) {
            finished = true;
            return;
        }
        say(line);
        summary.take(line, || format!("{skipped}{}", machine.skipped()));
    })?;
    skipped.push_str(&machine.skipped());
    Ok(machine.verdict(end, finished))
}

/// A virtual machine that is ready to boot and to run its tests.
pub(crate) struct VirtualMachine {
    kernel: DebianKernel,
    accelerator: Accelerator,
    guest: GuestFiles,
    /// The number of test programs.
    programs: usize,
    _lock: fs::File,
}

impl VirtualMachine {
    /// Its name in messages.
    pub(crate) const NAME: &'static str = "the virtual machine";

    /// A machine that prints nothing for so long hangs: booting and any test take less.
    pub(crate) const SILENCE: Duration = Duration::from_secs(300);

    /// Prepares a machine for those of `programs` that `choice` chooses; `None` if it chooses none.
    ///
    /// `load` is how many times longer anything takes because of what else this host does.
    pub(crate) fn prepare(
        choice: &ChosenTests<'_>,
        programs: &[TestProgram],
        load: u32,
    ) -> anyhow::Result<Option<Self>> {
        let programs = choose(choice, programs)?;
        if programs.is_empty() {
            return Ok(None);
        }
        let accelerator = Accelerator::chosen()?;
        let folder = Self::folder()?;
        let lock = lock(&folder)?;
        let kernel = DebianKernel::get(&folder, choice.kernel)?;
        let patience = accelerator.slowness() * load;
        let disk = match choice.root {
            GuestRoot::HostFiles => None,
            GuestRoot::Systemd => {
                if programs.iter().any(|program| program.crate_name() == PACKAGE_TESTS) {
                    make_packages()?;
                }
                Some(systemd::root(&folder, choice.kernel)?)
            }
        };
        let work = GuestWork::Tests { programs: &programs, choice, patience };
        let mut guest = GuestFiles::prepare(&folder, &kernel, &work)?;
        if let Some(disk) = disk {
            guest.copy_disk(&disk)?;
        }
        Ok(Some(Self { kernel, accelerator, guest, programs: programs.len(), _lock: lock }))
    }

    /// Returns the folder of all machines' files, which is there.
    fn folder() -> anyhow::Result<PathBuf> {
        let folder = target_dir()?.join("vm");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// Returns the line that announces its boot.
    pub(crate) fn heading(&self) -> String {
        let Self { kernel, accelerator, programs, .. } = self;
        format!("booting Linux {} in QEMU ({accelerator}), for {programs} test programs", kernel.release)
    }

    /// Returns the command that boots it.
    pub(crate) fn command(&self) -> Command {
        machine::command(&self.kernel, &self.guest, self.accelerator)
    }

    /// Returns the tests that have skipped themselves, a line each.
    pub(crate) fn skipped(&self) -> String {
        self.guest.skipped()
    }

    /// Returns whether a line says that all tests have ended.
    pub(crate) fn is_last(line: &str) -> bool {
        line == guest::FINISHED
    }

    /// Returns how the tests ended, given the end of the machine and whether it printed its last
    /// line.
    /// If they did not end, shows the end of the console.
    pub(crate) fn verdict(&self, end: RunEnd, finished: bool) -> RunEnd {
        if finished || end == RunEnd::Stopped {
            return end;
        }
        let console = fs::read(self.guest.console()).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let last: Vec<_> = console.lines().rev().take(20).collect();
        say("the virtual machine ended before its tests did; the last lines of its console:");
        last.iter().rev().for_each(|line| say(format_args!("    {line}")));
        RunEnd::Failure
    }
}

/// Returns the programs that the machine is to run.
fn choose(choice: &ChosenTests<'_>, programs: &[TestProgram]) -> anyhow::Result<Vec<TestProgram>> {
    let mut chosen = Vec::new();
    for program in programs {
        let wanted = match choice.root {
            GuestRoot::Systemd => program.needs_systemd(),
            GuestRoot::HostFiles if choice.all => !program.is_ours() && !program.needs_systemd(),
            GuestRoot::HostFiles => program.needs_machine(),
        };
        let name = || format!("cannot list the tests of {}", program.name);
        if wanted && !program.tests(choice.filters).with_context(name)?.is_empty() {
            chosen.push(program.clone());
        }
    }
    Ok(chosen)
}

/// The test program that installs the package.
const PACKAGE_TESTS: &str = "systemd_package";

/// Makes the packages of the programs under test.
fn make_packages() -> anyhow::Result<()> {
    let packages = packages_folder()?;
    if packages.exists() {
        fs::remove_dir_all(&packages).with_context(|| format!("cannot remove {}", packages.display()))?;
    }
    let program = Built::at(own_program()?);
    let mut package = program.command();
    package.arg("package").arg("--programs").arg(target_dir()?.join("debug")).arg("--output").arg(&packages);
    quietly(&mut package)
}

/// Returns the folder with the packages that the machine with systemd installs.
fn packages_folder() -> anyhow::Result<PathBuf> {
    Ok(target_dir()?.join("vm/packages"))
}

/// Locks the folder: two machines would write into it.
fn lock(folder: &std::path::Path) -> anyhow::Result<fs::File> {
    let path = folder.join("lock");
    let file = fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    file.try_lock().with_context(|| format!("another `cargo xtask vm` runs in {}", folder.display()))?;
    Ok(file)
}
