//! `debugging bmp session`: what a session does, step by step, in the buffer of the log.
//!
//! An operator asks for it, for a bounded time. While nobody asks, a write costs one relaxed load.
//! Lines are bounded too: what goes beyond is counted, and summed up in a line.

use std::{
    fmt::{Display, Write as _},
    mem,
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tracing::debug;

use crate::{
    config::DebuggingTopic,
    feed::FrameCounts,
    log::DEBUGGING,
    wire::bmp::{Frame, MessageType, PeerHeader},
};

/// The moment that [`SessionDebugging`] counts from.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Steps of connections that are logged in a second. A station that connects again and again takes
/// no more.
const STEPS: u32 = 20;
/// Messages that are logged one by one in a second.
const MESSAGES: u32 = 4;
/// The time that both count in.
const SECOND: Duration = Duration::from_secs(1);

/// Until when an operator wants to see what a session does.
#[derive(Debug, Default)]
pub struct SessionDebugging {
    /// By topic: milliseconds since [`EPOCH`]. Zero is never.
    until: [AtomicU64; DebuggingTopic::ALL.len()],
    steps: Mutex<StepWindow>,
}

/// The steps that were logged in a second.
#[derive(Debug, Default)]
struct StepWindow {
    began: Option<Instant>,
    logged: u32,
    left_out: u64,
}

impl SessionDebugging {
    /// Begins, or goes on for so long from now on.
    pub fn start(&self, topic: DebuggingTopic, time: Duration) {
        let until = EPOCH.elapsed() + time;
        self.of(topic).store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Ends.
    pub fn stop(&self, topic: DebuggingTopic) {
        self.of(topic).store(0, Relaxed);
    }

    /// Returns the time that is left; `None` if nobody asks.
    pub fn left(&self, topic: DebuggingTopic) -> Option<Duration> {
        match self.of(topic).load(Relaxed) {
            0 => None,
            until => Duration::from_millis(until).checked_sub(EPOCH.elapsed()).filter(|left| !left.is_zero()),
        }
    }

    fn of(&self, topic: DebuggingTopic) -> &AtomicU64 {
        let [connection, messages] = &self.until;
        match topic {
            DebuggingTopic::Connection => connection,
            DebuggingTopic::Messages => messages,
        }
    }

    /// Returns how many steps were left out before this one; `None` if this one is left out too.
    pub(super) fn admit_step(&self, now: Instant) -> Option<u64> {
        let mut window = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.is_none_or(|began| now.duration_since(began) >= SECOND) {
            (window.began, window.logged) = (Some(now), 0);
        }
        if window.logged == STEPS {
            window.left_out += 1;
            return None;
        }
        window.logged += 1;
        Some(mem::take(&mut window.left_out))
    }
}

/// Logs the messages that a session sends.
#[derive(Debug, Default)]
pub(super) struct MessageTrace {
    /// When the first message of this second left.
    began: Option<Instant>,
    logged: u32,
    /// Messages that are summed up, and their bytes.
    more: FrameCounts,
    bytes: usize,
}

impl MessageTrace {
    /// Logs a message that has left at `now`, or counts it.
    pub(super) fn record(&mut self, session: &impl Display, frame: &Frame<'_>, now: Instant) {
        self.sum_up(session, now);
        self.began.get_or_insert(now);
        if self.logged < MESSAGES {
            self.logged += 1;
            debug!(target: DEBUGGING, session = %session, "{}", in_words(frame));
        } else {
            self.more.record(frame.code(), 1);
            self.bytes += frame.bytes().len();
        }
    }

    /// Logs how many messages were counted, once the second is over.
    pub(super) fn sum_up(&mut self, session: &impl Display, now: Instant) {
        if self.began.is_none_or(|began| now.duration_since(began) < SECOND) {
            return;
        }
        let Self { more, bytes, .. } = mem::take(self);
        if more.total() > 0 {
            debug!(target: DEBUGGING, session = %session, "sent {} more messages, {bytes} bytes{}", more.total(), by_type(&more));
        }
    }
}

/// Returns `sent Route Monitoring of peer 10.0.0.2, 120 bytes`.
fn in_words(frame: &Frame<'_>) -> String {
    let mut text = match frame.message_type() {
        Some(message) => format!("sent {message}"),
        None => format!("sent a message of type {}", frame.code()),
    };
    // Writing to a string cannot fail.
    if let Some(peer) = PeerHeader::of(frame) {
        let _ = write!(text, " of peer {}", peer.address());
        if !peer.key.distinguisher.is_zero() {
            let _ = write!(text, " ({})", peer.key.distinguisher);
        }
    }
    let _ = write!(text, ", {} bytes", frame.bytes().len());
    text
}

/// Returns `, 3 Route Monitoring, 1 Peer Up`.
fn by_type(counts: &FrameCounts) -> String {
    let known = MessageType::ALL.map(|message| (counts.of(message), message.as_str()));
    let all = known.into_iter().chain([(counts.unassigned(), "of other types")]);
    all.filter(|(count, _)| *count > 0).map(|(count, name)| format!(", {count} {name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::bmp::{PeerType, frames, samples};

    #[test]
    fn debugging_ends_by_itself_or_when_an_operator_ends_it() {
        let debugging = SessionDebugging::default();
        assert_eq!(debugging.left(DebuggingTopic::Messages), None);
        debugging.start(DebuggingTopic::Messages, Duration::from_secs(60));
        assert!(debugging.left(DebuggingTopic::Messages).is_some_and(|left| left <= Duration::from_secs(60)));
        assert_eq!(debugging.left(DebuggingTopic::Connection), None);
        debugging.start(DebuggingTopic::Messages, Duration::ZERO);
        assert_eq!(debugging.left(DebuggingTopic::Messages), None);
        debugging.start(DebuggingTopic::Connection, Duration::from_secs(60));
        debugging.stop(DebuggingTopic::Connection);
        assert_eq!(debugging.left(DebuggingTopic::Connection), None);
    }

    #[test]
    fn steps_beyond_those_of_a_second_are_counted() {
        let (debugging, now) = (SessionDebugging::default(), Instant::now());
        let admitted = (0..STEPS + 3).filter(|_| debugging.admit_step(now).is_some()).count();
        assert_eq!(admitted, STEPS as usize);
        assert_eq!(debugging.admit_step(now + SECOND), Some(3));
        assert_eq!(debugging.admit_step(now + SECOND), Some(0));
    }

    #[test]
    fn a_message_is_named_with_its_peer_and_length_and_the_rest_of_a_second_is_counted() {
        let up = samples::peer_up_of(&samples::peer_header(1, PeerType::GLOBAL, 0), 179, &[]);
        let frame = frames(&up).next().unwrap().unwrap();
        let peer = PeerHeader::of(&frame).unwrap().address();
        assert_eq!(in_words(&frame), format!("sent Peer Up of peer {peer}, {} bytes", up.len()));
        let (mut trace, now) = (MessageTrace::default(), Instant::now());
        let id = crate::config::SessionId { vpn_instance: None, station: peer, alias: None };
        for _ in 0..MESSAGES + 3 {
            trace.record(&id, &frame, now);
        }
        assert_eq!((trace.logged, trace.more.total(), trace.bytes), (MESSAGES, 3, 3 * up.len()));
        assert_eq!(by_type(&trace.more), ", 3 Peer Up");
        trace.record(&id, &frame, now + SECOND);
        assert_eq!((trace.logged, trace.more.total()), (1, 0));
    }
}
