//! How much of what came in can be taken, found before anything is locked.

use crate::wire::bmp::{Error, Frame, Message, MessageType, Problem, frames};

/// How many bytes of good frames are at the start of `bytes`, and what is wrong with what comes then.
pub(super) fn scan(bytes: &[u8]) -> (usize, Result<(), Error>) {
    let mut whole = frames(bytes);
    let mut good = 0;
    while let Some(frame) = whole.next() {
        if let Err(error) = frame.and_then(|frame| check(&frame).map_err(|error| error.after(good as u64))) {
            return (good, Err(error));
        }
        good = whole.consumed();
    }
    let rest = bytes.len() - good;
    if rest == 0 {
        return (good, Ok(()));
    }
    let problem = Problem::Short { what: "the rest of a message", need: rest + 1, found: rest };
    (good, Err(Error { offset: good as u64, problem }))
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
