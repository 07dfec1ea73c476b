//! `cargo xtask demo`: builds the demonstration and becomes it.

use std::os::unix::process::CommandExt as _;

use crate::{
    binaries, packages,
    process::{as_root, cannot_start},
    programs::{Built, Program, Use},
    progress::Steps,
    setup::setup,
};

/// Where the demonstration finds bmpd and bmpctl.
const BIN_DIR: &str = "BMPD_BIN_DIR";

/// What the demonstration can be told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Feed the routes from a built-in speaker, not from FRR
    #[arg(long)]
    no_frr: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

/// Does not return where it succeeds: Ctrl-C and the exit status are the demonstration's own.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<()> {
    let mut steps = Steps::announce(
        "cargo xtask demo",
        "about 8 minutes on two cores the first time, under a minute once built",
        &["packages", "eBPF toolchain", "optimised build of bmpd and the demonstration", "the demonstration"],
    );
    steps.begin();
    packages::require(if arguments.no_frr { &[Use::Demo] } else { &[Use::Demo, Use::Frr] })?;
    steps.begin();
    setup()?;
    steps.begin();
    let folder = binaries::release(&["demo"])?;
    steps.begin();

    let mut demo = as_root(Program::Env);
    demo.arg(format!("{BIN_DIR}={}", folder.display())).arg(Built::at(folder.join("demo")));
    demo.args(arguments.no_frr.then_some("--no-frr")).args(arguments.json.then_some("--json"));
    let error = demo.exec();
    Err(anyhow::Error::new(error).context(cannot_start(&demo)))
}
