//! A service manager, as far as a daemon sees it: the socket of sd_notify(3).

use std::{
    io::ErrorKind,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::wait::{PATIENCE, patience};

/// The longest message of sd_notify(3), in bytes.
const LONGEST: usize = 4096;

/// A service manager that starts one daemon and reads its messages.
#[derive(Debug)]
pub struct TestServiceManager {
    socket: UnixDatagram,
    folder: TempDir,
}

/// One message: its assignments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceMessage(Vec<String>);

impl ServiceMessage {
    /// True if the message has this assignment, such as `READY=1`.
    pub fn has(&self, assignment: &str) -> bool {
        self.0.iter().any(|line| line == assignment)
    }

    /// Returns the value of a variable.
    pub fn value(&self, variable: &str) -> Option<&str> {
        self.0.iter().find_map(|line| line.strip_prefix(variable)?.strip_prefix('='))
    }

    /// Returns the `STATUS`; empty if the message has none.
    pub fn status(&self) -> &str {
        self.value("STATUS").unwrap_or_default()
    }
}

impl TestServiceManager {
    /// Opens the socket.
    #[expect(clippy::new_without_default, reason = "it makes a socket in a folder")]
    pub fn new() -> Self {
        let folder = TempDir::with_prefix("lab-manager-").expect("a temporary folder can be made");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket can be made");
        Self { socket, folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("notify")
    }

    /// Has the daemon that `command` starts tell this manager. With `watchdog` it must say within
    /// that time that it lives.
    pub fn supervise(&self, command: &mut Command, watchdog: Option<Duration>) {
        command.env("NOTIFY_SOCKET", self.path()).env_remove("WATCHDOG_PID").env_remove("WATCHDOG_USEC");
        if let Some(watchdog) = watchdog {
            command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        }
    }

    /// Returns the next message, or `None` after `time` without one.
    ///
    /// # Panics
    /// If a message is not text.
    pub fn next_within(&self, time: Duration) -> Option<ServiceMessage> {
        let mut bytes = [0; LONGEST];
        self.socket.set_read_timeout(Some(time.max(Duration::from_millis(1)))).expect("a timeout can be set");
        let length = match self.socket.recv(&mut bytes) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return None,
            Err(error) => panic!("the socket of the service manager: {error}"),
        };
        let text = std::str::from_utf8(&bytes[..length]).expect("a message is text");
        Some(ServiceMessage(text.lines().map(str::to_owned).collect()))
    }

    /// Waits for a message that satisfies `wanted`, and returns the messages up to it.
    ///
    /// # Panics
    /// If none arrives within [`PATIENCE`], with the messages that did.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&ServiceMessage) -> bool) -> Vec<ServiceMessage> {
        let deadline = Instant::now() + patience(PATIENCE);
        let mut messages = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next_within(left) {
                Some(message) => {
                    let found = wanted(&message);
                    messages.push(message);
                    if found {
                        return messages;
                    }
                }
                None => panic!("the service manager was not told {what}; it was told {messages:#?}"),
            }
        }
    }
}
