//! The bounded, ordered log of frames.

use std::{collections::VecDeque, mem::size_of, sync::Arc};

use bytes::Bytes;

use super::{Counts, peers::PeerEvent};

/// A place in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Sequence number of the next frame.
    pub(super) frames: u64,
    /// Bytes of all frames before it.
    pub(super) bytes: u64,
}

/// What one read of an input gave: whole frames, one behind the other. Clones share the bytes.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The frames, ready to be written.
    pub bytes: Bytes,
    /// Sequence number of the first frame; the others follow on from it.
    pub first: u64,
    /// How many frames there are.
    pub frames: u32,
    /// How many there are of each type.
    pub counts: Counts,
    pub(super) events: Option<Arc<[PeerEvent]>>,
}

#[derive(Debug)]
struct Entry {
    chunk: Chunk,
    /// What it counts for against the limit, in bytes.
    charge: usize,
}

/// What an entry takes besides its bytes: its place in a queue that grows by doubling, and the bookkeeping of [`Bytes`] and of
/// the allocator.
const ENTRY_OVERHEAD: usize = 2 * size_of::<Entry>() + 64;
/// The same for an event, besides the Peer Down it holds.
const EVENT_OVERHEAD: usize = size_of::<PeerEvent>() + 64;

#[derive(Debug)]
pub(super) struct Journal {
    entries: VecDeque<Entry>,
    charged: usize,
    limit: usize,
    head: Position,
}

impl Journal {
    pub(super) fn new(limit: usize) -> Self {
        Self { entries: VecDeque::new(), charged: 0, limit, head: Position::default() }
    }

    pub(super) fn head(&self) -> Position {
        self.head
    }

    /// Sequence number of the oldest frame.
    pub(super) fn tail(&self) -> u64 {
        self.entries.front().map_or(self.head.frames, |entry| entry.chunk.first)
    }

    pub(super) fn charged(&self) -> usize {
        self.charged
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Appends a chunk whose bytes keep `block` bytes of memory alive, and drops the oldest ones that are now too much. The
    /// newest chunk stays in any case: a follower at the head must be able to go on.
    pub(super) fn push(&mut self, bytes: Bytes, block: usize, counts: Counts, events: Vec<PeerEvent>) {
        let frames = u32::try_from(counts.total()).unwrap_or(u32::MAX);
        let told: usize =
            events.iter().map(|event| EVENT_OVERHEAD + event.up.as_ref().map_or(0, |down| down.len())).sum();
        let charge = block + told + ENTRY_OVERHEAD;
        let start = self.head;
        self.head = Position { frames: start.frames + u64::from(frames), bytes: start.bytes + bytes.len() as u64 };
        let events = (!events.is_empty()).then(|| events.into());
        let chunk = Chunk { bytes, first: start.frames, frames, counts, events };
        self.entries.push_back(Entry { chunk, charge });
        self.charged += charge;
        while self.charged > self.limit && self.entries.len() > 1 {
            if let Some(dropped) = self.entries.pop_front() {
                self.charged -= dropped.charge;
            }
        }
    }

    /// The chunks from the one that starts with `cursor` on; `None` if it is no longer there.
    pub(super) fn from(&self, cursor: u64) -> Option<impl Iterator<Item = &Chunk>> {
        if cursor < self.tail() {
            return None;
        }
        let index = self.entries.partition_point(|entry| entry.chunk.first < cursor);
        Some(self.entries.range(index..).map(|entry| &entry.chunk))
    }
}
