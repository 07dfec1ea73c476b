//! What the feed knows: the peers, their RIBs, and the connections that they came by.

use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;

use super::{
    FrameCounts,
    applied::{AppliedFrame, DropReason, RibPlace},
    apply::RouteMonitoring,
    incarnation::{ConnectionId, Incarnation},
    inputs::{Claim, FrameTarget, InputTable},
    journal::FrameSubject,
    memory_guard::MemoryGuard,
    peers::{LivePeer, MirroredMessage, PeerTable},
    rib_tables::RibTables,
    stored::StoredFrame,
};
use crate::wire::bmp::{Frame, MessageType, PeerHeader, PeerKey};

/// See the module.
#[derive(Debug)]
pub(super) struct FeedState {
    pub(super) peers: PeerTable,
    pub(super) inputs: InputTable,
    pub(super) tables: RibTables,
    pub(super) limit: MemoryGuard,
    /// The frames in the journal since the start, by type.
    pub(super) appended: FrameCounts,
    /// How many frames were applied, those included that no station is told.
    pub(super) applied: u64,
    /// How many Statistics Reports were kept.
    pub(super) reports: u64,
}

impl FeedState {
    pub(super) fn new(withdrawal_limit: usize) -> Self {
        let hasher = RandomState::default();
        let tables = RibTables::new(withdrawal_limit, hasher.clone());
        Self {
            peers: PeerTable::new(hasher, tables.meter.clone()),
            inputs: InputTable::default(),
            tables,
            limit: MemoryGuard::default(),
            appended: FrameCounts::default(),
            applied: 0,
            reports: 0,
        }
    }

    /// The memory that the feed takes without its journal, in bytes. Takes no time.
    ///
    /// Places of attribute sets that are gone do not count: other sets use them again.
    pub(super) fn memory_without_journal(&self) -> usize {
        let Self { peers, tables, .. } = self;
        tables.meter.bytes() + tables.attributes.memory_in_use() + tables.withdrawals.queue_memory() + peers.memory()
    }

    /// Checks that the account of memory equals what is there.
    #[cfg(test)]
    pub(super) fn check_memory(&self) {
        let Self { peers, tables, .. } = self;
        let (memory, paid) = peers.walked_memory(&tables.attributes);
        assert_eq!(tables.meter.bytes(), memory);
        assert_eq!((tables.attributes.memory_in_use(), paid), tables.attributes.walked_memory());
    }

    /// Closes a connection. Returns the slots of the peers that it owned, in the order in which
    /// they came up. The caller ends or holds them.
    pub(super) fn disconnect(&mut self, connection: ConnectionId) -> Vec<u32> {
        self.peers.forget_last_found();
        self.inputs.disconnect(connection);
        self.peers.owned_by(connection)
    }

    /// The peers of one connection's input that look like a claimed peer.
    pub(super) fn claimed_peers(&self, connection: ConnectionId, claim: &Claim) -> Vec<u32> {
        let input = self.inputs.number_of(connection);
        input.map(|input| self.peers.with_key(input, claim.peer.key).to_vec()).unwrap_or_default()
    }

    /// See [`PeerTable::unreadable_ribs`]. None for a frame without routes.
    pub(super) fn unreadable_ribs(&self, connection: ConnectionId, frame: &Frame<'_>) -> Vec<RibPlace> {
        if frame.message_type() != Some(MessageType::RouteMonitoring) {
            return Vec::new();
        }
        let found = self.inputs.number_of(connection).zip(PeerKey::of(frame));
        found.map(|(input, key)| self.peers.unreadable_ribs(connection, input, key)).unwrap_or_default()
    }

    /// Applies a frame that [`crate::wire::bmp::check`] does not refuse. `changed` is the sequence
    /// number after it.
    ///
    /// # Errors
    ///
    /// If the frame claims a peer of another connection that is there. Nothing has changed then.
    pub(super) fn apply(
        &mut self,
        connection: ConnectionId,
        frame: &Frame<'_>,
        changed: u64,
    ) -> Result<AppliedFrame, Claim> {
        let about_nobody = || AppliedFrame::new(FrameSubject::Nobody, true);
        let Some((header, message)) = PeerHeader::of(frame).zip(frame.message_type()) else {
            self.applied += 1;
            return Ok(about_nobody());
        };
        let target = self.inputs.target_of(&mut self.peers, connection, &header, message, changed)?;
        self.applied += 1;
        let slot = match target {
            FrameTarget::Peer(slot) => slot,
            FrameTarget::Nowhere(reason) => {
                let is_odd = matches!(reason, DropReason::Odd(_));
                let is_unannounced = !is_odd && message == MessageType::RouteMonitoring;
                self.tables.trouble.unannounced += u64::from(is_unannounced);
                return Ok(AppliedFrame::dropped(reason));
            }
        };
        Ok(match message {
            MessageType::RouteMonitoring => {
                let frames_applied = self.applied;
                let message = RouteMonitoring { frame, header, connection, changed, frames_applied };
                self.apply_routes(slot, &message).unwrap_or_else(about_nobody)
            }
            MessageType::PeerUp => {
                let Self { peers, inputs, tables, .. } = self;
                let applied = inputs
                    .input_of(connection)
                    .and_then(|input| peers.peer_up(tables, slot, connection, input, frame, changed));
                applied.unwrap_or_else(about_nobody)
            }
            MessageType::PeerDown => self.peers.peer_down(&mut self.tables, slot, frame, changed),
            about @ (MessageType::StatisticsReport | MessageType::RouteMirroring) => {
                let Some(peer) = self.peers.get_mut(slot) else {
                    return Ok(AppliedFrame::new(self.peers.subject_of_unknown(slot), true));
                };
                if about == MessageType::StatisticsReport {
                    self.reports += 1;
                    let report = StoredFrame { changed, frame: Bytes::copy_from_slice(frame.bytes()) };
                    peer.set_statistics(report, self.reports);
                } else {
                    peer.last_mirrored = Some(MirroredMessage { changed, header: peer.life.header });
                }
                AppliedFrame::new(FrameSubject::Peer(Arc::clone(&peer.life)), true)
            }
            MessageType::Initiation | MessageType::Termination => about_nobody(),
        })
    }

    /// Keeps a newer Statistics Report of a peer that the connection owns. It does not go into the
    /// journal.
    pub(super) fn keep_statistics(&mut self, connection: ConnectionId, frame: &Frame<'_>, head: u64) {
        let Some(header) = PeerHeader::of(frame) else { return };
        let message = MessageType::StatisticsReport;
        let Ok(FrameTarget::Peer(slot)) = self.inputs.target_of(&mut self.peers, connection, &header, message, head)
        else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(slot) {
            self.reports += 1;
            let changed = peer.statistics.as_ref().map_or(head, |before| before.changed);
            peer.set_statistics(StoredFrame { changed, frame: Bytes::copy_from_slice(frame.bytes()) }, self.reports);
        }
    }

    fn apply_routes(&mut self, slot: u32, message: &RouteMonitoring<'_>) -> Option<AppliedFrame> {
        let Self { peers, inputs, tables, .. } = self;
        let mut begun = None;
        if peers.get(slot).is_none() {
            let input = inputs.input_of(message.connection)?;
            begun = Some(peers.start_unannounced(slot, message.connection, input, message.header));
        }
        if peers.get(slot).is_some_and(|peer| !peer.is_announced()) {
            tables.trouble.unannounced += 1;
            peers.take_over(slot, message.connection);
        }
        let mut applied = tables.apply(peers.get_mut(slot)?, slot, inputs, message);
        applied.unannounced = begun;
        Some(applied)
    }

    /// Withdraws routes of a RIB that were not repeated: see [`RibTables::withdraw_stale`].
    pub(super) fn withdraw_stale(&mut self, place: RibPlace, changed: u64) -> Vec<u32> {
        let Self { peers, tables, .. } = self;
        peers.get_mut(place.slot).map(|peer| tables.withdraw_stale(peer, place, changed)).unwrap_or_default()
    }

    /// A live peer, to be changed, beside the tables that its RIBs share.
    pub(super) fn peer_and_tables(&mut self, life: &Incarnation) -> Option<PeerAndTables<'_>> {
        let Self { peers, tables, .. } = self;
        Some(PeerAndTables { peer: peers.of_life_mut(life)?, tables })
    }

    /// Forgets the peers and the withdrawals that no follower needs any more. Forgets the oldest
    /// ones that a follower needs, if they are too many.
    pub(super) fn forget(&mut self) {
        let Self { peers, tables, .. } = self;
        tables.withdrawals.begin_batch();
        if tables.withdrawals.len() == 0 && !peers.has_ended() {
            return;
        }
        let needed_since = tables.withdrawals.needed_since();
        peers.forget_ended(needed_since);
        while let Some(oldest) = tables.withdrawals.take_oldest(needed_since) {
            let peer = peers.get_mut(oldest.slot).filter(|peer| peer.life.number == oldest.life);
            let Some(rib) = peer.and_then(|peer| peer.ribs.get_mut(oldest.rib as usize)) else { continue };
            rib.forget(oldest.route, oldest.changed, &mut tables.attributes);
            tables.trouble.overflowed += rib.newly_not_kept();
        }
    }
}

/// A live peer, and the tables that the RIBs of all peers share.
pub(super) struct PeerAndTables<'a> {
    pub(super) peer: &'a mut LivePeer,
    pub(super) tables: &'a RibTables,
}
