//! `cargo xtask build`, and building what the other commands start.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::{
    process::{cargo, run, say, target_dir},
    setup::setup,
};

/// Builds both programs and says where they are.
pub(crate) fn command(release: bool) -> anyhow::Result<()> {
    setup()?;
    let mut build = cargo();
    build.args(["build", "--locked", "--package=bmp-user", "--bins"]);
    if release {
        build.arg("--release");
    }
    run(&mut build)?;
    let folder = target_dir()?.join(if release { "release" } else { "debug" });
    say(folder.join("bmpd").display());
    say(folder.join("bmpctl").display());
    Ok(())
}

/// Makes release builds of bmpd, of bmpctl and of `helpers`, programs of the tests' package; returns the folder they are in.
pub(crate) fn release(helpers: &[&str]) -> anyhow::Result<PathBuf> {
    setup()?;
    let mut build = cargo();
    build.args(["build", "--locked", "--release", "--package=bmp-user", "--bin=bmpd", "--bin=bmpctl"]);
    if !helpers.is_empty() {
        build.arg("--package=bmp-tests").args(helpers.iter().map(|name| format!("--bin={name}")));
    }
    run(&mut build).context("bmpd was not built")?;
    Ok(target_dir()?.join("release"))
}
