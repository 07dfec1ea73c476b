//! The log of bmpd: one line for each event, on standard error. It never blocks the program, and no
//! outsider can flood it or forge its lines.
//!
//! - `writer`: writes lines on a thread of its own. If the sink fails, lines are lost and the
//!   program goes on.
//! - `limit`: limits lines of one kind about one subject and counts the rest. It applies to all
//!   lines from `INFO` up. `DEBUG` and `TRACE` have no limit, because an operator has asked for
//!   them.
//! - `line`: the layout of a line, with every unsafe character escaped.

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
use limit::{LeftOutLines, Limiter, LineVerdict, WINDOW};
use line::{EventText, LineStyle};
use writer::LineQueue;

/// How long the end of the program waits for the log.
const FAREWELL: Duration = Duration::from_secs(1);

/// The kind of a line: the place in the program that logs it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct LineKind {
    callsite: Identifier,
    level: Level,
}

/// The queue of this process's log, for lines that bypass `tracing`.
static QUEUE: OnceLock<(LineQueue, LineStyle)> = OnceLock::new();

/// Starts to log the events that `filter` lets through to standard error.
///
/// # Errors
///
/// Fails if no thread or descriptor is available, or if the process already has a log.
pub fn init(filter: EnvFilter) -> io::Result<()> {
    let style = LineStyle { colours: io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() };
    // A descriptor of its own, because the holder of the lock of `std::io::stderr` may wait for a
    // stalled reader.
    let sink = BlockingStderr(File::from(io::stderr().as_fd().try_clone_to_owned()?));
    let lines = LogLines::new(style);
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

static LIMITER: OnceLock<Arc<Mutex<Limiter<LineKind>>>> = OnceLock::new();

/// Writes all pending summaries and waits until the log is written, for at most a second.
pub fn finish() {
    let Some((queue, style)) = QUEUE.get() else { return };
    if let Some(limiter) = LIMITER.get() {
        summaries(limiter, None, *style).into_iter().for_each(|line| queue.push(line));
    }
    queue.flush(FAREWELL);
}

/// Logs a line without any lock that the caller may hold, and waits at most a second until it is
/// written. For a program that must end at once.
pub fn last_words(text: &str) {
    match QUEUE.get() {
        Some((queue, style)) => {
            queue.push(style.line(Level::ERROR, text));
            queue.flush(FAREWELL);
        }
        // Without a log, standard error is the only place left.
        None => drop(writeln!(io::stderr(), "{}", crate::escape::escaped(text))),
    }
}

/// Standard error. Waits if another process has made it non-blocking.
struct BlockingStderr(File);

impl Write for BlockingStderr {
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

/// The `tracing` layer that turns events into lines.
struct LogLines {
    queue: LineQueue,
    limiter: Arc<Mutex<Limiter<LineKind>>>,
    style: LineStyle,
}

impl LogLines {
    fn new(style: LineStyle) -> Self {
        Self { queue: LineQueue::default(), limiter: Arc::default(), style }
    }

    fn admit(&self, metadata: &Metadata<'_>, event: &Event<'_>) -> LineVerdict {
        let subject = line::subject(event);
        let kind = LineKind { callsite: metadata.callsite(), level: *metadata.level() };
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = limiter.admit(&kind, &subject, Instant::now());
        if verdict == LineVerdict::FirstLeftOut {
            limiter.remember(&kind, &subject, EventText::from_event(event).message());
        }
        verdict
    }
}

impl<S: Subscriber> Layer<S> for LogLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() <= Level::INFO && self.admit(metadata, event) != LineVerdict::Pass {
            return;
        }
        self.queue.push(self.style.line(*metadata.level(), &EventText::from_event(event).message()));
    }
}

/// Returns the summary lines of the windows that are over at `now`, or of all windows.
fn summaries(limiter: &Mutex<Limiter<LineKind>>, now: Option<Instant>, style: LineStyle) -> Vec<Vec<u8>> {
    let summaries = limiter.lock().unwrap_or_else(PoisonError::into_inner).summaries(now);
    let seconds = WINDOW.as_secs();
    let line = |LeftOutLines { kind, like, left_out, subjects }: LeftOutLines<LineKind>| {
        let like = like.unwrap_or_default();
        let about = if subjects > 1 { format!(" about {subjects} or more others") } else { String::new() };
        let text = format!("{like} … and {left_out} more like this{about} in the last {seconds} s");
        style.line(kind.level, &text)
    };
    summaries.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests;
