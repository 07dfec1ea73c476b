//! The log of bmpd: one line an event on standard error, which neither stops the program nor can be flooded or forged from outside.
//!
//! - `writer`: nobody who logs waits for the sink, and a sink that fails costs lines, not the program.
//! - `limit`: lines of one kind about one subject are limited, and the rest is counted. It holds for every line from `INFO` up,
//!   whoever logs it. `DEBUG` and `TRACE` are not limited: an operator has asked for them.
//! - `line`: what an event looks like. Every unsafe character in it is escaped.

mod limit;
mod line;
mod writer;

use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    os::fd::{AsFd, AsRawFd},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use tracing::{Event, Level, Metadata, Subscriber, callsite::Identifier};
use tracing_subscriber::{EnvFilter, Layer, layer::Context, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::sys;
use limit::{Limiter, Summary, Verdict, WINDOW};
use line::{Style, Text};
use writer::Queue;

/// How long the end of the program waits for what is not written yet.
const FAREWELL: Duration = Duration::from_secs(1);

/// A place in the program that logs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    callsite: Identifier,
    level: Level,
}

/// The queue of this process's log, for what cannot go the usual way.
static QUEUE: OnceLock<(Queue, Style)> = OnceLock::new();

/// Begins to log to standard error what `filter` lets through.
///
/// # Errors
///
/// There is no thread or descriptor to write with, or this is not the first log of the process.
pub fn init(filter: EnvFilter) -> io::Result<()> {
    let style = Style { colours: io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() };
    // A descriptor of its own: whoever holds the lock of `std::io::stderr` may be waiting for a reader that stalls.
    let sink = Patient(File::from(io::stderr().as_fd().try_clone_to_owned()?));
    let lines = Lines::new(style);
    let (queue, limiter) = (lines.queue.clone(), Arc::clone(&lines.limiter));
    let summaries = move || summaries(&limiter, Some(Instant::now()), style);
    queue.start(sink, summaries, move |dropped, why| {
        let why = why.map_or_else(|| "nobody read them in time".to_owned(), ToString::to_string);
        style.line(Level::WARN, &format!("{dropped} lines of the log are lost: {why}"))
    })?;
    let limiter = Arc::clone(&lines.limiter);
    tracing_subscriber::registry().with(lines).with(filter).try_init().map_err(io::Error::other)?;
    let _ = (QUEUE.set((queue, style)), LIMITER.set(limiter));
    Ok(())
}

static LIMITER: OnceLock<Arc<Mutex<Limiter<Kind>>>> = OnceLock::new();

/// Waits until the log is written, a second at most. What is still to be summed up is.
pub fn finish() {
    let Some((queue, style)) = QUEUE.get() else { return };
    if let Some(limiter) = LIMITER.get() {
        summaries(limiter, None, *style).into_iter().for_each(|line| queue.push(line));
    }
    queue.flush(FAREWELL);
}

/// Logs one line past everything that may be locked by whoever calls, and waits a second at most until it is written. For the end of
/// a program that does not go on.
pub fn last_words(text: &str) {
    match QUEUE.get() {
        Some((queue, style)) => {
            queue.push(style.line(Level::ERROR, text));
            queue.flush(FAREWELL);
        }
        // Without a log there is nobody to tell but a terminal.
        None => drop(writeln!(io::stderr(), "{}", crate::escape::escaped(text))),
    }
}

/// Standard error, which somebody may have made non-blocking.
struct Patient(File);

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sys::wait_writable(self.0.as_raw_fd())?,
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes lines of events.
struct Lines {
    queue: Queue,
    limiter: Arc<Mutex<Limiter<Kind>>>,
    style: Style,
}

impl Lines {
    fn new(style: Style) -> Self {
        Self { queue: Queue::default(), limiter: Arc::default(), style }
    }

    fn admit(&self, metadata: &Metadata<'_>, event: &Event<'_>) -> Verdict {
        let subject = line::subject(event);
        let kind = Kind { callsite: metadata.callsite(), level: *metadata.level() };
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = limiter.admit(&kind, &subject, Instant::now());
        if verdict == Verdict::FirstLeftOut {
            limiter.remember(&kind, &subject, Text::of(event).message());
        }
        verdict
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() <= Level::INFO && self.admit(metadata, event) != Verdict::Pass {
            return;
        }
        self.queue.push(self.style.line(*metadata.level(), &Text::of(event).message()));
    }
}

/// Lines that say what was left out until `now`, or at all.
fn summaries(limiter: &Mutex<Limiter<Kind>>, now: Option<Instant>, style: Style) -> Vec<Vec<u8>> {
    let summaries = limiter.lock().unwrap_or_else(PoisonError::into_inner).summaries(now);
    let seconds = WINDOW.as_secs();
    let line = |Summary { kind, like, left_out, subjects }: Summary<Kind>| {
        let like = like.unwrap_or_default();
        let about = if subjects > 1 { format!(" about {subjects} or more others") } else { String::new() };
        let text = format!("{like} … and {left_out} more like this{about} in the last {seconds} s");
        style.line(kind.level, &text)
    };
    summaries.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests;
