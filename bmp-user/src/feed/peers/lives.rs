//! Lives of peers begin and end, and with them the tables that one peer may stand for.
//!
//! The Peer Ups of a Loc-RIB peer may name several tables (RFC 9069 §5.2.1). A Peer Down ends the
//! table that it names (§5.3). Stations differ here: some end everything with the same per-peer
//! header. So the life of the peer is over for all stations. The rest of the peer goes on as
//! another life, and every station is told it anew: see [`super::super::follower`].

use std::{mem, sync::Arc};

use bytes::Bytes;

use super::{
    super::{
        InputId,
        applied::{AppliedFrame, DropReason},
        hints::OpenHints,
        incarnation::{ConnectionId, EndedLife, Incarnation},
        journal::FrameSubject,
        oddity::Oddity,
        rib::Rib,
        rib_tables::RibTables,
        stored::{StoredFrame, TableName, frame_count, has_family, parse_peer_up, table_of, without_table},
    },
    EndedPeer, LastEnd, LivePeer, PeerTable,
    ownership::PeerPresence,
    peer::{PeerDownScope, PeerUpMeaning},
};
use crate::wire::bmp::{Frame, Message, PeerHeader, PeerType, whole_frames};

/// A table of a peer is over, and with it the life of the peer.
#[derive(Debug)]
pub(in crate::feed) struct EndedTable {
    pub(in crate::feed) ended: EndedLife,
    /// The life as which the rest of the peer goes on.
    pub(in crate::feed) renewed: Arc<Incarnation>,
}

impl PeerTable {
    /// Begins the life of a peer that was not announced.
    pub(in crate::feed) fn start_unannounced(
        &mut self,
        slot: u32,
        connection: ConnectionId,
        input: &InputId,
        header: PeerHeader,
    ) -> Arc<Incarnation> {
        let number = self.next_life();
        let life = Arc::new(Incarnation::unannounced(number, self.slots[slot as usize].id, input, header));
        let peer = LivePeer::new(Arc::clone(&life), connection, &self.meter);
        self.set_live(slot, peer);
        life
    }

    /// Applies a Peer Up; `None` if it cannot be read. `changed` is the sequence number after it.
    pub(in crate::feed) fn peer_up(
        &mut self,
        tables: &mut RibTables,
        slot: u32,
        connection: ConnectionId,
        input: &InputId,
        frame: &Frame<'_>,
        changed: u64,
    ) -> Option<AppliedFrame> {
        let Ok(Message::PeerUp(up)) = Message::parse(frame) else { return None };
        let is_alone = self.look_alikes(slot).len() < 2;
        if let Some(peer) = &mut self.slots[slot as usize].peer {
            match peer.meaning_of(frame, &up) {
                PeerUpMeaning::Repeated => {
                    // A Peer Up that is the same byte for byte passes like any other frame. One
                    // with another time would only puzzle stations. So would any repetition, if the
                    // stations took another peer for this one.
                    let is_present = peer.ownership.presence == PeerPresence::Present;
                    let is_news = is_alone && is_present && peer.ups().any(|up| up == frame.bytes());
                    peer.repeat_up(frame);
                    let life = Arc::clone(&peer.life);
                    peer.take_over(connection, slot, &mut self.by_connection);
                    return Some(AppliedFrame::new(FrameSubject::Up(life), is_news));
                }
                PeerUpMeaning::Further if peer.add_up(frame, &up, changed) => {
                    let life = Arc::clone(&peer.life);
                    peer.take_over(connection, slot, &mut self.by_connection);
                    return Some(AppliedFrame::new(FrameSubject::Up(life), true));
                }
                PeerUpMeaning::Further => return Some(AppliedFrame::dropped(DropReason::Odd(Oddity::TooManyUps))),
                PeerUpMeaning::NewLifeOfTable => {
                    peer.take_over(connection, slot, &mut self.by_connection);
                    let EndedTable { ended, renewed } = self.end_table(tables, slot, up.table_name(), changed)?;
                    self.slots[slot as usize].peer.as_mut()?.add_up(frame, &up, changed);
                    return Some(AppliedFrame {
                        ended: vec![ended],
                        renewed: vec![renewed],
                        ..AppliedFrame::new(FrameSubject::Nobody, false)
                    });
                }
                PeerUpMeaning::NewLife => {}
            }
        }
        // Whatever stations would make of the Peer Up alone, they are told that these are over.
        let (mut ended, mut changed) = (Vec::new(), changed);
        for over in self.outlived_by(slot, &up).into_iter().chain([slot]) {
            let Some(peer_downs) = self.get(over).map(|peer| peer.life.peer_downs()) else { continue };
            let life = self.end(tables, over, peer_downs.clone(), changed)?;
            changed += frame_count(&peer_downs);
            ended.push(EndedLife { life, peer_downs });
        }
        let number = self.next_life();
        let life = Incarnation::announced(number, self.slots[slot as usize].id, input, frame, &up);
        let life = Arc::new(life);
        let peer = LivePeer::new(Arc::clone(&life), connection, &self.meter);
        self.set_live(slot, peer);
        let renewed = self.name_look_alikes(slot, changed);
        Some(AppliedFrame { ended, renewed, ..AppliedFrame::new(FrameSubject::Up(life), true) })
    }

    /// Gives peers that look the same the AS and BGP identifier of their own Peer Ups in every
    /// per-peer header, so that no station takes the routes of one for those of another. Returns
    /// the lives whose per-peer headers change.
    fn name_look_alikes(&mut self, slot: u32, changed: u64) -> Vec<Arc<Incarnation>> {
        let look_alikes = self.look_alikes(slot).to_vec();
        let mut renewed = Vec::new();
        for &slot in look_alikes.iter().filter(|_| look_alikes.len() > 1) {
            let Some(peer) = &mut self.slots[slot as usize].peer else { continue };
            let renamed = peer.ribs.iter_mut().filter_map(|rib| rib.rename_all(peer.life.header).then_some(())).count();
            if renamed > 0 {
                peer.renewed_at = changed;
                renewed.push(Arc::clone(&peer.life));
            }
        }
        renewed
    }

    /// Applies a Peer Down. `changed` is the sequence number after it.
    pub(in crate::feed) fn peer_down(
        &mut self,
        tables: &mut RibTables,
        slot: u32,
        frame: &Frame<'_>,
        changed: u64,
    ) -> AppliedFrame {
        let unknown = |peers: &Self| AppliedFrame::new(peers.subject_of_unknown(slot), true);
        let Some(peer) = self.get(slot) else { return unknown(self) };
        let named = match Message::parse(frame) {
            Ok(Message::PeerDown(down)) => down.table_name(),
            _ => None,
        };
        let received = Bytes::copy_from_slice(frame.bytes());
        match peer.scope_of_down(named) {
            PeerDownScope::Nothing => AppliedFrame::dropped(DropReason::Odd(Oddity::OtherTable)),
            PeerDownScope::Table(table) => {
                let table = table.map(<[u8]>::to_vec);
                let Some(EndedTable { ended, renewed }) = self.end_table(tables, slot, table.as_deref(), changed)
                else {
                    return unknown(self);
                };
                // The router's own Peer Down is for the table that it names.
                let EndedLife { life, peer_downs } = ended;
                let others = EndedLife { life: Arc::clone(&life), peer_downs: without_table(&peer_downs, named) };
                let subject = FrameSubject::Down(life);
                AppliedFrame { ended: vec![others], renewed: vec![renewed], ..AppliedFrame::new(subject, true) }
            }
            PeerDownScope::Peer => {
                let others = match peer.life.header.key.peer_type {
                    PeerType::LOC_RIB => without_table(&peer.life.peer_downs(), named),
                    _ => Bytes::new(),
                };
                let all = if others.is_empty() { received } else { [&others[..], &received].concat().into() };
                let changed = changed + frame_count(&others);
                let Some(life) = self.end(tables, slot, all, changed) else { return unknown(self) };
                let ended = EndedLife { life: Arc::clone(&life), peer_downs: others };
                let ended = if ended.peer_downs.is_empty() { Vec::new() } else { vec![ended] };
                AppliedFrame { ended, ..AppliedFrame::new(FrameSubject::Down(life), true) }
            }
        }
    }

    /// Ends the life of a peer, if it has one. `changed` is the sequence number after `peer_downs`.
    pub(in crate::feed) fn end(
        &mut self,
        tables: &mut RibTables,
        slot: u32,
        peer_downs: Bytes,
        changed: u64,
    ) -> Option<Arc<Incarnation>> {
        let mut peer = self.take_live(slot)?;
        let known = &mut self.slots[slot as usize];
        known.last_end = Some(LastEnd::new(peer.life.number, peer_downs, &self.meter));
        self.ended.push_back(EndedPeer { slot, id: known.id, changed });
        for rib in &mut peer.ribs {
            rib.release(&mut tables.attributes);
        }
        tables.attributes.give_back();
        Some(peer.life)
    }

    /// Ends one of several tables of a peer: its Peer Ups, and the routes of the families that no
    /// other table has. `changed` is the sequence number after the first of the Peer Downs.
    pub(in crate::feed) fn end_table(
        &mut self,
        tables: &mut RibTables,
        slot: u32,
        table: TableName<'_>,
        changed: u64,
    ) -> Option<EndedTable> {
        let number = self.next_life();
        let known = self.slots.get_mut(slot as usize)?;
        let peer = known.peer.as_mut()?;
        let (its, rest): (Vec<_>, Vec<_>) = peer.ups().cloned().partition(|up| table_of(up) == table);
        let (first, further) = rest.split_first()?;
        let before = Arc::clone(&peer.life);
        let up = parse_peer_up(first)?;
        let life = Incarnation::announced(number, before.peer, &before.input, &whole_frames(first).next()?, &up);
        further.iter().filter_map(|up| parse_peer_up(up)).for_each(|up| life.add_table(&up));
        peer.more_ups = further.iter().map(|frame| StoredFrame { changed, frame: frame.clone() }).collect();
        peer.unrepeated_ups.retain(|up| table_of(up) != table);
        peer.life = Arc::new(life);
        peer.count_frames();
        for rib in &mut peer.ribs {
            if has_family(&its, rib.family) && !has_family(&rest, rib.family) {
                let opens = OpenHints::of(rest.iter(), rib.view, rib.family);
                let hasher = tables.hasher.clone();
                let empty = Rib::new(rib.view, rib.family, opens, true, rib.header, hasher, &tables.meter);
                mem::replace(rib, empty).release(&mut tables.attributes);
            } else {
                // No walk that began in the life before goes on.
                rib.unmark_all();
            }
        }
        tables.withdrawals.move_to_life(slot, before.number, number);
        let peer_downs = before.peer_downs();
        known.last_end = Some(LastEnd::new(before.number, peer_downs.clone(), &self.meter));
        Some(EndedTable { ended: EndedLife { life: before, peer_downs }, renewed: Arc::clone(&peer.life) })
    }

    /// Ends a table that a peer did not announce again after its input returned: see
    /// [`PeerTable::end_table`]. `None` if there is no such table.
    pub(in crate::feed) fn end_unrepeated_table(
        &mut self,
        tables: &mut RibTables,
        slot: u32,
        changed: u64,
    ) -> Option<EndedTable> {
        let peer = self.get(slot)?;
        let is_unrepeated = |table: &TableName<'_>| {
            let mut ups = peer.ups().filter(|up| table_of(up) == *table);
            ups.all(|up| peer.unrepeated_ups.contains(up))
        };
        let table = peer.tables().into_iter().find(is_unrepeated)?.map(<[u8]>::to_vec);
        self.end_table(tables, slot, table.as_deref(), changed)
    }
}
