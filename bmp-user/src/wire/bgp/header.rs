//! The header of messages (RFC 4271 §4.1): its length and its types.

use std::fmt;

/// Length of the header in bytes: marker, length, type.
pub const HEADER: usize = 19;

/// The longest message of a session, in bytes (RFC 4271 §4.1).
pub const MAX_MESSAGE: usize = 4096;

/// The longest message of a session with extended messages, in bytes (RFC 8654 §3).
pub const MAX_EXTENDED_MESSAGE: usize = 65_535;

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
    pub(super) fn lengths(self, limit: usize) -> (usize, usize) {
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
