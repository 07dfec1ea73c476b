//! `cargo xtask run`: bmpd as root with a sample configuration, and a station that receives.

use std::{
    ffi::OsString,
    fs,
    io::IsTerminal as _,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Child, ExitCode, ExitStatus, Stdio},
};

use anyhow::Context as _;
use nix::{
    sys::signal::{SigSet, Signal, kill},
    unistd::Pid,
};

use crate::{
    binaries::{self, Profile},
    packages,
    process::{as_root, block, cannot_start, is_root, run, say, target_dir, unblocked},
    programs::{Built, Program, Use},
};

const SAMPLE: &str = include_str!("sample.conf");

/// The address and port of the sample configuration's station.
const STATION: (&str, &str) = ("127.0.0.1", "11019");

/// The options of `cargo xtask run`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Also start a station on loopback, which prints what it receives
    #[arg(long)]
    station: bool,
    /// For bmpd; without `--config` it gets the sample configuration
    #[arg(last = true, value_name = "BMPD-ARGUMENTS")]
    bmpd: Vec<OsString>,
}

/// Runs until bmpd ends or Ctrl-C. bmpd ends before the station, which so receives its Termination.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    packages::require(&[Use::Run])?;
    let folder = binaries::build(Profile::Release, if arguments.station { &["station"] } else { &[] })?;
    let mut bmpd = as_root(Built::at(folder.join("bmpd")));
    bmpd.args(with_configuration(&arguments.bmpd)?);
    explain(&folder, arguments);

    // `until_end` takes them.
    let signals = block(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD])?;
    let station = arguments.station.then(|| SampleStation::start(&folder)).transpose()?;
    let started = unblocked(&mut bmpd).spawn().with_context(|| cannot_start(&bmpd));
    let status = started.and_then(|mut bmpd| until_end(&mut bmpd, &signals));
    drop(station);
    Ok(exit_code(status?))
}

/// Returns bmpd's arguments, with the sample configuration if they name neither a file nor a
/// command.
fn with_configuration(given: &[OsString]) -> anyhow::Result<Vec<OsString>> {
    let named = given.iter().any(|word| word == "--config" || word.to_string_lossy().starts_with("--config="));
    let another_command = given.first().is_some_and(|word| !word.to_string_lossy().starts_with('-'));
    if named || another_command {
        return Ok(given.to_vec());
    }
    let file = target_dir()?.join("sample.conf");
    fs::write(&file, SAMPLE).with_context(|| format!("cannot write {}", file.display()))?;
    say(format_args!("configuration: {}", file.display()));
    Ok([OsString::from("--config"), file.into()].into_iter().chain(given.iter().cloned()).collect())
}

fn explain(folder: &Path, arguments: &Arguments) {
    let control = control_path(&arguments.bmpd).map(|path| format!(" --control {path}")).unwrap_or_default();
    let sudo = if is_root() { "" } else { "sudo " };
    say("In a second terminal, look at the session:");
    say(format_args!("    {sudo}{}{control} display bmp session", folder.join("bmpctl").display()));
    say("Ctrl-C stops.");
}

/// Returns the control socket that bmpd's arguments name; `None` means the default.
fn control_path(given: &[OsString]) -> Option<String> {
    let words: Vec<_> = given.iter().map(|word| word.to_string_lossy()).collect();
    let after =
        words.iter().position(|word| word == "--control").and_then(|at| words.get(at + 1)).map(ToString::to_string);
    after.or_else(|| words.iter().find_map(|word| word.strip_prefix("--control=").map(str::to_owned)))
}

/// Waits for the end of bmpd, and passes requests to stop on to it.
fn until_end(bmpd: &mut Child, signals: &SigSet) -> anyhow::Result<ExitStatus> {
    loop {
        if let Some(status) = bmpd.try_wait().context("cannot wait for bmpd")? {
            return Ok(status);
        }
        match signals.wait().context("cannot wait for signals")? {
            Signal::SIGCHLD => {}
            // The terminal has sent its Ctrl-C to bmpd too.
            Signal::SIGINT if std::io::stdin().is_terminal() => {}
            _ => stop(bmpd)?,
        }
    }
}

/// Asks bmpd to end. A bmpd that sudo started belongs to root: sudo relays the SIGTERM that it
/// gets.
fn stop(bmpd: &Child) -> anyhow::Result<()> {
    if is_root() {
        return kill(pid(bmpd)?, Signal::SIGTERM).context("cannot stop bmpd");
    }
    run(as_root(Program::Kill).args(["-TERM", &bmpd.id().to_string()]))
}

fn pid(child: &Child) -> anyhow::Result<Pid> {
    Ok(Pid::from_raw(child.id().try_into().context("a process id beyond any kernel's")?))
}

fn exit_code(status: ExitStatus) -> ExitCode {
    // As a shell reports a signal.
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// The station of the sample configuration, while it runs.
struct SampleStation(Child);

impl SampleStation {
    fn start(folder: &Path) -> anyhow::Result<Self> {
        let mut station = Built::at(folder.join("station")).command();
        // Its own process group keeps Ctrl-C from it.
        station.args([STATION.0, STATION.1]).stdin(Stdio::null()).process_group(0);
        Ok(Self(unblocked(&mut station).spawn().with_context(|| cannot_start(&station))?))
    }
}

impl Drop for SampleStation {
    fn drop(&mut self) {
        if let Ok(pid) = pid(&self.0) {
            let _ = kill(pid, Signal::SIGTERM);
        }
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_sample_does_not_replace_a_given_configuration_or_command() {
        for given in
            ["--config /etc/bmpd.conf", "--config=/etc/bmpd.conf --datapath socket", "detach", "check --config x"]
        {
            assert_eq!(with_configuration(&words(given)).unwrap(), words(given));
        }
    }

    #[test]
    fn the_hint_for_the_second_terminal_names_the_given_control_socket() {
        assert_eq!(control_path(&words("--control /tmp/c --datapath socket")).as_deref(), Some("/tmp/c"));
        assert_eq!(control_path(&words("--control=/tmp/c")).as_deref(), Some("/tmp/c"));
        assert_eq!(control_path(&words("--datapath socket")), None);
    }

    #[test]
    fn the_sample_names_the_started_station() {
        assert!(SAMPLE.contains(&format!("bmp-session {}\n  tcp connect port {}\n", STATION.0, STATION.1)));
    }
}
