//! What became of a frame that was applied to the feed.

use std::sync::Arc;

use super::{
    incarnation::{ConnectionId, EndedLife, Incarnation},
    journal::FrameSubject,
    oddity::Oddity,
};

/// What became of a frame, and what stations have to be told.
#[derive(Debug)]
pub(super) struct AppliedFrame {
    pub(super) subject: FrameSubject,
    /// False if no station learns anything from the frame: its peer repeats what it said before its
    /// input went away.
    pub(super) is_news: bool,
    /// The life that began with this frame, without a Peer Up.
    pub(super) unannounced: Option<Arc<Incarnation>>,
    /// The lives that are over. Stations are told their Peer Downs before the frame.
    pub(super) ended: Vec<EndedLife>,
    /// The lives that stations are told anew, from the state: the rest of a life that is over, and
    /// peers whose per-peer headers change.
    pub(super) renewed: Vec<Arc<Incarnation>>,
    /// Why the frame did nothing and no station is told it.
    pub(super) dropped: Option<DropReason>,
    /// The RIB that its peer has repeated to the end. The feed withdraws the routes that were not
    /// repeated.
    pub(super) repeated: Option<RibPlace>,
}

/// Where a RIB is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RibPlace {
    /// The slot of the peer.
    pub(super) slot: u32,
    /// The place among the RIBs of the peer.
    pub(super) rib: usize,
}

/// Why a frame does nothing and no station is told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DropReason {
    /// Another connection owns the peer: the owner, with the first such frame about the peer.
    Refused(Option<ConnectionId>),
    /// The peer is held, and the connection has not announced it.
    Unannounced,
    /// No station could make sense of it.
    Odd(Oddity),
}

impl AppliedFrame {
    #[inline]
    pub(super) fn new(subject: FrameSubject, is_news: bool) -> Self {
        Self {
            subject,
            is_news,
            unannounced: None,
            ended: Vec::new(),
            renewed: Vec::new(),
            dropped: None,
            repeated: None,
        }
    }

    /// A frame that no station is told.
    pub(super) fn dropped(reason: DropReason) -> Self {
        Self { dropped: Some(reason), ..Self::new(FrameSubject::LookAlike, false) }
    }
}
