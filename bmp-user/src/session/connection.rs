//! An established connection: what is in force first, then what changes, and a farewell.

use std::{
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
    connect::Refusal,
    life::Life,
    outbox::Outbox,
    pulse::{DEAD_AFTER, Pulse},
    selection::selection,
    status::{Phase, Status},
};
use crate::{
    config::{Config, SessionId},
    feed::{Follower, HiddenPeer},
    pin::Reason,
    sys,
    wire::bmp::{self, MessageType, termination_reason},
};

/// How much of the feed is taken at once, in bytes.
const TAKE_BYTES: usize = 1 << 20;
/// How much is written before the socket's other side and the pin are looked at again.
const WRITE_BURST: usize = 4 << 20;
/// How often what a station sends is read before something else gets its turn.
const DISCARD_READS: usize = 16;
/// How long a station has to take the Termination message.
pub const FAREWELL: Duration = Duration::from_secs(2);
/// How often it is looked whether the station has acknowledged the close, and how often after that whether it closes too.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const HALF_CLOSED_LOOKS: u32 = 20;
/// How often the connection's progress is read.
const PULSE_EVERY: Duration = Duration::from_secs(1);

/// An established connection and what is on its way into it.
pub(super) struct Connection {
    id: SessionId,
    config: watch::Receiver<Arc<Config>>,
    stream: TcpStream,
    outbox: Outbox,
    follower: Follower,
    /// How many dumps have been shown.
    dumps: u64,
    /// [`Follower::falls`] as it was told last.
    falls: u64,
    /// Whether a dump is on its way.
    dumping: bool,
    /// [`Follower::refusals`] as it was shown last.
    refusals: u64,
    status: Arc<Status>,
    pulse: Pulse,
}

impl Connection {
    /// Initiation comes first; what the feed has follows.
    pub(super) fn new(life: &Life, stream: TcpStream) -> Self {
        let follower = life.feed.attach(selection(&life.configured()));
        let status = Arc::clone(&life.status);
        let mut outbox = Outbox::default();
        outbox.push(initiation(&life.identity.borrow(), None), MessageType::Initiation);
        let (id, config) = (life.id.clone(), life.config.clone());
        Self {
            id,
            config,
            stream,
            outbox,
            follower,
            dumps: 0,
            falls: 0,
            dumping: true,
            refusals: 0,
            status,
            pulse: Pulse::default(),
        }
    }

    /// Writes what there is and waits for more, until the connection fails.
    pub(super) async fn follow(&mut self) -> Refusal {
        let mut pulse = interval(PULSE_EVERY);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let blocked = match self.write_burst() {
                Ok(blocked) => blocked,
                Err(error) => return failed("write to the station", &error),
            };
            if self.dumping && self.outbox.is_empty() && !self.follower.is_dumping() {
                self.dumping = false;
                self.status.update(|shown| shown.phase = Phase::Following);
            }
            let result = tokio::select! {
                readable = self.stream.readable() => readable.and_then(|()| self.discard()),
                writable = self.stream.writable(), if blocked => writable.map(|()| None),
                () = self.follower.ready(), if !blocked => Ok(None),
                changed = self.config.changed() => {
                    self.select();
                    // The sender goes with bmpd itself; until then there is nothing to be told of.
                    if changed.is_err() { std::future::pending().await } else { Ok(None) }
                }
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

    /// Writes until the socket takes no more, all is written, or it is time to look up. True if something is left.
    fn write_burst(&mut self) -> io::Result<bool> {
        let mut burst = 0;
        while burst < WRITE_BURST {
            if self.outbox.is_empty() && !self.refill() {
                return Ok(false);
            }
            match self.outbox.write(&self.stream, &self.status) {
                Ok(written) => burst += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(!self.outbox.is_empty())
    }

    /// Takes more of the feed. False when there is nothing more.
    fn refill(&mut self) -> bool {
        self.follower.take(TAKE_BYTES, self.outbox.queue());
        let dumps = self.follower.dumps();
        if dumps > self.dumps {
            if self.follower.falls() > self.falls {
                self.falls = self.follower.falls();
                info!(session = %self.id, "was too slow for the journal, and is sent what has changed instead");
            }
            self.dumps = dumps;
            self.dumping = true;
            self.status.update(|shown| {
                shown.dumps += 1;
                shown.phase = Phase::Dumping;
            });
        }
        self.show_cursor();
        !self.outbox.is_empty()
    }

    /// Tells the station what it is to be told by now.
    fn select(&mut self) {
        let config = self.config.borrow_and_update();
        if let Some(session) = config.bmp.sessions.get(&self.id) {
            self.follower.select(selection(session));
        }
    }

    fn show_cursor(&mut self) {
        self.status.moved(self.follower.cursor(), self.follower.position());
        if self.refusals != self.follower.hidden_changes() {
            self.refusals = self.follower.hidden_changes();
            let (hidden, known) = (self.follower.hidden_peers(), self.status.hidden_peers());
            let mut new = hidden.iter().filter(|peer| !known.contains(peer));
            if let Some(HiddenPeer { input, .. }) = new.next() {
                let peers = 1 + new.count();
                warn!(
                    session = %self.id,
                    "{peers} peers, the first of {input}, are not told: the station could not tell them from those of another input; `monitor` chooses"
                );
            }
            self.status.set_hidden_peers(hidden);
        }
    }

    /// Reads and forgets what the station sends: RFC 7854 §3.2 gives it nothing to say. Its end of the stream is an end.
    fn discard(&self) -> io::Result<Option<Refusal>> {
        let mut scratch = [0; 16 * 1024];
        for _ in 0..DISCARD_READS {
            match self.stream.try_read(&mut scratch) {
                Ok(0) => {
                    let why = "the station closed the connection".to_owned();
                    return Ok(Some(Refusal { reason: Reason::StationClosed, why }));
                }
                Ok(read) => self.status.discard(read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Segments sent again since the connection was opened.
    pub(super) fn retransmits(&self) -> u64 {
        sys::tcp_progress(&self.stream).map_or(0, |progress| progress.retransmits.into())
    }

    fn check_pulse(&mut self) -> io::Result<Option<Refusal>> {
        let progress = sys::tcp_progress(&self.stream)?;
        self.status.update(|shown| shown.live_retransmits = u64::from(progress.retransmits));
        if !self.pulse.is_dead(progress, Instant::now()) {
            return Ok(None);
        }
        let why = format!("the station has acknowledged nothing for {} s", DEAD_AFTER.as_secs());
        Ok(Some(Refusal { reason: Reason::KeepaliveTimeout, why }))
    }

    /// Finishes the frame in flight, sends a Termination message (RFC 7854 §4.5) and closes. Returns when the station has
    /// acknowledged the close, so that nothing of the session is left to be sent when its pin goes.
    pub(super) async fn say_farewell(mut self) {
        self.outbox.cut_after_current_frame();
        let mut termination = BytesMut::new();
        bmp::build::termination(&mut termination, termination_reason::ADMINISTRATIVELY_CLOSED, None);
        self.outbox.push(termination.freeze(), MessageType::Termination);
        let farewell = async {
            while !self.outbox.is_empty() {
                self.stream.writable().await?;
                match self.outbox.write(&self.stream, &self.status) {
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
        _ => Reason::of(error, Reason::ConnectionReset),
    };
    Refusal { reason, why: format!("{what}: {error}") }
}
