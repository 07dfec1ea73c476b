//! The log of bmpd: one line for each event, on standard error or in the journal of systemd. It
//! never blocks the program, and no outsider can flood it or forge its lines.
//!
//! - `writer`: writes lines on a thread of its own. If the sink fails, lines are lost and the
//!   program goes on.
//! - `limit`: limits lines of one kind about one subject and counts the rest. It applies to all
//!   lines from `INFO` up. `DEBUG` and `TRACE` have no limit, because an operator has asked for
//!   them.
//! - `record`: what an event says, as text and as fields, with every unsafe character escaped.
//! - `format`: text, JSON or an entry of the journal.
//! - `journal`: the journal's protocol and socket.

mod format;
mod journal;
mod limit;
mod record;
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
use format::LogEncoding;
pub use format::LogFormat;
use limit::{LeftOutLines, Limiter, LineVerdict, WINDOW};
use record::LogRecord;
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
static QUEUE: OnceLock<(LineQueue, LogEncoding)> = OnceLock::new();

/// Starts to log the events that `filter` lets through.
///
/// # Errors
///
/// Fails if no thread or descriptor is available, if the process already has a log, or if the
/// format is [`LogFormat::Journal`] and no journal listens.
pub fn init(filter: EnvFilter, format: LogFormat) -> io::Result<()> {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (encoding, journal) = format::choose(format, colours)?;
    let lines = LogLines::new(encoding);
    let (queue, limiter) = (lines.queue.clone(), Arc::clone(&lines.limiter));
    match journal {
        Some(journal) => start(&lines, journal)?,
        // A descriptor of its own, because the holder of the lock of `std::io::stderr` may wait for
        // a stalled reader.
        None => start(&lines, BlockingStderr(File::from(io::stderr().as_fd().try_clone_to_owned()?)))?,
    }
    tracing_subscriber::registry().with(lines).with(filter).try_init().map_err(io::Error::other)?;
    let _ = (QUEUE.set((queue, encoding)), LIMITER.set(limiter));
    Ok(())
}

/// Starts the thread that writes `lines` to `sink`.
fn start(lines: &LogLines, sink: impl Write + Send + 'static) -> io::Result<()> {
    let (encoding, limiter) = (lines.encoding, Arc::clone(&lines.limiter));
    let summaries = move || summaries(&limiter, Some(Instant::now()), encoding);
    lines.queue.start(sink, summaries, move |dropped, why| {
        let why = why.map_or_else(|| "nobody read them in time".to_owned(), ToString::to_string);
        encoding.encode(&LogRecord::new(Level::WARN, &format!("{dropped} lines of the log are lost: {why}")))
    })
}

static LIMITER: OnceLock<Arc<Mutex<Limiter<LineKind>>>> = OnceLock::new();

/// Writes all pending summaries and waits until the log is written, for at most a second.
pub fn finish() {
    let Some((queue, encoding)) = QUEUE.get() else { return };
    if let Some(limiter) = LIMITER.get() {
        summaries(limiter, None, *encoding).into_iter().for_each(|line| queue.push(line));
    }
    queue.flush(FAREWELL);
}

/// Logs a line without any lock that the caller may hold, and waits at most a second until it is
/// written. For a program that must end at once.
pub fn last_words(text: &str) {
    match QUEUE.get() {
        Some((queue, encoding)) => {
            queue.push(encoding.encode(&LogRecord::new(Level::ERROR, text)));
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
    encoding: LogEncoding,
}

impl LogLines {
    fn new(encoding: LogEncoding) -> Self {
        Self { queue: LineQueue::default(), limiter: Arc::default(), encoding }
    }

    fn admit(&self, metadata: &Metadata<'_>, event: &Event<'_>) -> LineVerdict {
        let subject = record::subject(event);
        let kind = LineKind { callsite: metadata.callsite(), level: *metadata.level() };
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = limiter.admit(&kind, &subject, Instant::now());
        if verdict == LineVerdict::FirstLeftOut {
            limiter.remember(&kind, &subject, LogRecord::from_event(event).text);
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
        self.queue.push(self.encoding.encode(&LogRecord::from_event(event)));
    }
}

/// Returns the summary lines of the windows that are over at `now`, or of all windows.
fn summaries(limiter: &Mutex<Limiter<LineKind>>, now: Option<Instant>, encoding: LogEncoding) -> Vec<Vec<u8>> {
    let summaries = limiter.lock().unwrap_or_else(PoisonError::into_inner).summaries(now);
    let seconds = WINDOW.as_secs();
    let line = |LeftOutLines { kind, like, left_out, subjects }: LeftOutLines<LineKind>| {
        let like = like.unwrap_or_default();
        let about = if subjects > 1 { format!(" about {subjects} or more others") } else { String::new() };
        let text = format!("{like} … and {left_out} more like this{about} in the last {seconds} s");
        encoding.encode(&LogRecord::new(kind.level, &text))
    };
    summaries.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests;
