//! From the bytes of one connection to frames in the feed. Has no sockets.

use std::fmt;

use bytes::{Buf, BytesMut};

use super::status::SystemInfo;
use crate::{
    escape::Untrusted,
    feed::{Claim, Input, Oddity},
    wire::bmp::{
        BmpChunk, ChunkEnd, Error, Initiation, MAX_FRAME, Message, TakenChunk, Termination, frames, termination_reason,
        tlv_type,
    },
    wire::proxy::begins_with_proxy_header,
};

/// Size in bytes of the blocks that reads go into. One read of a busy connection fills a block.
/// From 128 KiB on, glibc would get every block from the kernel.
const BLOCK: usize = 64 * 1024;

/// Takes the bytes of one connection. Its owner puts them into [`BmpReceiver::room`] and calls
/// [`BmpReceiver::receive`].
#[derive(Debug)]
pub struct BmpReceiver {
    /// Bytes that are not used yet: less than one frame, between two calls.
    buffer: BytesMut,
    /// Size of the allocation behind `buffer`.
    block: usize,
    /// Bytes of the stream before `claimed` and `buffer`.
    offset: u64,
    /// Frames that wait for a claim to be decided.
    claimed: Option<BmpChunk>,
    system: Option<SystemInfo>,
}

/// The content of a daemon's Termination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonGoodbye {
    reason: Option<u16>,
    text: Option<Untrusted>,
}

/// What became of the bytes that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiveOutcome {
    /// All whole frames are in the feed.
    AllFed,
    /// The daemon sent a Termination.
    Goodbye(DaemonGoodbye),
    /// A frame claims a peer of another connection. Once that is decided, the caller calls
    /// [`BmpReceiver::receive`] again, before it reads more.
    Claim(Claim),
}

impl Default for BmpReceiver {
    fn default() -> Self {
        Self { buffer: BytesMut::with_capacity(BLOCK), block: BLOCK, offset: 0, claimed: None, system: None }
    }
}

impl BmpReceiver {
    /// The buffer for the next bytes of the stream. There is always room.
    pub fn room(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Puts the whole frames into the feed. A Termination ends the stream, whatever follows it.
    /// Leaves out and counts frames that no station could read.
    ///
    /// # Errors
    ///
    /// Where the framing is broken. Offsets are within the stream. All frames before it are in the
    /// feed.
    pub fn receive(&mut self, input: &mut Input) -> Result<ReceiveOutcome, Error> {
        let received = self.drain(input);
        if !matches!(received, Ok(ReceiveOutcome::Claim(_))) {
            self.make_room();
        }
        received
    }

    /// What the Initiation said, if one has come since this was asked.
    pub fn take_system(&mut self) -> Option<SystemInfo> {
        self.system.take()
    }

    /// Bytes that belong to a message which is not whole yet.
    pub fn left(&self) -> usize {
        self.buffer.len()
    }

    /// True if the stream begins with a PROXY header instead of a message.
    pub(super) fn found_proxy_header(&self) -> bool {
        self.offset == 0 && begins_with_proxy_header(&self.buffer)
    }

    /// Where in the stream that message starts, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn drain(&mut self, input: &mut Input) -> Result<ReceiveOutcome, Error> {
        if let Some(chunk) = self.claimed.take()
            && let Some(claim) = self.offer(&chunk, input)
        {
            return Ok(ReceiveOutcome::Claim(claim));
        }
        loop {
            let start = self.offset;
            let TakenChunk { chunk, end } = BmpChunk::take(&mut self.buffer, self.block);
            if let Some(claim) = self.offer(&chunk, input) {
                return Ok(ReceiveOutcome::Claim(claim));
            }
            match end {
                ChunkEnd::Partial => return Ok(ReceiveOutcome::AllFed),
                ChunkEnd::Invalid(error) => return Err(error.after(start)),
                ChunkEnd::Session(length) => {
                    let control = self.control(input);
                    self.buffer.advance(length);
                    let start = self.offset;
                    self.offset += length as u64;
                    match control {
                        Ok(Some(goodbye)) => return Ok(ReceiveOutcome::Goodbye(goodbye)),
                        Ok(None) => {}
                        Err(error) => input.leave_out(Oddity::Tlv, &error.after(start)),
                    }
                }
            }
        }
    }

    /// Offers frames to the feed. If one of them claims a peer, the receiver keeps the frames from
    /// that one on.
    fn offer(&mut self, chunk: &BmpChunk, input: &mut Input) -> Option<Claim> {
        let claim = input.offer(chunk);
        self.offset += claim.map_or(chunk.bytes().len(), |claim| claim.at) as u64;
        self.claimed = claim.map(|claim| chunk.starting_at(claim.at));
        claim
    }

    /// Reads the Initiation or Termination at the start of the buffer.
    fn control(&mut self, input: &mut Input) -> Result<Option<DaemonGoodbye>, Error> {
        let message = frames(&self.buffer).next().transpose()?.map(|frame| Message::parse(&frame)).transpose()?;
        if let Some(Message::Initiation(initiation)) = &message {
            let system = system(initiation);
            input.introduce(system.name.as_deref(), system.descr.as_deref());
            self.system = Some(system);
        }
        Ok(match &message {
            Some(Message::Termination(termination)) => Some(goodbye(termination)),
            _ => None,
        })
    }

    /// Keeps the bytes that are not a frame yet, at the start of a block with room behind them.
    /// Uses the same block again, unless the feed kept a part of it: then that block is the feed's
    /// alone. A block grows with bytes that have arrived, whatever a length field says.
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

fn system(initiation: &Initiation<'_>) -> SystemInfo {
    let text = |kind| initiation.information.find(kind).map(begin);
    SystemInfo { name: text(tlv_type::SYS_NAME), descr: text(tlv_type::SYS_DESCR) }
}

fn goodbye(termination: &Termination<'_>) -> DaemonGoodbye {
    DaemonGoodbye {
        reason: termination.reason(),
        text: termination.information.find(tlv_type::STRING).map(|text| Untrusted::new(begin(text))),
    }
}

/// The first line's worth of a text. The text is the daemon's: displays and logs escape it.
fn begin(text: &[u8]) -> String {
    const LINE: usize = 255;
    String::from_utf8_lossy(text).chars().take(LINE).collect()
}

/// As in the log line.
impl fmt::Display for DaemonGoodbye {
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
