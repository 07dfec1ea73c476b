//! Whole frames in a stream.

use std::iter::FusedIterator;

use bytes::{BufMut, BytesMut};

use super::{Error, HEADER, MAX_EXTENDED_MESSAGE, MessageType, Problem, error::LENGTH_AT};

const MARKER: usize = 16;
const MARKER_BYTE: u8 = 0xff;

/// A whole frame: its marker is right, its type is known, and its length is possible for the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    kind: MessageType,
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads a frame that takes all of `bytes`, as BMP and MRT carry it.
    ///
    /// # Errors
    ///
    /// If the bytes are not a frame, or a frame of another length.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let frame = match first_frame(bytes, MAX_EXTENDED_MESSAGE)? {
            Some(frame) => frame,
            None => {
                let said = bytes.get(LENGTH_AT..).and_then(<[u8]>::first_chunk).copied().map(u16::from_be_bytes);
                let need = said.map_or(HEADER, usize::from).max(HEADER);
                return Err(Error::new(0, Problem::Short { what: "a BGP message", need, found: bytes.len() }));
            }
        };
        match bytes.len().checked_sub(frame.bytes.len()) {
            None | Some(0) => Ok(frame),
            Some(found) => Err(Error::new(frame.bytes.len(), Problem::Trailing { what: "the BGP message", found })),
        }
    }

    /// Its message type.
    pub fn message_type(&self) -> MessageType {
        self.kind
    }

    /// All bytes, header included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes behind the header.
    pub fn body(&self) -> &'a [u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }
}

/// Finds the whole frames at the start of `buf`. `limit` is the longest message of the session, in
/// bytes: [`MAX_MESSAGE`] or [`MAX_EXTENDED_MESSAGE`].
///
/// Ends at the end of `buf`, or at a frame that is not whole yet: see [`Frames::consumed`]. A
/// header that cannot become a frame is an error, and the end, as soon as the wrong byte is there.
pub fn frames(buf: &[u8], limit: usize) -> Frames<'_> {
    Frames { buf, limit, consumed: 0, failed: false }
}

/// See [`frames`].
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    buf: &'a [u8],
    limit: usize,
    consumed: usize,
    failed: bool,
}

impl Frames<'_> {
    /// Bytes of the frames that were returned so far: the offset of the next frame.
    pub fn consumed(&self) -> usize {
        self.consumed
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let rest = self.buf.get(self.consumed..)?;
        match first_frame(rest, self.limit) {
            Ok(frame) => {
                let frame = frame?;
                self.consumed += frame.bytes.len();
                Some(Ok(frame))
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error.after(self.consumed as u64)))
            }
        }
    }
}

impl FusedIterator for Frames<'_> {}

/// The first frame in `buf`; `None` if it is not whole yet.
fn first_frame(buf: &[u8], limit: usize) -> Result<Option<Frame<'_>>, Error> {
    if buf.first_chunk() != Some(&[MARKER_BYTE; MARKER]) {
        // A byte is wrong, or the marker is not whole yet.
        let marker = buf.iter().take(MARKER);
        if let Some((at, &wrong)) = marker.enumerate().find(|&(_, &byte)| byte != MARKER_BYTE) {
            return Err(Error::new(at, Problem::Marker(wrong)));
        }
    }
    let Some(&[l0, l1, ref kind @ ..]) = buf.get(LENGTH_AT..) else { return Ok(None) };
    let found = u16::from_be_bytes([l0, l1]);
    let length = usize::from(found);
    let check = |what, (least, most)| match length {
        length if (least..=most).contains(&length) => Ok(()),
        _ => Err(Error::new(LENGTH_AT, Problem::Length { what, least, most, found })),
    };
    check("a message", (HEADER, limit))?;
    let Some(&code) = kind.first() else { return Ok(None) };
    let kind = MessageType::from_code(code).ok_or_else(|| Error::new(HEADER - 1, Problem::Type(code)))?;
    check(kind.as_str(), kind.lengths(limit))?;
    Ok(buf.get(..length).map(|bytes| Frame { kind, bytes }))
}

/// Appends a KEEPALIVE (RFC 4271 §4.4).
pub fn keepalive(out: &mut BytesMut) {
    header(out, MessageType::Keepalive, 0);
}

/// Appends the header of an UPDATE. The caller appends the rest: `body` bytes, which have to fit.
pub fn update_header(out: &mut BytesMut, body: usize) {
    header(out, MessageType::Update, body);
}

/// Appends a header for a body of `body` bytes, which has to fit.
pub(super) fn header(out: &mut BytesMut, kind: MessageType, body: usize) {
    out.reserve(HEADER + body);
    out.put_bytes(MARKER_BYTE, MARKER);
    out.put_u16(u16::try_from(HEADER + body).unwrap_or(u16::MAX));
    out.put_u8(kind.code());
}
