//! `cargo xtask bare package`: the package on a Debian that has none of what it was built with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::Context as _;

use super::{BareFolders, BareSuite, SILENCE, inside, mounts::Mounts, root};
use crate::{
    packages,
    process::{say, target_dir, text},
    programs::{Built, Program, Use},
    progress::{Steps, beating, spoken},
    watch::{ProcessWatcher, RunEnd, WatchedRun},
};

/// What is done with the package.
const SCRIPT: &str = include_str!("package.sh");

/// Makes the package with `arguments` of `cargo xtask package`, installs it on a bare Debian, uses
/// it and removes it.
pub(super) fn install(suite: BareSuite, arguments: &[String]) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let mut steps = Steps::announce(
        &format!("cargo xtask bare package, on a bare Debian {suite}"),
        "a minute, and what the build takes",
        &["packages of this host", "bmpd's package", "the bare root", "the package in it"],
    );
    steps.begin();
    packages::require(&[Use::Bare, Use::Package])?;

    steps.begin();
    let own = Built::at(std::env::current_exe().context("this program does not know where it is")?);
    let made = text(own.command().arg("package").args(arguments))?;
    let package = made.lines().map(PathBuf::from).find(|path| is_package(path));
    let package = package.context("`cargo xtask package` names no package of bmpd")?;

    steps.begin();
    let folders = BareFolders::prepare(&target_dir()?, suite)?;
    let _alone = folders.lock()?;
    let cached = root::get(&folders.suite, suite)?;
    let mounts = Mounts::private()?;
    folders.empty()?;
    folders.mount_root(&mounts, &cached)?;
    for (name, place) in [("archives", "/var/cache/apt/archives"), ("lists", "/var/lib/apt/lists")] {
        let from = folders.suite.join(name);
        fs::create_dir_all(&from).with_context(|| from.display().to_string())?;
        mounts.bind(&from, &inside(&folders.mounted, Path::new(place)))?;
    }

    steps.begin();
    fs::copy(&package, folders.mounted.join("tmp/bmpd.deb")).context("cannot copy the package")?;
    let mut command = Program::Chroot.command();
    command.arg(&folders.mounted).args([Program::Env.file(), "-i", "LANG=C.UTF-8", "HOME=/root"]);
    command.arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.args(super::proxies()).args([Program::Sh.file(), "-c", SCRIPT, "sh", "/tmp/bmpd.deb"]);
    let run = WatchedRun { what: "the package on the bare Debian", group: true, silence: SILENCE };
    let end = ProcessWatcher::new()?.run(&mut command, &run, |line| say(line))?;
    let result = match end {
        RunEnd::Success => "works",
        RunEnd::Failure => "FAILED",
        RunEnd::Stopped => "was stopped",
    };
    say(format_args!("bare: the package {result} on a bare Debian {suite}, {}", spoken(start.elapsed())));
    drop(mounts);
    beating("removing what the run has written", || folders.empty())?;
    Ok(if end == RunEnd::Success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_package(path: &Path) -> bool {
    path.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        name.starts_with("bmpd_") && name.ends_with(".deb")
    })
}
