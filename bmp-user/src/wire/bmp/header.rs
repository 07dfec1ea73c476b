//! The common header (RFC 7854 §4.1): its version, length and types.

use std::fmt;

/// The version of BMP (RFC 7854 §4.1).
pub const VERSION: u8 = 3;

/// Length of the common header in bytes: version, length, type (RFC 7854 §4.1).
pub const COMMON_HEADER: usize = 6;

/// Length of the per-peer header in bytes (RFC 7854 §4.2).
pub const PER_PEER_HEADER: usize = 42;

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
    pub(super) fn fixed_part(self) -> usize {
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
