//! Watches long runs of other programs: their output, Ctrl-C, and silence that lasts too long.

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
    idle::IdleProcessors,
    process::{block, cannot_start, say, unblocked},
    progress::{BEAT, note, spoken},
};

/// Watches programs, and passes requests to stop (Ctrl-C, SIGTERM) on to them.
pub(crate) struct ProcessWatcher {
    events: Sender<WatchEvent>,
    received: Receiver<WatchEvent>,
    /// The number of the next run. It tells the late output of an earlier run from a later one's.
    runs: Cell<u64>,
}

/// How a program is watched.
pub(crate) struct WatchedRun<'a> {
    /// Its name in messages: `the tests`.
    pub(crate) what: &'a str,
    /// Whether the program gets a process group, by which all that it starts can be stopped.
    pub(crate) group: bool,
    /// A program that prints nothing for so long hangs.
    pub(crate) silence: Duration,
}

/// How many programs run side by side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SideBySide {
    /// So many at any time.
    pub(crate) least: usize,
    /// So many while the processors are idle, because some programs wait.
    pub(crate) most: usize,
}

impl SideBySide {
    /// So many, whatever they do.
    pub(crate) fn exactly(number: usize) -> Self {
        Self { least: number, most: number }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunEnd {
    /// The program ended with exit status 0.
    Success,
    /// The program ended otherwise.
    Failure,
    /// Somebody stopped the program, or it hung. Nothing more is started.
    Stopped,
}

/// An event of a run; the number is the run's.
enum WatchEvent {
    Line(u64, String),
    Stop(Signal),
    End(u64),
}

impl ProcessWatcher {
    /// Begins to wait for signals. Call it before any other thread is made: all threads must leave
    /// these signals to the one that waits for them.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let signals = block(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])?;
        let (events, received) = mpsc::channel();
        let stops = events.clone();
        thread::spawn(move || {
            while let Ok(signal) = signals.wait() {
                let _ = stops.send(WatchEvent::Stop(signal));
            }
        });
        Ok(Self { events, received, runs: Cell::new(0) })
    }

    /// Runs `command` and passes every line of its output to `take`, of both streams in their
    /// order.
    pub(crate) fn run(
        &self,
        command: &mut Command,
        run: &WatchedRun<'_>,
        mut take: impl FnMut(&str),
    ) -> anyhow::Result<RunEnd> {
        let mut found = RunEnd::Stopped;
        self.run_all([(command, run)], SideBySide::exactly(1), |_, said| match said {
            RunOutput::Line(line) => take(line),
            RunOutput::End(end) => found = end,
        })?;
        Ok(found)
    }

    /// Runs `commands` side by side, and passes the output of each to `take`, with its place in the
    /// list. After one is stopped, no further one begins.
    pub(crate) fn run_all<'a>(
        &self,
        commands: impl IntoIterator<Item = (&'a mut Command, &'a WatchedRun<'a>)>,
        at_once: SideBySide,
        mut take: impl FnMut(usize, RunOutput<'_>),
    ) -> anyhow::Result<()> {
        let mut waiting = commands.into_iter().enumerate().peekable();
        let mut running: Vec<RunningProcess<'a>> = Vec::new();
        let mut stopped = false;
        let (mut processors, mut quiet_since) = (IdleProcessors::watch(), Instant::now());
        loop {
            while !stopped
                && (running.len() < at_once.least.max(1) || (running.len() < at_once.most && processors.have_room()))
            {
                let Some((place, (command, run))) = waiting.next() else { break };
                running.push(self.start(place, command, run)?);
            }
            if running.is_empty() {
                return Ok(());
            }
            let silence = running.iter().map(|one| one.run.silence).min().unwrap_or(BEAT);
            let beat = BEAT.saturating_sub(quiet_since.elapsed());
            let may_begin = !stopped && running.len() < at_once.most && waiting.peek().is_some();
            let room = if may_begin { processors.wait() } else { BEAT };
            let wait = silence.min(beat).min(room);
            let event = self.received.recv_timeout(wait);
            if event.is_ok() {
                quiet_since = Instant::now();
            }
            match event {
                Ok(WatchEvent::Line(number, line)) => {
                    if let Some(one) = running.iter_mut().find(|one| one.number == number) {
                        one.last = Instant::now();
                        take(one.place, RunOutput::Line(&line));
                    }
                }
                Ok(WatchEvent::End(number)) => {
                    if let Some(at) = running.iter().position(|one| one.number == number) {
                        let one = running.remove(at);
                        take(one.place, RunOutput::End(one.end(stopped)?));
                    }
                }
                Ok(WatchEvent::Stop(signal)) => {
                    for one in &running {
                        say(format_args!("stopping {} ({signal})", one.run.what));
                        one.group.signal(signal);
                    }
                    stopped = true;
                }
                Err(_) if quiet_since.elapsed() < BEAT => {}
                Err(_) => {
                    quiet_since = Instant::now();
                    let what: Vec<_> = running.iter().map(|one| one.run.what).collect();
                    let longest = running.iter().map(|one| one.start.elapsed()).max().unwrap_or_default();
                    note(format_args!("      ... {}: still running, {}", what.join(", "), spoken(longest)));
                }
            }
            // The output of one program is no sign of life of another.
            while let Some(at) = running.iter().position(|one| one.last.elapsed() >= one.run.silence) {
                let one = running.remove(at);
                let seconds = one.run.silence.as_secs();
                say(format_args!("{} has printed nothing for {seconds} s and hangs: stopping it", one.run.what));
                one.group.signal(Signal::SIGKILL);
                stopped = true;
                take(one.place, RunOutput::End(one.end(true)?));
            }
        }
    }

    fn start<'a>(
        &self,
        place: usize,
        command: &mut Command,
        run: &'a WatchedRun<'a>,
    ) -> anyhow::Result<RunningProcess<'a>> {
        if run.group {
            command.process_group(0);
        }
        // One pipe for both streams keeps their order.
        let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
        command.stdout(writer.try_clone().context("cannot make a pipe")?).stderr(writer);
        let child = unblocked(command).spawn().with_context(|| cannot_start(command))?;
        // This process must not keep the pipe open.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let group = ProcessGroup::of(&child, run.group)?;
        let number = self.runs.replace(self.runs.get() + 1);
        let lines = self.events.clone();
        thread::spawn(move || read_lines(number, reader, &lines));
        let now = Instant::now();
        Ok(RunningProcess { number, place, run, child, group, start: now, last: now })
    }
}

/// What a watched program does.
pub(crate) enum RunOutput<'a> {
    /// It prints a line.
    Line(&'a str),
    /// It ends.
    End(RunEnd),
}

/// A program while it runs.
struct RunningProcess<'a> {
    number: u64,
    place: usize,
    run: &'a WatchedRun<'a>,
    child: Child,
    group: ProcessGroup,
    start: Instant,
    /// When it last printed a line.
    last: Instant,
}

impl RunningProcess<'_> {
    /// Waits for the end of a program that ends.
    fn end(mut self, stopped: bool) -> anyhow::Result<RunEnd> {
        let status = self.child.wait().with_context(|| format!("cannot wait for {}", self.run.what))?;
        Ok(match (stopped, status.success()) {
            (true, _) => RunEnd::Stopped,
            (false, true) => RunEnd::Success,
            (false, false) => RunEnd::Failure,
        })
    }
}

fn read_lines(number: u64, reader: PipeReader, events: &Sender<WatchEvent>) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    // A line may be of any length.
    while reader.by_ref().take(1 << 20).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
        if events.send(WatchEvent::Line(number, text)).is_err() {
            return;
        }
        line.clear();
    }
    let _ = events.send(WatchEvent::End(number));
}

/// The process group of a program; `None` if it has none of its own.
struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    fn of(child: &Child, own: bool) -> anyhow::Result<Self> {
        let pid = child.id().try_into().context("a process id beyond any kernel's")?;
        Ok(Self(own.then(|| Pid::from_raw(pid))))
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // It fails only if all of them have ended.
            let _ = killpg(group, signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::Program;

    const RUN: WatchedRun<'_> = WatchedRun { what: "a test", group: true, silence: Duration::from_secs(60) };

    fn shell(script: &str) -> Command {
        let mut command = Program::Sh.command();
        command.arg("-c").arg(script);
        command
    }

    #[test]
    fn the_output_of_parallel_programs_is_told_apart() {
        let folder = std::env::temp_dir().join(format!("bmpd-watch-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (first, second) = (folder.join("first"), folder.join("second"));
        for fifo in [&first, &second] {
            nix::unistd::mkfifo(fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        // Each waits for the other: they end only if both run.
        let (first, second) = (first.display(), second.display());
        let mut commands = [
            shell(&format!("echo one; echo go > {first}; read word < {second}; exit 3")),
            shell(&format!("echo two; read word < {first}; echo go > {second}")),
            shell("echo three"),
        ];
        let mut said = [const { Vec::new() }; 3];
        let mut ends = [None; 3];
        let watcher = ProcessWatcher::new().unwrap();
        let jobs = commands.iter_mut().map(|command| (command, &RUN));
        watcher
            .run_all(jobs, SideBySide::exactly(2), |place, what| match what {
                RunOutput::Line(line) => said[place].push(line.to_owned()),
                RunOutput::End(end) => ends[place] = Some(end),
            })
            .unwrap();
        assert_eq!(said, [vec!["one".to_owned()], vec!["two".to_owned()], vec!["three".to_owned()]]);
        assert_eq!(ends, [Some(RunEnd::Failure), Some(RunEnd::Success), Some(RunEnd::Success)]);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_silent_program_is_stopped_and_no_other_begins() {
        let hangs = WatchedRun { silence: Duration::from_millis(200), ..RUN };
        let mut commands = [shell("exec sleep 3600"), shell("echo never")];
        let mut found = Vec::new();
        let jobs = commands.iter_mut().map(|command| (command, &hangs));
        let watcher = ProcessWatcher::new().unwrap();
        watcher
            .run_all(jobs, SideBySide::exactly(1), |place, what| match what {
                RunOutput::Line(line) => panic!("{line}"),
                RunOutput::End(end) => found.push((place, end)),
            })
            .unwrap();
        assert_eq!(found, [(0, RunEnd::Stopped)]);
    }
}
