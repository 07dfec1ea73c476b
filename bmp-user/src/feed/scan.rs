//! How much of what came in can be taken, found before anything is locked.

use crate::wire::bmp::{Error, Frame, Message, MessageType, Problem, frames};

/// What was found.
pub(super) struct Scanned {
    /// How many bytes of good frames are at the start.
    pub(super) good: usize,
    /// Whether there is a Peer Up among them.
    pub(super) peer_up: bool,
    /// What is wrong with what comes then.
    pub(super) outcome: Result<(), Error>,
}

pub(super) fn scan(bytes: &[u8]) -> Scanned {
    let mut whole = frames(bytes);
    let (mut good, mut peer_up) = (0, false);
    while let Some(frame) = whole.next() {
        let checked = frame.and_then(|frame| {
            peer_up |= frame.message_type() == Some(MessageType::PeerUp);
            check(&frame).map_err(|error| error.after(good as u64))
        });
        if let Err(error) = checked {
            return Scanned { good, peer_up, outcome: Err(error) };
        }
        good = whole.consumed();
    }
    let rest = bytes.len() - good;
    let problem = Problem::Short { what: "the rest of a message", need: rest + 1, found: rest };
    let outcome = if rest == 0 { Ok(()) } else { Err(Error { offset: good as u64, problem }) };
    Scanned { good, peer_up, outcome }
}

#[inline]
fn check(frame: &Frame<'_>) -> Result<(), Error> {
    match frame.message_type() {
        Some(MessageType::PeerUp) => Message::parse(frame).map(|_| ()),
        Some(about @ (MessageType::Initiation | MessageType::Termination)) => {
            let type_byte = 5;
            Err(Error { offset: type_byte, problem: Problem::NotAboutAPeer(about) })
        }
        _ => Ok(()),
    }
}
