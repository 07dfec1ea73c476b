//! Who the routes are of: peers, and each of their lives from Peer Up to Peer Down.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

use super::{
    InputId,
    belongings::Belongings,
    lives::{Ends, table_of},
    rib::Rib,
};
use crate::wire::{
    bgp::{Family, MAX_MESSAGE, Negotiation},
    bmp::{
        COMMON_HEADER, Frame, Message, PER_PEER_HEADER, PeerHeader, PeerIdentity, PeerKey, PeerType, PeerUp, RibView,
        build, whole_frames,
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

/// One life of a peer: what a station is told of it, and what tells it from others. Never changes, but that it may be announced for more tables.
#[derive(Debug)]
pub(super) struct Incarnation {
    /// No two have the same; a later one has a greater number.
    pub(super) number: u64,
    pub(super) peer: PeerId,
    pub(super) input: InputId,
    /// The Peer Up as it was received. None for a peer that was never announced: its routes pass without (the RFC does not say what else).
    pub(super) up: Option<Bytes>,
    /// The Peer Down that takes it back in bmpd's own name.
    down: Bytes,
    /// Those of the further tables that it stands for.
    more_downs: Mutex<Vec<u8>>,
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

    /// A peer that was not announced.
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

    /// The Peer Downs that take it back in bmpd's own name: one for each table that it stands for.
    pub(super) fn peer_downs(&self) -> Bytes {
        let more = self.more_downs.lock().unwrap_or_else(PoisonError::into_inner);
        if more.is_empty() { self.down.clone() } else { [&self.down[..], &more].concat().into() }
    }

    /// A further Peer Up of it is for another table.
    pub(super) fn takes_table(&self, up: &PeerUp<'_>) {
        let mut down = BytesMut::new();
        build::peer_down(&mut down, &up.peer, up.table_name());
        if self.header.key.peer_type == PeerType::LOC_RIB
            && !whole_frames(&self.peer_downs()).any(|its| its.bytes() == down)
        {
            self.more_downs.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&down);
        }
    }

    /// About how much memory it takes, in bytes.
    pub(super) fn memory(&self) -> usize {
        let more = self.more_downs.lock().unwrap_or_else(PoisonError::into_inner).len();
        size_of::<Self>() + self.up.as_ref().map_or(0, Bytes::len) + self.down.len() + more + 64
    }
}

/// What the OPENs of a session say of a RIB. Routers report NLRI that are written otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hints {
    /// Whether routes have path identifiers (RFC 7911 §4).
    pub(super) path_ids: bool,
    /// Whether routes have stacks of labels (RFC 8277 §2.1).
    pub(super) stack: bool,
    /// The longest BGP message of the peer in bytes (RFC 8654 §4).
    pub(super) max_message: usize,
}

impl Hints {
    const NONE: Self = Self { path_ids: false, stack: false, max_message: MAX_MESSAGE };

    fn of(up: &[u8], view: RibView, family: Family) -> Option<Self> {
        let up = peer_up(up)?;
        let opens = Negotiation::of(up.sent_open, up.received_open)?;
        let path_ids = match view {
            // What the router receives from the peer.
            RibView::AdjRibInPre | RibView::AdjRibInPost => opens.receives_path_ids(family),
            // What it sends to the peer.
            RibView::AdjRibOutPre | RibView::AdjRibOutPost => opens.sends_path_ids(family),
            // Both OPENs are made up to say what the routes look like (RFC 9069 §5.2).
            RibView::LocRib => opens.have_path_ids(family),
        };
        Some(Self { path_ids, stack: opens.have_label_stacks(family), max_message: opens.max_message() })
    }
}

/// What the Peer Ups of one session say of a RIB.
pub(super) fn hints<'a>(ups: impl Iterator<Item = &'a Bytes>, view: RibView, family: Family) -> Hints {
    let by_each = ups.map(|up| Hints::of(up, view, family).unwrap_or(Hints::NONE));
    by_each.fold(Hints::NONE, |all, by| Hints {
        path_ids: all.path_ids || by.path_ids,
        stack: all.stack || by.stack,
        max_message: all.max_message.max(by.max_message),
    })
}

/// Reads a Peer Up.
pub(super) fn peer_up(bytes: &[u8]) -> Option<PeerUp<'_>> {
    match Message::parse(&whole_frames(bytes).next()?) {
        Ok(Message::PeerUp(up)) => Some(up),
        _ => None,
    }
}

/// A peer that is up, or has routes without ever having been announced.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) life: Arc<Incarnation>,
    /// Further Peer Ups of the same session ([`PeerUp::is_of_same_session`]), each with when it came.
    pub(super) more_ups: Vec<Latest>,
    /// Peer Ups that it did not say again since its input went away.
    pub(super) unsaid: Vec<Bytes>,
    /// The only connection that may speak of it.
    pub(super) owner: ConnectionId,
    /// Whether its input went away, or came back and is saying again what it said before.
    pub(super) hold: Hold,
    pub(super) ribs: Vec<Rib>,
    /// The latest Statistics Report.
    pub(super) statistics: Option<Latest>,
    /// Whether routes of a family were announced for which there is no room.
    pub(super) lacks_families: bool,
    /// Who was told of it before this is to be told anew.
    pub(super) anew_since: u64,
    /// When the last mirrored message passed, and its header.
    pub(super) mirrored: Option<(u64, PeerHeader)>,
}

/// What the further Peer Ups of one peer may take, in bytes: a router says one for each view, family or table. Some hundreds fit.
const MOST_UPS: usize = 256 * 1024;

/// The name of a table that a peer stands for, if it has one.
pub(super) type Table<'a> = Option<&'a [u8]>;

/// What a Peer Up says of a peer that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing: its time alone may differ.
    None,
    /// It is a further one of the same life.
    Further,
    /// One of several tables begins another life.
    TableAgain,
    /// The peer does.
    AnotherLife,
}

impl Peer {
    /// A peer that has no routes yet.
    pub(super) fn new(life: Arc<Incarnation>, owner: ConnectionId) -> Self {
        Self {
            life,
            more_ups: Vec::new(),
            unsaid: Vec::new(),
            owner,
            hold: Hold::No,
            ribs: Vec::new(),
            statistics: None,
            anew_since: 0,
            lacks_families: false,
            mirrored: None,
        }
    }

    /// Whether a late station lacks routes of it.
    pub(super) fn is_incomplete(&self) -> bool {
        self.lacks_families || self.ribs.iter().any(|rib| rib.not_kept > 0)
    }

    /// All its Peer Ups.
    pub(super) fn ups(&self) -> impl Iterator<Item = &Bytes> {
        self.life.up.iter().chain(self.more_ups.iter().map(|more| &more.frame))
    }

    /// The tables that it was announced for, each once.
    pub(super) fn tables(&self) -> Vec<Table<'_>> {
        let mut tables = Vec::new();
        for table in self.ups().map(|up| table_of(up)) {
            if !tables.contains(&table) {
                tables.push(table);
            }
        }
        tables
    }

    /// What a Peer Up for it says.
    pub(super) fn news_in(&self, frame: &Frame<'_>, up: &PeerUp<'_>) -> News {
        if self.ups().any(|up| without_time(up) == without_time(frame.bytes())) {
            return News::None;
        }
        let is_of = |known: &Bytes| peer_up(known).is_some_and(|known| known.is_of_same_session(up));
        let Some(first) = &self.life.up else { return News::AnotherLife };
        if up.peer.key.peer_type != PeerType::LOC_RIB {
            return if is_of(first) { News::Further } else { News::AnotherLife };
        }
        let (mut of_table, mut of_others) = (0, 0);
        for known in self.ups() {
            match table_of(known) == up.table_name() {
                true if is_of(known) => return News::Further,
                true => of_table += 1,
                false => of_others += 1,
            }
        }
        match (of_table, of_others) {
            (0, 1..) => News::Further,
            (1.., 1..) => News::TableAgain,
            _ => News::AnotherLife,
        }
    }

    /// Takes a further Peer Up of the same life. False if there are too many.
    pub(super) fn takes(&mut self, frame: &Frame<'_>, up: &PeerUp<'_>, changed: u64) -> bool {
        let bytes: usize = self.more_ups.iter().map(|more| more.frame.len() + size_of::<Latest>()).sum();
        if bytes + frame.bytes().len() > MOST_UPS {
            return false;
        }
        self.life.takes_table(up);
        self.more_ups.push(Latest { changed, frame: Bytes::copy_from_slice(frame.bytes()) });
        true
    }

    /// A Peer Up says nothing new of it.
    pub(super) fn says_again(&mut self, frame: &Frame<'_>) {
        self.unsaid.retain(|up| without_time(up) != without_time(frame.bytes()));
    }

    /// A connection speaks of it.
    #[inline]
    pub(super) fn comes_back(&mut self, connection: ConnectionId, slot: u32, belongings: &mut Belongings) {
        if self.owner == connection && self.hold != Hold::Away {
            return;
        }
        belongings.remove(slot, self);
        let before = std::mem::replace(&mut self.owner, connection);
        if self.hold == Hold::Away {
            self.hold = Hold::Back(before);
        }
        belongings.insert(slot, self);
    }

    /// What a Peer Down ends that names a table, or none. Who has one table without a name may name it then.
    pub(super) fn ended_by<'a>(&'a self, named: Table<'a>) -> Ends<'a> {
        let tables = self.tables();
        let is_announced = |table: &Table<'_>| tables.contains(table);
        if named.is_none() || tables.is_empty() || self.life.header.key.peer_type != PeerType::LOC_RIB {
            return Ends::All;
        }
        match [named, None].into_iter().find(is_announced) {
            None => Ends::Nothing,
            Some(_) if tables.len() == 1 => Ends::All,
            Some(table) => Ends::Table(table),
        }
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
    /// The Peer Downs that told it.
    pub(super) down: Bytes,
}

/// All that is known of a peer.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: PeerId,
    pub(super) peer: Option<Peer>,
    pub(super) gone: Option<Gone>,
}
