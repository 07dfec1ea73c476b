//! What a command is about to do, how far it is, and that it is still at it.
//!
//! All of it goes to standard error: what a command was run for is on standard output.

use std::{
    fmt::Display,
    io::Write as _,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// A program that says nothing is spoken for after so long, and again each time.
pub(crate) const BEAT: Duration = Duration::from_secs(20);

/// Says one line on standard error. A reader that has gone away is no reason to stop half-way.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// The steps of a command.
pub(crate) struct Steps {
    names: Vec<String>,
    begun: usize,
    start: Instant,
}

impl Steps {
    /// Says what `command` will do and about how long that takes.
    pub(crate) fn announce(command: &str, about: &str, names: &[&str]) -> Self {
        note(format_args!("{command}: {about}; {} steps: {}", names.len(), names.join(", ")));
        Self { names: names.iter().map(|name| (*name).to_owned()).collect(), begun: 0, start: Instant::now() }
    }

    /// Says that the next step begins.
    pub(crate) fn begin(&mut self) {
        if let Some(name) = self.names.get(self.begun) {
            self.begun += 1;
            note(heading(self.begun, self.names.len(), name, self.start.elapsed()));
        }
    }
}

fn heading(number: usize, of: usize, name: &str, after: Duration) -> String {
    format!("[{number}/{of}] {name} (after {})", spoken(after))
}

/// A duration as it is said: `5 s`, `2 min 5 s`.
pub(crate) fn spoken(time: Duration) -> String {
    match (time.as_secs() / 60, time.as_secs() % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}

/// Does `work`, and says every [`BEAT`] that `what` still runs.
pub(crate) fn beating<R>(what: &str, work: impl FnOnce() -> R) -> R {
    beating_every(BEAT, |after| note(format_args!("      ... {} still runs, {}", shortened(what), spoken(after))), work)
}

fn beating_every<R>(beat: Duration, say: impl Fn(Duration) + Send, work: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let (done, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            while ended.recv_timeout(beat) == Err(RecvTimeoutError::Timeout) {
                say(start.elapsed());
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// So much of a command line that it fits on a line of a terminal.
fn shortened(line: &str) -> String {
    const LONGEST: usize = 48;
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("`{} ...`", &line[..end]),
        None => format!("`{line}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_says_its_number_and_the_time_until_then() {
        assert_eq!(heading(2, 4, "packages", Duration::from_secs(125)), "[2/4] packages (after 2 min 5 s)");
        assert_eq!(heading(1, 4, "packages", Duration::ZERO), "[1/4] packages (after 0 s)");
    }

    #[test]
    fn work_that_takes_longer_than_a_beat_is_spoken_for() {
        let (said, heard) = mpsc::channel();
        let beat = Duration::from_millis(1);
        let result = beating_every(beat, move |after| said.send(after).unwrap(), || heard.recv().unwrap());
        assert!(result >= beat);
    }

    #[test]
    fn work_that_is_done_at_once_is_not() {
        let (said, heard) = mpsc::channel();
        beating_every(Duration::from_secs(3600), move |after| said.send(after).unwrap(), || ());
        assert!(heard.recv().is_err());
    }

    #[test]
    fn a_long_command_line_is_cut() {
        assert_eq!(shortened("apt-get update"), "`apt-get update`");
        assert!(shortened(&"é".repeat(100)).ends_with("é ...`"));
    }
}
