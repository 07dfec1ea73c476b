//! An established connection: what is in force first, then what changes, and a farewell.
//!
//! A stream follows the configuration by itself, as far as it says what the station is told.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use socket2::SockRef;
use tokio::{
    sync::watch,
    time::{Interval, MissedTickBehavior, interval, interval_at, sleep_until, timeout},
};
use tracing::{info, warn};

use super::{
    DeviceIdentity,
    connect::{StationConnection, set_keepalive},
    debugging::MessageTrace,
    label::SessionLabel,
    outbox::Outbox,
    pacer::DumpPacer,
    pulse::{DEAD_AFTER, Pulse},
    selection::selection,
    status::{SessionPhase, SessionStatus},
    transport::StationTransport,
};
use crate::{
    config::{
        BmpConfig, Config, DebuggingTopic, LineText, MEGABYTE, SessionConfig, SessionId, SessionKeepalive, dump_rate,
        initial_refresh_wait, initiation_message,
    },
    feed::{DEFAULT_JOURNAL_BYTES, Follower, HiddenPeer},
    pin::{DownCause, Reason},
    signing::{self, ConnectionKeys},
    sys,
    tls::TlsError,
    wire::bmp::{self, Frame, MessageType, termination_reason},
};

/// How many bytes of the feed are taken at once.
const TAKE_BYTES: usize = 1 << 20;
/// How many bytes are written before the station, the configuration and the pin get their turn.
const WRITE_BURST: usize = 4 << 20;
/// How often what a station sends is read before the rest gets its turn.
const DISCARD_READS: usize = 16;
/// How long a station has to take the Termination message.
pub const FAREWELL: Duration = Duration::from_secs(2);
/// How often the task checks whether the station has acknowledged the close.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How many of these checks wait for the station's own close after that.
const HALF_CLOSED_LOOKS: u32 = 20;
/// How often the connection's progress is read.
const PULSE_EVERY: Duration = Duration::from_secs(1);

// A larger `buffer-limit` would change nothing.
const _: () = assert!(SessionConfig::LARGEST_BUFFER as usize * MEGABYTE == DEFAULT_JOURNAL_BYTES);

/// What a stream needs of its session.
pub(super) struct StreamContext {
    pub(super) id: SessionId,
    pub(super) label: SessionLabel,
    pub(super) config: watch::Receiver<Arc<Config>>,
    pub(super) status: Arc<SessionStatus>,
}

impl StreamContext {
    /// Returns the text of the session's Initiation messages, as it is configured now.
    fn initiation_message(&self) -> Option<LineText> {
        let config = self.config.borrow();
        let session = config.bmp.sessions.get(&self.id)?;
        initiation_message(&config.bmp, session).cloned()
    }
}

/// An established connection and what is on its way into it.
pub(super) struct StationStream {
    context: StreamContext,
    transport: StationTransport,
    keys: Option<ConnectionKeys>,
    outbox: Outbox,
    follower: Follower,
    /// [`Follower::dumps`] as it was shown last.
    dumps: u64,
    /// [`Follower::falls`] as it was logged last.
    falls: u64,
    /// True while a dump is on its way.
    is_dumping: bool,
    pacer: DumpPacer,
    /// [`Follower::hidden_changes`] as it was shown last.
    hidden_changes: u64,
    /// What this device called itself when the stream began.
    identity: DeviceIdentity,
    /// The text of the last Initiation.
    initiation_message: Option<LineText>,
    /// The keepalive that the socket has. `None` before it was set.
    keepalive: Option<SessionKeepalive>,
    /// When the station gets Statistics Reports. `None` if it gets them as they come.
    statistics_timer: Option<Interval>,
    /// When the station gets derived Statistics Reports. `None` if it gets none.
    derived_timer: Option<Interval>,
    trace: MessageTrace,
    pulse: Pulse,
    pulse_timer: Interval,
}

impl StationStream {
    /// Begins a stream. Initiation comes first, and what the feed has follows.
    pub(super) fn new(
        context: StreamContext,
        StationConnection { transport, keys }: StationConnection,
        follower: Follower,
        identity: &DeviceIdentity,
    ) -> Self {
        let mut outbox = Outbox::default();
        let initiation_message = context.initiation_message();
        outbox.push(initiation(identity, initiation_message.as_ref()), MessageType::Initiation);
        let mut pulse_timer = interval(PULSE_EVERY);
        pulse_timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stream = Self {
            context,
            transport,
            keys,
            outbox,
            follower,
            dumps: 0,
            falls: 0,
            is_dumping: true,
            pacer: DumpPacer::new(Instant::now()),
            hidden_changes: 0,
            identity: identity.clone(),
            initiation_message,
            keepalive: None,
            statistics_timer: None,
            derived_timer: None,
            trace: MessageTrace::default(),
            pulse: Pulse::default(),
            pulse_timer,
        };
        stream.follow_settings();
        stream
    }

    /// Writes what there is and waits for more. Returns why the connection failed. Nothing is lost
    /// when the future is dropped: the next call goes on.
    pub(super) async fn follow(&mut self) -> DownCause {
        loop {
            let blocked = match self.write_burst() {
                Ok(blocked) => blocked,
                Err(error) => return self.failed_to_write(&error),
            };
            if self.is_dumping && self.outbox.is_empty() && !self.follower.is_dumping() {
                self.is_dumping = false;
                self.pacer.end();
                self.context.status.update(|shown| {
                    shown.phase = SessionPhase::Following;
                    shown.dump = None;
                });
            }
            let is_waiting = self.pacer.is_waiting();
            let is_paced = is_waiting || self.follower.waits_for_allowance();
            let next_step = self.pacer.next().filter(|_| is_paced && !blocked);
            let result = tokio::select! {
                readable = self.transport.socket().readable() => readable.and_then(|()| self.discard()),
                writable = self.transport.socket().writable(), if blocked => writable.map(|()| None),
                () = self.follower.ready(), if !blocked && !is_waiting => Ok(None),
                () = sleep_until(next_step.unwrap_or_else(Instant::now).into()), if next_step.is_some() => Ok(None),
                changed = self.context.config.changed() => {
                    self.follow_settings();
                    // Without a sender the configuration stays as it is.
                    if changed.is_err() { std::future::pending().await } else { Ok(self.follow_keys()) }
                }
                () = tick(self.statistics_timer.as_mut()) => {
                    self.follower.report_statistics();
                    Ok(None)
                }
                () = tick(self.derived_timer.as_mut()) => {
                    self.follower.report_derived();
                    Ok(None)
                }
                _ = self.pulse_timer.tick() => match self.follow_keys() {
                    None => self.check_pulse(),
                    cause => Ok(cause),
                },
            };
            match result {
                Ok(None) => {}
                Ok(Some(cause)) => return cause,
                Err(error) => return failed("read from the station", &error),
            }
            // A station that always takes what there is must not starve the other tasks of the
            // thread.
            tokio::task::consume_budget().await;
        }
    }

    /// Writes until the socket takes no more, all is written, or the burst is over. True if
    /// something is left, in the outbox or in TLS.
    fn write_burst(&mut self) -> io::Result<bool> {
        let mut burst = 0;
        while burst < WRITE_BURST {
            if self.outbox.is_empty() && !self.refill() {
                return Ok(!self.transport.try_flush()?);
            }
            match self.write() {
                Ok(written) => burst += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(!self.outbox.is_empty() || !self.transport.try_flush()?)
    }

    /// Writes once. Logs the messages that leave, if an operator wants to see them.
    fn write(&mut self) -> io::Result<usize> {
        let Self { context: StreamContext { label, status, .. }, transport, outbox, trace, .. } = self;
        let now = Instant::now();
        let mut record = |frame: &Frame<'_>| trace.record(label, frame, now);
        let is_traced = status.debugging().left(DebuggingTopic::Messages).is_some();
        let written = outbox.write(transport, status, if is_traced { Some(&mut record) } else { None })?;
        status.count_sent_bytes(written);
        Ok(written)
    }

    /// Returns why the connection failed in a write. What the far end says last in TLS explains it
    /// better than the error of the socket.
    fn failed_to_write(&mut self, error: &io::Error) -> DownCause {
        let said = self.transport.tls_report().is_some().then(|| self.discard());
        match said {
            Some(Err(said)) if TlsError::within(&said).is_some() => failed("read from the station", &said),
            _ => failed("write to the station", error),
        }
    }

    /// Takes more of the feed. False when there is nothing more for now.
    fn refill(&mut self) -> bool {
        let now = Instant::now();
        if self.pacer.has_to_wait(now) {
            return false;
        }
        self.follower.allow(self.pacer.allowance(now));
        let dumped = self.follower.routes_dumped();
        self.follower.take(TAKE_BYTES, self.outbox.queue());
        self.pacer.spend(self.follower.routes_dumped() - dumped);
        let dumps = self.follower.dumps();
        if dumps > self.dumps {
            if self.follower.falls() > self.falls {
                self.falls = self.follower.falls();
                info!(session = %self.context.label, "lagged too far behind the journal, and is sent what has changed instead");
            }
            self.dumps = dumps;
            self.is_dumping = true;
            self.context.status.update(|shown| {
                shown.dumps += 1;
                shown.phase = SessionPhase::Dumping;
            });
        }
        self.show_dump(now);
        self.show_cursor();
        !self.outbox.is_empty()
    }

    /// Follows the settings that count for an open connection: what the station is told, how far it
    /// may lag, when it gets Statistics Reports, and the keepalive of the socket. A changed text
    /// makes a further Initiation (RFC 7854 §4.3).
    fn follow_settings(&mut self) {
        let config = Arc::clone(&self.context.config.borrow_and_update());
        let Some(session) = config.bmp.sessions.get(&self.context.id) else { return };
        let router = self.context.label.router.as_ref();
        self.follower.select(selection(&config, session, router, &self.follower.feed()));
        self.follower.limit_lag(session.buffer_limit_bytes());
        self.follow_statistics_timer(session.statistics_timer);
        let period = session.statistics_timer.or(config.bmp.statistics_timer).unwrap_or(BmpConfig::STATISTICS_TIMER);
        follow_timer(
            &mut self.derived_timer,
            Some(period).filter(|period| session.derives_statistics && !period.is_zero()),
        );
        let wait = initial_refresh_wait(&config.bmp, &self.context.id);
        self.pacer.follow_settings(wait, dump_rate(&config.bmp, session), Instant::now());
        self.show_dump(Instant::now());
        let text = initiation_message(&config.bmp, session);
        if self.initiation_message.as_ref() != text {
            self.outbox.push(initiation(&self.identity, text), MessageType::Initiation);
            self.initiation_message = text.cloned();
        }
        let keepalive = session.keepalive_in_force();
        if self.keepalive.replace(keepalive) == Some(keepalive) {
            return;
        }
        if let Err(error) = set_keepalive(&SockRef::from(self.transport.socket()), keepalive) {
            warn!(session = %self.context.label, "cannot set the keepalive of the connection: {error}");
        }
    }

    fn follow_statistics_timer(&mut self, period: Option<Duration>) {
        if follow_timer(&mut self.statistics_timer, period) {
            self.follower.hold_statistics(period.is_some());
        }
    }

    fn show_dump(&mut self, now: Instant) {
        if self.is_dumping {
            let dump = self.pacer.shown(self.follower.progress(), now);
            self.context.status.update(|shown| shown.dump = Some(dump));
        }
    }

    fn show_cursor(&mut self) {
        self.context.status.set_cursor(self.follower.cursor(), self.follower.position());
        if self.hidden_changes != self.follower.hidden_changes() {
            self.hidden_changes = self.follower.hidden_changes();
            let (hidden, known) = (self.follower.hidden_peers(), self.context.status.hidden_peers());
            let mut new = hidden.iter().filter(|peer| !known.contains(peer));
            if let Some(HiddenPeer { input, .. }) = new.next() {
                let peers = 1 + new.count();
                warn!(
                    session = %self.context.label,
                    "{peers} peers, the first of {input}, are not told: the station could not tell them from those of another input; `monitor` chooses"
                );
            }
            self.context.status.set_hidden_peers(hidden);
        }
    }

    /// Reads and forgets what the station sends: RFC 7854 §3.2 gives it nothing to say. Returns the
    /// cause where the station has closed its end.
    fn discard(&mut self) -> io::Result<Option<DownCause>> {
        let mut scratch = [0; 16 * 1024];
        for _ in 0..DISCARD_READS {
            match self.transport.try_read(&mut scratch) {
                Ok(0) => {
                    let why = "the station closed the connection";
                    return Ok(Some(DownCause::without_mend(Reason::StationClosed, why)));
                }
                Ok(read) => self.context.status.count_discarded(read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // TLS says whether the far end meant to end the stream here.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(Some(DownCause::without_mend(Reason::StationClosed, error.to_string())));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Returns how many segments were sent again since the connection was opened.
    pub(super) fn retransmits(&self) -> u64 {
        sys::tcp_progress(self.transport.socket()).map_or(0, |progress| progress.retransmits.into())
    }

    /// Brings the keys of the connection in line with its key chain. Returns why the connection has
    /// to end, if the chain cannot sign any more.
    ///
    /// A session that is configured otherwise by now keeps the keys that it has: another chain
    /// counts for the next connection.
    fn follow_keys(&mut self) -> Option<DownCause> {
        let keys = self.keys.as_mut()?;
        let config = Arc::clone(&self.context.config.borrow());
        let configured = config.bmp.sessions.get(&self.context.id).and_then(|session| session.keychain.as_deref());
        if configured != Some(keys.chain()) {
            return None;
        }
        let failed = keys.follow(self.transport.socket(), &config).err();
        let report = signing::report(self.transport.socket());
        self.context.status.update(|shown| shown.keys = report);
        failed.map(|error| error.cause())
    }

    fn check_pulse(&mut self) -> io::Result<Option<DownCause>> {
        self.trace.sum_up(&self.context.label, Instant::now());
        let progress = sys::tcp_progress(self.transport.socket())?;
        self.context.status.update(|shown| shown.live_retransmits = u64::from(progress.retransmits));
        if !self.pulse.is_dead(progress, Instant::now()) {
            return Ok(None);
        }
        let why = format!("the station has acknowledged nothing for {} s", DEAD_AFTER.as_secs());
        let cause = DownCause::without_mend(Reason::KeepaliveTimeout, why);
        Ok(Some(match &self.keys {
            Some(keys) => keys.explain(self.transport.socket(), cause),
            None => cause,
        }))
    }

    /// Finishes the frame in flight, sends a Termination message (RFC 7854 §4.5) and closes.
    /// Returns when the station has acknowledged the close, or after [`FAREWELL`]. After an
    /// acknowledged close nothing is left to be sent when the pin goes.
    pub(super) async fn say_farewell(mut self) {
        self.outbox.cut_after_current_frame();
        let mut termination = BytesMut::new();
        bmp::build::termination(&mut termination, termination_reason::ADMINISTRATIVELY_CLOSED, None);
        self.outbox.push(termination.freeze(), MessageType::Termination);
        let farewell = async {
            while !self.outbox.is_empty() {
                self.transport.socket().writable().await?;
                match self.write() {
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                    _ => {}
                }
            }
            self.transport.shutdown().await?;
            self.closed().await
        };
        // A station that does not take it, or is gone, does not keep the session.
        let _ = timeout(FAREWELL, farewell).await;
    }

    /// Returns when the station has closed as well. If it leaves its half open, returns soon after
    /// it has acknowledged this host's close.
    async fn closed(&mut self) -> io::Result<()> {
        let mut acknowledged = 0;
        while acknowledged < HALF_CLOSED_LOOKS {
            // Unread bytes would turn the close into a reset, and lose the Termination message.
            if self.discard()?.is_some() {
                return Ok(());
            }
            if sys::send_queue(self.transport.socket())? == 0 {
                acknowledged += 1;
            }
            // The kernel makes no event of an acknowledged FIN.
            let _ = timeout(LOOK_EVERY, self.transport.socket().readable()).await;
        }
        Ok(())
    }
}

/// Begins to count anew if the time is another. Returns true then.
fn follow_timer(timer: &mut Option<Interval>, period: Option<Duration>) -> bool {
    if timer.as_ref().map(Interval::period) == period {
        return false;
    }
    *timer = period.map(|period| {
        let mut timer = interval_at(tokio::time::Instant::now() + period, period);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        timer
    });
    true
}

/// Returns at the next tick, if there is a timer.
async fn tick(timer: Option<&mut Interval>) {
    match timer {
        Some(timer) => drop(timer.tick().await),
        None => std::future::pending().await,
    }
}

fn initiation(identity: &DeviceIdentity, text: Option<&LineText>) -> Bytes {
    let mut frame = BytesMut::new();
    let texts = text.map(LineText::as_str).into_iter().chain(identity.note.as_deref());
    bmp::build::initiation_with(&mut frame, &identity.sys_descr, &identity.sys_name, texts);
    frame.freeze()
}

fn failed(step: &str, error: &io::Error) -> DownCause {
    if let Some(error) = TlsError::within(error) {
        return error.cause();
    }
    let reason = match error.kind() {
        // Neither keepalive probes nor retransmissions were answered.
        io::ErrorKind::TimedOut => Reason::KeepaliveTimeout,
        _ => Reason::of(error, Reason::ConnectionReset),
    };
    DownCause::without_mend(reason, format!("{step}: {error}"))
}
