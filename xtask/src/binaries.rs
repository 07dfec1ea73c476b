//! `cargo xtask build`, and the builds of the other commands.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;

use crate::{
    process::{cannot_start, cargo, run, say, target_dir},
    setup::setup,
    toolchain,
};

/// How cargo builds programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As for the tests.
    Dev,
    /// As soon as possible: the crates of others as for the tests, the own ones without
    /// optimisation.
    Demo,
    /// As operators run them, optimised.
    Release,
}

impl Profile {
    /// The folder of its programs, below the target folder.
    fn folder(self) -> &'static str {
        match self {
            Self::Dev | Self::Demo => "debug",
            Self::Release => "release",
        }
    }
}

/// Builds bmpd and bmpctl and prints their paths.
pub(crate) fn command(release: bool) -> anyhow::Result<()> {
    let folder = build(if release { Profile::Release } else { Profile::Dev }, &[])?;
    say(folder.join("bmpd").display());
    say(folder.join("bmpctl").display());
    Ok(())
}

/// Builds bmpd, bmpctl and `helpers` (programs of the tests' package).
///
/// Returns the folder of the programs.
pub(crate) fn build(profile: Profile, helpers: &[&str]) -> anyhow::Result<PathBuf> {
    setup()?;
    run(&mut cargo_build(profile, helpers)).context("bmpd was not built")?;
    Ok(target_dir()?.join(profile.folder()))
}

fn cargo_build(profile: Profile, helpers: &[&str]) -> Command {
    let mut build = cargo();
    build.args(["build", "--locked", "--package=bmp-user", "--bin=bmpd", "--bin=bmpctl"]);
    if !helpers.is_empty() {
        build.arg("--package=bmp-tests").args(helpers.iter().map(|name| format!("--bin={name}")));
    }
    match profile {
        Profile::Dev => {}
        Profile::Demo => {
            for own in ["bmp-user", "bmp-tests"] {
                build.arg(format!("--config=profile.dev.package.{own}.opt-level=0"));
            }
        }
        Profile::Release => {
            build.arg("--release").arg("--config").arg(release_flags());
            // As the crate `cc` reads them, with a shell's quotes.
            build.env("CFLAGS", release_c_flags()).env("CC_SHELL_ESCAPED_FLAGS", "1");
        }
    }
    build
}

/// Returns the setting of cargo that keeps the folders of this host out of the programs.
/// `RUSTFLAGS` in the environment takes its place.
fn release_flags() -> String {
    // TOML escapes as Rust does.
    let flags: Vec<_> = toolchain::without_folders().iter().map(|flag| format!("{flag:?}")).collect();
    format!("build.rustflags=[{}]", flags.join(","))
}

/// Returns the flags of C compilers that do the same for the C and the assembly of crates, behind
/// those of the environment (gcc(1), `-ffile-prefix-map`).
fn release_c_flags() -> String {
    let given = std::env::var("CFLAGS").ok();
    let folders = toolchain::host_folders().into_iter();
    let flags = folders.map(|(folder, name)| format!("'-ffile-prefix-map={}={name}'", folder.display()));
    given.into_iter().chain(flags).collect::<Vec<_>>().join(" ")
}

/// A build of what the programs depend on, beside the setup of the eBPF toolchain.
///
/// Without the toolchain, the build of bmpd itself fails, and cargo goes on with all other crates.
pub(crate) struct EarlyBuild(Child);

impl EarlyBuild {
    /// Begins the build that [`build`] will complete.
    pub(crate) fn begin(profile: Profile, helpers: &[&str]) -> anyhow::Result<Self> {
        let mut build = cargo_build(profile, helpers);
        build.args(["--keep-going", "--quiet"]);
        build.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        build.spawn().map(Self).with_context(|| cannot_start(&build))
    }

    /// Waits for its end. Its errors are those of the build that follows.
    pub(crate) fn wait(mut self) -> anyhow::Result<()> {
        self.0.wait().map(drop).context("cannot wait for the build")
    }
}

impl Drop for EarlyBuild {
    fn drop(&mut self) {
        // It fails only if cargo has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_names_no_folder_of_this_host_in_rust_or_in_c() {
        let build = cargo_build(Profile::Release, &[]);
        let given = |name: &str| {
            let value = build.get_envs().find(|(variable, _)| *variable == name).and_then(|(_, value)| value);
            value.map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let rust = build.get_args().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" ");
        for (folder, name) in toolchain::host_folders() {
            let map = format!("prefix-map={}={name}", folder.display());
            assert!(given("CFLAGS").contains(&map), "{map} is not in {}", given("CFLAGS"));
            let remap = format!("--remap-path-prefix={}={name}", folder.display());
            assert!(rust.contains(&remap), "{remap} is not in {rust}");
        }
    }
}
