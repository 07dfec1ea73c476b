//! The common header (RFC 7854 §4.1), and finding whole frames in a stream.

use std::{fmt, iter::FusedIterator};

use super::{Error, PER_PEER_HEADER, Problem};

/// The protocol version that is spoken (RFC 7854 §4.1).
pub const VERSION: u8 = 3;

/// Length of the common header in bytes: version, length, type (RFC 7854 §4.1).
pub const COMMON_HEADER: usize = 6;

/// The longest frame that is accepted, in bytes.
///
/// The length field could say 4 GiB. The longest message that makes sense is a Peer Up: 68 bytes of headers and addresses, two
/// OPENs that use extended optional parameters (RFC 9072; a BGP length field ends at 65,535), and as much again for its
/// information TLVs: 192 KiB. Everything else holds one BGP message of at most 65,535 bytes (RFC 8654), or counters.
pub const MAX_FRAME: usize = 256 * 1024;

/// The shortest OPEN in bytes: header and fixed fields (RFC 4271 §4.2).
pub(super) const MIN_OPEN: usize = 29;

/// The messages of BMP (RFC 7854 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// Type 0 (RFC 7854 §4.6).
    RouteMonitoring,
    /// Type 1 (RFC 7854 §4.8).
    StatisticsReport,
    /// Type 2 (RFC 7854 §4.9).
    PeerDown,
    /// Type 3 (RFC 7854 §4.10).
    PeerUp,
    /// Type 4 (RFC 7854 §4.3).
    Initiation,
    /// Type 5 (RFC 7854 §4.5).
    Termination,
    /// Type 6 (RFC 7854 §4.7).
    RouteMirroring,
}

impl MessageType {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 7] = [
        Self::RouteMonitoring,
        Self::StatisticsReport,
        Self::PeerDown,
        Self::PeerUp,
        Self::Initiation,
        Self::Termination,
        Self::RouteMirroring,
    ];

    /// The message that a type byte stands for; `None` for a code that is not assigned.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The type byte.
    pub fn code(self) -> u8 {
        match self {
            Self::RouteMonitoring => 0,
            Self::StatisticsReport => 1,
            Self::PeerDown => 2,
            Self::PeerUp => 3,
            Self::Initiation => 4,
            Self::Termination => 5,
            Self::RouteMirroring => 6,
        }
    }

    /// The name, as the RFC writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RouteMonitoring => "Route Monitoring",
            Self::StatisticsReport => "Statistics Report",
            Self::PeerDown => "Peer Down",
            Self::PeerUp => "Peer Up",
            Self::Initiation => "Initiation",
            Self::Termination => "Termination",
            Self::RouteMirroring => "Route Mirroring",
        }
    }

    /// The bytes that every message of this type has, common header included.
    fn fixed_part(self) -> usize {
        const PEER: usize = COMMON_HEADER + PER_PEER_HEADER;
        match self {
            Self::RouteMonitoring | Self::RouteMirroring => PEER,
            Self::StatisticsReport => PEER + 4,
            Self::PeerDown => PEER + 1,
            Self::PeerUp => PEER + 20 + 2 * MIN_OPEN,
            Self::Initiation | Self::Termination => COMMON_HEADER,
        }
    }
}

/// As the RFC writes it: `Peer Up`.
impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One whole frame: version and length are sound. What is inside may be broken; see [`Frame::check_length`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    code: u8,
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// A frame of bytes whose header is known to be sound.
    #[inline]
    pub(super) fn new(code: u8, bytes: &'a [u8]) -> Self {
        Self { code, bytes }
    }

    /// The type byte. Codes that are not assigned are framed like any other.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// The message this is; `None` for a code that is not assigned.
    pub fn message_type(&self) -> Option<MessageType> {
        MessageType::from_code(self.code)
    }

    /// All of it, common header included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Checks that the frame holds the fixed part of its type.
    ///
    /// # Errors
    ///
    /// [`Problem::Short`], if every message of the type is longer.
    #[inline]
    pub fn check_length(&self) -> Result<(), Error> {
        let Some(message) = self.message_type() else { return Ok(()) };
        let (need, found) = (message.fixed_part(), self.bytes.len());
        if found < need {
            return Err(Error::new(1, Problem::Short { what: message.as_str(), need, found }));
        }
        Ok(())
    }
}

/// The whole frames at the start of `buf`, in order.
///
/// Ends where `buf` does or where a frame is not yet whole; [`Frames::consumed`] says where that is. A header that cannot
/// become a frame is an error as soon as the byte that is wrong is there, and the end.
pub fn frames(buf: &[u8]) -> Frames<'_> {
    Frames { buf, consumed: 0, failed: false }
}

/// See [`frames`].
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    buf: &'a [u8],
    consumed: usize,
    failed: bool,
}

impl Frames<'_> {
    /// Bytes of the whole frames that were given out so far: where the next one starts.
    pub fn consumed(&self) -> usize {
        self.consumed
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let rest = self.buf.get(self.consumed..)?;
        match first_frame(rest) {
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

/// The frame that `buf` starts with; `None` if it is not whole yet.
#[inline]
fn first_frame(buf: &[u8]) -> Result<Option<Frame<'_>>, Error> {
    let Some(&[version, l0, l1, l2, l3, code]) = buf.first_chunk::<COMMON_HEADER>() else {
        return match buf.first() {
            Some(&version) if version != VERSION => Err(Error::new(0, Problem::Version(version))),
            _ => Ok(None),
        };
    };
    if version != VERSION {
        return Err(Error::new(0, Problem::Version(version)));
    }
    let said = u32::from_be_bytes([l0, l1, l2, l3]);
    let length = usize::try_from(said).unwrap_or(usize::MAX);
    if !(COMMON_HEADER..=MAX_FRAME).contains(&length) {
        return Err(Error::new(1, Problem::Length(said)));
    }
    Ok(buf.get(..length).map(|bytes| Frame { code, bytes }))
}
