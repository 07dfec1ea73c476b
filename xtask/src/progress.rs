//! Says what a command will do, which step it is at, and that it still works.
//!
//! All of it goes to standard error; standard output holds the results.

use std::{
    fmt::Display,
    io::Write as _,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// The time between two lines about a program that prints nothing.
pub(crate) const BEAT: Duration = Duration::from_secs(20);

/// Writes a line to standard error. A reader that is gone does not stop the work.
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
    /// Prints the steps of `command` and about how long they take.
    pub(crate) fn announce(command: &str, about: &str, names: &[&str]) -> Self {
        note(format_args!("{command}: {about}; {} steps: {}", names.len(), names.join(", ")));
        Self { names: names.iter().map(|name| (*name).to_owned()).collect(), begun: 0, start: Instant::now() }
    }

    /// Prints that the next step begins.
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

/// Returns a duration in words: `5 s`, `2 min 5 s`.
pub(crate) fn spoken(time: Duration) -> String {
    match (time.as_secs() / 60, time.as_secs() % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}

/// Does `work`, and prints every [`BEAT`] that `what` still runs.
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

/// Returns so much of a command line that it fits into a terminal.
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
    fn a_step_has_its_number_and_the_time_since_the_start() {
        assert_eq!(heading(2, 4, "packages", Duration::from_secs(125)), "[2/4] packages (after 2 min 5 s)");
        assert_eq!(heading(1, 4, "packages", Duration::ZERO), "[1/4] packages (after 0 s)");
    }

    #[test]
    fn work_longer_than_a_beat_is_reported_as_running() {
        let (said, heard) = mpsc::channel();
        let beat = Duration::from_millis(1);
        let result = beating_every(beat, move |after| said.send(after).unwrap(), || heard.recv().unwrap());
        assert!(result >= beat);
    }

    #[test]
    fn short_work_is_not_reported() {
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
