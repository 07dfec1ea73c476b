//! `cargo xtask demo`: builds the demonstration and becomes it.

use std::os::unix::process::CommandExt as _;

use crate::{
    binaries, packages,
    process::{as_root, cannot_start},
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
    let mut needed = vec!["iproute2", "util-linux"];
    if !arguments.no_frr {
        needed.push("frr");
    }
    packages::require(&needed)?;
    let folder = binaries::release(&["demo"])?;

    let mut demo = as_root("env");
    demo.arg(format!("{BIN_DIR}={}", folder.display())).arg(folder.join("demo"));
    demo.args(arguments.no_frr.then_some("--no-frr")).args(arguments.json.then_some("--json"));
    let error = demo.exec();
    Err(anyhow::Error::new(error).context(cannot_start(&demo)))
}
