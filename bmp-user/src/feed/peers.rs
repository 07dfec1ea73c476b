//! Who the routes are of: peers, and each of their lives from Peer Up to Peer Down.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::rib::{Rib, View};
use crate::wire::{
    bgp::{self, Family, MAX_EXTENDED_MESSAGE, MAX_MESSAGE, Open, capability::AddPath},
    bmp::{
        COMMON_HEADER, Frame, Message, PER_PEER_HEADER, PeerHeader, PeerIdentity, PeerKey, PeerType, PeerUp, build,
        frames, peer_flags,
    },
};

/// A peer of the feed: peers of different inputs are different peers even if a station could not tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PeerId {
    /// See [`super::state::State::connect`].
    pub(super) input: u32,
    pub(super) identity: PeerIdentity,
}

impl PeerId {
    /// What a station that keeps to RFC 7854 tells it from other peers by.
    pub(super) fn key(&self) -> &PeerKey {
        &self.identity.key
    }
}

/// Counts connections from 1 on; a newer one has the greater number.
pub type ConnectionId = u64;

/// One life of a peer: what a station is told of it, and what tells it from others. Never changes.
#[derive(Debug)]
pub(super) struct Incarnation {
    /// No two have the same; a later one has a greater number.
    pub(super) number: u64,
    pub(super) peer: PeerId,
    pub(super) input: Arc<str>,
    /// The Peer Up as it was received. None for a peer that was never announced: its routes pass without (the RFC does not say what else).
    pub(super) up: Option<Bytes>,
    /// The Peer Down that takes it back in bmpd's own name.
    pub(super) down: Bytes,
    /// Name of its VRF or table (RFC 9069 §5.2.1, RFC 9736 §4.2).
    pub(super) table: Option<String>,
    /// The per-peer header that it was first heard of with.
    pub(super) header: PeerHeader,
    /// Whether it is of the router's own AS; so is one that was never announced, of which nobody knows.
    pub(super) internal: bool,
}

impl Incarnation {
    /// An announced peer: `up` is its Peer Up, parsed from `frame`. Copies: what is kept for as long as the peer is up must not keep a
    /// whole read buffer.
    pub(super) fn announced(number: u64, peer: PeerId, input: &Arc<str>, frame: &Frame<'_>, up: &PeerUp<'_>) -> Self {
        let mut down = BytesMut::new();
        build::peer_down(&mut down, &up.peer, up.table_name());
        Self {
            number,
            peer,
            input: Arc::clone(input),
            up: Some(Bytes::copy_from_slice(frame.bytes())),
            down: Bytes::copy_from_slice(&down),
            table: up.table_name().map(|name| String::from_utf8_lossy(name).into_owned()),
            header: up.peer,
            internal: up.is_internal(),
        }
    }

    /// A peer that was not announced.
    pub(super) fn unannounced(number: u64, peer: PeerId, input: &Arc<str>, header: PeerHeader) -> Self {
        let mut down = BytesMut::new();
        build::peer_down(&mut down, &header, None);
        let down = Bytes::copy_from_slice(&down);
        Self { number, peer, input: Arc::clone(input), up: None, down, table: None, header, internal: true }
    }
}

/// What the OPENs of a session say of a RIB. Routers report NLRI that are written otherwise: it is a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Negotiated {
    /// Whether routes have path identifiers (RFC 7911 §4).
    pub(super) path_ids: bool,
    /// Whether routes have stacks of labels (RFC 8277 §2.1).
    pub(super) stack: bool,
    /// The longest BGP message of the peer in bytes (RFC 8654 §4).
    pub(super) max_message: usize,
}

impl Negotiated {
    const NOTHING: Self = Self { path_ids: false, stack: false, max_message: MAX_MESSAGE };
}

/// What the Peer Ups of one session say of a RIB.
pub(super) fn negotiated<'a>(ups: impl Iterator<Item = &'a Bytes>, view: View, family: Family) -> Negotiated {
    let by_each = ups.map(|up| negotiated_by(up, view, family).unwrap_or(Negotiated::NOTHING));
    by_each.fold(Negotiated::NOTHING, |all, by| Negotiated {
        path_ids: all.path_ids || by.path_ids,
        stack: all.stack || by.stack,
        max_message: all.max_message.max(by.max_message),
    })
}

fn negotiated_by(up: &[u8], view: View, family: Family) -> Option<Negotiated> {
    let up = peer_up(up)?;
    let open = |bytes| bgp::Frame::parse(bytes).and_then(|frame| Open::parse(&frame)).ok();
    let (sent, received) = open(up.sent_open).zip(open(up.received_open))?;
    let sends = |open: &Open<'_>| open.add_path().is_some_and(|add_path: AddPath<'_>| add_path.sends(family));
    let receives = |open: &Open<'_>| open.add_path().is_some_and(|add_path| add_path.receives(family));
    let path_ids = match view {
        // What the router receives from the peer.
        View::AdjRibInPre | View::AdjRibInPost => receives(&sent) && sends(&received),
        // What it sends to the peer.
        View::AdjRibOutPre | View::AdjRibOutPost => sends(&sent) && receives(&received),
        // Both OPENs are made up to say what the routes look like (RFC 9069 §5.2).
        View::LocRib => (sends(&sent) || receives(&sent)) && (sends(&received) || receives(&received)),
    };
    let both = |has: &dyn Fn(&Open<'_>) -> bool| has(&sent) && has(&received);
    let extended = both(&|open| open.has(bgp::Capability::ExtendedMessage));
    let max_message = if extended { MAX_EXTENDED_MESSAGE } else { MAX_MESSAGE };
    Some(Negotiated { path_ids, stack: both(&|open| takes_labels(open, family)), max_message })
}

/// Whether the sender of an OPEN takes several labels (RFC 8277 §2.1): a list of families, each with how many.
fn takes_labels(open: &Open<'_>, family: Family) -> bool {
    const MULTIPLE_LABELS: u8 = 8;
    open.capabilities().any(|capability| match capability {
        bgp::Capability::Other { code: MULTIPLE_LABELS, value } => {
            value.as_chunks::<4>().0.iter().any(|&[high, low, safi, most]| {
                Family::new(u16::from_be_bytes([high, low]), safi) == family && most > 1
            })
        }
        _ => false,
    })
}

fn peer_up(bytes: &[u8]) -> Option<PeerUp<'_>> {
    match Message::parse(&frames(bytes).next()?.ok()?) {
        Ok(Message::PeerUp(up)) => Some(up),
        _ => None,
    }
}

/// The view that a per-peer header speaks of (RFC 7854 §4.2, RFC 8671 §4, RFC 9069 §4).
#[inline]
pub(super) fn view_of(peer_type: PeerType, flags: u8) -> View {
    let post = flags & peer_flags::POST_POLICY != 0;
    match (peer_type, flags & peer_flags::ADJ_RIB_OUT != 0) {
        (PeerType::LOC_RIB, _) => View::LocRib,
        (_, false) if post => View::AdjRibInPost,
        (_, false) => View::AdjRibInPre,
        (_, true) if post => View::AdjRibOutPost,
        (_, true) => View::AdjRibOutPre,
    }
}

/// A peer that is up, or has routes without ever having been announced.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) life: Arc<Incarnation>,
    /// Further Peer Ups of the same session ([`PeerUp::is_of_same_session`]), each with when it came.
    pub(super) more_ups: Vec<Latest>,
    /// The only connection that may speak of it.
    pub(super) owner: ConnectionId,
    /// Whether its input went away, or came back and is saying again what it said before.
    pub(super) hold: Hold,
    pub(super) ribs: Vec<Rib>,
    /// The latest Statistics Report.
    pub(super) statistics: Option<Latest>,
    /// When the last mirrored message passed, and its header.
    pub(super) mirrored: Option<(u64, PeerHeader)>,
}

/// Peer Ups of one session, at most: a router says one for each view, or each family. With a later one another life begins.
const MOST_UPS: usize = 64;

impl Peer {
    /// All its Peer Ups.
    pub(super) fn ups(&self) -> impl Iterator<Item = &Bytes> {
        self.life.up.iter().chain(self.more_ups.iter().map(|more| &more.frame))
    }

    /// Whether a Peer Up says nothing new: its time alone may differ.
    pub(super) fn is_restated_by(&self, frame: &Frame<'_>) -> bool {
        self.ups().any(|up| without_time(up) == without_time(frame.bytes()))
    }

    /// Whether a Peer Up is a further one of the same session.
    pub(super) fn is_same_session(&self, up: &PeerUp<'_>) -> bool {
        self.life.up.as_ref().and_then(|first| peer_up(first)).is_some_and(|first| first.is_of_same_session(up))
    }

    /// Takes a further Peer Up of the same session. False if there are too many.
    pub(super) fn takes(&mut self, frame: &Frame<'_>, changed: u64) -> bool {
        if self.more_ups.len() >= MOST_UPS {
            return false;
        }
        self.more_ups.push(Latest { changed, frame: Bytes::copy_from_slice(frame.bytes()) });
        true
    }
}

/// A frame without the time that ends its per-peer header.
fn without_time(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    const END: usize = COMMON_HEADER + PER_PEER_HEADER;
    const TIME: usize = 8;
    Some((frame.get(..END - TIME)?, frame.get(END..)?))
}

/// See [`super::Held`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Hold {
    /// Neither.
    #[default]
    No,
    /// It went away.
    Away,
    /// It came back after this connection went away.
    Back(ConnectionId),
}

/// The latest frame of a kind.
#[derive(Debug)]
pub(super) struct Latest {
    /// Sequence number after it.
    pub(super) changed: u64,
    pub(super) frame: Bytes,
}

/// How the last life of a peer ended.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) number: u64,
    /// The Peer Down.
    pub(super) down: Bytes,
}

/// All that is known of a peer.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: PeerId,
    pub(super) peer: Option<Peer>,
    pub(super) gone: Option<Gone>,
}
