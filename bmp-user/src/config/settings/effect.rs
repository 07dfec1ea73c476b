//! What a changed setting does to what is up.

/// What a changed setting does to a session that is up, or to the input that it configures.
///
/// Settings of inputs leave the sessions to stations up. Their effects say what the input does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The change counts at once.
    AtOnce,
    /// The change counts for the next connection.
    NextConnection,
    /// The change counts for the next attempt to connect.
    NextAttempt,
    /// The change counts for a session that has not tried to connect yet.
    FirstAttempt,
    /// The session connects again if another interface, address or router comes of the change.
    ReconnectsIfPinChanges,
    /// The session is closed, and connects again.
    Reconnects,
    /// The session is closed, and stays down.
    Closes,
    /// The change counts when bmpd ends.
    AtEnd,
    /// The command changes nothing by itself. Undone, it ends whatever its view configures.
    Enters,
    /// The BGP session is closed, and opened again.
    BgpReconnects,
    /// The BGP session is closed and opened again if another source comes of the change.
    BgpReconnectsIfPinChanges,
    /// The change counts at once, and closes BGP sessions that it forbids.
    BgpAtOnce,
    /// The BGP sessions that peers have opened are closed.
    BgpListensAnew,
    /// The relay closes its connections, and listens again.
    RelayListensAnew,
    /// The change counts at once, also for daemons that are connected.
    RelayAtOnce,
    /// The change counts for daemons that connect from now on.
    RelayNextConnection,
    /// The replay begins again.
    ReplayRestarts,
    /// The change counts at once, and closes inputs until the feed takes less.
    MemoryAtOnce,
    /// The change counts at once, also for connections that are up.
    KeysAtOnce,
    /// A connection that is up keeps the key that it signs with.
    KeyNextConnection,
    /// The change counts for TLS handshakes from now on.
    TlsNextHandshake,
    /// HTTP connections are closed, and bmpd listens again.
    HttpListensAnew,
    /// Stations are told the difference.
    FilterAtOnce,
}

impl Effect {
    /// Returns the effect in words, as the reference has it.
    pub(in crate::config) fn text(self) -> &'static str {
        match self {
            Self::AtOnce => "the session stays up, and the change counts at once",
            Self::NextConnection => "the session stays up, and the change counts for its next connection",
            Self::NextAttempt => "the session stays up, and the change counts for its next attempt to connect",
            Self::FirstAttempt => {
                "sessions stay up, and the change counts for a session that has not tried to connect yet"
            }
            Self::ReconnectsIfPinChanges => {
                "the session connects again if another interface, source address or router comes of the change"
            }
            Self::Reconnects => "the session is closed, and connects again",
            Self::Closes => "the session is closed, and stays down until `undo`",
            Self::AtEnd => "sessions stay up, and the change counts when bmpd ends",
            Self::Enters => "nothing; `undo` ends whatever the view configures",
            Self::BgpReconnects => "sessions stay up; the BGP session of the peer is closed and opened again",
            Self::BgpReconnectsIfPinChanges => {
                "sessions stay up; the BGP session of the peer is closed and opened again if another source comes of the change"
            }
            Self::BgpAtOnce => {
                "sessions stay up; the change counts at once, and the BGP session of a peer with more routes is closed"
            }
            Self::BgpListensAnew => "sessions stay up; the BGP sessions that peers have opened are closed",
            Self::RelayListensAnew => {
                "sessions stay up; the relay closes the connections of its daemons, and listens again"
            }
            Self::RelayAtOnce => "sessions stay up; the change counts at once, also for daemons that are connected",
            Self::RelayNextConnection => "sessions stay up; the change counts for daemons that connect from now on",
            Self::ReplayRestarts => "sessions stay up; the replay begins again",
            Self::MemoryAtOnce => {
                "sessions stay up; the change counts at once, and closes inputs until the feed takes less memory"
            }
            Self::KeysAtOnce => "sessions stay up; the change counts at once, also for connections that are up",
            Self::KeyNextConnection => {
                "sessions stay up; a connection that is up keeps its key while it has no other to sign with, and the \
                 change counts for its next connection"
            }
            Self::TlsNextHandshake => "sessions stay up; the change counts for connections that are opened from now on",
            Self::FilterAtOnce => {
                "the session stays up; the station is told the routes that it lacks, and the withdrawals of those that \
                 it is not to have any more"
            }
            Self::HttpListensAnew => "sessions stay up; bmpd closes its HTTP connections, and listens again",
        }
    }
}
