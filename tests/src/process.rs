//! Programs that the lab starts: their output, line by line, and their exit.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait::{PATIENCE, WatchedValue, until};

/// Ends the message about a missing program.
pub const INSTALL: &str = " (`cargo xtask test` installs what the tests need)";

/// Runs a program to its end and returns its stdout.
///
/// # Panics
/// If the program cannot be started or fails, with its stderr.
pub fn answer(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("cannot start {:?}: {e}{INSTALL}", command.get_program()));
    assert!(
        output.status.success(),
        "{command:?}: {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A program that runs beside the test. Dropping it kills the program by its process id.
#[derive(Debug)]
pub struct ChildProgram {
    name: String,
    child: Child,
    lines: Arc<WatchedValue<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl ChildProgram {
    /// Starts `command` and reads stdout and stderr line by line.
    pub fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name}: {e}{INSTALL}"));
        let lines = Arc::<WatchedValue<Vec<String>>>::default();
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            readers.push(read_lines(stdout, Arc::clone(&lines)));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.push(read_lines(stderr, Arc::clone(&lines)));
        }
        Self { name, child, lines, readers }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns all lines written so far, of both outputs.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    /// Waits for a line that satisfies `wanted`, starting at line number `from`, and returns it.
    ///
    /// # Panics
    /// If no such line appears within `patience`, with all lines.
    pub fn wait_for_line(&self, what: &str, from: usize, patience: Duration, wanted: impl Fn(&str) -> bool) -> String {
        self.lines
            .wait_for(patience, |lines| lines.iter().skip(from).find(|line| wanted(line)).cloned())
            .unwrap_or_else(|| {
                panic!("{} did not print {what} within {patience:?}:\n{}", self.name, self.lines().join("\n"))
            })
    }

    /// Waits until there are more than `known` lines, or until `patience` is over.
    pub fn wait_for_more(&self, known: usize, patience: Duration) {
        self.lines.wait_for(patience, |lines| (lines.len() > known).then_some(()));
    }

    /// Returns the exit status if the program has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the program is a child of this process")
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id is positive");
        kill(Pid::from_raw(pid), signal).unwrap_or_else(|e| panic!("cannot send {signal} to {}: {e}", self.name));
    }

    /// Waits for the exit of the program. All its lines are readable on return.
    ///
    /// # Panics
    /// If the program does not exit within [`PATIENCE`].
    pub fn wait(&mut self) -> ExitStatus {
        let what = format!("{} (process {}) ends", self.name, self.pid());
        let status = until(&what, PATIENCE, || self.child.try_wait().expect("the program is a child of this process"));
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        status
    }

    /// Sends SIGTERM and waits for the exit.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }
}

impl Drop for ChildProgram {
    #[expect(clippy::print_stderr, reason = "the test harness shows what the macro prints with the test that failed")]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            // Show the output of programs for failed tests only.
            let lines = self.lines().join("\n  ");
            eprintln!("--- {} (process {}) printed:\n  {lines}", self.name, self.child.id());
        }
    }
}

fn read_lines(output: impl Read + Send + 'static, lines: Arc<WatchedValue<Vec<String>>>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            lines.change(|lines| lines.push(text));
        }
    })
}

#[cfg(test)]
mod tests {
    use programs::{Built, Program};

    use super::*;

    #[test]
    fn lines_of_stdout_and_stderr_are_read_and_waited_for() {
        let mut shell = ChildProgram::start(Program::Sh.command().args(["-c", "echo out; echo err >&2; exit 3"]));
        shell.wait_for_line("out", 0, PATIENCE, |line| line == "out");
        shell.wait_for_line("err", 0, PATIENCE, |line| line == "err");
        assert_eq!(shell.wait().code(), Some(3));
        assert_eq!(shell.lines().len(), 2);
    }

    #[test]
    #[should_panic(expected = "cargo xtask test")]
    fn the_message_about_an_absent_program_says_how_to_install_it() {
        answer(&mut Built::at("/no/such/program").command());
    }
}
