//! The states of RFC 4271 §8.2.2.

use std::fmt;

/// A state of RFC 4271 §8.2.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum BgpState {
    /// No connection is wanted, or a failed peer is waiting for its next attempt.
    #[default]
    Idle,
    /// A connection is being opened.
    Connect,
    /// The machine waits for the peer to connect.
    Active,
    /// An OPEN was sent. The peer's OPEN is expected.
    OpenSent,
    /// OPENs were exchanged. A KEEPALIVE is expected.
    OpenConfirm,
    /// The session is up, and routes are received.
    Established,
}

impl BgpState {
    /// All states in the order of the RFC.
    pub const ALL: [Self; 6] =
        [Self::Idle, Self::Connect, Self::Active, Self::OpenSent, Self::OpenConfirm, Self::Established];

    /// Returns the name of the state as in the RFC.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Connect => "Connect",
            Self::Active => "Active",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        }
    }
}

/// The name of the state as in the RFC.
impl fmt::Display for BgpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
