//! The terminal, which sends every key at once for as long as bmpctl talks to an operator.
//!
//! It stays so between the lines too: a terminal that is set back after each line, or a reader that is made anew for each, loses what
//! was typed or pasted meanwhile.

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

/// What a terminal without a size has.
const COLUMNS: usize = 80;

/// Has the terminal mark what is pasted.
const MARK_PASTES: &str = "\x1b[?2004h";
const DO_NOT_MARK_PASTES: &str = "\x1b[?2004l";

/// Standard input and output as a terminal; set back to what it was when this is dropped.
#[derive(Debug)]
pub(crate) struct Terminal {
    before: Termios,
    /// Can be read when the terminal has another size. Without it everything else works.
    resized: Option<SignalFd>,
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    /// Keys can be read.
    Keys,
    /// The other descriptor can be read.
    Other,
    /// The terminal has another size.
    Resized,
    /// Nothing came in time.
    Nothing,
}

impl Terminal {
    /// # Errors
    /// Standard input is no terminal.
    pub(crate) fn open() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        set_up(&before)?;
        Ok(Self { before, resized: resizes().ok() })
    }

    /// How many columns it has by now.
    pub(crate) fn columns() -> usize {
        match tcgetwinsize(stdout()) {
            Ok(size) if size.ws_col > 0 => size.ws_col.into(),
            _ => COLUMNS,
        }
    }

    /// Waits for keys or for the other descriptor; without a time for as long as it takes. Also how long it was.
    pub(crate) fn wait(&self, other: Option<BorrowedFd<'_>>, time: Option<Duration>) -> io::Result<(Ready, Duration)> {
        let begin = Instant::now();
        let resized = self.resized.as_ref().map(|resized| resized.as_fd());
        let sources = [(Some(stdin()), Ready::Keys), (other, Ready::Other), (resized, Ready::Resized)];
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
        let ready = found.and_then(|at| meanings.get(at)).copied().unwrap_or(Ready::Nothing);
        if ready == Ready::Resized
            && let Some(resized) = &self.resized
        {
            // However often its size changed: what counts is what it has now.
            while let Ok(Some(_)) = resized.read_signal() {}
        }
        Ok((ready, begin.elapsed()))
    }

    /// Reads what there is; nothing where the terminal is gone.
    pub(crate) fn read(buffer: &mut [u8]) -> io::Result<usize> {
        match rustix::io::retry_on_intr(|| rustix::io::read(stdin(), &mut *buffer)) {
            Ok(read) => Ok(read),
            Err(rustix::io::Errno::IO) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Stops until the shell lets this process go on.
    pub(crate) fn suspend(&self) -> io::Result<()> {
        self.set_back();
        kill_process(getpid(), Signal::TSTP)?;
        set_up(&self.before)
    }

    fn set_back(&self) {
        // A terminal that is gone need not be set back.
        let _ = write!(io::stdout(), "{DO_NOT_MARK_PASTES}").and_then(|()| io::stdout().flush());
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

/// The signal that tells of another size, as a descriptor.
fn resizes() -> nix::Result<SignalFd> {
    let mut resized = SigSet::empty();
    resized.add(Caught::SIGWINCH);
    resized.thread_block()?;
    SignalFd::with_flags(&resized, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

/// What is written is still processed: a line end also goes back to the first column.
fn set_up(before: &Termios) -> io::Result<()> {
    let mut raw = before.clone();
    raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
    raw.input_modes -= InputModes::ICRNL | InputModes::INLCR | InputModes::IGNCR | InputModes::IXON;
    raw.special_codes[SpecialCodeIndex::VMIN] = 1;
    raw.special_codes[SpecialCodeIndex::VTIME] = 0;
    // Not those that wait or drop: what was typed already is to be read.
    tcsetattr(stdin(), OptionalActions::Now, &raw)?;
    write!(io::stdout(), "{MARK_PASTES}")?;
    io::stdout().flush()
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.set_back();
    }
}
