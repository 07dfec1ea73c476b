//! Starts other programs, as root or not, in the repository's root. A failure is one sentence.

use std::{
    ffi::OsStr,
    fmt::Display,
    io::{IsTerminal as _, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use nix::sys::signal::{SigSet, Signal};

use crate::{
    programs::{Built, Program},
    progress::beating,
};

/// Writes a line to standard output. A reader that is gone does not stop the work.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Returns whether this process is root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Returns `program` as a command that runs as root, with sudo if this process is not root.
pub(crate) fn as_root(program: impl AsRef<OsStr> + Into<Command>) -> Command {
    if is_root() {
        return program.into();
    }
    let mut command = Program::Sudo.command();
    command.arg("--").arg(program);
    command
}

/// Returns the path of this program. A build may have put a copy in its place meanwhile: then the
/// copy's.
pub(crate) fn own_program() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe().context("this program does not know where it is")?;
    // The kernel adds this to the name of a file that is gone (proc_pid_exe(5)).
    let copy = path.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map(PathBuf::from);
    Ok(copy.filter(|copy| copy.exists()).unwrap_or(path))
}

/// Returns the cargo that started this program, or else the one in `PATH`, in the repository's
/// root.
pub(crate) fn cargo() -> Command {
    let mut command = match std::env::var_os("CARGO") {
        Some(path) => Built::at(path).command(),
        None => Program::Cargo.command(),
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_about_this_package(name)) {
        command.env_remove(name);
    }
    command.current_dir(root());
    command
}

/// True for a variable by which `cargo run` tells this program about its own package. Build scripts
/// ask for them, so everything would be built anew whenever a developer changes between cargo and
/// xtask.
fn is_about_this_package(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

/// Returns the repository's root.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let manifest = manifest.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    manifest.parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Returns cargo's target folder, as the environment and the user's configuration set it.
pub(crate) fn target_dir() -> anyhow::Result<PathBuf> {
    let metadata = text(cargo().args(["metadata", "--no-deps", "--format-version=1", "--offline"]))?;
    let quoted = metadata.split_once("\"target_directory\":\"").and_then(|(_, rest)| rest.split_once('"'));
    let (folder, _) = quoted.context("`cargo metadata` names no target folder")?;
    Ok(folder.into())
}

/// Blocks `signals` in this thread and in its future threads, which then wait for them.
///
/// Commands that they start need [`unblocked`].
pub(crate) fn block(signals: &[Signal]) -> anyhow::Result<SigSet> {
    let set: SigSet = signals.iter().copied().collect();
    set.thread_block().context("cannot block signals")?;
    Ok(set)
}

/// Lets `command` start with no signal blocked. A program inherits the mask of the thread that
/// starts it, so the signals that this thread waits for would not stop the program.
pub(crate) fn unblocked(command: &mut Command) -> &mut Command {
    let unblock = || SigSet::empty().thread_set_mask().map_err(std::io::Error::from);
    // SAFETY: between fork and exec it makes one call, which is safe there (pthread_sigmask,
    // signal-safety(7)), and allocates nothing.
    unsafe { command.pre_exec(unblock) }
}

/// Runs `command`, which writes to this process's output.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    command.stdin(Stdio::null());
    let status = if std::io::stderr().is_terminal() {
        command.status()
    } else {
        // Elsewhere than on a terminal, cargo shows no progress.
        beating(&brief(command), || command.status())
    };
    let status = status.with_context(|| cannot_start(command))?;
    if !status.success() {
        bail!("`{}` failed: {status}", line(command));
    }
    Ok(())
}

/// Runs `command`. Its output is a part of the error if it fails.
pub(crate) fn quietly(command: &mut Command) -> anyhow::Result<()> {
    let output = beating(&brief(command), || command.stdin(Stdio::null()).output());
    let output = output.with_context(|| cannot_start(command))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        bail!("`{}` failed: {}:\n{}", line(command), output.status, said.trim_end());
    }
    Ok(())
}

/// Runs `command` and returns its standard output.
pub(crate) fn text(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| cannot_start(command))?;
    if !output.status.success() {
        bail!("`{}` failed: {}: {}", line(command), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the error for a `command` that did not start, mostly because the program is not
/// installed.
pub(crate) fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`: is it installed and in the path?", command.get_program().display())
}

/// Returns `command` without its settings: `apt-get update -qq`.
fn brief(command: &Command) -> String {
    let line = line(command);
    let words = line.split(' ').skip_while(|word| ["env", "sudo", "--"].contains(word));
    let words: Vec<_> = words.filter(|word| *word != "-o" && !word.contains('=')).collect();
    let Some((program, arguments)) = words.split_first() else { return line };
    let name = program.rsplit('/').next().unwrap_or(program);
    std::iter::once(name).chain(arguments.iter().copied()).collect::<Vec<_>>().join(" ")
}

/// Returns `command` as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_is_not_told_which_package_started_it() {
        let cargo = cargo();
        let removed: Vec<_> = cargo.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        // cargo sets them for tests as for `cargo run`.
        for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
            assert!(removed.contains(&OsStr::new(name)), "{name}");
        }
        assert!(!removed.contains(&OsStr::new("CARGO_TARGET_DIR")));
    }

    #[test]
    fn a_running_command_is_named_without_its_settings() {
        let mut command = Program::Env.command();
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "Acquire::Retries=3", "update", "-qq"]);
        assert_eq!(brief(&command), "apt-get update -qq");
        assert_eq!(brief(Built::at("/somewhere/bin/cargo").command().arg("build")), "cargo build");
    }
}
