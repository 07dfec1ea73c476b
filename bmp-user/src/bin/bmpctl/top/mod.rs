//! `bmpctl top`: the sessions, live.
//!
//! * `reading`: what bmpd answers, and the thread that asks again and again
//! * `rows`: a row of each session, with its rate; `column`: the columns, and how they fit a width
//! * `list`: the rows that are shown, sorted and filtered, and the one that is selected
//! * `view`: what keys do
//! * `draw`, `details`: what is on the screen; `figure`: numbers for people
//! * `screen`: the terminal, which is restored however this ends

mod column;
mod details;
mod draw;
mod figure;
mod list;
mod reading;
mod rows;
mod screen;
mod view;

#[cfg(test)]
mod tests;

use std::{
    io::{self, IsTerminal as _},
    path::Path,
    sync::mpsc::{TryRecvError, sync_channel},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use bmp_user::{command_line::TopArguments, control::Client, tasks};
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use ratatui::crossterm::event::{self, Event};

use self::{
    draw::draw,
    reading::{SessionsArrival, SessionsFollower, read},
    screen::TopScreen,
    view::{TopView, ViewOrder},
};

/// How long the screen waits for a key before it looks for anything else.
const TICK: Duration = Duration::from_millis(100);

/// Standard input and output are no terminal.
#[derive(Debug, thiserror::Error)]
#[error(
    "top needs a terminal, and standard input or output is none: `bmpctl --json display bmp session` answers programs"
)]
pub(crate) struct NoTerminal;

/// Shows the sessions until the operator leaves or a signal ends this.
///
/// # Errors
///
/// [`NoTerminal`] without a terminal. `NoDaemon` if no bmpd is there when this begins; one that
/// goes away later is waited for. Also if the terminal fails.
pub(crate) fn run(control: &Path, arguments: &TopArguments) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        bail!(NoTerminal);
    }
    let mut client = Client::connect(control)?;
    let first = read(&mut client)?;
    // Signals are read between two keys, so that none of them leaves the terminal as it is.
    // The threads that begin later inherit that.
    let signals = signals().context("cannot take signals")?;
    let (sender, arrivals) = sync_channel(1);
    let follower = SessionsFollower::new(client, control, arguments.interval());
    tasks::thread("readings", move || follower.follow(&sender)).context("cannot start a thread")?;

    let mut view = TopView::new(arguments.interval());
    view.take(SessionsArrival::Reading(first), Instant::now());
    let mut screen = TopScreen::open().context("cannot use the terminal")?;
    loop {
        screen.draw(|frame| draw(frame, &mut view, Instant::now())).context("cannot draw on the terminal")?;
        fault();
        let has_event = event::poll(TICK).context("cannot read the terminal")?;
        if has_event && let Event::Key(key) = event::read().context("cannot read the terminal")? {
            match view.press(key) {
                ViewOrder::Stay => {}
                ViewOrder::Leave => return Ok(()),
                ViewOrder::Suspend => screen.suspend().context("cannot use the terminal")?,
            }
        }
        if signals.read_signal()?.is_some() {
            return Ok(());
        }
        match arrivals.try_recv() {
            Ok(arrival) => view.take(arrival, Instant::now()),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => bail!("the thread that asks bmpd has ended"),
        }
    }
}

/// Returns a descriptor for the signals that end a program.
fn signals() -> nix::Result<SignalFd> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        signals.add(signal);
    }
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

/// Panics if a test asks for it. Only builds with debug assertions do.
fn fault() {
    if cfg!(debug_assertions) {
        assert!(std::env::var_os("BMPCTL_TOP_PANIC").is_none(), "a panic that was asked for");
    }
}
