//! `cargo xtask demo`: builds the demonstration and becomes it.

use std::os::unix::process::CommandExt as _;

use crate::{
    binaries::{self, EarlyBuild, Profile},
    packages,
    process::{as_root, cannot_start},
    programs::{Built, Program, Use},
    progress::{Steps, beating},
    setup,
};

/// The variable that names the folder with bmpd and bmpctl.
const BIN_DIR: &str = "BMPD_BIN_DIR";

/// The options of the demonstration.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Feed the routes from a built-in speaker, not from FRR
    #[arg(long)]
    no_frr: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Becomes the demonstration, so that Ctrl-C and the exit status are its own. Returns only on
/// failure.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<()> {
    let mut steps = Steps::announce(
        "cargo xtask demo",
        "about 4 minutes on two cores the first time, under a minute once built",
        &["packages", "eBPF toolchain", "build of bmpd and the demonstration", "the demonstration"],
    );
    // Crates compile while packages are fetched and unpacked.
    let early = if setup::is_ready()? { None } else { Some(EarlyBuild::begin(Profile::Demo, &["demo"])?) };
    steps.begin();
    packages::require(if arguments.no_frr { &[Use::Demo] } else { &[Use::Demo, Use::Frr] })?;
    steps.begin();
    setup::setup()?;
    steps.begin();
    if let Some(early) = early {
        beating("cargo build", || early.wait())?;
    }
    let folder = binaries::build(Profile::Demo, &["demo"])?;
    steps.begin();

    let mut demo = as_root(Program::Env);
    demo.arg(format!("{BIN_DIR}={}", folder.display())).arg(Built::at(folder.join("demo")));
    demo.args(arguments.no_frr.then_some("--no-frr")).args(arguments.json.then_some("--json"));
    let error = demo.exec();
    Err(anyhow::Error::new(error).context(cannot_start(&demo)))
}
