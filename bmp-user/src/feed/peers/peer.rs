//! One peer that is up, or that has routes without a Peer Up.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;

use super::{
    super::{
        duplicates::DuplicateCounts,
        incarnation::{ConnectionId, Incarnation},
        memory::{MemoryMeter, MeteredBytes},
        rib::Rib,
        stored::{StoredFrame, TableName, differ_in_time_alone, parse_peer_up, table_of},
    },
    ownership::{Ownership, PeerPresence, PeersByConnection},
};
use crate::wire::bmp::{Frame, PeerHeader, PeerType, PeerUp};

/// Memory that the further Peer Ups of one peer may take, in bytes. A router sends one for each
/// view, family or table; some hundreds fit.
const MOST_UPS: usize = 256 * 1024;

/// A peer that is up, or that has routes without ever having been announced.
#[derive(Debug)]
pub(in crate::feed) struct LivePeer {
    pub(in crate::feed) life: Arc<Incarnation>,
    /// Further Peer Ups of the same session: see [`PeerUp::is_of_same_session`].
    pub(in crate::feed) more_ups: Vec<StoredFrame>,
    /// Peer Ups that the peer has not repeated since its input went away.
    pub(in crate::feed) unrepeated_ups: Vec<Bytes>,
    pub(in crate::feed) ownership: Ownership,
    pub(in crate::feed) ribs: Vec<Rib>,
    /// What the peer said a second time.
    pub(in crate::feed) duplicates: DuplicateCounts,
    /// The latest Statistics Report.
    pub(in crate::feed) statistics: Option<StoredFrame>,
    /// The number of this report among those of all peers.
    pub(in crate::feed) report_number: u64,
    /// Whether the peer announced routes of a family for which there is no room.
    pub(in crate::feed) lacks_families: bool,
    /// A station that was told the peer before this sequence number has to be told it anew.
    pub(in crate::feed) renewed_at: u64,
    /// The last mirrored message that passed.
    pub(in crate::feed) last_mirrored: Option<MirroredMessage>,
    /// Memory of the frames that are kept.
    frames_memory: MeteredBytes,
}

/// A mirrored message (RFC 7854 §4.7), of which the feed keeps no more than this.
#[derive(Clone, Copy, Debug)]
pub(in crate::feed) struct MirroredMessage {
    /// Sequence number after the message.
    pub(in crate::feed) changed: u64,
    pub(in crate::feed) header: PeerHeader,
}

/// What a Peer Up means for a peer that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerUpMeaning {
    /// The peer has sent it before. Only its time may differ.
    Repeated,
    /// It is a further Peer Up of the same life.
    Further,
    /// One of several tables begins another life.
    NewLifeOfTable,
    /// The peer begins another life.
    NewLife,
}

/// What a Peer Down ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerDownScope<'a> {
    Peer,
    /// One table of several.
    Table(TableName<'a>),
    /// Nothing: it names a table that was not announced.
    Nothing,
}

impl LivePeer {
    /// A peer that has no routes yet. `meter` counts its memory.
    pub(super) fn new(life: Arc<Incarnation>, connection: ConnectionId, meter: &MemoryMeter) -> Self {
        let mut peer = Self {
            life,
            more_ups: Vec::new(),
            unrepeated_ups: Vec::new(),
            ownership: Ownership { connection, presence: PeerPresence::Present },
            ribs: Vec::new(),
            duplicates: DuplicateCounts::default(),
            statistics: None,
            report_number: 0,
            renewed_at: 0,
            lacks_families: false,
            last_mirrored: None,
            frames_memory: MeteredBytes::new(meter),
        };
        peer.count_frames();
        peer
    }

    /// Counts the memory of the frames that are kept. Follows each change of them.
    pub(super) fn count_frames(&mut self) {
        self.frames_memory.set(self.walked_frames());
    }

    /// Memory of the frames that are kept, in bytes.
    pub(in crate::feed) fn walked_frames(&self) -> usize {
        let more = self.more_ups.iter().chain(&self.statistics);
        self.life.memory() + more.map(StoredFrame::memory).sum::<usize>()
    }

    /// Keeps the latest Statistics Report, and its number among those of all peers.
    pub(in crate::feed) fn set_statistics(&mut self, report: StoredFrame, number: u64) {
        self.report_number = number;
        let before = self.statistics.replace(report).map_or(0, |before| before.memory());
        let now = self.statistics.as_ref().map_or(0, StoredFrame::memory);
        self.frames_memory.set(self.frames_memory.get() - before + now);
    }

    /// Memory that would be free without the peer, in bytes: see [`Rib::charged_memory`].
    pub(in crate::feed) fn charged_memory(&self) -> usize {
        self.frames_memory.get() + self.ribs.iter().map(Rib::charged_memory).sum::<usize>()
    }

    /// True if there was a Peer Up.
    pub(in crate::feed) fn is_announced(&self) -> bool {
        self.life.up.is_some()
    }

    /// True if the input of the peer went away and is not back.
    pub(in crate::feed) fn is_away(&self) -> bool {
        self.ownership.presence == PeerPresence::Away
    }

    /// True if the input of the peer is back, and the peer repeats what it said before.
    pub(in crate::feed) fn repeats(&self) -> bool {
        matches!(self.ownership.presence, PeerPresence::Returned(_))
    }

    /// True if a late station lacks routes of the peer.
    pub(in crate::feed) fn is_incomplete(&self) -> bool {
        self.lacks_families || self.ribs.iter().any(|rib| rib.not_kept > 0)
    }

    /// All its Peer Ups.
    pub(in crate::feed) fn ups(&self) -> impl Iterator<Item = &Bytes> {
        self.life.up.iter().chain(self.more_ups.iter().map(|more| &more.frame))
    }

    /// The tables that the peer was announced for, each once.
    pub(super) fn tables(&self) -> Vec<TableName<'_>> {
        let mut tables = Vec::new();
        for table in self.ups().map(|up| table_of(up)) {
            if !tables.contains(&table) {
                tables.push(table);
            }
        }
        tables
    }

    /// What a Peer Up for this peer means. `frame` is the frame of `up`.
    pub(super) fn meaning_of(&self, frame: &Frame<'_>, up: &PeerUp<'_>) -> PeerUpMeaning {
        if self.ups().any(|known| differ_in_time_alone(known, frame.bytes())) {
            return PeerUpMeaning::Repeated;
        }
        let is_same_session = |known: &Bytes| parse_peer_up(known).is_some_and(|known| known.is_of_same_session(up));
        let Some(first) = &self.life.up else { return PeerUpMeaning::NewLife };
        if up.peer.key.peer_type != PeerType::LOC_RIB {
            return if is_same_session(first) { PeerUpMeaning::Further } else { PeerUpMeaning::NewLife };
        }
        let (mut of_table, mut of_others) = (0, 0);
        for known in self.ups() {
            match table_of(known) == up.table_name() {
                true if is_same_session(known) => return PeerUpMeaning::Further,
                true => of_table += 1,
                false => of_others += 1,
            }
        }
        match (of_table, of_others) {
            (0, 1..) => PeerUpMeaning::Further,
            (1.., 1..) => PeerUpMeaning::NewLifeOfTable,
            _ => PeerUpMeaning::NewLife,
        }
    }

    /// Keeps a further Peer Up of the same life. Returns false if there is no room for it.
    pub(super) fn add_up(&mut self, frame: &Frame<'_>, up: &PeerUp<'_>, changed: u64) -> bool {
        let bytes: usize = self.more_ups.iter().map(StoredFrame::memory).sum();
        if bytes + frame.bytes().len() > MOST_UPS {
            return false;
        }
        self.life.add_table(up);
        self.more_ups.push(StoredFrame { changed, frame: Bytes::copy_from_slice(frame.bytes()) });
        self.count_frames();
        true
    }

    /// The peer has sent this Peer Up again.
    pub(super) fn repeat_up(&mut self, frame: &Frame<'_>) {
        self.unrepeated_ups.retain(|up| !differ_in_time_alone(up, frame.bytes()));
    }

    /// A connection speaks about the peer, and owns it from now on.
    #[inline]
    pub(in crate::feed) fn take_over(
        &mut self,
        connection: ConnectionId,
        slot: u32,
        by_connection: &mut PeersByConnection,
    ) {
        let before = self.ownership;
        if before.connection == connection && before.presence != PeerPresence::Away {
            return;
        }
        let presence = match before.presence {
            PeerPresence::Away => PeerPresence::Returned(before.connection),
            other => other,
        };
        by_connection.replace(slot, &mut self.ownership, Ownership { connection, presence });
    }

    /// What a Peer Down ends that names a table, or none.
    ///
    /// A router that announced its only table without a name may name it in the Peer Down.
    pub(super) fn scope_of_down<'a>(&'a self, named: TableName<'a>) -> PeerDownScope<'a> {
        let tables = self.tables();
        let is_announced = |table: &TableName<'_>| tables.contains(table);
        if named.is_none() || tables.is_empty() || self.life.header.key.peer_type != PeerType::LOC_RIB {
            return PeerDownScope::Peer;
        }
        match [named, None].into_iter().find(is_announced) {
            None => PeerDownScope::Nothing,
            Some(_) if tables.len() == 1 => PeerDownScope::Peer,
            Some(table) => PeerDownScope::Table(table),
        }
    }

    /// True if this peer and the one of a Peer Up are two peers, although type, distinguisher and
    /// address are the same.
    ///
    /// Two neighbours on unnumbered links may have one link-local address. Two tables of a router
    /// may have no distinguisher. Any other Peer Up is for the same peer with another AS or BGP
    /// identifier.
    pub(super) fn is_beside(&self, up: &PeerUp<'_>) -> bool {
        let may_be_two = if up.peer.key.peer_type == PeerType::LOC_RIB {
            let name = up.table_name();
            name.is_some() && self.tables().iter().all(|table| table.is_some() && *table != name)
        } else {
            matches!(up.peer.address(), IpAddr::V6(address) if address.is_unicast_link_local())
        };
        may_be_two && !self.life.peer.identity.may_be(&up.peer.identity())
    }
}
