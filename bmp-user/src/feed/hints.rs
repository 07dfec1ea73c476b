//! What the OPENs of a session say about a RIB.

use bytes::Bytes;

use super::stored::parse_peer_up;
use crate::wire::{
    bgp::{Family, MAX_MESSAGE, Negotiation},
    bmp::RibView,
};

/// What OPENs say about the NLRI of a RIB. Routers may report NLRI that are written otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenHints {
    /// Whether routes have path identifiers (RFC 7911 §4).
    pub(super) path_ids: bool,
    /// Whether routes have stacks of labels (RFC 8277 §2.1).
    pub(super) stack: bool,
    /// The longest BGP message of the peer, in bytes (RFC 8654 §4).
    pub(super) max_message: usize,
}

impl OpenHints {
    const NONE: Self = Self { path_ids: false, stack: false, max_message: MAX_MESSAGE };

    /// What the Peer Ups of one session say together.
    pub(super) fn of<'a>(peer_ups: impl Iterator<Item = &'a Bytes>, view: RibView, family: Family) -> Self {
        let by_each = peer_ups.map(|up| Self::of_one(up, view, family).unwrap_or(Self::NONE));
        by_each.fold(Self::NONE, |all, by| Self {
            path_ids: all.path_ids || by.path_ids,
            stack: all.stack || by.stack,
            max_message: all.max_message.max(by.max_message),
        })
    }

    fn of_one(peer_up: &[u8], view: RibView, family: Family) -> Option<Self> {
        let up = parse_peer_up(peer_up)?;
        let opens = Negotiation::of(up.sent_open, up.received_open)?;
        let path_ids = match view {
            // The router receives these routes from the peer.
            RibView::AdjRibInPre | RibView::AdjRibInPost => opens.receives_path_ids(family),
            // The router sends these routes to the peer.
            RibView::AdjRibOutPre | RibView::AdjRibOutPost => opens.sends_path_ids(family),
            // The router makes up both OPENs to say how the routes look (RFC 9069 §5.2).
            RibView::LocRib => opens.have_path_ids(family),
        };
        Some(Self { path_ids, stack: opens.have_label_stacks(family), max_message: opens.max_message() })
    }
}
