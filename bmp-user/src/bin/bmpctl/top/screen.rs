//! The terminal, which is restored however this ends.

use std::io;

use ratatui::{DefaultTerminal, Frame};
use rustix::process::{Signal, getpid, kill_process};

/// The terminal in raw mode, with a screen of its own. Dropping it restores the terminal, and so
/// does a panic before its message is printed.
pub(super) struct TopScreen(DefaultTerminal);

impl TopScreen {
    /// # Errors
    ///
    /// Standard input or output is no terminal.
    pub(super) fn open() -> io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                ratatui::restore();
                Err(error)
            }
        }
    }

    /// Draws the screen anew.
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub(super) fn draw(&mut self, with: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(with).map(|_drawn| ())
    }

    /// Stops this process until the shell continues it.
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        self.0.show_cursor()?;
        ratatui::try_restore()?;
        kill_process(getpid(), Signal::TSTP)?;
        self.0 = ratatui::try_init()?;
        self.0.clear()
    }
}

impl Drop for TopScreen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
