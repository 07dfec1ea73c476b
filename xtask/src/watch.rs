//! Watching a long run of other programs: what they say as they say it, Ctrl-C, and a silence that lasts too long.

use std::{
    cell::Cell,
    io::{BufRead as _, BufReader, PipeReader, Read as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, Sender},
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
    /// How many runs there have been: each has a number of its own, so that nothing an earlier one still says is taken for a later one's.
    runs: Cell<u64>,
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

/// What happens; the number is the run's.
enum Event {
    Line(u64, String),
    Stop(Signal),
    End(u64),
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
        Ok(Self { events, received, runs: Cell::new(0) })
    }

    /// Runs `command` and hands every line of it, of both its outputs in their order, to `take`.
    pub(crate) fn run(&self, command: &mut Command, run: &Run<'_>, mut take: impl FnMut(&str)) -> anyhow::Result<End> {
        let mut found = End::Stopped;
        self.run_all([(command, run)], 1, |_, said| match said {
            Said::Line(line) => take(line),
            Said::End(end) => found = end,
        })?;
        Ok(found)
    }

    /// Runs `commands`, `at_once` of them side by side, and hands what each says to `take`, with its place in the list. Once one was
    /// stopped, no further one begins.
    pub(crate) fn run_all<'a>(
        &self,
        commands: impl IntoIterator<Item = (&'a mut Command, &'a Run<'a>)>,
        at_once: usize,
        mut take: impl FnMut(usize, Said<'_>),
    ) -> anyhow::Result<()> {
        let mut waiting = commands.into_iter().enumerate();
        let mut running: Vec<Running<'a>> = Vec::new();
        let mut stopped = false;
        loop {
            while !stopped && running.len() < at_once.max(1) {
                let Some((place, (command, run))) = waiting.next() else { break };
                running.push(self.start(place, command, run)?);
            }
            if running.is_empty() {
                return Ok(());
            }
            let wait = running.iter().map(|one| one.run.silence).min().unwrap_or(BEAT).min(BEAT);
            match self.received.recv_timeout(wait) {
                Ok(Event::Line(number, line)) => {
                    if let Some(one) = running.iter_mut().find(|one| one.number == number) {
                        one.last = Instant::now();
                        take(one.place, Said::Line(&line));
                    }
                }
                Ok(Event::End(number)) => {
                    if let Some(at) = running.iter().position(|one| one.number == number) {
                        let one = running.remove(at);
                        take(one.place, Said::End(one.end(stopped)?));
                    }
                }
                Ok(Event::Stop(signal)) => {
                    for one in &running {
                        say(format_args!("stopping {} ({signal})", one.run.what));
                        one.group.signal(signal);
                    }
                    stopped = true;
                }
                Err(_) => {
                    let what: Vec<_> = running.iter().map(|one| one.run.what).collect();
                    let longest = running.iter().map(|one| one.start.elapsed()).max().unwrap_or_default();
                    note(format_args!("      ... {}: still running, {}", what.join(", "), spoken(longest)));
                }
            }
            // What others say is no sign of life of this one.
            while let Some(at) = running.iter().position(|one| one.last.elapsed() >= one.run.silence) {
                let one = running.remove(at);
                let seconds = one.run.silence.as_secs();
                say(format_args!("no word from {} for {seconds} s: something hangs; stopping", one.run.what));
                one.group.signal(Signal::SIGKILL);
                stopped = true;
                take(one.place, Said::End(one.end(true)?));
            }
        }
    }

    fn start<'a>(&self, place: usize, command: &mut Command, run: &'a Run<'a>) -> anyhow::Result<Running<'a>> {
        if run.group {
            command.process_group(0);
        }
        // One pipe for both streams, because their order matters.
        let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
        command.stdout(writer.try_clone().context("cannot make a pipe")?).stderr(writer);
        let child = unblocked(command).spawn().with_context(|| cannot_start(command))?;
        // The writing ends that this process holds would keep the pipe open.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let group = Group::of(&child, run.group)?;
        let number = self.runs.replace(self.runs.get() + 1);
        let lines = self.events.clone();
        thread::spawn(move || read_lines(number, reader, &lines));
        let now = Instant::now();
        Ok(Running { number, place, run, child, group, start: now, last: now })
    }
}

/// What a program that runs says.
pub(crate) enum Said<'a> {
    /// A line of either of its outputs.
    Line(&'a str),
    /// How it ended.
    End(End),
}

/// A program that runs.
struct Running<'a> {
    number: u64,
    place: usize,
    run: &'a Run<'a>,
    child: Child,
    group: Group,
    start: Instant,
    /// When it last said something.
    last: Instant,
}

impl Running<'_> {
    /// Waits for its end, which is near.
    fn end(mut self, stopped: bool) -> anyhow::Result<End> {
        let status = self.child.wait().with_context(|| format!("cannot wait for {}", self.run.what))?;
        Ok(match (stopped, status.success()) {
            (true, _) => End::Stopped,
            (false, true) => End::Success,
            (false, false) => End::Failure,
        })
    }
}

fn read_lines(number: u64, reader: PipeReader, events: &Sender<Event>) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    // A test's own programs may print anything, of any length.
    while reader.by_ref().take(1 << 20).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
        if events.send(Event::Line(number, text)).is_err() {
            return;
        }
        line.clear();
    }
    let _ = events.send(Event::End(number));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::Program;

    const RUN: Run<'_> = Run { what: "a test", group: true, silence: Duration::from_secs(60) };

    fn shell(script: &str) -> Command {
        let mut command = Program::Sh.command();
        command.arg("-c").arg(script);
        command
    }

    #[test]
    fn programs_that_run_side_by_side_are_told_apart() {
        let folder = std::env::temp_dir().join(format!("bmpd-watch-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (first, second) = (folder.join("first"), folder.join("second"));
        for fifo in [&first, &second] {
            nix::unistd::mkfifo(fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        // Each waits for the other, so that they end only if both run.
        let (first, second) = (first.display(), second.display());
        let mut commands = [
            shell(&format!("echo one; echo go > {first}; read word < {second}; exit 3")),
            shell(&format!("echo two; read word < {first}; echo go > {second}")),
            shell("echo three"),
        ];
        let mut said = [const { Vec::new() }; 3];
        let mut ends = [None; 3];
        let watcher = Watcher::new().unwrap();
        let jobs = commands.iter_mut().map(|command| (command, &RUN));
        watcher
            .run_all(jobs, 2, |place, what| match what {
                Said::Line(line) => said[place].push(line.to_owned()),
                Said::End(end) => ends[place] = Some(end),
            })
            .unwrap();
        assert_eq!(said, [vec!["one".to_owned()], vec!["two".to_owned()], vec!["three".to_owned()]]);
        assert_eq!(ends, [Some(End::Failure), Some(End::Success), Some(End::Success)]);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn one_that_is_silent_for_too_long_is_stopped_and_none_begins_after_it() {
        let hangs = Run { silence: Duration::from_millis(200), ..RUN };
        let mut commands = [shell("exec sleep 3600"), shell("echo never")];
        let mut found = Vec::new();
        let jobs = commands.iter_mut().map(|command| (command, &hangs));
        let watcher = Watcher::new().unwrap();
        watcher
            .run_all(jobs, 1, |place, what| match what {
                Said::Line(line) => panic!("{line}"),
                Said::End(end) => found.push((place, end)),
            })
            .unwrap();
        assert_eq!(found, [(0, End::Stopped)]);
    }
}
