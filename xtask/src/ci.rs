//! `cargo xtask ci`: every check that a change must pass.

use std::{env::consts::ARCH, panic::resume_unwind, process::ExitCode, thread};

use anyhow::Context as _;

use crate::{
    bare, packages,
    process::{cargo, is_root, own_program, run, say, target_dir, text},
    programs::{Built, Program, Use},
    progress::Steps,
    rules,
    setup::setup,
    test::{self, BesideRun},
    toolchain,
};

/// The release of cargo-deny that is installed where there is none.
const CARGO_DENY: &str = "0.20.2";

/// Runs the cheapest checks first, so that a failure shows early.
pub(crate) fn command() -> anyhow::Result<ExitCode> {
    let names = [
        "formatting",
        "rules",
        "packages and eBPF toolchain",
        "lints",
        "lints of the kernel programs",
        "licences",
        "build of the tests",
        "tests, and the demonstration on a bare Debian",
    ];
    let mut steps =
        Steps::announce("cargo xtask ci", "about ten minutes on two cores once built, half an hour before", &names);
    steps.begin();
    formatting()?;
    steps.begin();
    rules::check()?;
    steps.begin();
    setup()?;
    let has_bare = packages::host().0 && is_root();
    if has_bare {
        packages::require(&[Use::Bare])?;
    }
    thread::scope(|scope| {
        // It mostly waits for the network and the disk, and the lints for the processor.
        let root = has_bare.then(|| scope.spawn(bare::prepare));
        steps.begin();
        lints()?;
        steps.begin();
        kernel_lints()?;
        steps.begin();
        dependencies()?;
        root.map_or(Ok(()), |root| root.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })?;
    steps.begin();
    run(cargo().args(["test", "--locked", "--workspace", "--no-run", "--quiet"]))?;
    steps.begin();
    let demonstration = if has_bare {
        Some(demonstration()?)
    } else {
        say("ci: no demonstration on a bare Debian: it needs Debian and root");
        None
    };
    test::run(&test::Arguments::default(), demonstration)
}

fn formatting() -> anyhow::Result<()> {
    component("fmt", "rustfmt")?;
    run(cargo().args(["fmt", "--all", "--check"])).context("`cargo fmt --all` mends it")
}

fn lints() -> anyhow::Result<()> {
    component("clippy", "clippy")?;
    run(cargo().args(["clippy", "--locked", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))
}

/// Adds a component of the toolchain that minimal installations lack.
fn component(command: &str, name: &str) -> anyhow::Result<()> {
    if text(cargo().args([command, "--version"])).is_ok() {
        return Ok(());
    }
    say(format_args!("installing the toolchain's {name}"));
    run(Program::Rustup.command().args(["component", "add", name]))
}

/// Lints the kernel programs, with the toolchain that compiles them: clippy belongs to a toolchain.
fn kernel_lints() -> anyhow::Result<()> {
    let chosen = toolchain::choose()?.context("setup left no toolchain for the kernel programs")?;
    if chosen.name == toolchain::LINKED && packages::host().0 {
        packages::require_named(&["rust-web-clippy"])?;
    }
    if text(Program::Rustup.command().args(["run", &chosen.name, "cargo", "clippy", "--version"])).is_err() {
        say("ci: not linted: this toolchain has no clippy");
        return Ok(());
    }
    let target = toolchain::target(cfg!(target_endian = "big"));
    let mut clippy = chosen.programs("clippy", ARCH, target, &target_dir()?.join("bpf"));
    run(clippy.args(["--", "-D", "warnings"]).current_dir(crate::process::root()))
}

/// Returns the README's first command on a bare Debian, which starts from what is compiled here.
fn demonstration() -> anyhow::Result<BesideRun> {
    let mut command = Built::at(own_program()?).command();
    command.args(["bare", "demo", "--warm"]);
    Ok(BesideRun::new("the demonstration on a bare Debian", command))
}

/// Checks licences, sources and banned crates, with a cargo-deny that it installs where there is
/// none.
fn dependencies() -> anyhow::Result<()> {
    if Program::CargoDeny.find().is_none() {
        say(format_args!("installing cargo-deny {CARGO_DENY} (2 minutes)"));
        let mut install = cargo();
        // It reads a few files once: compiling it well would take longer than it runs.
        install.args(["install", "cargo-deny", "--version", CARGO_DENY, "--locked", "--debug", "--quiet"]);
        run(install.arg("--target-dir").arg(target_dir()?.join("cargo-deny")))?;
    }
    // It looks at the crates of every platform, the builds fetch those of this one.
    run(cargo().args(["fetch", "--locked", "--quiet"]))?;
    // Advisories come from the network, which not every host reaches: `cargo deny check` checks
    // them.
    let mut check = cargo();
    check.args(["deny", "--offline", "--locked", "check", "--hide-inclusion-graph"]);
    run(check.args(["bans", "licenses", "sources"]))
}
