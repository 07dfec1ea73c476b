//! The lives of peers, each from its Peer Up to its Peer Down.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

use super::InputId;
use crate::wire::bmp::{Frame, PeerHeader, PeerIdentity, PeerKey, PeerType, PeerUp, build, whole_frames};

/// Counts connections from 1 on. A newer connection has the greater number.
pub type ConnectionId = u64;

/// A peer of the feed. Peers of two inputs are two peers, even if a station cannot tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PeerId {
    /// The number of the input: see [`super::inputs::InputTable::connect`].
    pub(super) input: u32,
    pub(super) identity: PeerIdentity,
}

impl PeerId {
    /// What a station that keeps to RFC 7854 tells peers apart by.
    pub(super) fn key(&self) -> &PeerKey {
        &self.identity.key
    }
}

/// One life of a peer: what a station is told about it, and what tells it from other lives.
///
/// Never changes, except that further Peer Ups may announce the peer for more tables.
#[derive(Debug)]
pub(super) struct Incarnation {
    /// No two lives have the same number. A later life has the greater one.
    pub(super) number: u64,
    pub(super) peer: PeerId,
    pub(super) input: InputId,
    /// The Peer Up as it came; `None` for a peer that was never announced. The routes of such a
    /// peer pass without a Peer Up.
    pub(super) up: Option<Bytes>,
    /// The Peer Down in bmpd's own name.
    down: Bytes,
    /// The Peer Downs of the further tables that the peer stands for.
    more_downs: Mutex<Vec<u8>>,
    /// The name of its VRF or table (RFC 9069 §5.2.1, RFC 9736 §4.2).
    pub(super) table: Option<String>,
    /// The per-peer header of its first frame.
    pub(super) header: PeerHeader,
    /// Whether the peer is in the router's own AS. True for a peer that was never announced.
    pub(super) internal: bool,
}

impl Incarnation {
    /// The life of an announced peer. `up` is its Peer Up, parsed from `frame`.
    ///
    /// Copies the frame: it is kept as long as the peer is up, and must not keep a whole read
    /// buffer.
    pub(super) fn announced(number: u64, peer: PeerId, input: &InputId, frame: &Frame<'_>, up: &PeerUp<'_>) -> Self {
        let mut down = BytesMut::new();
        build::peer_down(&mut down, &up.peer, up.table_name());
        Self {
            number,
            peer,
            input: input.clone(),
            up: Some(Bytes::copy_from_slice(frame.bytes())),
            down: Bytes::copy_from_slice(&down),
            more_downs: Mutex::default(),
            table: up.table_name().map(|name| String::from_utf8_lossy(name).into_owned()),
            header: up.peer,
            internal: up.is_internal(),
        }
    }

    /// The life of a peer that was not announced.
    pub(super) fn unannounced(number: u64, peer: PeerId, input: &InputId, header: PeerHeader) -> Self {
        let mut down = BytesMut::new();
        build::peer_down(&mut down, &header, None);
        Self {
            number,
            peer,
            input: input.clone(),
            up: None,
            down: Bytes::copy_from_slice(&down),
            more_downs: Mutex::default(),
            table: None,
            header,
            internal: true,
        }
    }

    /// The Peer Downs in bmpd's own name: one for each table that the peer stands for.
    pub(super) fn peer_downs(&self) -> Bytes {
        let more = self.more_downs.lock().unwrap_or_else(PoisonError::into_inner);
        if more.is_empty() { self.down.clone() } else { [&self.down[..], &more].concat().into() }
    }

    /// Adds the table of a further Peer Up.
    pub(super) fn add_table(&self, up: &PeerUp<'_>) {
        let mut down = BytesMut::new();
        build::peer_down(&mut down, &up.peer, up.table_name());
        if self.header.key.peer_type == PeerType::LOC_RIB
            && !whole_frames(&self.peer_downs()).any(|its| its.bytes() == down)
        {
            self.more_downs.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&down);
        }
    }

    /// How much memory it takes, in bytes, estimated.
    pub(super) fn memory(&self) -> usize {
        let more = self.more_downs.lock().unwrap_or_else(PoisonError::into_inner).len();
        size_of::<Self>() + self.up.as_ref().map_or(0, Bytes::len) + self.down.len() + more + 64
    }
}

/// A life that is over, with the Peer Downs that tell its end.
#[derive(Clone, Debug)]
pub(super) struct EndedLife {
    pub(super) life: Arc<Incarnation>,
    pub(super) peer_downs: Bytes,
}
