//! How much of the bytes that came in are frames, and which of these cannot be passed on; found before anything is locked.

use super::oddity::Oddity;
use crate::wire::bmp::{
    COMMON_HEADER, Error, Frame, Message, MessageType, PER_PEER_HEADER, Problem, Tlvs, frames, statistics::statistics,
};

/// What was found.
pub(super) struct Scanned {
    /// How many bytes of whole frames are at the start.
    pub(super) good: usize,
    /// Whether there is a Peer Up or a Peer Down among them.
    pub(super) lives: bool,
    /// Whether there is a frame among them that [`check`] refuses.
    pub(super) odd: bool,
    /// What is wrong with the framing of the bytes behind them.
    pub(super) outcome: Result<(), Error>,
}

pub(super) fn scan(bytes: &[u8]) -> Scanned {
    let mut whole = frames(bytes);
    let (mut good, mut lives, mut odd) = (0, false, false);
    while let Some(frame) = whole.next() {
        match frame {
            Ok(frame) => {
                lives |= matches!(frame.message_type(), Some(MessageType::PeerUp | MessageType::PeerDown));
                odd |= check(&frame).is_err();
            }
            Err(error) => return Scanned { good, lives, odd, outcome: Err(error) },
        }
        good = whole.consumed();
    }
    let rest = bytes.len() - good;
    let problem = Problem::Short { what: "the rest of a message", need: rest + 1, found: rest };
    let outcome = if rest == 0 { Ok(()) } else { Err(Error { offset: good as u64, problem }) };
    Scanned { good, lives, odd, outcome }
}

/// Checks what is inside a frame, as far as a station has to be able to read it. The UPDATE of a Route Monitoring is not looked at: the feed
/// passes it on as it is.
///
/// # Errors
///
/// The kind of oddity, and what is wrong; offsets are within the frame.
#[inline]
pub(super) fn check(frame: &Frame<'_>) -> Result<(), (Oddity, Error)> {
    frame.check_length().map_err(|error| (Oddity::Short, error))?;
    let body = || frame.bytes().get(COMMON_HEADER + PER_PEER_HEADER..).unwrap_or_default();
    let at = (COMMON_HEADER + PER_PEER_HEADER) as u64;
    match frame.message_type() {
        Some(MessageType::PeerUp) => match Message::parse(frame) {
            Ok(_) => Ok(()),
            Err(error) if error.problem.is_of_open() => Err((Oddity::Open, error)),
            Err(error) => Err((Oddity::Tlv, error)),
        },
        Some(MessageType::StatisticsReport) => {
            let broken = statistics(body()).find_map(Result::err);
            broken.map_or(Ok(()), |error| Err((Oddity::Statistics, error.after(at))))
        }
        Some(MessageType::RouteMirroring) => {
            Tlvs::of(body()).map(|_| ()).map_err(|error| (Oddity::Mirroring, error.after(at)))
        }
        Some(about @ (MessageType::Initiation | MessageType::Termination)) => {
            let type_byte = 5;
            Err((Oddity::Control, Error { offset: type_byte, problem: Problem::NotAboutAPeer(about) }))
        }
        Some(MessageType::RouteMonitoring | MessageType::PeerDown) | None => Ok(()),
    }
}
