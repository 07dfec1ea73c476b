//! Where frames come in.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{
    Counts, Shared, State,
    peers::{ConnectionId, PeerEvent},
    scan::{Batch, Scanner},
};
use crate::wire::bmp::{Error, MessageType};

/// Peer Downs of one connection go into chunks of about this size, in bytes.
const PEER_DOWNS: usize = 64 * 1024;

/// One connection of one input. Dropping it means that it went away: the stations are told Peer Down for every peer it owns.
#[derive(Debug)]
pub struct Input {
    shared: Arc<Shared>,
    connection: ConnectionId,
    scanner: Scanner,
    totals: InputTotals,
}

/// What came in through one [`Input`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputTotals {
    /// Frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Route Monitoring frames among them for peers that this connection had not announced.
    pub unannounced: u64,
}

impl Input {
    pub(super) fn new(shared: Arc<Shared>, name: &str) -> Self {
        let connection = shared.lock().peers.connect(name);
        Self { shared, connection, scanner: Scanner::default(), totals: InputTotals::default() }
    }

    /// Appends whole frames, byte for byte.
    ///
    /// `block` is how many bytes of memory `frames` keeps alive: the size of the buffer it is a part of. The journal keeps
    /// `frames` itself if it is at least half of that, and is charged for the block; else an exact copy. So nothing else may
    /// be kept in the same block.
    ///
    /// # Errors
    ///
    /// At the first frame that is wrong, is an Initiation or a Termination, or is not whole; offsets are within `frames`.
    /// Everything before it has been appended.
    pub fn append(&mut self, mut frames: Bytes, block: usize) -> Result<(), Error> {
        let (batch, outcome) = self.scanner.scan(&frames);
        frames.truncate(batch.length);
        if !frames.is_empty() {
            self.commit(frames, block, batch);
        }
        outcome
    }

    /// What was appended so far.
    pub fn totals(&self) -> InputTotals {
        self.totals
    }

    fn commit(&mut self, frames: Bytes, block: usize, batch: Batch) {
        let length = frames.len();
        let (frames, block) =
            if length < block / 2 { (Bytes::copy_from_slice(&frames), length) } else { (frames, block.max(length)) };
        self.totals.frames += batch.counts.total();
        self.totals.bytes += length as u64;
        self.totals.unannounced += batch.unannounced;
        let mut state = self.shared.lock();
        state.unannounced += batch.unannounced;
        let events = state.peers.apply(self.connection, batch.changes);
        self.push(&mut state, frames, block, batch.counts, events);
    }

    fn push(&self, state: &mut State, frames: Bytes, block: usize, counts: Counts, events: Vec<PeerEvent>) {
        state.received += counts;
        state.journal.push(frames, block, counts, events);
        self.shared.head.send_replace(state.journal.head());
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let mut gone = state.peers.disconnect(self.connection).into_iter().peekable();
        while gone.peek().is_some() {
            let mut frames = BytesMut::with_capacity(PEER_DOWNS.min(gone.len() * 64));
            let mut events = Vec::new();
            let mut counts = Counts::default();
            while frames.len() < PEER_DOWNS
                && let Some((peer, announcement)) = gone.next()
            {
                frames.extend_from_slice(&announcement.down);
                counts.record(MessageType::PeerDown.code(), 1);
                events.push(PeerEvent { peer, up: None });
                // To a station a peer that another input still has is the same one: it is up, if without the routes of this input.
                if let Some((peer, announcement)) = state.peers.namesake(peer) {
                    frames.extend_from_slice(&announcement.up);
                    counts.record(MessageType::PeerUp.code(), 1);
                    events.push(PeerEvent { peer, up: Some(announcement.down.clone()) });
                }
            }
            let block = frames.capacity();
            self.push(&mut state, frames.freeze(), block, counts, events);
        }
    }
}
