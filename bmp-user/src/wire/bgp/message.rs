//! The header (RFC 4271 §4.1), and whole frames in a stream.

use std::{fmt, iter::FusedIterator};

use bytes::{BufMut, BytesMut};

use super::{Error, Notification, Open, Problem, RouteRefresh, error::LENGTH_AT};

/// Length of the header in bytes: marker, length, type.
pub const HEADER: usize = 19;

/// The longest message of a session, in bytes (RFC 4271 §4.1).
pub const MAX_MESSAGE: usize = 4096;

/// The longest message of a session with extended messages, in bytes (RFC 8654 §3).
pub const MAX_EXTENDED_MESSAGE: usize = 65_535;

const MARKER: usize = 16;
const MARKER_BYTE: u8 = 0xff;

/// The messages of BGP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// Type 1 (RFC 4271 §4.2).
    Open,
    /// Type 2 (RFC 4271 §4.3).
    Update,
    /// Type 3 (RFC 4271 §4.5).
    Notification,
    /// Type 4 (RFC 4271 §4.4).
    Keepalive,
    /// Type 5 (RFC 2918 §3).
    RouteRefresh,
}

impl MessageType {
    /// All of them, in the order of their codes, which begin with 1.
    pub const ALL: [Self; 5] = [Self::Open, Self::Update, Self::Notification, Self::Keepalive, Self::RouteRefresh];

    /// The message of a type byte; `None` for a code that is not assigned.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }

    /// The type byte.
    pub fn code(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Update => 2,
            Self::Notification => 3,
            Self::Keepalive => 4,
            Self::RouteRefresh => 5,
        }
    }

    /// The name, as the RFC writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Update => "UPDATE",
            Self::Notification => "NOTIFICATION",
            Self::Keepalive => "KEEPALIVE",
            Self::RouteRefresh => "ROUTE-REFRESH",
        }
    }

    /// The shortest and the longest message of this type, header included. `limit` is the limit of
    /// the session. OPEN and KEEPALIVE are never extended (RFC 8654 §4).
    fn lengths(self, limit: usize) -> (usize, usize) {
        match self {
            Self::Open => (HEADER + 10, limit.min(MAX_MESSAGE)),
            Self::Update | Self::RouteRefresh => (HEADER + 4, limit),
            Self::Notification => (HEADER + 2, limit),
            Self::Keepalive => (HEADER, HEADER),
        }
    }
}

/// As the RFC writes it: `ROUTE-REFRESH`.
impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

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

/// A message, borrowed from its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// OPEN.
    Open(Open<'a>),
    /// UPDATE, with the bytes behind the header.
    Update(&'a [u8]),
    /// NOTIFICATION.
    Notification(Notification<'a>),
    /// KEEPALIVE.
    Keepalive,
    /// ROUTE-REFRESH.
    RouteRefresh(RouteRefresh<'a>),
}

impl<'a> Message<'a> {
    /// Reads one frame.
    ///
    /// # Errors
    ///
    /// At the first field that is wrong. Offsets are within the frame. [`Problem::notification`] is
    /// the answer.
    pub fn parse(frame: &Frame<'a>) -> Result<Self, Error> {
        Ok(match frame.kind {
            MessageType::Open => Self::Open(Open::parse(frame)?),
            MessageType::Update => Self::Update(frame.body()),
            MessageType::Notification => Self::Notification(Notification::parse(frame)?),
            MessageType::Keepalive => Self::Keepalive,
            MessageType::RouteRefresh => Self::RouteRefresh(RouteRefresh::parse(frame)?),
        })
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
