//! Lives of peers begin and end, and with them the tables that one peer may stand for.
//!
//! The Peer Ups of a Loc-RIB peer may name several tables (RFC 9069 §5.2.1), and a Peer Down ends the one that it names (§5.3). Stations differ in what they
//! make of that: some end all that has the same per-peer header. So the life of the peer is over for all of them, and what is left of it goes on as
//! another life, of which every station is told anew: see [`super::follower`].

use std::{mem, sync::Arc};

use bytes::Bytes;

use super::{
    journal::About,
    oddity::Oddity,
    owners::Dropped,
    peers::{ConnectionId, Gone, Hold, Incarnation, Latest, News, Peer, Table, hints, peer_up},
    rib::Rib,
    state::{Applied, Ended, State},
};
use crate::wire::{
    bgp::Family,
    bmp::{Frame, Message, PeerType, whole_frames},
};

impl State {
    /// Applies a Peer Up. `None` if it cannot be read.
    pub(super) fn up(
        &mut self,
        connection: ConnectionId,
        slot: u32,
        frame: &Frame<'_>,
        changed: u64,
    ) -> Option<Applied> {
        let Ok(Message::PeerUp(up)) = Message::parse(frame) else { return None };
        let is_alone = self.alike(slot).len() < 2;
        if let Some(peer) = &mut self.slots[slot as usize].peer {
            match peer.news_in(frame, &up) {
                News::None => {
                    // What is said again byte for byte passes like any other frame; with another time it would only puzzle stations, as it would if they took
                    // another peer for this one.
                    let is_news = is_alone && peer.hold == Hold::No && peer.ups().any(|up| up == frame.bytes());
                    peer.says_again(frame);
                    let life = Arc::clone(&peer.life);
                    peer.comes_back(connection, slot, &mut self.belongings);
                    return Some(Applied::new(About::Up(life), is_news));
                }
                News::Further if peer.takes(frame, &up, changed) => {
                    let life = Arc::clone(&peer.life);
                    peer.comes_back(connection, slot, &mut self.belongings);
                    return Some(Applied::new(About::Up(life), true));
                }
                News::Further => return Some(Applied::dropped(Dropped::Odd(Oddity::TooManyUps))),
                News::TableAgain => {
                    peer.comes_back(connection, slot, &mut self.belongings);
                    let (before, anew) = self.end_table(slot, up.table_name(), changed)?;
                    let peer = self.slots[slot as usize].peer.as_mut()?;
                    peer.takes(frame, &up, changed);
                    return Some(Applied {
                        before: vec![before],
                        anew: vec![anew],
                        ..Applied::new(About::Nobody, false)
                    });
                }
                News::AnotherLife => {}
            }
        }
        let id = self.slots[slot as usize].id;
        // Stations are told that these are over, whatever they would have made of the Peer Up alone.
        let (mut before, mut changed) = (Vec::new(), changed);
        for over in self.outlived_by(slot, &up).into_iter().chain([slot]) {
            let known = self.slots[over as usize].peer.as_ref();
            let Some(downs) = known.map(|peer| peer.life.peer_downs()) else { continue };
            let life = self.down(over, downs.clone(), changed)?;
            changed += count(&downs);
            before.push((life, downs));
        }
        self.incarnations += 1;
        let input = &self.connections.get(&connection)?.input_id;
        let life = Arc::new(Incarnation::announced(self.incarnations, id, input, frame, &up));
        self.start(slot, Arc::clone(&life), connection);
        let anew = self.name_those_like(slot, changed);
        Some(Applied { before, anew, ..Applied::new(About::Up(life), true) })
    }

    /// Where several peers look the same, nobody is to take what is told of one for what is told of another. Gives those that are told otherwise now.
    fn name_those_like(&mut self, slot: u32, changed: u64) -> Vec<Arc<Incarnation>> {
        let alike = self.alike(slot).to_vec();
        let mut anew = Vec::new();
        for &slot in alike.iter().filter(|_| alike.len() > 1) {
            let Some(peer) = &mut self.slots[slot as usize].peer else { continue };
            let renamed = peer.ribs.iter_mut().filter_map(|rib| rib.name_all(peer.life.header).then_some(())).count();
            if renamed > 0 {
                peer.anew_since = changed;
                anew.push(Arc::clone(&peer.life));
            }
        }
        anew
    }

    /// Begins the life of a peer that has none.
    pub(super) fn start(&mut self, slot: u32, life: Arc<Incarnation>, connection: ConnectionId) {
        let peer = Peer::new(life, connection);
        self.belongings.insert(slot, &peer);
        self.slots[slot as usize].peer = Some(peer);
        self.lives(slot);
    }

    /// Applies a Peer Down.
    pub(super) fn peer_down(&mut self, slot: u32, frame: &Frame<'_>, changed: u64) -> Applied {
        let Some(peer) = self.slots[slot as usize].peer.as_ref() else {
            return Applied::new(self.unknown(slot), true);
        };
        let named = match Message::parse(frame) {
            Ok(Message::PeerDown(down)) => down.table_name(),
            _ => None,
        };
        let received = Bytes::copy_from_slice(frame.bytes());
        match peer.ended_by(named) {
            Ends::Nothing => Applied::dropped(Dropped::Odd(Oddity::OtherTable)),
            Ends::Table(table) => {
                let table = table.map(<[u8]>::to_vec);
                let Some(((life, downs), anew)) = self.end_table(slot, table.as_deref(), changed) else {
                    return Applied::new(self.unknown(slot), true);
                };
                // The router says itself of which table it speaks.
                let before = vec![(Arc::clone(&life), without_table(&downs, named))];
                Applied { before, anew: vec![anew], ..Applied::new(About::Down(life), true) }
            }
            Ends::All => {
                let downs = match peer.life.header.key.peer_type {
                    PeerType::LOC_RIB => without_table(&peer.life.peer_downs(), named),
                    _ => Bytes::new(),
                };
                let all = if downs.is_empty() { received } else { [&downs[..], &received].concat().into() };
                let changed = changed + count(&downs);
                let Some(life) = self.down(slot, all, changed) else { return Applied::new(self.unknown(slot), true) };
                let before = if downs.is_empty() { Vec::new() } else { vec![(Arc::clone(&life), downs)] };
                Applied { before, ..Applied::new(About::Down(life), true) }
            }
        }
    }

    /// Ends the life of a peer, if it has one. `down` is its Peer Down, `changed` the sequence number after that.
    pub(super) fn down(&mut self, slot: u32, down: Bytes, changed: u64) -> Option<Arc<Incarnation>> {
        let known = &mut self.slots[slot as usize];
        let mut peer = known.peer.take()?;
        self.belongings.remove(slot, &peer);
        self.lives_no_more(slot);
        let known = &mut self.slots[slot as usize];
        known.gone = Some(Gone { number: peer.life.number, down });
        self.ended.push_back(Ended { slot, id: known.id, changed });
        self.held -= usize::from(peer.hold != Hold::No);
        for rib in &mut peer.ribs {
            rib.release(&mut self.attributes);
        }
        Some(peer.life)
    }

    /// Ends one of several tables of a peer: its Peer Ups, and the routes of the families that no other table has. The life of the peer is over with its
    /// Peer Downs, and what is left goes on as the life that comes second. `changed` is the sequence number after the first of the Peer Downs.
    pub(super) fn end_table(&mut self, slot: u32, table: Table<'_>, changed: u64) -> Option<(Over, Arc<Incarnation>)> {
        self.incarnations += 1;
        let Self { slots, attributes, incarnations, hasher, withdrawals, .. } = self;
        let known = slots.get_mut(slot as usize)?;
        let peer = known.peer.as_mut()?;
        let (its, rest): (Vec<_>, Vec<_>) = peer.ups().cloned().partition(|up| table_of(up) == table);
        let (first, further) = rest.split_first()?;
        let over = Arc::clone(&peer.life);
        let up = peer_up(first)?;
        let life = Incarnation::announced(*incarnations, over.peer, &over.input, &whole_frames(first).next()?, &up);
        further.iter().filter_map(|up| peer_up(up)).for_each(|up| life.takes_table(&up));
        peer.more_ups = further.iter().map(|frame| Latest { changed, frame: frame.clone() }).collect();
        peer.unsaid.retain(|up| table_of(up) != table);
        peer.life = Arc::new(life);
        for rib in &mut peer.ribs {
            if has_family(&its, rib.family) && !has_family(&rest, rib.family) {
                let opens = hints(rest.iter(), rib.view, rib.family);
                let empty = Rib::new(rib.view, rib.family, opens, true, rib.header, hasher.clone());
                mem::replace(rib, empty).release(attributes);
            } else {
                // Nobody goes on along it who began before.
                rib.unmark_all();
            }
        }
        for withdrawal in withdrawals.iter_mut().filter(|kept| (kept.slot, kept.life) == (slot, over.number)) {
            withdrawal.life = peer.life.number;
        }
        let downs = over.peer_downs();
        known.gone = Some(Gone { number: over.number, down: downs.clone() });
        Some(((over, downs), Arc::clone(&peer.life)))
    }

    /// Of a peer that is back and has said all again, a table that it did not announce again: it is over, see [`State::end_table`].
    pub(super) fn end_unsaid_table(&mut self, slot: u32, changed: u64) -> Option<(Over, Arc<Incarnation>)> {
        let peer = self.slots.get(slot as usize)?.peer.as_ref()?;
        let is_unsaid = |table: &Table<'_>| {
            peer.ups().filter(|up| table_of(up) == *table).all(|up| peer.unsaid.iter().any(|unsaid| unsaid == up))
        };
        let table = peer.tables().into_iter().find(is_unsaid)?.map(<[u8]>::to_vec);
        self.end_table(slot, table.as_deref(), changed)
    }
}

/// A life that is over, and its Peer Downs.
pub(super) type Over = (Arc<Incarnation>, Bytes);

/// What a Peer Down ends of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends<'a> {
    All,
    /// One table of several.
    Table(Table<'a>),
    /// It names a table that was not announced.
    Nothing,
}

/// How many frames there are.
pub(super) fn count(all: &[u8]) -> u64 {
    whole_frames(all).count() as u64
}

/// The name of the table that a Peer Up is for.
pub(super) fn table_of(up: &[u8]) -> Table<'_> {
    peer_up(up)?.table_name()
}

/// Whether an OPEN of a Peer Up names a family.
fn has_family(ups: &[Bytes], family: Family) -> bool {
    ups.iter().filter_map(|up| peer_up(up)).any(|up| up.families().any(|its| its == family))
}

/// Peer Downs but for that of one table.
fn without_table(downs: &Bytes, table: Table<'_>) -> Bytes {
    let is_of_another = |frame: &Frame<'_>| match Message::parse(frame) {
        Ok(Message::PeerDown(down)) => down.table_name() != table,
        _ => true,
    };
    let others = whole_frames(downs).filter(is_of_another);
    others.flat_map(|frame| frame.bytes().to_vec()).collect()
}
