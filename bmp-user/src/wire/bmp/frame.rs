//! The common header (RFC 7854 §4.1), and whole frames in a stream.

use std::{fmt, iter::FusedIterator};

use super::{Error, PER_PEER_HEADER, Problem};

/// The version of BMP (RFC 7854 §4.1).
pub const VERSION: u8 = 3;

/// Length of the common header in bytes: version, length, type (RFC 7854 §4.1).
pub const COMMON_HEADER: usize = 6;

/// The longest frame that bmpd accepts, in bytes.
///
/// The length field could say 4 GiB. The longest message that makes sense is a Peer Up of 192 KiB:
/// 68 bytes of headers and addresses, two OPENs of at most 65,535 bytes (RFC 9072), and as many
/// bytes of information TLVs. Every other message holds one BGP message of at most 65,535 bytes
/// (RFC 8654), or counters.
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

    /// The message of a type byte; `None` for a code that is not assigned.
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

    /// The length of the shortest message of this type, common header included.
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

/// A whole frame with a sound version and length. Its content may be damaged: see [`super::check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    code: u8,
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Makes a frame of bytes whose header is known to be sound.
    #[inline]
    pub(super) fn new(code: u8, bytes: &'a [u8]) -> Self {
        Self { code, bytes }
    }

    /// The type byte. Codes that are not assigned are framed like any other.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// Its message type; `None` for a code that is not assigned.
    pub fn message_type(&self) -> Option<MessageType> {
        MessageType::from_code(self.code)
    }

    /// All bytes, common header included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Checks that the frame is long enough for its type.
    ///
    /// # Errors
    ///
    /// [`Problem::Short`] if every message of the type is longer.
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

/// Finds the whole frames at the start of `buf`.
///
/// Ends at the end of `buf`, or at a frame that is not whole yet: see [`Frames::consumed`]. A
/// header that cannot become a frame is an error, and the end, as soon as the wrong byte is there.
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
    /// Bytes of the frames that were returned so far: the offset of the next frame.
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

/// The first frame in `buf`; `None` if it is not whole yet.
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
