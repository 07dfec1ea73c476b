//! Lines that stay, and below them a table that is redrawn in place.

use std::io::{self, IsTerminal, Write};

/// Standard output. On a terminal the table moves along below the last line. Elsewhere it is
/// printed on request only.
pub(crate) struct DemoScreen {
    silent: bool,
    terminal: bool,
    table: Vec<String>,
    drawn: usize,
}

impl DemoScreen {
    /// Makes a screen. A silent one shows nothing.
    pub(crate) fn new(silent: bool) -> Self {
        Self { silent, terminal: io::stdout().is_terminal(), table: Vec::new(), drawn: 0 }
    }

    /// Prints a line that stays.
    pub(crate) fn say(&mut self, text: &str) {
        self.write(|out, screen| {
            screen.erase(out)?;
            writeln!(out, "{text}")?;
            screen.draw(out)
        });
    }

    /// Replaces the table.
    pub(crate) fn show(&mut self, table: Vec<String>) {
        if self.table == table {
            return;
        }
        self.table = table;
        self.write(|out, screen| {
            screen.erase(out)?;
            screen.draw(out)
        });
    }

    /// Turns the table into lines that stay.
    pub(crate) fn keep(&mut self) {
        self.write(|out, screen| {
            screen.erase(out)?;
            screen.table.iter().try_for_each(|line| writeln!(out, "{line}"))
        });
        self.table.clear();
    }

    fn erase(&mut self, out: &mut impl Write) -> io::Result<()> {
        for _ in 0..std::mem::take(&mut self.drawn) {
            // One line up, then clear it.
            write!(out, "\x1b[1A\x1b[2K")?;
        }
        Ok(())
    }

    fn draw(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.terminal {
            for line in &self.table {
                writeln!(out, "{line}")?;
            }
            self.drawn = self.table.len();
        }
        Ok(())
    }

    fn write(&mut self, draw: impl FnOnce(&mut io::StdoutLock<'static>, &mut Self) -> io::Result<()>) {
        if self.silent {
            return;
        }
        let mut out = io::stdout().lock();
        // Fails only if the reader is gone.
        let _ = draw(&mut out, self).and_then(|()| out.flush());
    }
}
