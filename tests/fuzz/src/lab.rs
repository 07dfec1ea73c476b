//! Both ends of a feed: a daemon whose bytes a relay receives, and a station that is told what came of them.

use std::collections::VecDeque;

use bmp_user::{
    feed::{Claim, Feed, Follower, Input, Monitor, Peers, Piece, Selection},
    input::relay::{Goodbye, Received, Receiver},
    wire::bmp::Error,
};

use crate::station::Station;

/// Gives bytes to a relay's receiver as a socket would, as many as there is room for at a time. Whoever owns a peer is alive.
///
/// # Errors
///
/// Those of [`Receiver::receive`]: the connection is to be closed.
pub fn send(bytes: &[u8], receiver: &mut Receiver, input: &mut Input) -> Result<Option<Goodbye>, Error> {
    send_claiming(bytes, receiver, input, &mut |_| true)
}

/// The same. `is_alive` says whether the owner of a claimed peer is; if not, its connection is gone when it returns.
///
/// # Errors
///
/// Those of [`Receiver::receive`]: the connection is to be closed.
pub fn send_claiming(
    mut bytes: &[u8],
    receiver: &mut Receiver,
    input: &mut Input,
    is_alive: &mut dyn FnMut(&Claim) -> bool,
) -> Result<Option<Goodbye>, Error> {
    while !bytes.is_empty() {
        let room = receiver.room();
        let spare = room.capacity() - room.len();
        assert!(spare > 0, "there is always room to read into");
        let (read, rest) = bytes.split_at(spare.min(bytes.len()));
        room.extend_from_slice(read);
        bytes = rest;
        loop {
            match receiver.receive(input)? {
                Received::All => break,
                Received::Goodbye(goodbye) => return Ok(Some(goodbye)),
                Received::Claim(claim) => {
                    if is_alive(&claim) {
                        input.refuse(&claim);
                    }
                }
            }
        }
    }
    Ok(None)
}

/// A station, and its session's way through the feed.
#[derive(Debug)]
pub struct Told {
    follower: Follower,
    station: Station,
    strict: Station,
}

impl Told {
    /// A station that is told of one input, or of all.
    pub fn of(feed: &Feed, input: Option<&str>) -> Self {
        let monitor = |name: &str| Monitor { peers: Peers::Input(name.to_owned()), ribs: Vec::new() };
        let selection = Selection { monitors: input.map(monitor).into_iter().collect(), ..Selection::default() };
        Self { follower: feed.attach(selection), station: Station::default(), strict: Station::strict() }
    }

    /// What it knows.
    pub fn station(&self) -> &Station {
        &self.station
    }

    /// What one knows that is told the same and keeps to RFC 7854.
    pub fn strict(&self) -> &Station {
        &self.strict
    }

    /// It is told about so many bytes. False if there is nothing more.
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

    /// It is told all that there is.
    pub fn take_all(&mut self) -> &Station {
        while self.take(3000) {}
        assert!(self.station.is_whole() && self.follower.lag_bytes() == 0);
        &self.station
    }
}
