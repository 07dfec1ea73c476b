//! Messages that no station is told, although their stream stays in step.

use crate::wire::bmp::{Error, Frame, MessageType};

/// Why the feed leaves a message out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Oddity {
    /// A message that is shorter than the fixed part of its type.
    Short,
    /// A Peer Up without an OPEN in the place of one.
    Open,
    /// An information TLV that is not whole.
    Tlv,
    /// A Statistics Report with fewer statistics than it announces.
    Statistics,
    /// A Route Mirroring whose TLVs are not whole.
    Mirroring,
    /// An Initiation or a Termination among messages about peers.
    Control,
    /// A message about a peer without Peer Up, while another peer with the same type, distinguisher
    /// and address has one.
    OtherPeer,
    /// A message about one more peer of the same type, distinguisher and address than the feed
    /// keeps apart.
    TooManyAlike,
    /// A message about one more peer than a connection may have, or all connections together.
    TooManyPeers,
    /// A Peer Down that names a table without Peer Up, while other tables of the peer have one.
    OtherTable,
    /// One more Peer Up of a peer than the feed keeps.
    TooManyUps,
}

impl Oddity {
    /// The kind of a message that [`crate::wire::bmp::check`] refuses with this error.
    pub(super) fn of(frame: &Frame<'_>, error: &Error) -> Self {
        match frame.message_type() {
            _ if frame.check_length().is_err() => Self::Short,
            Some(MessageType::PeerUp) if error.problem.is_of_open() => Self::Open,
            Some(MessageType::StatisticsReport) => Self::Statistics,
            Some(MessageType::RouteMirroring) => Self::Mirroring,
            Some(MessageType::Initiation | MessageType::Termination) => Self::Control,
            _ => Self::Tlv,
        }
    }

    /// All kinds.
    pub const ALL: [Self; 11] = [
        Self::Short,
        Self::Open,
        Self::Tlv,
        Self::Statistics,
        Self::Mirroring,
        Self::Control,
        Self::OtherPeer,
        Self::TooManyAlike,
        Self::TooManyPeers,
        Self::OtherTable,
        Self::TooManyUps,
    ];

    /// Its name in displays.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Short => "short-message",
            Self::Open => "broken-open",
            Self::Tlv => "cut-tlv",
            Self::Statistics => "cut-statistics",
            Self::Mirroring => "cut-mirroring",
            Self::Control => "control-message",
            Self::OtherPeer => "other-peer",
            Self::TooManyAlike => "too-many-alike",
            Self::TooManyPeers => "too-many-peers",
            Self::OtherTable => "other-table",
            Self::TooManyUps => "too-many-peer-ups",
        }
    }

    /// What it means, in words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Short => "a message is too short for its type",
            Self::Open => "a Peer Up holds something else than an OPEN",
            Self::Tlv => "an information TLV is cut",
            Self::Statistics => "a Statistics Report is cut",
            Self::Mirroring => "a mirrored message is cut",
            Self::Control => "an Initiation or Termination stands among messages about peers",
            Self::OtherPeer => "a message names another AS or BGP identifier than the Peer Up of that address",
            Self::TooManyAlike => "too many peers have one address",
            Self::TooManyPeers => "the connection, or all connections together, have as many peers as they may have",
            Self::OtherTable => "a Peer Down names a table that was not announced",
            Self::TooManyUps => "the Peer Ups of one peer are more than 256 KiB",
        }
    }
}

/// Numbers of messages by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oddities([u64; Oddity::ALL.len()]);

impl Oddities {
    /// Counts one more message. Returns true if it is the first of its kind.
    pub fn record(&mut self, oddity: Oddity) -> bool {
        let Some(count) = self.0.get_mut(oddity as usize) else { return false };
        *count += 1;
        *count == 1
    }

    pub(super) fn add(&mut self, more: Self) {
        self.0.iter_mut().zip(more.0).for_each(|(count, more)| *count += more);
    }

    /// The kinds with messages, and their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Oddity, u64)> {
        Oddity::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }

    /// The number of all messages.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}
