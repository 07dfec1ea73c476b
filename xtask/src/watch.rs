//! Watching a long run of other programs: what they say as they say it, Ctrl-C, and a silence that lasts too long.

use std::{
    io::{BufRead as _, BufReader, PipeReader, Read as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::{
    process::{block, cannot_start, say, unblocked},
    progress::{BEAT, note, spoken},
};

/// Takes what asks this process to end, from its making on, and passes it on to what runs.
pub(crate) struct Watcher {
    events: Sender<Event>,
    received: Receiver<Event>,
}

/// What is watched, and how.
pub(crate) struct Run<'a> {
    /// As messages call it: `the tests`.
    pub(crate) what: &'a str,
    /// Whether the program and all that it starts are a process group of their own, so that all of them can be stopped.
    pub(crate) group: bool,
    /// Nothing at all said for so long means that it hangs.
    pub(crate) silence: Duration,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, with exit status 0.
    Success,
    /// By itself, otherwise.
    Failure,
    /// Somebody, or its silence, has ended it: what was to follow it does not.
    Stopped,
}

enum Event {
    Line(String),
    Stop(Signal),
    End,
}

impl Watcher {
    /// To be made before any other thread, so that all of them leave these signals to the one that waits for them.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let signals = block(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])?;
        let (events, received) = mpsc::channel();
        let stops = events.clone();
        thread::spawn(move || {
            while let Ok(signal) = signals.wait() {
                let _ = stops.send(Event::Stop(signal));
            }
        });
        Ok(Self { events, received })
    }

    /// Runs `command` and hands every line of it, of both its outputs in their order, to `take`.
    pub(crate) fn run(&self, command: &mut Command, run: &Run<'_>, mut take: impl FnMut(&str)) -> anyhow::Result<End> {
        if run.group {
            command.process_group(0);
        }
        // One pipe for both streams, because their order matters.
        let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
        command.stdout(writer.try_clone().context("cannot make a pipe")?).stderr(writer);
        let mut child = unblocked(command).spawn().with_context(|| cannot_start(command))?;
        // The writing ends that this process holds would keep the pipe open.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let group = Group::of(&child, run.group)?;
        let lines = self.events.clone();
        thread::spawn(move || read_lines(reader, &lines));

        let mut stopped = false;
        let (start, mut last) = (Instant::now(), Instant::now());
        loop {
            match self.received.recv_timeout(BEAT.min(run.silence)) {
                Ok(Event::Line(line)) => {
                    last = Instant::now();
                    take(&line);
                }
                Err(RecvTimeoutError::Timeout) if last.elapsed() < run.silence => {
                    note(format_args!("      ... {}: still running, {}", run.what, spoken(start.elapsed())));
                }
                Ok(Event::End) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(Event::Stop(signal)) => {
                    say(format_args!("stopping {} ({signal})", run.what));
                    group.signal(signal);
                    stopped = true;
                }
                Err(RecvTimeoutError::Timeout) => {
                    say(format_args!(
                        "no word from {} for {} s: something hangs; stopping",
                        run.what,
                        run.silence.as_secs()
                    ));
                    group.signal(Signal::SIGKILL);
                    stopped = true;
                    break;
                }
            }
        }
        let status = child.wait().with_context(|| format!("cannot wait for {}", run.what))?;
        Ok(match (stopped, status.success()) {
            (true, _) => End::Stopped,
            (false, true) => End::Success,
            (false, false) => End::Failure,
        })
    }
}

fn read_lines(reader: PipeReader, events: &Sender<Event>) {
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

/// A program and all that it has started, where they are a process group of their own.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child, own: bool) -> anyhow::Result<Self> {
        let pid = child.id().try_into().context("a process id beyond any kernel's")?;
        Ok(Self(own.then(|| Pid::from_raw(pid))))
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // It fails only where they have ended already.
            let _ = killpg(group, signal);
        }
    }
}
