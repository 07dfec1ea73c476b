//! What a session shows of itself.

use std::{
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use crate::{
    escape::Untrusted,
    feed::{Counts, HiddenPeer},
    pin::{Reason, Unresolved},
};

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not started.
    Idle,
    /// Waiting for its source and egress.
    Resolving,
    /// Waiting for the station to answer.
    Connecting,
    /// Waiting for the station to connect.
    Listening,
    /// Telling the station what is in force.
    Dumping,
    /// Following the journal.
    Following,
    /// Not connected; see the reason.
    Down,
}

impl Phase {
    /// The string of `display` and of its JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Resolving => "resolving",
            Self::Connecting => "connecting",
            Self::Listening => "listening",
            Self::Dumping => "dumping",
            Self::Following => "following",
            Self::Down => "down",
        }
    }

    /// Whether the station is connected.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Dumping | Self::Following)
    }
}

/// The process that owns an adopted session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub id: u32,
    /// What it calls itself.
    pub name: Untrusted,
}

/// A reading of [`Status`].
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Where the session is in its life.
    pub phase: Phase,
    /// Why it is down.
    pub reason: Option<Reason>,
    /// The reason in a sentence.
    pub why: Option<String>,
    /// The command that would mend it.
    pub mend: Option<String>,
    /// Whether that is the pin's reason rather than a connection's: it is none any more when the pin is in force.
    pub of_pin: bool,
    /// When it last went up or down.
    pub since: Instant,
    /// The near end of the connection.
    pub local: Option<SocketAddr>,
    /// Of an adopted session that is up, whose connection it is.
    pub process: Option<Process>,
    /// How many connections have been established.
    pub established: u64,
    /// When the next attempt is due.
    pub retry_at: Option<Instant>,
    /// How many times a station was told the state, or what had changed of it, instead of following the journal.
    pub dumps: u64,
    /// Segments sent again by the connections before this one.
    pub retransmits: u64,
    /// Segments sent again by this one.
    pub live_retransmits: u64,
    /// The pin that all this is under: its [`crate::pin::Grant::line`]. `None` before the first one.
    pub pin_line: Option<u64>,
    /// How many times the session has begun to connect, or to wait for its station.
    pub attempts: u64,
}

impl Snapshot {
    /// Nothing is the matter.
    pub(super) fn no_reason(&mut self) {
        (self.reason, self.why, self.mend, self.of_pin) = (None, None, None, false);
    }

    /// Something is the matter with a connection, or its end.
    pub(super) fn for_reason(&mut self, reason: Reason, why: String, mend: Option<String>) {
        let mend = mend.filter(|mend| !mend.is_empty());
        (self.reason, self.why, self.mend, self.of_pin) = (Some(reason), Some(why), mend, false);
    }

    /// The same; with `of_pin` it is what keeps the pin from being in force.
    pub(super) fn for_unresolved(&mut self, unresolved: &Unresolved, of_pin: bool) {
        self.for_reason(unresolved.reason, unresolved.why.clone(), Some(unresolved.mend.clone()));
        self.of_pin = of_pin;
    }
}

/// What a session shows of itself: written by its task, read by whoever displays it.
#[derive(Debug)]
pub struct Status {
    shown: Mutex<Snapshot>,
    messages: Mutex<Counts>,
    cursor: AtomicU64,
    position: AtomicU64,
    discarded: AtomicU64,
    hidden: Mutex<Vec<HiddenPeer>>,
}

impl Status {
    pub(super) fn new() -> Self {
        Self {
            shown: Mutex::new(Snapshot {
                phase: Phase::Idle,
                reason: None,
                why: None,
                mend: None,
                of_pin: false,
                since: Instant::now(),
                local: None,
                process: None,
                established: 0,
                retry_at: None,
                dumps: 0,
                retransmits: 0,
                live_retransmits: 0,
                pin_line: None,
                attempts: 0,
            }),
            messages: Mutex::default(),
            cursor: AtomicU64::new(0),
            position: AtomicU64::new(0),
            discarded: AtomicU64::new(0),
            hidden: Mutex::default(),
        }
    }

    /// A reading.
    pub fn snapshot(&self) -> Snapshot {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Messages sent since the session was configured.
    pub fn messages(&self) -> Counts {
        *self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peers that the station is not told of because it could not tell them from those of other inputs.
    pub fn hidden_peers(&self) -> Vec<HiddenPeer> {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How far the session has got in the journal: sequence number of the next frame, and journal bytes before it.
    pub fn cursor(&self) -> (u64, u64) {
        (self.cursor.load(Relaxed), self.position.load(Relaxed))
    }

    /// Bytes that the station sent, which no station has a reason to.
    pub fn discarded(&self) -> u64 {
        self.discarded.load(Relaxed)
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let was_up = shown.phase.is_up();
        change(&mut shown);
        if shown.phase.is_up() != was_up {
            shown.since = Instant::now();
        }
    }

    /// The pin is in force: what kept it from that is not the matter any more. Why the last connection ended stays.
    pub(super) fn mended(&self) {
        self.update(|shown| {
            if shown.of_pin {
                shown.no_reason();
            }
        });
    }

    /// The session begins to connect, or to wait, under this pin.
    pub(super) fn begins(&self, pin_line: u64) {
        self.update(|shown| {
            shown.phase = Phase::Resolving;
            shown.pin_line = Some(pin_line);
            shown.attempts += 1;
        });
    }

    pub(super) fn sent(&self, counts: Counts) {
        *self.messages.lock().unwrap_or_else(PoisonError::into_inner) += counts;
    }

    pub(super) fn moved(&self, cursor: u64, position: u64) {
        self.cursor.store(cursor, Relaxed);
        self.position.store(position, Relaxed);
    }

    pub(super) fn set_hidden_peers(&self, hidden: Vec<HiddenPeer>) {
        *self.hidden.lock().unwrap_or_else(PoisonError::into_inner) = hidden;
    }

    pub(super) fn discard(&self, bytes: usize) {
        self.discarded.fetch_add(bytes as u64, Relaxed);
    }
}
