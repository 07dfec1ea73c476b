//! What a service manager is told (sd_notify(3)), and the watchdog that it keeps on bmpd.
//!
//! A thread of its own sends every message, so a manager that does not read holds up nothing. It
//! tells the manager that bmpd lives only while every needed task proves that it runs: see
//! [`tasks::begin_round`]. Without `NOTIFY_SOCKET` in the environment there is no manager, and
//! everything here does nothing.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tracing::{error, info, warn};

use crate::{escape::escaped, sys, tasks};

/// How many rounds of the watchdog fit into the time after which the manager ends bmpd.
const ROUNDS: u32 = 10;
/// The time between two looks at the state where the manager keeps no watchdog.
const LOOK: Duration = Duration::from_secs(5);
/// How long the manager may take to read a message.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest sentence that the manager is told, in bytes.
const SENTENCE_MAX: usize = 400;

/// What happened.
#[derive(Debug)]
enum ServiceEvent {
    Ready,
    Reloading,
    /// A reload ended; with the error, the earlier configuration stays in force.
    Reloaded(Result<(), String>),
    Stopping,
}

/// Tells the service manager what happens. Clones are for the same manager.
#[derive(Clone, Debug)]
pub(crate) struct ServiceManager(Option<Sender<ServiceEvent>>);

impl ServiceManager {
    /// Finds the manager in the environment. `state` describes, in one sentence without its full
    /// stop, what bmpd does now.
    ///
    /// # Errors
    ///
    /// The environment names a socket that cannot be used.
    pub(crate) fn find(state: impl Fn() -> String + Send + 'static) -> anyhow::Result<Self> {
        let Some(path) = env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else { return Ok(Self(None)) };
        let socket = connect(&path).with_context(|| format!("cannot use NOTIFY_SOCKET {}", path.display()))?;
        let watchdog = watchdog(&|name| env::var_os(name), std::process::id());
        let (sender, events) = mpsc::channel();
        let interval = watchdog.map_or(LOOK, |time| time / ROUNDS);
        let told = Told { socket, state, failure: None, sentence: String::new(), late: Vec::new(), is_lost: false };
        tasks::thread("service manager", move || told.follow(&events, interval, watchdog.is_some()))?;
        Ok(Self(Some(sender)))
    }

    /// What the configuration asks of the kernel is in force.
    pub(crate) fn ready(&self) {
        self.tell(ServiceEvent::Ready);
    }

    /// The configuration file is about to be read again.
    pub(crate) fn reloading(&self) {
        self.tell(ServiceEvent::Reloading);
    }

    /// The reload has ended. An error means that it changed nothing.
    pub(crate) fn reloaded(&self, result: Result<(), String>) {
        self.tell(ServiceEvent::Reloaded(result));
    }

    /// bmpd is about to end.
    pub(crate) fn stopping(&self) {
        self.tell(ServiceEvent::Stopping);
    }

    fn tell(&self, event: ServiceEvent) {
        // An error means that the thread has ended, with bmpd.
        let _ = self.0.as_ref().map(|sender| sender.send(event));
    }
}

/// Connects to the socket of the manager. A path that begins with `@` is in the abstract namespace
/// (unix(7)).
fn connect(path: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(path)?,
    }
    Ok(socket)
}

/// Returns the time after which the manager ends a process that says nothing
/// (sd_watchdog_enabled(3)). `None` if it keeps no watchdog on this process.
fn watchdog(variable: &dyn Fn(&str) -> Option<OsString>, own: u32) -> Option<Duration> {
    let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
    if variable("WATCHDOG_PID").is_some() && number("WATCHDOG_PID") != Some(own.into()) {
        return None;
    }
    number("WATCHDOG_USEC").filter(|time| *time > 0).map(Duration::from_micros)
}

/// What the manager was told.
struct Told<F> {
    socket: UnixDatagram,
    state: F,
    /// Why the last reload changed nothing.
    failure: Option<String>,
    /// The last sentence.
    sentence: String,
    /// The tasks that hang.
    late: Vec<&'static str>,
    /// True after a message was lost.
    is_lost: bool,
}

impl<F: Fn() -> String> Told<F> {
    fn follow(mut self, events: &Receiver<ServiceEvent>, interval: Duration, has_watchdog: bool) {
        let mut is_ready = false;
        let mut due = Instant::now() + interval;
        loop {
            match events.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(ServiceEvent::Ready) => {
                    is_ready = true;
                    self.tell(&["READY=1"]);
                }
                Ok(ServiceEvent::Reloading) => {
                    let now = format!("MONOTONIC_USEC={}", sys::monotonic().as_micros());
                    self.send(&["RELOADING=1", &now, "STATUS=reading the configuration file again"]);
                }
                Ok(ServiceEvent::Reloaded(result)) => {
                    self.failure = result.err();
                    self.tell(&["READY=1"]);
                }
                Ok(ServiceEvent::Stopping) => {
                    return self.send(&["STOPPING=1", "STATUS=closing the sessions"]);
                }
                Err(RecvTimeoutError::Timeout) => {
                    due = Instant::now() + interval;
                    self.look(is_ready, has_watchdog);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Tells the manager that bmpd lives, unless a task hangs, and what it does, if that changed.
    fn look(&mut self, is_ready: bool, has_watchdog: bool) {
        let late = if has_watchdog { tasks::begin_round() } else { Vec::new() };
        if late != self.late {
            match late.is_empty() {
                true => info!("every task runs again"),
                false => {
                    error!("a fault of bmpd: {}: the service manager is not told that bmpd lives", tasks::hang(&late))
                }
            }
            self.late = late;
        }
        let alive: &[&str] = if has_watchdog && self.late.is_empty() { &["WATCHDOG=1"] } else { &[] };
        if is_ready && self.sentence() != self.sentence {
            self.tell(alive);
        } else if !alive.is_empty() {
            self.send(alive);
        }
    }

    /// Sends `assignments` with the sentence of now.
    fn tell(&mut self, assignments: &[&str]) {
        self.sentence = self.sentence();
        let status = format!("STATUS={}", self.sentence);
        self.send(&[assignments, &[&status]].concat());
    }

    fn sentence(&self) -> String {
        let mut sentence = if self.late.is_empty() { (self.state)() } else { tasks::hang(&self.late) };
        if let Some(why) = &self.failure {
            sentence = format!("{sentence}; the last reload failed and changed nothing: {why}");
        }
        let mut line = escaped(&sentence).to_string();
        if line.len() > SENTENCE_MAX {
            line.truncate(line.floor_char_boundary(SENTENCE_MAX));
            line.push('…');
        }
        line
    }

    fn send(&mut self, assignments: &[&str]) {
        match self.socket.send(assignments.join("\n").as_bytes()) {
            Ok(_) => self.is_lost = false,
            Err(error) => {
                if !std::mem::replace(&mut self.is_lost, true) {
                    warn!("the service manager does not take messages: {error}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_is_kept_on_the_process_that_it_names() {
        let with = |pid: Option<&str>, time: Option<&str>| {
            let of = |name: &str| if name == "WATCHDOG_PID" { pid } else { time };
            watchdog(&|name| of(name).map(OsString::from), 7)
        };
        assert_eq!(with(Some("7"), Some("30000000")), Some(Duration::from_secs(30)));
        assert_eq!(with(None, Some("1500000")), Some(Duration::from_millis(1500)));
        for (pid, time) in [(Some("8"), Some("1")), (Some("x"), Some("1")), (None, None), (None, Some("0"))] {
            assert_eq!(with(pid, time), None, "{pid:?} {time:?}");
        }
    }

    #[test]
    fn a_sentence_is_one_line_of_bounded_length() {
        let (socket, _manager) = UnixDatagram::pair().unwrap();
        let failure = Some(format!("a line\nand another {}", "é".repeat(SENTENCE_MAX)));
        let state = || "1 of 1 sessions is up".to_owned();
        let told = Told { socket, state, failure, sentence: String::new(), late: Vec::new(), is_lost: false };
        let sentence = told.sentence();
        assert!(
            sentence.starts_with(
                "1 of 1 sessions is up; the last reload failed and changed nothing: a line\\nand another éé"
            )
        );
        assert!(sentence.len() <= SENTENCE_MAX + '…'.len_utf8() && !sentence.contains('\n'), "{sentence}");
    }

    #[test]
    fn an_abstract_socket_is_reached() {
        let name = format!("bmpd-notify-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        connect(OsStr::new(&format!("@{name}"))).unwrap().send(b"READY=1").unwrap();
        let mut message = [0; 16];
        let length = manager.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"READY=1");
    }
}
