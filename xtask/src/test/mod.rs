//! `cargo xtask test`: installs what the tests need, builds everything once, runs everything, and sums up.

mod summary;

use std::{
    fs,
    io::{BufRead as _, BufReader, PipeReader, Read as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use self::summary::Summary;
use crate::{
    packages,
    process::{block, cannot_start, cargo, is_root, say, target_dir, unblocked},
    setup::setup,
};

/// What the tests start: other daemons, a decoder that is not ours, and what makes hosts and links of namespaces.
const PACKAGES: [&str; 10] =
    ["ethtool", "frr", "gobgpd", "iperf3", "iproute2", "nftables", "pmacct", "procps", "tshark", "util-linux"];

/// Asks the tests for their long campaigns.
const SOAK: &str = "BMPD_SOAK";

/// Names the file to which a test that cannot run on this host appends one line, `NAME: REASON`, before it returns. The test
/// harness counts it as passed: it has no word for what is found out only while a test runs.
const SKIPPED: &str = "BMPD_SKIPPED";

/// Nothing at all said for so long means that a test hangs. The harness itself speaks when one takes more than a minute.
const SILENCE: Duration = Duration::from_secs(600);

/// What `cargo xtask test` can be told.
#[derive(Default, clap::Args)]
pub(crate) struct Arguments {
    /// Run the long campaigns too
    #[arg(long)]
    soak: bool,
    /// Only the tests whose name contains this
    filter: Option<String>,
}

/// Fails where a test failed, did not finish, or none ran at all.
pub(crate) fn command(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    setup()?;
    packages::require(&PACKAGES)?;
    if !is_root() {
        say("The tests make network namespaces and load kernel programs: they are run as root, through sudo.");
    }
    let skipped = target_dir()?.join("skipped-tests.txt");
    fs::write(&skipped, "").with_context(|| format!("cannot write {}", skipped.display()))?;

    let mut summary = Summary::default();
    let finished = run_tests(arguments, &skipped, &mut summary)?;
    say(summary.report(start.elapsed()));
    Ok(if finished && summary.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs them, shows what they say as they say it, and returns whether cargo found nothing wrong.
fn run_tests(arguments: &Arguments, skipped: &Path, summary: &mut Summary) -> anyhow::Result<bool> {
    let mut tests = cargo();
    tests.args(["test", "--locked", "--workspace", "--no-fail-fast"]).args(&arguments.filter);
    tests.env(SKIPPED, skipped).env_remove(SOAK).stdin(Stdio::null());
    if arguments.soak {
        tests.env(SOAK, "1");
    }
    if is_root() {
        // Of one group, so that all of them can be stopped. sudo asks for a password only in the terminal's own group.
        tests.process_group(0);
    } else {
        // Cargo starts what it has built through its target's runner.
        tests.env(format!("CARGO_TARGET_{}_RUNNER", host_triple()?), "sudo -E --");
    }
    // One pipe for both streams: cargo names the program on one, the program's results are on the other, and order matters.
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    tests.stdout(writer.try_clone().context("cannot make a pipe")?).stderr(writer);

    // Before any thread is made, so that all of them leave these signals to the one that waits for them.
    let signals = block(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])?;
    let mut child = unblocked(&mut tests).spawn().with_context(|| cannot_start(&tests))?;
    // The writing ends that this process holds would keep the pipe open.
    drop(tests);
    let group = Group::of(&child)?;
    let (events, received) = mpsc::channel();
    let lines = events.clone();
    thread::spawn(move || read_lines(reader, &lines));
    thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            let _ = events.send(Event::Stop(signal));
        }
    });

    loop {
        match received.recv_timeout(SILENCE) {
            Ok(Event::Line(line)) => {
                say(&line);
                summary.take(&line, || fs::read_to_string(skipped).unwrap_or_default());
            }
            Ok(Event::End) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(Event::Stop(signal)) => {
                say(format_args!("stopping the tests ({signal})"));
                group.signal(signal);
            }
            Err(RecvTimeoutError::Timeout) => {
                say(format_args!(
                    "no word from the tests for {} s: one of them hangs; stopping them",
                    SILENCE.as_secs()
                ));
                group.signal(Signal::SIGKILL);
                break;
            }
        }
    }
    Ok(child.wait().context("cannot wait for cargo")?.success())
}

enum Event {
    Line(String),
    Stop(Signal),
    End,
}

fn read_lines(reader: PipeReader, events: &mpsc::Sender<Event>) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    // A test's own programs may print anything, of any length.
    while reader.by_ref().take(1 << 20).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
        if events.send(Event::Line(text)).is_err() {
            return;
        }
        line.clear();
    }
    let _ = events.send(Event::End);
}

/// Cargo and all that it has started, where they are a process group of their own.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> anyhow::Result<Self> {
        let pid = child.id().try_into().context("a process id beyond any kernel's")?;
        Ok(Self(is_root().then(|| Pid::from_raw(pid))))
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // It fails only where they have ended already.
            let _ = killpg(group, signal);
        }
    }
}

/// The compiler's host as it stands in cargo's environment variables: `X86_64_UNKNOWN_LINUX_GNU`.
fn host_triple() -> anyhow::Result<String> {
    let about = crate::process::text(Command::new("rustc").arg("-vV"))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).context("`rustc -vV` names no host")?;
    Ok(host.to_uppercase().replace('-', "_"))
}
