//! A program at a terminal: tests press keys and read the screen.

use std::{
    fs::File,
    io::{Read, Write},
    num::NonZero,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread::{self, JoinHandle},
};

use nix::{
    pty::{Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{LocalFlags, tcgetattr},
    },
    unistd::{Pid, setsid},
};

use crate::wait::{PATIENCE, WatchedValue, until};

/// Ctrl-C.
pub const INTERRUPT: &str = "\x03";
/// Ctrl-D.
pub const END: &str = "\x04";
/// The Enter key.
pub const ENTER: &str = "\r";
/// The Tab key.
pub const TAB: &str = "\t";
/// The brackets that a terminal puts around pasted text.
pub const PASTE: (&str, &str) = ("\x1b[200~", "\x1b[201~");
/// The arrow key up.
pub const UP: &str = "\x1b[A";

const ROWS: NonZero<u16> = NonZero::new(60).expect("not 0");
const COLUMNS: u16 = 160;

/// A terminal with a program in it. Dropping it kills the program.
#[derive(Debug)]
pub struct TestTerminal {
    child: Child,
    keys: File,
    rows: NonZero<u16>,
    screen: Arc<WatchedValue<TerminalScreen>>,
    reader: Option<JoinHandle<()>>,
}

struct TerminalScreen(vt100::Parser);

impl std::fmt::Debug for TerminalScreen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text())
    }
}

impl TerminalScreen {
    fn new(rows: NonZero<u16>, columns: u16) -> Self {
        Self(vt100::Parser::new(rows, NonZero::new(columns).expect("a terminal has columns"), 0))
    }

    /// Returns all lines, without blank lines at the end.
    fn text(&self) -> String {
        self.0.screen().contents().trim_end().to_owned()
    }

    /// Returns the cursor's line, up to the cursor.
    fn line(&self) -> String {
        let (row, column) = self.0.screen().cursor_position();
        self.0.screen().contents_between(row, 0, row, column)
    }
}

impl TestTerminal {
    /// Starts `command` with a new terminal as its controlling one.
    ///
    /// # Panics
    /// If terminal or program cannot be had.
    pub fn start(command: Command) -> Self {
        Self::start_sized(command, COLUMNS)
    }

    /// Starts `command` with a new terminal of this many columns.
    ///
    /// # Panics
    /// If terminal or program cannot be had.
    pub fn start_sized(command: Command, columns: u16) -> Self {
        Self::start_with_rows(command, ROWS.get(), columns)
    }

    /// Starts `command` with a new terminal of this many rows and columns.
    ///
    /// # Panics
    /// If terminal or program cannot be had.
    pub fn start_with_rows(mut command: Command, rows: u16, columns: u16) -> Self {
        let rows = NonZero::new(rows).expect("a terminal has rows");
        let size = Winsize { ws_row: rows.get(), ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).expect("a terminal can be made");
        let end = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("a descriptor is free"));
        command.stdin(end(&pair.slave)).stdout(end(&pair.slave)).stderr(end(&pair.slave)).env("TERM", "xterm");
        // SAFETY: only two system calls run between fork and exec. Standard input is the terminal
        // then.
        unsafe {
            command.pre_exec(|| {
                setsid()?;
                match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot start {:?}: {e}", command.get_program()));
        // `command` holds the program's end of the terminal. Drop it, or the reader never sees its
        // end.
        drop((command, pair.slave));
        let keys = File::from(pair.master);
        let screen = Arc::new(WatchedValue::new(TerminalScreen::new(rows, columns)));
        let reader = thread::spawn({
            let (shown, screen) = (keys.try_clone().expect("a descriptor is free"), Arc::clone(&screen));
            move || show(shown, &screen)
        });
        Self { child, keys, rows, screen, reader: Some(reader) }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Resizes the terminal to this many columns, and signals the program.
    ///
    /// # Panics
    /// If the kernel refuses.
    pub fn resize(&mut self, columns: u16) {
        let wanted = NonZero::new(columns).expect("a terminal has columns");
        self.screen.change(|screen| screen.0.screen_mut().set_size(self.rows, wanted));
        let size = Winsize { ws_row: self.rows.get(), ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the descriptor is a terminal, and `size` lives through the call.
        let refused = unsafe { libc::ioctl(self.keys.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(refused, 0, "{}", std::io::Error::last_os_error());
    }

    /// Types a line and presses Enter.
    pub fn enter(&mut self, line: &str) {
        self.press(line);
        self.wait_line(&format!("…{line}"), |shown| shown.ends_with(line));
        self.press(ENTER);
    }

    /// Waits until the cursor's line, up to the cursor, is `prompt`.
    pub fn wait_prompt(&self, prompt: &str) {
        self.wait_line(prompt, |shown| shown.trim_end() == prompt);
    }

    /// Types a line, presses Enter, and waits for an empty line with `prompt`.
    pub fn answers(&mut self, line: &str, prompt: &str) {
        self.enter(line);
        // The old prompt still has the typed line after it, so this waits for a new one.
        self.wait_prompt(prompt);
    }

    /// Waits until `text` is on the screen, and returns the whole screen.
    pub fn wait_text(&self, text: &str) -> String {
        self.wait(&format!("`{text}` is on the screen"), |screen| screen.text().contains(text))
    }

    /// Waits until the program exits.
    pub fn wait_end(&mut self) -> ExitStatus {
        let status = until("the program at the terminal exits", PATIENCE, || {
            self.child.try_wait().expect("the program is a child of this process")
        });
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        status
    }

    /// Sends a signal to the program.
    ///
    /// # Panics
    /// If the program has been waited for.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id is small"));
        kill(pid, signal).expect("the program is a child of this process");
    }

    /// Returns true if the terminal is as a shell leaves it to a program: it echoes, takes whole
    /// lines, shows the cursor, and shows the screen that it began with.
    pub fn is_restored(&self) -> bool {
        // Both ends of a terminal have the same modes.
        let modes = tcgetattr(&self.keys).expect("the descriptor is a terminal").local_flags;
        let usual = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG;
        let screen = self.screen.lock();
        let screen = screen.0.screen();
        modes.contains(usual) && !screen.alternate_screen() && !screen.hide_cursor()
    }

    /// Returns the text on the screen.
    pub fn text(&self) -> String {
        self.screen.lock().text()
    }

    fn wait_line(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        self.wait(&format!("the cursor is behind `{what}`"), |screen| wanted(&screen.line()));
    }

    fn wait(&self, what: &str, wanted: impl Fn(&TerminalScreen) -> bool) -> String {
        let found = self.screen.wait_for(PATIENCE, |screen| wanted(screen).then(|| screen.text()));
        found.unwrap_or_else(|| panic!("did not happen within {PATIENCE:?}: {what}; the screen is\n{}", self.text()))
    }
}

impl Drop for TestTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Shows output until the program's end is closed everywhere, which the reader sees as EIO.
fn show(mut shown: File, screen: &WatchedValue<TerminalScreen>) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = shown.read(&mut buffer) {
        screen.change(|screen| screen.0.process(&buffer[..n]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_the_terminal_as_its_controlling_one() {
        let mut command = programs::Program::Sh.command();
        command.args([
            "-c",
            "stty -echo; printf '<it> '; read line; echo \"got $line on $(stty size < /dev/tty)\"; exit 3",
        ]);
        let mut terminal = TestTerminal::start(command);
        terminal.wait_prompt("<it>");
        terminal.press("something\r");
        terminal.wait_text(&format!("got something on {ROWS} {COLUMNS}"));
        assert_eq!(terminal.wait_end().code(), Some(3));
    }
}
