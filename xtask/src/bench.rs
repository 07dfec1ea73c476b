//! `cargo xtask bench`: builds the benchmarks and becomes them.

use std::os::unix::process::CommandExt as _;

use crate::{
    binaries, packages,
    process::{as_root, cannot_start},
    programs::{Program, Use},
};

/// Where the benchmarks find bmpd and bmpctl.
const BIN_DIR: &str = "BMPD_BIN_DIR";

/// What the benchmarks can be told.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// Given on: names of benchmarks, --routes, --runs, --compare, --json; --help says more
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Does not return where it succeeds: Ctrl-C and the exit status are the benchmarks' own.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<()> {
    // Those to compare with are measured where they are there, and named where they are not.
    packages::require(&[Use::Bench])?;
    let folder = binaries::release(&["bench", "hot"])?;
    let mut bench = as_root(Program::Env);
    bench.arg(format!("{BIN_DIR}={}", folder.display())).arg(folder.join("bench")).args(&arguments.arguments);
    let error = bench.exec();
    Err(anyhow::Error::new(error).context(cannot_start(&bench)))
}
