//! One session's life, from configuration to removal (one task a session):
//!
//! ```text
//!  resolve ─▶ connect ─▶ follow ─▶ part ─┐
//!     ▲          └──── back off ◀────────┤ failed
//!     └──────────────────────────────────┘ pin changed: at once
//! ```

use std::{
    collections::VecDeque,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{info, warn};

use super::{
    Identity,
    backoff::Backoff,
    connect::{Refusal, connect, reason_of},
    outbox::Outbox,
    pulse::{DEAD_AFTER, Pulse},
    status::{Phase, Status},
};
use crate::{
    config::SessionId,
    feed::{Chunk, Feed, Follower},
    pin::{Grant, Pins, Reason, SessionPin, State, Unresolved},
    sys,
    wire::bmp::{self, MessageType, termination_reason},
};

/// How much of the journal is taken at once.
const TAKE_BYTES: usize = 1 << 20;
/// How much is written before the socket's other side and the pin are looked at again.
const WRITE_BURST: usize = 4 << 20;
/// How long a station has to take the Termination message.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often it is looked whether the station has acknowledged the close, and how often after that whether it closes too.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const HALF_CLOSED_LOOKS: u32 = 20;
/// How often the connection's progress is read.
const PULSE_EVERY: Duration = Duration::from_secs(1);

/// What one session needs.
pub(super) struct Life {
    pub(super) id: SessionId,
    pub(super) feed: Feed,
    pub(super) pins: Pins,
    pub(super) pin: Arc<SessionPin>,
    pub(super) identity: watch::Receiver<Identity>,
    pub(super) status: Arc<Status>,
    /// True when the session shall end.
    pub(super) stop: watch::Receiver<bool>,
}

/// Why a connection is over.
enum End {
    /// The session is removed or bmpd goes away.
    Stopped,
    /// Another pin is in force, or none.
    PinChanged,
    /// The connection failed.
    Failed(Refusal),
}

impl Life {
    pub(super) async fn run(mut self) {
        let mut pin = self.pin.subscribe();
        let mut backoff = Backoff::new();
        loop {
            let Some(grant) = self.resolve(&mut pin).await else { break };
            let end = self.connect_and_follow(&grant, &mut pin, &mut backoff).await;
            match end {
                End::Stopped => break,
                End::PinChanged => backoff.reset(),
                End::Failed(refusal) => {
                    if !self.back_off(refusal, &mut pin, &mut backoff).await {
                        break;
                    }
                }
            }
        }
        self.status.update(|shown| {
            shown.phase = Phase::Down;
            shown.local = None;
        });
    }

    /// Waits until the session may connect. `None` when it is to end.
    async fn resolve(&mut self, pin: &mut watch::Receiver<State>) -> Option<Arc<Grant>> {
        loop {
            let state = pin.borrow_and_update().clone();
            match state {
                State::Ready(grant) => return Some(grant),
                State::Pending => self.status.update(|shown| shown.phase = Phase::Resolving),
                State::Down(unresolved) => self.show_unresolved(&unresolved),
            }
            tokio::select! {
                changed = pin.changed() => changed.ok()?,
                () = stopped(&mut self.stop) => return None,
            }
        }
    }

    async fn connect_and_follow(
        &mut self,
        grant: &Arc<Grant>,
        pin: &mut watch::Receiver<State>,
        backoff: &mut Backoff,
    ) -> End {
        self.status.update(|shown| {
            shown.phase = Phase::Connecting;
            shown.retry_at = None;
        });
        let denied = self.denied();
        let connected = tokio::select! {
            connected = connect(grant, self.pins.datapath()) => connected,
            () = other_pin(pin, grant) => return End::PinChanged,
            () = stopped(&mut self.stop) => return End::Stopped,
        };
        let stream = match connected {
            Ok(stream) => stream,
            Err(refusal) => return End::Failed(self.blame_denial(refusal, denied)),
        };
        backoff.reset();
        let local = stream.local_addr().ok();
        self.status.update(|shown| {
            shown.phase = Phase::Dumping;
            shown.reason = None;
            shown.why = None;
            shown.mend = None;
            shown.local = local;
            shown.established += 1;
        });
        match local {
            Some(local) => info!("session {}: up from {local} to {}", self.id, grant.station),
            None => info!("session {}: up to {}", self.id, grant.station),
        }
        let identity = self.identity.clone();
        let status = Arc::clone(&self.status);
        let mut connection = Connection::new(stream, &self.feed, &status, &identity);
        let end = tokio::select! {
            refusal = connection.follow(&identity) => End::Failed(self.blame_denial(refusal, denied)),
            () = other_pin(pin, grant) => End::PinChanged,
            () = stopped(&mut self.stop) => End::Stopped,
        };
        self.part(connection, &end, pin).await;
        end
    }

    /// Shows the session down and closes the connection: with a Termination message where there is a way for it to leave by.
    async fn part(&self, connection: Connection<'_>, end: &End, pin: &watch::Receiver<State>) {
        let lost_way = matches!(&*pin.borrow(), State::Down(unresolved) if unresolved.reason != Reason::NotConfigured);
        match end {
            End::Failed(_) => {}
            End::PinChanged => {
                let unresolved = match &*pin.borrow() {
                    State::Down(unresolved) => Arc::clone(unresolved),
                    _ => Arc::new(Unresolved {
                        reason: Reason::ConfigurationChanged,
                        why: "what is in force for the session changed".to_owned(),
                        mend: String::new(),
                    }),
                };
                self.show_unresolved(&unresolved);
            }
            End::Stopped => info!("session {}: closing", self.id),
        }
        let retransmits = sys::tcp_progress(&connection.stream).map_or(0, |progress| progress.retransmits);
        self.status.update(|shown| {
            shown.local = None;
            shown.retransmits += u64::from(retransmits);
            shown.live_retransmits = 0;
        });
        if !matches!(end, End::Failed(_)) && !lost_way {
            connection.say_farewell().await;
        }
    }

    /// True when the session goes on, false when it is to end.
    async fn back_off(&mut self, refusal: Refusal, pin: &mut watch::Receiver<State>, backoff: &mut Backoff) -> bool {
        let delay = backoff.delay();
        warn!(
            "session {}: down: {}: {}; next attempt in {:.1} s",
            self.id,
            refusal.reason,
            refusal.why,
            delay.as_secs_f64()
        );
        self.status.update(|shown| {
            shown.phase = Phase::Down;
            shown.reason = Some(refusal.reason);
            shown.why = Some(refusal.why);
            shown.mend = None;
            shown.retry_at = Some(Instant::now() + delay);
        });
        tokio::select! {
            () = tokio::time::sleep(delay) => true,
            // Whatever it was that changed, the next attempt need not wait.
            changed = pin.changed() => {
                backoff.reset();
                changed.is_ok()
            }
            () = stopped(&mut self.stop) => false,
        }
    }

    /// Logged once for each change.
    fn show_unresolved(&self, unresolved: &Unresolved) {
        let shown = self.status.snapshot();
        if shown.phase != Phase::Down || shown.why.as_ref() != Some(&unresolved.why) {
            warn!("session {}: down: {}: {}", self.id, unresolved.reason, unresolved.why);
        }
        self.status.update(|shown| {
            shown.phase = Phase::Down;
            shown.reason = Some(unresolved.reason);
            shown.why = Some(unresolved.why.clone());
            shown.mend = (!unresolved.mend.is_empty()).then(|| unresolved.mend.clone());
            shown.retry_at = None;
        });
    }

    fn denied(&self) -> u64 {
        let counters = self.pins.counters(&self.pin);
        counters.denied_interface + counters.denied_source + counters.denied_no_pin
    }

    /// Silence has a better explanation where the kernel dropped the session's packets.
    fn blame_denial(&self, refusal: Refusal, denied_before: u64) -> Refusal {
        let denied = self.denied().saturating_sub(denied_before);
        let silent = matches!(refusal.reason, Reason::ConnectTimeout | Reason::KeepaliveTimeout);
        if !silent || denied == 0 {
            return refusal;
        }
        let why = format!("the kernel dropped {denied} packets that would have left elsewhere ({})", refusal.why);
        Refusal { reason: Reason::EgressDenied, why }
    }
}

/// An established connection and what is on its way into it.
struct Connection<'a> {
    stream: TcpStream,
    outbox: Outbox,
    follower: Follower,
    chunks: VecDeque<Chunk>,
    status: &'a Status,
    pulse: Pulse,
}

impl<'a> Connection<'a> {
    /// Initiation and the Peer Ups in force come first; the journal from there on follows.
    fn new(stream: TcpStream, feed: &Feed, status: &'a Status, identity: &watch::Receiver<Identity>) -> Self {
        let attachment = feed.attach();
        let mut outbox = Outbox::default();
        outbox.push(initiation(&identity.borrow(), None), MessageType::Initiation);
        outbox.push_counted(attachment.opening, attachment.counts);
        status.update(|shown| {
            shown.complete = attachment.complete;
            shown.dumps += 1;
        });
        let connection = Self {
            stream,
            outbox,
            follower: attachment.follower,
            chunks: VecDeque::new(),
            status,
            pulse: Pulse::default(),
        };
        connection.show_cursor();
        connection
    }

    /// Writes what there is and waits for more, until the connection fails.
    async fn follow(&mut self, identity: &watch::Receiver<Identity>) -> Refusal {
        let mut pulse = interval(PULSE_EVERY);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut dumping = true;
        loop {
            let blocked = match self.write_burst(identity) {
                Ok(blocked) => blocked,
                Err(error) => return failed("write to the station", &error),
            };
            if dumping && self.outbox.is_empty() {
                dumping = false;
                self.status.update(|shown| shown.phase = Phase::Following);
            }
            let result = tokio::select! {
                readable = self.stream.readable() => readable.and_then(|()| self.discard()),
                writable = self.stream.writable(), if blocked => writable.map(|()| None),
                () = self.follower.ready(), if !blocked => Ok(None),
                _ = pulse.tick() => self.check_pulse(),
            };
            match result {
                Ok(None) => {}
                Ok(Some(refusal)) => return refusal,
                Err(error) => return failed("read from the station", &error),
            }
            // A station that always takes what there is must not keep this task from the others of its thread.
            tokio::task::consume_budget().await;
        }
    }

    /// Writes until the socket takes no more (true), all is written, or it is time to look up (false).
    fn write_burst(&mut self, identity: &watch::Receiver<Identity>) -> io::Result<bool> {
        let mut burst = 0;
        while burst < WRITE_BURST {
            if self.outbox.is_empty() && !self.refill(identity) {
                return Ok(false);
            }
            match self.outbox.write(&self.stream, self.status) {
                Ok(written) => burst += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Takes more of the journal. False when there is nothing more.
    fn refill(&mut self, identity: &watch::Receiver<Identity>) -> bool {
        match self.follower.take(TAKE_BYTES, &mut self.chunks) {
            Ok(()) => self.outbox.extend(self.chunks.drain(..)),
            Err(lost) => {
                warn!("session with {:?}: fell off the journal: {lost}", self.stream.peer_addr().ok());
                let note = format!(
                    "{lost}; routes sent before are withdrawn with their peers, and those in between are not sent"
                );
                let rejoined = self.follower.rejoin();
                self.outbox.push(initiation(&identity.borrow(), Some(&note)), MessageType::Initiation);
                self.outbox.push_counted(rejoined.opening, rejoined.counts);
                self.status.update(|shown| {
                    shown.complete = rejoined.complete;
                    shown.dumps += 1;
                });
            }
        }
        self.show_cursor();
        !self.outbox.is_empty()
    }

    fn show_cursor(&self) {
        self.status.moved(self.follower.cursor(), self.follower.position());
    }

    /// Reads and forgets what the station sends: RFC 7854 §3.2 gives it nothing to say. Its end of the stream is an end.
    fn discard(&self) -> io::Result<Option<Refusal>> {
        let mut scratch = [0; 4096];
        loop {
            match self.stream.try_read(&mut scratch) {
                Ok(0) => {
                    let why = "the station closed the connection".to_owned();
                    return Ok(Some(Refusal { reason: Reason::StationClosed, why }));
                }
                Ok(read) => self.status.discard(read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn check_pulse(&mut self) -> io::Result<Option<Refusal>> {
        let progress = sys::tcp_progress(&self.stream)?;
        let queued = sys::send_queue(&self.stream)? > 0;
        self.status.update(|shown| shown.live_retransmits = u64::from(progress.retransmits));
        if !self.pulse.is_dead(progress, queued, Instant::now()) {
            return Ok(None);
        }
        let why = format!("the station has acknowledged nothing for {} s", DEAD_AFTER.as_secs());
        Ok(Some(Refusal { reason: Reason::KeepaliveTimeout, why }))
    }

    /// Finishes the frame in flight, sends a Termination message (RFC 7854 §4.5) and closes. Returns when the station has
    /// acknowledged the close, so that nothing of the session is left to be sent when its pin goes.
    async fn say_farewell(mut self) {
        self.outbox.cut_after_current_frame();
        let mut termination = BytesMut::new();
        bmp::build::termination(&mut termination, termination_reason::ADMINISTRATIVELY_CLOSED, None);
        self.outbox.push(termination.freeze(), MessageType::Termination);
        let farewell = async {
            while !self.outbox.is_empty() {
                self.stream.writable().await?;
                match self.outbox.write(&self.stream, self.status) {
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                    _ => {}
                }
            }
            self.stream.shutdown().await?;
            self.closed().await
        };
        // A station that does not take it, or is gone, is closed all the same.
        let _ = timeout(FAREWELL, farewell).await;
    }

    /// Returns when the station has closed as well, or, if it leaves its half open, soon after it has acknowledged our close.
    async fn closed(&self) -> io::Result<()> {
        let mut acknowledged = 0;
        while acknowledged < HALF_CLOSED_LOOKS {
            // Unread bytes would turn the close into a reset, and the station would lose the Termination message.
            if self.discard()?.is_some() {
                return Ok(());
            }
            if sys::send_queue(&self.stream)? == 0 {
                acknowledged += 1;
            }
            // No event tells that a FIN was acknowledged.
            let _ = timeout(LOOK_EVERY, self.stream.readable()).await;
        }
        Ok(())
    }
}

fn initiation(identity: &Identity, note: Option<&str>) -> Bytes {
    let mut frame = BytesMut::new();
    bmp::build::initiation(&mut frame, &identity.sys_descr, &identity.sys_name, note);
    frame.freeze()
}

fn failed(what: &str, error: &io::Error) -> Refusal {
    let reason = match error.kind() {
        // The kernel's verdict when keepalive probes or retransmissions were not answered.
        io::ErrorKind::TimedOut => Reason::KeepaliveTimeout,
        _ => reason_of(error, Reason::ConnectionReset),
    };
    Refusal { reason, why: format!("{what}: {error}") }
}

/// Returns when another pin than `grant` is in force.
async fn other_pin(pin: &mut watch::Receiver<State>, grant: &Arc<Grant>) {
    let same = |state: &State| matches!(state, State::Ready(now) if Arc::ptr_eq(now, grant));
    // An error means that nobody decides about pins any more: the one in force stays.
    if pin.wait_for(|state| !same(state)).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Returns when the session is to end.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the owner is gone, which is an end as well.
    let _ = stop.wait_for(|stop| *stop).await;
}
