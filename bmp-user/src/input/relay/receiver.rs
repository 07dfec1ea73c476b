//! From the bytes of one connection to frames in the feed. No sockets here.

use std::fmt;

use bytes::{Buf, BytesMut};

use super::status::System;
use crate::{
    escape::Untrusted,
    feed::{Claim, Input, Oddity},
    wire::bmp::{
        BmpChunk, ChunkEnd, Error, Initiation, MAX_FRAME, Message, TakenChunk, Termination, frames, termination_reason,
        tlv_type,
    },
};

/// Size in bytes of the blocks that are read into. One read of a connection that has much to say fills it; and it is below what
/// glibc's allocator takes from the kernel each time (128 KiB).
const BLOCK: usize = 64 * 1024;

/// Reads the bytes of one connection: whoever has them puts them into [`Receiver::room`] and calls [`Receiver::receive`].
#[derive(Debug)]
pub struct Receiver {
    /// What has arrived and is not yet used: less than one frame, between two calls.
    buffer: BytesMut,
    /// Size of the allocation behind `buffer`.
    block: usize,
    /// How many bytes of the stream come before `buffer`, and before `claimed`.
    offset: u64,
    /// Frames that wait for a claim to be decided.
    claimed: Option<BmpChunk>,
    system: Option<System>,
}

/// What a daemon says when it ends its session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Goodbye {
    reason: Option<u16>,
    text: Option<Untrusted>,
}

/// What the frames that arrived came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// All whole frames are in the feed.
    All,
    /// The daemon ends the session.
    Goodbye(Goodbye),
    /// A peer of another connection is claimed. Once that is decided, [`Receiver::receive`] is called again, without reading more before.
    Claim(Claim),
}

impl Default for Receiver {
    fn default() -> Self {
        Self { buffer: BytesMut::with_capacity(BLOCK), block: BLOCK, offset: 0, claimed: None, system: None }
    }
}

impl Receiver {
    /// Where the next bytes of the stream go; there is always room for some.
    pub fn room(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Puts the whole frames that have arrived into the feed. A Termination ends the stream, whatever follows it. Frames that nobody can read are
    /// left out and counted.
    ///
    /// # Errors
    ///
    /// Where the framing is broken, with the offset in the stream. All frames before it are in the feed.
    pub fn receive(&mut self, input: &mut Input) -> Result<Received, Error> {
        let received = self.drain(input);
        if !matches!(received, Ok(Received::Claim(_))) {
            self.make_room();
        }
        received
    }

    /// What the Initiation said, if one has come since this was asked.
    pub fn take_system(&mut self) -> Option<System> {
        self.system.take()
    }

    /// Bytes that belong to a message which is not whole yet.
    pub fn left(&self) -> usize {
        self.buffer.len()
    }

    /// Where in the stream that message starts, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn drain(&mut self, input: &mut Input) -> Result<Received, Error> {
        if let Some(chunk) = self.claimed.take()
            && let Some(claim) = self.offer(&chunk, input)
        {
            return Ok(Received::Claim(claim));
        }
        loop {
            let start = self.offset;
            let TakenChunk { chunk, end } = BmpChunk::take(&mut self.buffer, self.block);
            if let Some(claim) = self.offer(&chunk, input) {
                return Ok(Received::Claim(claim));
            }
            match end {
                ChunkEnd::Partial => return Ok(Received::All),
                ChunkEnd::Invalid(error) => return Err(error.after(start)),
                ChunkEnd::Session(length) => {
                    let control = self.control();
                    self.buffer.advance(length);
                    let start = self.offset;
                    self.offset += length as u64;
                    match control {
                        Ok(Some(goodbye)) => return Ok(Received::Goodbye(goodbye)),
                        Ok(None) => {}
                        Err(error) => input.leave_out(Oddity::Tlv, &error.after(start)),
                    }
                }
            }
        }
    }

    /// Offers frames to the feed. If one of them claims a peer, the receiver keeps the frames from that one on.
    fn offer(&mut self, chunk: &BmpChunk, input: &mut Input) -> Option<Claim> {
        let claim = input.offer(chunk);
        self.offset += claim.map_or(chunk.bytes().len(), |claim| claim.at) as u64;
        self.claimed = claim.map(|claim| chunk.starting_at(claim.at));
        claim
    }

    /// Reads the Initiation or Termination that is next.
    fn control(&mut self) -> Result<Option<Goodbye>, Error> {
        let message = frames(&self.buffer).next().transpose()?.map(|frame| Message::parse(&frame)).transpose()?;
        if let Some(Message::Initiation(initiation)) = &message {
            self.system = Some(system(initiation));
        }
        Ok(match &message {
            Some(Message::Termination(termination)) => Some(goodbye(termination)),
            _ => None,
        })
    }

    /// Leaves only what is not yet a frame, at the start of a block with room behind it. The block is a new one if the feed
    /// kept part of this one, which is then the feed's alone; else it is used again. Blocks only grow with bytes that have
    /// arrived, whatever a length field says.
    fn make_room(&mut self) {
        let left = self.buffer.len();
        let block = if left < BLOCK / 2 { BLOCK } else { (2 * left).next_power_of_two().min(MAX_FRAME) };
        if self.block == block && self.buffer.try_reclaim(block - left) {
            return;
        }
        let mut fresh = BytesMut::with_capacity(block);
        fresh.extend_from_slice(&self.buffer);
        self.buffer = fresh;
        self.block = block;
    }
}

fn system(initiation: &Initiation<'_>) -> System {
    let text = |kind| initiation.information.find(kind).map(begin);
    System { name: text(tlv_type::SYS_NAME), descr: text(tlv_type::SYS_DESCR) }
}

fn goodbye(termination: &Termination<'_>) -> Goodbye {
    Goodbye {
        reason: termination.reason(),
        text: termination.information.find(tlv_type::STRING).map(|text| Untrusted::new(begin(text))),
    }
}

/// What of a text is kept: no more than a line. What is in it is the daemon's: it is escaped where it is shown.
fn begin(text: &[u8]) -> String {
    const LINE: usize = 255;
    String::from_utf8_lossy(text).chars().take(LINE).collect()
}

/// As in the log line.
impl fmt::Display for Goodbye {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Some(termination_reason::ADMINISTRATIVELY_CLOSED) => write!(f, "administratively closed")?,
            Some(termination_reason::UNSPECIFIED) => write!(f, "unspecified reason")?,
            Some(termination_reason::OUT_OF_RESOURCES) => write!(f, "out of resources")?,
            Some(termination_reason::REDUNDANT_CONNECTION) => write!(f, "redundant connection")?,
            Some(termination_reason::PERMANENTLY_CLOSED) => write!(f, "permanently administratively closed")?,
            Some(other) => write!(f, "reason {other}")?,
            None => write!(f, "no reason given")?,
        }
        self.text.iter().try_for_each(|text| write!(f, " ({text})"))
    }
}
