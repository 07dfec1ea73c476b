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
    process::{own_program, say, target_dir, text},
    programs::{Built, Program, Use},
    progress::{Steps, beating, spoken},
    watch::{ProcessWatcher, RunEnd, WatchedRun},
};

/// What is done with the package.
const SCRIPT: &str = include_str!("package.sh");

/// The page whose commands are run as they stand, once bmpd runs.
const GETTING_STARTED: &str = include_str!("../../../docs/getting-started.md");

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
    let own = Built::at(own_program()?);
    let made = text(own.command().arg("package").args(arguments))?;
    let named = |ending: &str| {
        let package = made.lines().map(PathBuf::from).find(|path| is_package(path, ending));
        package.with_context(|| format!("`cargo xtask package` names no package of bmpd that ends with {ending}"))
    };
    let made = [("bmpd.deb", named(".deb")?), ("bmpd.rpm", named(".rpm")?)];

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
    for (name, package) in made {
        fs::copy(&package, folders.mounted.join("tmp").join(name)).context("cannot copy the package")?;
    }
    let commands = operator_commands(GETTING_STARTED);
    fs::write(folders.mounted.join("tmp/getting-started"), commands).context("cannot write the page's commands")?;
    let mut command = Program::Chroot.command();
    command.arg(&folders.mounted).args([Program::Env.file(), "-i", "LANG=C.UTF-8", "HOME=/root"]);
    command.arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.args(super::proxies()).args([Program::Sh.file(), "-c", SCRIPT, "sh"]);
    command.args(["/tmp/bmpd.deb", "/tmp/getting-started", "/tmp/bmpd.rpm"]);
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

/// Returns whether this is a package of bmpd and not of its debug symbols.
fn is_package(path: &Path, ending: &str) -> bool {
    let begin = if ending == ".deb" { "bmpd_" } else { concat!("bmpd-", env!("CARGO_PKG_VERSION"), "-") };
    path.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        name.starts_with(begin) && name.ends_with(ending)
    })
}

/// Returns the commands of a page for an operator of a running bmpd, a line each.
fn operator_commands(page: &str) -> String {
    page.lines().filter(|line| line.starts_with("bmpctl ")).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_of_the_page_look_and_configure() {
        let commands = operator_commands(GETTING_STARTED);
        assert!(commands.contains("bmpctl display bmp session\n"), "{commands}");
        assert!(commands.contains("-c \"connect-interface eth1\" -c commit\n"), "{commands}");
    }
}
