//! Frames that are known to be whole, so that nobody has to frame them a second time.

use bytes::{Bytes, BytesMut};

use super::{
    COMMON_HEADER, Error, Frame, Message, MessageType, PER_PEER_HEADER, Problem, Tlvs, frames, statistics::statistics,
};

/// Whole frames, one behind the other, as they go into the feed.
///
/// Whoever receives or builds the bytes makes the chunk, once. Version and length of every frame
/// are sound. The content of a frame may be damaged: see [`BmpChunk::has_damage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BmpChunk {
    bytes: Bytes,
    memory: usize,
    has_peer_changes: bool,
    has_damage: bool,
}

/// What [`BmpChunk::take`] found at the start of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenChunk {
    /// The frames about peers, which may be none.
    pub chunk: BmpChunk,
    /// What follows them.
    pub end: ChunkEnd,
}

/// Why a chunk ends where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkEnd {
    /// No further frame is whole yet.
    Partial,
    /// An Initiation or a Termination of this length in bytes follows.
    Session(usize),
    /// The next bytes cannot become a frame.
    Invalid(Error),
}

/// What a scan found in frames.
#[derive(Clone, Copy, Debug, Default)]
struct Contents {
    /// Bytes of the frames.
    length: usize,
    has_peer_changes: bool,
    has_damage: bool,
}

impl Contents {
    #[inline]
    fn add(&mut self, frame: &Frame<'_>) {
        self.length += frame.bytes().len();
        self.has_peer_changes |= matches!(frame.message_type(), Some(MessageType::PeerUp | MessageType::PeerDown));
        self.has_damage |= check(frame).is_err();
    }
}

impl BmpChunk {
    /// Takes the whole frames about peers off the start of `buffer`, up to an Initiation or a
    /// Termination.
    ///
    /// `memory` is the size in bytes of the allocation behind `buffer`: see [`BmpChunk::memory`].
    pub fn take(buffer: &mut BytesMut, memory: usize) -> TakenChunk {
        let mut contents = Contents::default();
        let mut whole = frames(buffer);
        let end = loop {
            match whole.next() {
                None => break ChunkEnd::Partial,
                Some(Err(error)) => break ChunkEnd::Invalid(error),
                Some(Ok(frame)) => match frame.message_type() {
                    Some(MessageType::Initiation | MessageType::Termination) => {
                        break ChunkEnd::Session(frame.bytes().len());
                    }
                    _ => contents.add(&frame),
                },
            }
        };
        TakenChunk { chunk: Self::new(buffer.split_to(contents.length).freeze(), memory, contents), end }
    }

    /// Makes a chunk of bytes that have to be whole frames. See [`BmpChunk::memory`] for `memory`.
    ///
    /// # Errors
    ///
    /// Where the framing is broken, or if the last frame is not whole. Offsets are within `bytes`.
    pub fn parse(bytes: Bytes, memory: usize) -> Result<Self, Error> {
        let mut contents = Contents::default();
        for frame in frames(&bytes) {
            contents.add(&frame?);
        }
        let found = bytes.len() - contents.length;
        if found > 0 {
            return Err(Error::new(
                contents.length,
                Problem::Short { what: "the rest of a message", need: found + 1, found },
            ));
        }
        Ok(Self::new(bytes, memory, contents))
    }

    /// Makes a chunk of frames that [`super::build`] wrote, which writes whole frames alone.
    pub fn built(frames: BytesMut) -> Self {
        let memory = frames.capacity();
        let mut contents = Contents::default();
        let frames = frames.freeze();
        whole_frames(&frames).for_each(|frame| contents.add(&frame));
        debug_assert_eq!(contents.length, frames.len(), "only whole frames are built");
        Self::new(frames.slice(..contents.length), memory, contents)
    }

    fn new(bytes: Bytes, memory: usize, Contents { has_peer_changes, has_damage, .. }: Contents) -> Self {
        Self { bytes, memory, has_peer_changes, has_damage }
    }

    /// Returns what remains behind the first `length` bytes, which have to be whole frames.
    #[must_use]
    pub fn starting_at(&self, length: usize) -> Self {
        Self { bytes: self.bytes.slice(length..), ..*self }
    }

    /// The bytes of all frames.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// True if there is no frame.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes of memory [`BmpChunk::bytes`] keeps alive: the size of the buffer that it is
    /// a part of.
    ///
    /// Whoever keeps the bytes counts this much. Nothing else may be kept in the same buffer.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// True if a Peer Up or a Peer Down may be among the frames.
    pub fn has_peer_changes(&self) -> bool {
        self.has_peer_changes
    }

    /// True if a frame that [`check`] refuses may be among the frames.
    pub fn has_damage(&self) -> bool {
        self.has_damage
    }

    /// The frames, in order.
    pub fn frames(&self) -> WholeFrames<'_> {
        whole_frames(&self.bytes)
    }
}

/// The frames in bytes that are known to be whole frames, one behind the other.
///
/// Bytes that are not end the iteration.
pub fn whole_frames(bytes: &[u8]) -> WholeFrames<'_> {
    WholeFrames(bytes)
}

/// See [`whole_frames`].
#[derive(Clone, Debug)]
pub struct WholeFrames<'a>(&'a [u8]);

impl<'a> Iterator for WholeFrames<'a> {
    type Item = Frame<'a>;

    #[inline]
    fn next(&mut self) -> Option<Frame<'a>> {
        let &[_version, l0, l1, l2, l3, code] = self.0.first_chunk::<COMMON_HEADER>()?;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let (frame, rest) = self.0.split_at_checked(length.max(COMMON_HEADER))?;
        self.0 = rest;
        Some(Frame::new(code, frame))
    }
}

/// Checks that a station can read a frame. Does not look at the UPDATE of a Route Monitoring: it is
/// passed on as it is.
///
/// # Errors
///
/// If the frame is shorter than the fixed part of its type, if an OPEN, an information TLV, a
/// statistic or a mirrored message is broken, or if the frame is not about a peer (Initiation,
/// Termination). Offsets are within the frame.
#[inline]
pub fn check(frame: &Frame<'_>) -> Result<(), Error> {
    frame.check_length()?;
    let body = || frame.bytes().get(COMMON_HEADER + PER_PEER_HEADER..).unwrap_or_default();
    let at = (COMMON_HEADER + PER_PEER_HEADER) as u64;
    match frame.message_type() {
        Some(MessageType::PeerUp) => Message::parse(frame).map(|_| ()),
        Some(MessageType::StatisticsReport) => {
            statistics(body()).find_map(Result::err).map_or(Ok(()), |error| Err(error.after(at)))
        }
        Some(MessageType::RouteMirroring) => Tlvs::of(body()).map(|_| ()).map_err(|error| error.after(at)),
        Some(about @ (MessageType::Initiation | MessageType::Termination)) => {
            let type_byte = 5;
            Err(Error::new(type_byte, Problem::NotAboutAPeer(about)))
        }
        Some(MessageType::RouteMonitoring | MessageType::PeerDown) | None => Ok(()),
    }
}
