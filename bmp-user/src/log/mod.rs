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
//! - `buffer`: the last lines, kept in memory for `display logbuffer`.

mod buffer;
mod format;
mod journal;
mod limit;
mod record;
mod writer;

use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    os::fd::{AsFd, AsRawFd},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use tracing::{Event, Level, Metadata, Subscriber, callsite::Identifier};
use tracing_subscriber::{EnvFilter, Layer, layer::Context, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::sys;
use buffer::LineBuffer;
pub use buffer::{BUFFER_LINES, BufferedLine, BufferedLog};
use format::LogEncoding;
pub use format::LogFormat;
use limit::{LeftOutLines, Limiter, LineVerdict, WINDOW};
use record::LogRecord;
use writer::LineQueue;

/// The target of the lines that an operator has asked for by `debugging`. They go into the buffer
/// alone, whatever the filter says. Who logs them bounds them.
pub const DEBUGGING: &str = "bmpd::debugging";

/// How long the end of the program waits for the log.
const FAREWELL: Duration = Duration::from_secs(1);

/// The kind of a line: the place in the program that logs it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct LineKind {
    callsite: Identifier,
    level: Level,
}

/// The outlet of this process's log, for lines that bypass `tracing`.
static OUTLET: OnceLock<LogOutlet> = OnceLock::new();

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
    let (outlet, limiter) = (lines.outlet.clone(), Arc::clone(&lines.limiter));
    match journal {
        Some(journal) => start(&lines, journal)?,
        // A descriptor of its own, because the holder of the lock of `std::io::stderr` may wait for
        // a stalled reader.
        None => start(&lines, BlockingStderr(File::from(io::stderr().as_fd().try_clone_to_owned()?)))?,
    }
    let debugging = format!("{DEBUGGING}=debug").parse().map_err(io::Error::other)?;
    tracing_subscriber::registry()
        .with(lines)
        .with(filter.add_directive(debugging))
        .try_init()
        .map_err(io::Error::other)?;
    let _ = (OUTLET.set(outlet), LIMITER.set(limiter));
    Ok(())
}

/// Starts the thread that writes `lines` to `sink`.
fn start(lines: &LogLines, sink: impl Write + Send + 'static) -> io::Result<()> {
    let (outlet, limiter) = (lines.outlet.clone(), Arc::clone(&lines.limiter));
    let lost = outlet.clone();
    let summaries = move || summaries(&limiter, Some(Instant::now()), &outlet);
    lines.outlet.queue.start(sink, summaries, move |dropped, why| {
        let why = why.map_or_else(|| "nobody read them in time".to_owned(), ToString::to_string);
        lost.encode(LogRecord::new(Level::WARN, &format!("{dropped} lines of the log are lost: {why}")))
    })
}

static LIMITER: OnceLock<Arc<Mutex<Limiter<LineKind>>>> = OnceLock::new();

/// Returns the last lines of this process's log; none if it has no log.
pub fn buffered() -> BufferedLog {
    OUTLET.get().map(|outlet| outlet.buffer().log()).unwrap_or_default()
}

/// Writes all pending summaries and waits until the log is written, for at most a second.
pub fn finish() {
    let Some(outlet) = OUTLET.get() else { return };
    if let Some(limiter) = LIMITER.get() {
        summaries(limiter, None, outlet).into_iter().for_each(|line| outlet.queue.push(line));
    }
    outlet.queue.flush(FAREWELL);
}

/// Logs a line without any lock that the caller may hold, and waits at most a second until it is
/// written. For a program that must end at once.
pub fn last_words(text: &str) {
    match OUTLET.get() {
        Some(LogOutlet { queue, encoding, .. }) => {
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

/// Where lines go: the queue of the writer, and the buffer in memory.
#[derive(Clone)]
struct LogOutlet {
    queue: LineQueue,
    buffer: Arc<Mutex<LineBuffer>>,
    encoding: LogEncoding,
}

impl LogOutlet {
    /// Keeps a record in the buffer, and returns it as the log has it.
    fn encode(&self, record: LogRecord) -> Vec<u8> {
        let line = self.encoding.encode(&record);
        self.buffer().push(record, sys::time_in_utc());
        line
    }

    fn buffer(&self) -> MutexGuard<'_, LineBuffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The `tracing` layer that turns events into lines.
struct LogLines {
    outlet: LogOutlet,
    limiter: Arc<Mutex<Limiter<LineKind>>>,
}

impl LogLines {
    fn new(encoding: LogEncoding) -> Self {
        let outlet = LogOutlet { queue: LineQueue::default(), buffer: Arc::default(), encoding };
        Self { outlet, limiter: Arc::default() }
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
        if metadata.target() == DEBUGGING {
            self.outlet.buffer().push(LogRecord::from_event(event), sys::time_in_utc());
            return;
        }
        if *metadata.level() <= Level::INFO && self.admit(metadata, event) != LineVerdict::Pass {
            return;
        }
        self.outlet.queue.push(self.outlet.encode(LogRecord::from_event(event)));
    }
}

/// Returns the summary lines of the windows that are over at `now`, or of all windows.
fn summaries(limiter: &Mutex<Limiter<LineKind>>, now: Option<Instant>, outlet: &LogOutlet) -> Vec<Vec<u8>> {
    let summaries = limiter.lock().unwrap_or_else(PoisonError::into_inner).summaries(now);
    let seconds = WINDOW.as_secs();
    let line = |LeftOutLines { kind, like, left_out, subjects }: LeftOutLines<LineKind>| {
        let like = like.unwrap_or_default();
        let about = if subjects > 1 { format!(" about {subjects} or more others") } else { String::new() };
        let text = format!("{like} … and {left_out} more like this{about} in the last {seconds} s");
        outlet.encode(LogRecord::new(kind.level, &text))
    };
    summaries.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests;
