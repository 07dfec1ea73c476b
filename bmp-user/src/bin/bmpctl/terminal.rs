//! The terminal in raw mode: it sends every key at once while bmpctl talks to an operator.
//!
//! It stays raw between lines too. A terminal that is reset after each line, or a new reader for
//! each line, would lose text that was typed or pasted meanwhile.

use std::{
    io::{self, Write},
    os::fd::{AsFd as _, BorrowedFd},
    time::{Duration, Instant},
};

use nix::sys::{
    signal::{SigSet, Signal as Caught},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Signal, getpid, kill_process},
    stdio::{stdin, stdout},
    termios::{InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr},
};

/// Size of a terminal that does not tell its own.
const COLUMNS: usize = 80;
const ROWS: usize = 24;

/// Asks the terminal to mark pasted text.
const MARK_PASTES: &str = "\x1b[?2004h";
const DO_NOT_MARK_PASTES: &str = "\x1b[?2004l";

/// Standard input and output as a raw terminal. Dropping this restores the former mode.
#[derive(Debug)]
pub(crate) struct RawTerminal {
    before: Termios,
    /// Readable when the size of the terminal has changed. Everything else works without it.
    resized: Option<SignalFd>,
}

/// The event that a wait has ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TerminalEvent {
    /// Keys can be read.
    Keys,
    /// The other descriptor is readable.
    Other,
    /// The size of the terminal has changed.
    Resized,
    /// The time is over.
    Timeout,
}

impl RawTerminal {
    /// Sets the terminal to raw mode.
    ///
    /// # Errors
    ///
    /// Standard input is not a terminal.
    pub(crate) fn open() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        set_up(&before)?;
        Ok(Self { before, resized: resizes().ok() })
    }

    /// Returns the current width in columns.
    pub(crate) fn columns() -> usize {
        match tcgetwinsize(stdout()) {
            Ok(size) if size.ws_col > 0 => size.ws_col.into(),
            _ => COLUMNS,
        }
    }

    /// Returns the current height in rows.
    pub(crate) fn rows() -> usize {
        match tcgetwinsize(stdout()) {
            Ok(size) if size.ws_row > 0 => size.ws_row.into(),
            _ => ROWS,
        }
    }

    /// Waits for keys, the other descriptor or a new size; forever without a time. Also returns how
    /// long it has waited.
    pub(crate) fn wait(
        &self,
        other: Option<BorrowedFd<'_>>,
        time: Option<Duration>,
    ) -> io::Result<(TerminalEvent, Duration)> {
        let begin = Instant::now();
        let resized = self.resized.as_ref().map(|resized| resized.as_fd());
        let sources =
            [(Some(stdin()), TerminalEvent::Keys), (other, TerminalEvent::Other), (resized, TerminalEvent::Resized)];
        let sources = sources.into_iter().filter_map(|(source, ready)| Some((source?, ready)));
        let (mut descriptors, meanings): (Vec<_>, Vec<_>) =
            sources.map(|(source, ready)| (PollFd::from_borrowed_fd(source, PollFlags::IN), ready)).unzip();
        let deadline = time.map(|time| begin + time);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left = left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
            match poll(&mut descriptors, left.as_ref()) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let found = descriptors.iter().position(|descriptor| !descriptor.revents().is_empty());
        let ready = found.and_then(|at| meanings.get(at)).copied().unwrap_or(TerminalEvent::Timeout);
        if ready == TerminalEvent::Resized
            && let Some(resized) = &self.resized
        {
            // Only the last size counts: drop all signals.
            while let Ok(Some(_)) = resized.read_signal() {}
        }
        Ok((ready, begin.elapsed()))
    }

    /// Reads the bytes that have come. Returns 0 where the terminal is gone.
    pub(crate) fn read(buffer: &mut [u8]) -> io::Result<usize> {
        match rustix::io::retry_on_intr(|| rustix::io::read(stdin(), &mut *buffer)) {
            Ok(read) => Ok(read),
            Err(rustix::io::Errno::IO) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Stops this process until the shell continues it.
    pub(crate) fn suspend(&self) -> io::Result<()> {
        self.set_back();
        kill_process(getpid(), Signal::TSTP)?;
        set_up(&self.before)
    }

    fn set_back(&self) {
        // An error means that the terminal is gone.
        let _ = write!(io::stdout(), "{DO_NOT_MARK_PASTES}").and_then(|()| io::stdout().flush());
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

/// Returns a descriptor for the signal of a new size.
fn resizes() -> nix::Result<SignalFd> {
    let mut resized = SigSet::empty();
    resized.add(Caught::SIGWINCH);
    resized.thread_block()?;
    SignalFd::with_flags(&resized, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

/// Sets raw mode for input. Output is still processed: a line end also returns to the first column.
fn set_up(before: &Termios) -> io::Result<()> {
    let mut raw = before.clone();
    raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
    raw.input_modes -= InputModes::ICRNL | InputModes::INLCR | InputModes::IGNCR | InputModes::IXON;
    raw.special_codes[SpecialCodeIndex::VMIN] = 1;
    raw.special_codes[SpecialCodeIndex::VTIME] = 0;
    // `Now` keeps the text that was typed already; the other actions wait or drop it.
    tcsetattr(stdin(), OptionalActions::Now, &raw)?;
    write!(io::stdout(), "{MARK_PASTES}")?;
    io::stdout().flush()
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        self.set_back();
    }
}
