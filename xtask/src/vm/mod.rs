//! `cargo xtask vm`: tests on a Debian kernel in QEMU, which has the VRF, bond, VLAN, dummy and netem that the kernel of a
//! container or a cloud machine often lacks.
//!
//! The machine has no disk and no network. It sees this host's files, read-only below an overlay, so the programs that cargo has
//! built and the daemons that the tests start are there as they are here; what it writes is gone with it. It is emulated unless
//! told otherwise: slower, and it runs everywhere.

mod archive;
mod guest;
mod kernel;
mod machine;
mod release;

use std::{
    env::consts::ARCH,
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

pub(crate) use self::release::Release;
use self::{guest::Guest, kernel::Kernel, machine::Accelerator};
use crate::{
    packages,
    process::{say, target_dir},
    programs::Use,
    progress::Steps,
    setup::setup,
    test::{self, Summary, TestProgram},
    watch::{End, Run, Watcher},
};

/// Begins the names of the test programs whose tests need the machine.
pub(crate) const PREFIX: &str = "vm_";

/// It has booted long before; a test that takes so long without a word hangs.
const SILENCE: Duration = Duration::from_secs(300);

/// What `cargo xtask vm` can be told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Whose kernel: Debian 12, 13 or testing; this host's own if nothing is said
    #[arg(long, value_name = "DEBIAN")]
    kernel: Option<Release>,
    /// All tests of bmpd, not only those that need the machine
    #[arg(long)]
    all: bool,
    /// Only the tests whose name contains one of these
    #[arg(value_name = "TEST-FILTER")]
    filters: Vec<String>,
}

/// Which tests are run, and how.
pub(crate) struct Choice<'a> {
    /// Whose kernel boots.
    pub(crate) kernel: Release,
    /// Also those that need no machine of their own.
    pub(crate) all: bool,
    /// Only those whose name contains one of these; all where there are none.
    pub(crate) filters: &'a [String],
    /// The long campaigns too.
    pub(crate) soak: bool,
}

/// Fails where a test failed, did not finish, or none ran at all.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    if let Some(reason) = impossible() {
        bail!("{reason}");
    }
    let kernel = arguments.kernel.unwrap_or_else(Release::of_host);
    let mut steps = Steps::announce(
        &format!("cargo xtask vm, on the kernel of Debian {kernel}"),
        "about 5 minutes on two cores once built, all tests half an hour",
        &["packages", "eBPF toolchain", "build, kernel and tests"],
    );
    steps.begin();
    packages::require(&[Use::Vm])?;
    steps.begin();
    setup()?;
    steps.begin();
    let watcher = Watcher::new()?;
    let mut summary = Summary::default();
    let choice = Choice { kernel, all: arguments.all, filters: &arguments.filters, soak: false };
    let end = run(&choice, &watcher, &mut summary, &mut String::new())?;
    say(summary.report(start.elapsed()));
    Ok(test::exit_code(&[end], &summary))
}

/// Why there can be no such machine here.
pub(crate) fn impossible() -> Option<String> {
    let (debian, name) = packages::host();
    match (debian, ARCH) {
        (true, "x86_64") => None,
        (false, _) => Some(format!("the virtual machine is made of Debian's packages, and this is {name}")),
        (true, _) => Some(format!("the virtual machine is an x86_64 one, and this is {ARCH}")),
    }
}

/// Runs the chosen tests in the machine and counts them. `skipped` is what other tests have put on record as skipped; what these
/// tests put there is added to it.
pub(crate) fn run(
    choice: &Choice<'_>,
    watcher: &Watcher,
    summary: &mut Summary,
    skipped: &mut String,
) -> anyhow::Result<End> {
    let Some(programs) = choose(choice, watcher)? else { return Ok(End::Stopped) };
    if programs.is_empty() {
        return Ok(End::Success);
    }
    let accelerator = Accelerator::chosen()?;
    let folder = target_dir()?.join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let _alone = lock(&folder)?;
    let kernel = Kernel::get(&folder, choice.kernel)?;
    let guest = Guest::prepare(&folder, &kernel, &programs, choice, accelerator.slowness())?;
    let mut machine = machine::command(&kernel, &guest, accelerator);
    say(format_args!("booting Linux {} in QEMU ({accelerator}), for {} test programs", kernel.release, programs.len()));

    let mut finished = false;
    let run = Run { what: "the virtual machine", group: true, silence: SILENCE };
    let end = watcher.run(&mut machine, &run, |line| {
        if line == guest::FINISHED {
            finished = true;
            return;
        }
        say(line);
        summary.take(line, || format!("{skipped}{}", guest.skipped()));
    })?;
    skipped.push_str(&guest.skipped());
    if !finished && end != End::Stopped {
        let console = fs::read(guest.console()).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let last: Vec<_> = console.lines().rev().take(20).collect();
        say("the virtual machine ended before its tests did; the last lines of its console:");
        last.iter().rev().for_each(|line| say(format_args!("    {line}")));
        return Ok(End::Failure);
    }
    Ok(end)
}

/// Builds all test programs and returns those that the machine is to run; `None` where that was stopped.
fn choose(choice: &Choice<'_>, watcher: &Watcher) -> anyhow::Result<Option<Vec<TestProgram>>> {
    let Some(programs) = test::build(watcher)? else { return Ok(None) };
    let mut chosen = Vec::new();
    for program in programs {
        let wanted = if choice.all { !program.is_ours() } else { program.needs_machine() };
        let name = || format!("cannot list the tests of {}", program.name);
        if wanted && program.has_any(choice.filters).with_context(name)? {
            chosen.push(program);
        }
    }
    Ok(Some(chosen))
}

/// Two machines would write into one folder.
fn lock(folder: &std::path::Path) -> anyhow::Result<fs::File> {
    let path = folder.join("lock");
    let file = fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    file.try_lock().with_context(|| format!("another `cargo xtask vm` runs in {}", folder.display()))?;
    Ok(file)
}
