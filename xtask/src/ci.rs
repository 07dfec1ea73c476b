//! `cargo xtask ci`: every check that a change must pass.

use std::{env::consts::ARCH, process::ExitCode};

use anyhow::Context as _;

use crate::{
    binaries::{self, Profile},
    packages,
    process::{cargo, is_root, run, say, target_dir, text},
    programs::{Built, Program},
    rules,
    setup::setup,
    test, toolchain,
};

/// Runs the cheapest checks first, so that a failure shows early.
pub(crate) fn command() -> anyhow::Result<ExitCode> {
    formatting()?;
    say("ci: rules");
    rules::check()?;
    setup()?;
    lints()?;
    kernel_lints()?;
    dependencies()?;
    bare()?;
    say("ci: tests");
    test::command(&test::Arguments::default())
}

fn formatting() -> anyhow::Result<()> {
    say("ci: formatting");
    component("fmt", "rustfmt")?;
    run(cargo().args(["fmt", "--all", "--check"])).context("`cargo fmt --all` mends it")
}

fn lints() -> anyhow::Result<()> {
    say("ci: lints");
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
    say(format_args!("ci: lints of the kernel programs (toolchain `{}`)", chosen.name));
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

/// Runs the README's first command on a bare Debian, which starts from the dependencies compiled
/// here.
fn bare() -> anyhow::Result<()> {
    if !packages::host().0 || !is_root() {
        say("ci: no demonstration on a bare Debian: it needs Debian and root");
        return Ok(());
    }
    say("ci: the demonstration on a bare Debian");
    binaries::build(Profile::Dev, &["demo"])?;
    let program = std::env::current_exe().context("this program does not know where it is")?;
    run(Built::at(program).command().args(["bare", "demo", "--warm"]))
}

fn dependencies() -> anyhow::Result<()> {
    if Program::CargoDeny.find().is_none() {
        say("ci: dependencies not checked: cargo-deny is not installed (cargo install cargo-deny --locked)");
        return Ok(());
    }
    say("ci: dependencies");
    // Advisories come from the network, which not every host reaches: `cargo deny check` checks
    // them.
    run(cargo().args(["deny", "--offline", "--locked", "check", "bans", "licenses", "sources"]))
}
