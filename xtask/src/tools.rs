//! Programs of crates.io that commands need, each of one version below the build folder.

use std::fs;

use anyhow::Context as _;

use crate::{
    process::{cargo, run, target_dir},
    programs::Built,
    progress::note,
};

/// A program of crates.io.
pub(crate) struct CargoTool {
    /// The crate, and the name of its program.
    pub(crate) name: &'static str,
    /// Its version.
    pub(crate) version: &'static str,
    /// The features instead of the default ones.
    pub(crate) features: Option<&'static str>,
}

/// Returns the program, installed if it is not there.
pub(crate) fn install(tool: &CargoTool) -> anyhow::Result<Built> {
    let CargoTool { name, version, features } = tool;
    let folder = target_dir()?.join(format!("{name}-{version}"));
    let program = folder.join("bin").join(name);
    if !program.is_file() {
        note(format_args!("building {name} {version} (some minutes, once)"));
        let mut install = cargo();
        install.args(["install", name, "--version", version, "--locked"]);
        if let Some(features) = features {
            install.args(["--no-default-features", "--features", features]);
        }
        // This project's settings are for its own programs.
        install.current_dir("/").env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
        // They pack and check a few files: compiling them is what takes long.
        install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1").env("CARGO_PROFILE_RELEASE_LTO", "off");
        install.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16").env("CARGO_PROFILE_RELEASE_DEBUG", "0");
        install.arg("--target-dir").arg(folder.join("build")).arg("--root").arg(&folder);
        run(&mut install).with_context(|| format!("{name} was not installed"))?;
        fs::remove_dir_all(folder.join("build"))
            .with_context(|| format!("cannot remove what {name} was built from"))?;
    }
    Ok(Built::at(program))
}
