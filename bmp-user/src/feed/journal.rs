//! The bounded, ordered log of frames.

use std::{collections::VecDeque, mem::size_of, sync::Arc};

use bytes::Bytes;

use super::incarnation::Incarnation;
use crate::wire::{bgp::Family, bmp::RibView};

/// A place in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalPosition {
    /// Sequence number of the next frame.
    pub frames: u64,
    /// Bytes of all frames before it, since the start.
    pub bytes: u64,
}

/// The frames of one read of an input, one behind the other. Clones share the bytes.
#[derive(Clone, Debug)]
pub(super) struct JournalChunk {
    /// The frames, ready to be written.
    pub(super) bytes: Bytes,
    /// Sequence number of the first frame. The others follow on.
    pub(super) first: u64,
    /// How many frames there are.
    pub(super) frames: u64,
    /// What they are about, in order.
    pub(super) runs: Arc<[FrameRun]>,
}

/// Frames of a chunk that follow one another and are alike.
#[derive(Clone, Debug)]
pub(super) struct FrameRun {
    pub(super) bytes: u32,
    pub(super) frames: u32,
    /// The type byte of the frames.
    pub(super) code: u8,
    pub(super) subject: FrameSubject,
}

/// What frames are about.
#[derive(Clone, Debug)]
pub(super) enum FrameSubject {
    /// Routes of one RIB of a peer.
    Routes(Arc<Incarnation>, RibView, Family),
    /// The End-of-RIB of one RIB of a peer.
    EndOfRib(Arc<Incarnation>, RibView, Family),
    /// Routes of one view of a peer: of several families, or of none that could be read.
    Mixed(Arc<Incarnation>, RibView),
    /// A Peer Up.
    Up(Arc<Incarnation>),
    /// The first frame about a peer that was not announced follows. The run has no frames.
    Unannounced(Arc<Incarnation>),
    /// The end of a peer. The run has a Peer Down for each of its tables.
    Down(Arc<Incarnation>),
    /// Stations have to be told this peer from the state. The run has no frames.
    Renewed(Arc<Incarnation>),
    /// Statistics or a mirrored message of a peer.
    Peer(Arc<Incarnation>),
    /// No peer that is known.
    Nobody,
    /// A peer that its input never announced, and that stations would take for a peer of another
    /// input.
    LookAlike,
}

impl FrameSubject {
    /// True if frames about both can be in one run.
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

    /// The life that begins or ends with the frames.
    fn begun_or_ended(&self) -> Option<&Incarnation> {
        match self {
            Self::Up(life) | Self::Unannounced(life) | Self::Down(life) | Self::Renewed(life) => Some(life),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct JournalEntry {
    chunk: JournalChunk,
    /// What the entry counts against the limit, in bytes.
    charge: usize,
}

/// What an entry takes besides its bytes: its place in a queue that grows by doubling, and what
/// [`Bytes`] and the allocator keep about it.
const ENTRY_OVERHEAD: usize = 2 * size_of::<JournalEntry>() + 96;

#[derive(Debug)]
pub(super) struct Journal {
    entries: VecDeque<JournalEntry>,
    charged: usize,
    limit: usize,
    head: JournalPosition,
}

impl Journal {
    pub(super) fn new(limit: usize) -> Self {
        Self { entries: VecDeque::new(), charged: 0, limit, head: JournalPosition::default() }
    }

    pub(super) fn head(&self) -> JournalPosition {
        self.head
    }

    /// Sequence number of the oldest frame.
    pub(super) fn tail(&self) -> u64 {
        self.entries.front().map_or(self.head.frames, |entry| entry.chunk.first)
    }

    /// Bytes that count against the limit.
    pub(super) fn charged(&self) -> usize {
        self.charged
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Appends a chunk whose bytes keep `memory` bytes alive. Drops the oldest chunks beyond the
    /// limit.
    ///
    /// The newest chunk stays in any case: a follower at the head must be able to go on.
    pub(super) fn push(&mut self, bytes: Bytes, memory: usize, runs: Vec<FrameRun>) {
        let frames = runs.iter().map(|run| u64::from(run.frames)).sum();
        // Peers keep their Peer Ups and Peer Downs. A chunk with one of these keeps them alive once
        // more.
        let lives = runs.iter().filter_map(|run| run.subject.begun_or_ended());
        let kept: usize = lives.map(Incarnation::memory).sum();
        let charge = memory + kept + runs.len() * size_of::<FrameRun>() + ENTRY_OVERHEAD;
        let start = self.head;
        self.head = JournalPosition { frames: start.frames + frames, bytes: start.bytes + bytes.len() as u64 };
        let chunk = JournalChunk { bytes, first: start.frames, frames, runs: runs.into() };
        self.entries.push_back(JournalEntry { chunk, charge });
        self.charged += charge;
        while self.charged > self.limit && self.entries.len() > 1 {
            if let Some(dropped) = self.entries.pop_front() {
                self.charged -= dropped.charge;
            }
        }
    }

    /// The chunks from the one that starts with `cursor` on; `None` if it is gone.
    pub(super) fn from(&self, cursor: u64) -> Option<impl Iterator<Item = &JournalChunk>> {
        if cursor < self.tail() {
            return None;
        }
        let start = self.entries.partition_point(|entry| entry.chunk.first < cursor);
        Some(self.entries.range(start..).map(|entry| &entry.chunk))
    }
}
