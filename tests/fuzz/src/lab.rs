//! Both ends of a feed: a daemon whose bytes a relay receives, and a station that takes frames from
//! the feed.

use std::collections::VecDeque;

use bmp_user::{
    feed::{Claim, Feed, Follower, Input, InputId, PeerFilter, Piece, Selection, SelectionRule},
    input::relay::{BmpReceiver, DaemonGoodbye, ReceiveOutcome},
    wire::bmp::Error,
};

use crate::station::Replica;

/// Passes bytes to a relay's receiver as a socket would, in pieces as large as its room. Owners of
/// claimed peers count as alive.
///
/// # Errors
///
/// The error of [`BmpReceiver::receive`], after which the connection must be closed.
pub fn send(bytes: &[u8], receiver: &mut BmpReceiver, input: &mut Input) -> Result<Option<DaemonGoodbye>, Error> {
    send_claiming(bytes, receiver, input, &mut |_| true)
}

/// Passes bytes to a relay's receiver. `is_alive` says whether the owner of a claimed peer is
/// alive. If not, it must have ended the owner's connection.
///
/// # Errors
///
/// The error of [`BmpReceiver::receive`], after which the connection must be closed.
pub fn send_claiming(
    mut bytes: &[u8],
    receiver: &mut BmpReceiver,
    input: &mut Input,
    is_alive: &mut dyn FnMut(&Claim) -> bool,
) -> Result<Option<DaemonGoodbye>, Error> {
    while !bytes.is_empty() {
        let room = receiver.room();
        let spare = room.capacity() - room.len();
        assert!(spare > 0, "a receiver always has room");
        let (read, rest) = bytes.split_at(spare.min(bytes.len()));
        room.extend_from_slice(read);
        bytes = rest;
        loop {
            match receiver.receive(input)? {
                ReceiveOutcome::AllFed => break,
                ReceiveOutcome::Goodbye(goodbye) => return Ok(Some(goodbye)),
                ReceiveOutcome::Claim(claim) => {
                    if is_alive(&claim) {
                        input.refuse(&claim);
                    }
                }
            }
        }
    }
    Ok(None)
}

/// A follower of the feed, with two stations that read its frames.
#[derive(Debug)]
pub struct FollowingStation {
    follower: Follower,
    station: Replica,
    strict: Replica,
}

impl FollowingStation {
    /// Follows one input, or all inputs.
    pub fn of(feed: &Feed, input: Option<InputId>) -> Self {
        let rule = |input| SelectionRule { peers: PeerFilter::Input(input), ribs: Vec::new(), filter: None };
        let selection = Selection { rules: input.map(rule).into_iter().collect(), ..Selection::default() };
        Self { follower: feed.attach(selection), station: Replica::default(), strict: Replica::strict() }
    }

    /// Returns the station that tells peers apart by all of their identity.
    pub fn station(&self) -> &Replica {
        &self.station
    }

    /// Returns the station that tells peers apart by RFC 7854 alone.
    pub fn strict(&self) -> &Replica {
        &self.strict
    }

    /// Takes about this many bytes. Returns false if the feed has no more.
    pub fn take(&mut self, bytes: usize) -> bool {
        let mut pieces = VecDeque::new();
        self.follower.take(bytes, &mut pieces);
        for Piece { bytes, counts } in &pieces {
            assert!(!bytes.is_empty() && counts.total() > 0);
            self.station.read(bytes);
            self.strict.read(bytes);
        }
        !pieces.is_empty()
    }

    /// Takes all that the feed has.
    pub fn take_all(&mut self) -> &Replica {
        while self.take(3000) {}
        assert!(self.station.is_whole() && self.follower.lag_bytes() == 0);
        &self.station
    }
}
