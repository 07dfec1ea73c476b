//! The bounded, ordered log of frames.

use std::{collections::VecDeque, mem::size_of, sync::Arc};

use bytes::Bytes;

use super::peers::Incarnation;
use crate::wire::{bgp::Family, bmp::RibView};

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
pub(super) struct Chunk {
    /// The frames, ready to be written.
    pub(super) bytes: Bytes,
    /// Sequence number of the first frame; the others follow on from it.
    pub(super) first: u64,
    /// How many frames there are.
    pub(super) frames: u64,
    /// What they are, in order.
    pub(super) runs: Arc<[Run]>,
}

/// Frames of a chunk that follow one another and are alike.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) bytes: u32,
    pub(super) frames: u32,
    /// The type byte of the frames.
    pub(super) code: u8,
    pub(super) about: About,
}

/// What the frames of a run are about.
#[derive(Clone, Debug)]
pub(super) enum About {
    /// Routes of one RIB of a peer.
    Routes(Arc<Incarnation>, RibView, Family),
    /// Routes of a peer in one view, but of several families at once, or of none that could be told.
    Mixed(Arc<Incarnation>, RibView),
    /// It comes up.
    Up(Arc<Incarnation>),
    /// It was not announced and is first heard of: the run has no frames.
    Heard(Arc<Incarnation>),
    /// It goes down: the run has a Peer Down for each of its tables.
    Down(Arc<Incarnation>),
    /// Stations have to be told of it from the state. The run has no frames.
    Anew(Arc<Incarnation>),
    /// It is counted or mirrored.
    Peer(Arc<Incarnation>),
    /// Nobody that is known.
    Nobody,
    /// A peer that its input never announced, and that stations would take for one that another input did.
    LookAlike,
}

impl About {
    /// Whether two frames can be in one run.
    pub(super) fn joins(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Routes(mine, view, family), Self::Routes(theirs, other_view, other_family)) => {
                Arc::ptr_eq(mine, theirs) && view == other_view && family == other_family
            }
            (Self::Mixed(mine, view), Self::Mixed(theirs, other_view)) => {
                Arc::ptr_eq(mine, theirs) && view == other_view
            }
            (Self::Peer(mine), Self::Peer(theirs)) | (Self::Down(mine), Self::Down(theirs)) => {
                Arc::ptr_eq(mine, theirs)
            }
            (Self::Nobody, Self::Nobody) | (Self::LookAlike, Self::LookAlike) => true,
            _ => false,
        }
    }
}

#[derive(Debug)]
struct Entry {
    chunk: Chunk,
    /// What it counts for against the limit, in bytes.
    charge: usize,
}

/// What an entry takes besides its bytes: its place in a queue that grows by doubling, and the bookkeeping of [`Bytes`] and of
/// the allocator.
const ENTRY_OVERHEAD: usize = 2 * size_of::<Entry>() + 96;

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
    pub(super) fn push(&mut self, bytes: Bytes, block: usize, runs: Vec<Run>) {
        let frames = runs.iter().map(|run| u64::from(run.frames)).sum();
        // Peer Ups and Peer Downs are kept with their peer; a chunk that tells of one keeps them alive once more.
        let told: usize = runs.iter().filter_map(|run| run.about.told()).map(Incarnation::memory).sum();
        let charge = block + told + runs.len() * size_of::<Run>() + ENTRY_OVERHEAD;
        let start = self.head;
        self.head = Position { frames: start.frames + frames, bytes: start.bytes + bytes.len() as u64 };
        let chunk = Chunk { bytes, first: start.frames, frames, runs: runs.into() };
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
        let start = self.entries.partition_point(|entry| entry.chunk.first < cursor);
        Some(self.entries.range(start..).map(|entry| &entry.chunk))
    }
}

impl About {
    /// The peer that comes or goes with it.
    fn told(&self) -> Option<&Incarnation> {
        match self {
            Self::Up(life) | Self::Heard(life) | Self::Down(life) | Self::Anew(life) => Some(life),
            _ => None,
        }
    }
}
