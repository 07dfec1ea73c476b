//! How a session reads the journal.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    Chunk, Counts, Shared, State,
    journal::Position,
    peers::{PeerEvent, PeerId},
};
use crate::wire::bmp::MessageType;

/// What [`super::Feed::attach`] gives.
#[derive(Debug)]
pub struct Attachment {
    /// The Peer Ups in force, each as it was received, in the order in which the peers came up.
    pub opening: Vec<Bytes>,
    /// The messages of `opening`.
    pub counts: Counts,
    /// Follows the journal from here on.
    pub follower: Follower,
    /// False if routes have already passed that are still in force as far as the feed knows.
    pub complete: bool,
}

/// What [`Follower::rejoin`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejoined {
    /// A Peer Down for every peer that the station was told of, then the Peer Ups in force.
    pub opening: Vec<Bytes>,
    /// The messages of `opening`.
    pub counts: Counts,
    /// See [`Attachment::complete`].
    pub complete: bool,
}

/// The journal has dropped frames that the follower had not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the journal begins with frame {tail}, past frame {cursor} that is needed next: the station is too slow for it"
)]
pub struct Lost {
    /// The follower's cursor.
    pub cursor: u64,
    /// Sequence number of the oldest frame that is still there.
    pub tail: u64,
}

/// One session's place in the journal, and what its station knows of peers if it is sent all that was taken, in order.
#[derive(Debug)]
pub struct Follower {
    shared: Arc<Shared>,
    head: watch::Receiver<Position>,
    cursor: Position,
    /// The peers that the station was told of, each with the Peer Down that takes it back.
    told: HashMap<PeerId, Bytes>,
}

impl Follower {
    pub(super) fn attach(shared: Arc<Shared>) -> Attachment {
        let head = shared.head.subscribe();
        let mut follower = Self { shared, head, cursor: Position::default(), told: HashMap::new() };
        let Rejoined { opening, counts, complete } = follower.rejoin();
        Attachment { opening, counts, follower, complete }
    }

    /// Puts the chunks from the cursor on behind those in `out`, up to about `max_bytes`, and moves the cursor past them. At
    /// least one if there is one; none, without waiting, if there is none. The bytes are shared, not copied, and stay whole
    /// however long they are held.
    ///
    /// # Errors
    ///
    /// If the next frame is no longer in the journal. Nothing has changed then; [`Self::rejoin`] is what helps.
    pub fn take(&mut self, max_bytes: usize, out: &mut VecDeque<Chunk>) -> Result<(), Lost> {
        let shared = Arc::clone(&self.shared);
        let already = out.len();
        {
            let state = shared.lock();
            let Some(chunks) = state.journal.from(self.cursor.frames) else {
                return Err(Lost { cursor: self.cursor.frames, tail: state.journal.tail() });
            };
            let mut room = max_bytes;
            for (index, chunk) in chunks.enumerate() {
                if index > 0 && chunk.bytes.len() > room {
                    break;
                }
                room = room.saturating_sub(chunk.bytes.len());
                out.push_back(chunk.clone());
            }
        }
        for chunk in out.range(already..) {
            self.cursor.frames = chunk.first + u64::from(chunk.frames);
            self.cursor.bytes += chunk.bytes.len() as u64;
            for PeerEvent { peer, up } in chunk.events.iter().flat_map(|events| events.iter()) {
                match up {
                    Some(down) => self.told.insert(*peer, down.clone()),
                    None => self.told.remove(peer),
                };
            }
        }
        Ok(())
    }

    /// Waits until there is something past the cursor. May be dropped at any time.
    pub async fn ready(&mut self) {
        let cursor = self.cursor.frames;
        // The only error is that the sender is gone, and `self.shared` holds it.
        let _ = self.head.wait_for(|head| head.frames > cursor).await;
    }

    /// After [`Lost`]: what brings the station back to the truth about peers. The cursor moves to the head.
    pub fn rejoin(&mut self) -> Rejoined {
        let shared = Arc::clone(&self.shared);
        let state = shared.lock();
        let mut counts = Counts::default();
        // A station knows nothing of inputs: peers that only differ in theirs are one to it, and are taken back once.
        let downs: BTreeMap<_, _> = self.told.drain().map(|(peer, down)| (peer.key, down)).collect();
        counts.record(MessageType::PeerDown.code(), downs.len() as u64);
        let mut opening: Vec<Bytes> = downs.into_values().collect();
        let State { journal, peers, .. } = &*state;
        for (peer, announcement) in peers.in_force() {
            counts.record(MessageType::PeerUp.code(), 1);
            opening.push(announcement.up.clone());
            self.told.insert(peer, announcement.down.clone());
        }
        self.cursor = journal.head();
        Rejoined { opening, counts, complete: peers.no_routes_passed() }
    }

    /// Sequence number of the next frame to be taken.
    pub fn cursor(&self) -> u64 {
        self.cursor.frames
    }

    /// How many bytes of the journal are before the cursor, counted from its beginning.
    pub fn position(&self) -> u64 {
        self.cursor.bytes
    }

    /// Sequence number of the next frame to be appended.
    pub fn head(&self) -> u64 {
        self.head.borrow().frames
    }

    /// How many bytes have been appended and not taken, whether or not the journal still has them.
    pub fn lag_bytes(&self) -> u64 {
        self.head.borrow().bytes.saturating_sub(self.cursor.bytes)
    }
}
