//! What a session shows of itself: written by its task, read by displays.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::debugging::SessionDebugging;
use crate::{
    escape::Untrusted,
    feed::{DumpProgress, FrameCounts, HiddenPeer},
    pin::{DownCause, Reason},
    signing::KeyReport,
    tls::TlsReport,
};

/// What a session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionPhase {
    /// Not started.
    Idle,
    /// Waiting for its pin.
    Resolving,
    /// Waiting for the station to answer.
    Connecting,
    /// Waiting for the station to connect.
    Listening,
    /// Telling the station what is in force.
    Dumping,
    /// Following the journal.
    Following,
    /// Not connected, for the shown reason.
    Down,
}

impl SessionPhase {
    /// All phases.
    pub const ALL: [Self; 7] =
        [Self::Idle, Self::Resolving, Self::Connecting, Self::Listening, Self::Dumping, Self::Following, Self::Down];

    /// The word in `display` and in its JSON.
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

    /// True if the station is connected.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Dumping | Self::Following)
    }
}

/// The process that opened an adopted session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionProcess {
    /// Its id.
    pub id: u32,
    /// The name that it gives itself.
    pub name: Untrusted,
}

/// Where the reason of a session that is down comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CauseOrigin {
    /// A connection or an attempt, which ended for it. It is shown until the next connection.
    Connection,
    /// The pin, which is not in force. It is shown until the pin is.
    Pin,
}

/// The dump that is on its way to a station, or about to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownDump {
    /// How far it is. `None` before it begins, and if it only tells what changed.
    pub progress: Option<DumpProgress>,
    /// When it begins. `None` once it has.
    pub begins_at: Option<Instant>,
    /// Since when it is measured, and how many routes had been told then.
    pub(super) measured_from: Option<(Instant, u64)>,
}

impl ShownDump {
    /// Returns how long the rest takes at the measured speed. `None` where nothing is measured.
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        let DumpProgress { told, total } = self.progress?;
        let (since, told_before) = self.measured_from?;
        let measured = told.saturating_sub(told_before);
        let seconds = now.saturating_duration_since(since).as_secs_f64();
        let rest = total.saturating_sub(told);
        let remaining = seconds * rest as f64 / measured as f64;
        (measured > 0 && seconds > 0.0).then(|| Duration::try_from_secs_f64(remaining).ok()).flatten()
    }
}

/// A reading of [`SessionStatus`].
#[derive(Clone, Debug)]
pub struct SessionSnapshot {
    /// What the session is doing.
    pub phase: SessionPhase,
    /// Why it is down.
    pub reason: Option<Reason>,
    /// The reason in a sentence.
    pub why: Option<String>,
    /// The command that would mend it.
    pub mend: Option<String>,
    /// Where the reason comes from.
    pub origin: CauseOrigin,
    /// When it last went up or down.
    pub since: Instant,
    /// The near end of the connection.
    pub local: Option<SocketAddr>,
    /// The process that opened an adopted session that is up.
    pub process: Option<SessionProcess>,
    /// How many connections have been established.
    pub established: u64,
    /// The source of the newest connection.
    pub source: Option<IpAddr>,
    /// How many connections had another source than the one before.
    pub source_changes: u64,
    /// When the next attempt is due.
    pub retry_at: Option<Instant>,
    /// How many times the station was sent the state, or what had changed of it, instead of the
    /// journal.
    pub dumps: u64,
    /// The dump that is on its way. `None` without one.
    pub dump: Option<ShownDump>,
    /// Segments sent again by earlier connections.
    pub retransmits: u64,
    /// Segments sent again by this connection.
    pub live_retransmits: u64,
    /// [`Grant::line`](crate::pin::Grant::line) of the pin that all this is under. `None` before
    /// the first pin.
    pub pin_line: Option<u64>,
    /// How many times the session has begun to connect, or to wait for its station.
    pub attempts: u64,
    /// The keys of the connection, if TCP-AO signs it.
    pub keys: Option<KeyReport>,
    /// What TLS there is on the connection.
    pub tls: Option<TlsReport>,
    /// The routers that have a connection of their own, or are to have one.
    pub routers: usize,
    /// The routers that have none, because there are too many.
    pub routers_left_out: usize,
}

impl SessionSnapshot {
    /// Shows no reason.
    pub(super) fn clear_cause(&mut self) {
        (self.reason, self.why, self.mend, self.origin) = (None, None, None, CauseOrigin::Connection);
    }

    /// Shows why the session is down, or why its last connection ended.
    pub(super) fn set_cause(&mut self, cause: &DownCause, origin: CauseOrigin) {
        let DownCause { reason, why, mend } = cause;
        let mend = Some(mend).filter(|mend| !mend.is_empty());
        (self.reason, self.why, self.mend) = (Some(*reason), Some(why.clone()), mend.cloned());
        self.origin = origin;
    }
}

/// What a session shows of itself: written by its task, read by whoever displays it.
#[derive(Debug)]
pub struct SessionStatus {
    shown: Mutex<SessionSnapshot>,
    messages: Mutex<FrameCounts>,
    cursor: AtomicU64,
    position: AtomicU64,
    discarded: AtomicU64,
    sent_bytes: AtomicU64,
    hidden: Mutex<Vec<HiddenPeer>>,
    debugging: Arc<SessionDebugging>,
    /// The session that this is a connection of, if each router has a connection of its own.
    whole: Option<WholeSession>,
}

/// The session of all routers, for the connection of one.
#[derive(Debug)]
struct WholeSession {
    status: Arc<SessionStatus>,
    /// Wakes the task of the session when a connection goes up or down.
    changed: Arc<Notify>,
}

impl SessionStatus {
    pub(super) fn new() -> Self {
        Self {
            shown: Mutex::new(SessionSnapshot {
                phase: SessionPhase::Idle,
                reason: None,
                why: None,
                mend: None,
                origin: CauseOrigin::Connection,
                since: Instant::now(),
                local: None,
                process: None,
                established: 0,
                source: None,
                source_changes: 0,
                retry_at: None,
                dumps: 0,
                dump: None,
                retransmits: 0,
                live_retransmits: 0,
                pin_line: None,
                attempts: 0,
                keys: None,
                tls: None,
                routers: 0,
                routers_left_out: 0,
            }),
            messages: Mutex::default(),
            cursor: AtomicU64::new(0),
            position: AtomicU64::new(0),
            discarded: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            hidden: Mutex::default(),
            debugging: Arc::default(),
            whole: None,
        }
    }

    /// Returns the status of the connection of one router. What it sends counts for `whole` too.
    /// `changed` wakes whoever shows `whole`.
    pub(super) fn of_router(whole: &Arc<Self>, changed: &Arc<Notify>) -> Self {
        let debugging = Arc::clone(&whole.debugging);
        let whole = WholeSession { status: Arc::clone(whole), changed: Arc::clone(changed) };
        Self { debugging, whole: Some(whole), ..Self::new() }
    }

    /// Returns a reading.
    pub fn snapshot(&self) -> SessionSnapshot {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the messages sent since the session was configured.
    pub fn messages(&self) -> FrameCounts {
        *self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the peers that are left out because the station could not tell them from those of
    /// other inputs.
    pub fn hidden_peers(&self) -> Vec<HiddenPeer> {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns how far the session has got in the journal: the sequence number of the next frame,
    /// and the journal bytes before it.
    pub fn cursor(&self) -> (u64, u64) {
        (self.cursor.load(Relaxed), self.position.load(Relaxed))
    }

    /// Returns how many bytes the station sent. BMP gives a station nothing to send.
    pub fn discarded(&self) -> u64 {
        self.discarded.load(Relaxed)
    }

    /// Returns how many bytes of BMP were sent since the session was configured.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Relaxed)
    }

    /// Returns what an operator wants to see of the session.
    pub fn debugging(&self) -> &SessionDebugging {
        &self.debugging
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut SessionSnapshot)) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let (was_up, phase_before, reason_before) = (shown.phase.is_up(), shown.phase, shown.reason);
        change(&mut shown);
        if let Some(source) = shown.local.map(|local| local.ip().to_canonical()).filter(|_| shown.phase.is_up()) {
            let before = shown.source.replace(source);
            shown.source_changes += u64::from(before.is_some_and(|before| before != source));
        }
        if shown.phase.is_up() != was_up {
            shown.since = Instant::now();
            shown.dump = None;
        }
        if let Some(whole) =
            self.whole.as_ref().filter(|_| (shown.phase, shown.reason) != (phase_before, reason_before))
        {
            whole.changed.notify_one();
        }
    }

    /// Shows no reason of the pin, which is in force. The end of the last connection stays.
    pub(super) fn clear_pin_cause(&self) {
        self.update(|shown| {
            if shown.origin == CauseOrigin::Pin {
                shown.clear_cause();
            }
        });
    }

    /// Notes that the session begins to connect or to listen under this pin.
    pub(super) fn begin_attempt(&self, pin_line: u64) {
        self.update(|shown| {
            shown.phase = SessionPhase::Resolving;
            shown.pin_line = Some(pin_line);
            shown.attempts += 1;
        });
    }

    pub(super) fn count_sent(&self, counts: FrameCounts) {
        *self.messages.lock().unwrap_or_else(PoisonError::into_inner) += counts;
        if let Some(whole) = &self.whole {
            whole.status.count_sent(counts);
        }
    }

    pub(super) fn set_cursor(&self, cursor: u64, position: u64) {
        self.cursor.store(cursor, Relaxed);
        self.position.store(position, Relaxed);
    }

    pub(super) fn set_hidden_peers(&self, hidden: Vec<HiddenPeer>) {
        *self.hidden.lock().unwrap_or_else(PoisonError::into_inner) = hidden;
    }

    pub(super) fn count_sent_bytes(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn count_discarded(&self, bytes: usize) {
        self.discarded.fetch_add(bytes as u64, Relaxed);
    }
}
