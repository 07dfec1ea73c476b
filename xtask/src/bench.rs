//! `cargo xtask bench`: builds the benchmarks and becomes them.

use std::os::unix::process::CommandExt as _;

use crate::{
    binaries::{self, Profile},
    packages,
    process::{as_root, cannot_start},
    programs::{Program, Use},
};

/// The variable that names the folder with bmpd and bmpctl.
pub(crate) const BIN_DIR: &str = "BMPD_BIN_DIR";

/// The options of the benchmarks.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// Passed on: names of benchmarks, --routes, --runs, --compare, --json, --chart; see --help
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Becomes the benchmarks, so that Ctrl-C and the exit status are their own. Returns only on
/// failure.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<()> {
    // What bmpd is compared with is measured where it is installed, so nothing installs it here.
    packages::require(&[Use::Bench])?;
    let folder = binaries::build(Profile::Release, &["bench", "hot"])?;
    let mut bench = as_root(Program::Env);
    bench.arg(format!("{BIN_DIR}={}", folder.display())).arg(folder.join("bench")).args(&arguments.arguments);
    let error = bench.exec();
    Err(anyhow::Error::new(error).context(cannot_start(&bench)))
}
