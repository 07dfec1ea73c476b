//! The peers of all inputs: who is up, who was, and whose they are.
//!
//! Owns the [`LivePeer`]s with their RIBs. A peer has a *slot*, which stays its own until the feed
//! forgets the peer. Does not decide who may speak about a peer: see [`super::inputs`].
//!
//! * `lives`: lives begin and end, and tables with them.
//! * `ownership`: which peers belong to which connection.
//! * `peer`: one peer.

mod lives;
mod ownership;
mod peer;

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use foldhash::fast::RandomState;

use super::{
    applied::RibPlace,
    incarnation::{ConnectionId, Incarnation, PeerId},
    journal::FrameSubject,
    memory::{MemoryMeter, MeteredBytes},
    rib::Rib,
};
use crate::wire::bmp::{PeerIdentity, PeerKey, PeerUp};

pub(super) use lives::EndedTable;
use ownership::{Ownership, PeerPresence, PeersByConnection};
pub(super) use peer::{LivePeer, MirroredMessage};

/// The peers that are not up and are kept all the same, at most.
///
/// Of a peer beyond that, a slow station is told the Peer Down in bmpd's own name.
const MOST_ENDED: usize = 10_000;

/// Bytes that a peer takes in the indexes, about.
const INDEX_ENTRIES: usize = 256;

/// What the peers of a connection hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionHoldings {
    /// The peers that the connection owns.
    pub peers: usize,
    /// Their routes in all RIBs. Where routes cannot be told apart, a field of an UPDATE counts as
    /// one.
    pub routes: usize,
}

/// All that the feed knows about one peer.
#[derive(Debug)]
pub(super) struct PeerSlot {
    pub(super) id: PeerId,
    pub(super) peer: Option<LivePeer>,
    /// How the last life of the peer ended.
    pub(super) last_end: Option<LastEnd>,
}

/// How the last life of a peer ended.
#[derive(Debug)]
pub(super) struct LastEnd {
    /// The number of the life.
    pub(super) life: u64,
    pub(super) peer_downs: Bytes,
    _memory: MeteredBytes,
}

impl LastEnd {
    fn new(life: u64, peer_downs: Bytes, meter: &MemoryMeter) -> Self {
        let mut memory = MeteredBytes::new(meter);
        memory.set(peer_downs.len());
        Self { life, peer_downs, _memory: memory }
    }
}

/// A peer that went down, or that a frame was about without its ever being up.
#[derive(Clone, Copy, Debug)]
struct EndedPeer {
    slot: u32,
    id: PeerId,
    /// Sequence number after its end.
    changed: u64,
}

/// The peer that the last frame was about. Frames come in runs.
#[derive(Clone, Copy, Debug)]
struct LastFound {
    connection: ConnectionId,
    identity: PeerIdentity,
    slot: u32,
}

/// A frame about an unknown peer is compared with the peers of so many inputs.
const MOST_SEARCHED_INPUTS: u32 = 256;

/// See the module.
#[derive(Debug)]
pub(super) struct PeerTable {
    slots: Vec<PeerSlot>,
    /// Slots that no peer has.
    free: Vec<u32>,
    /// The oldest first.
    ended: VecDeque<EndedPeer>,
    by_id: HashMap<PeerId, u32, RandomState>,
    /// Live peers, by connection.
    by_connection: PeersByConnection,
    /// Live peers, by input and by what stations tell peers apart by.
    by_key: HashMap<(u32, PeerKey), Vec<u32>, RandomState>,
    /// The greatest number of an input that a live peer ever had, and one.
    inputs: u32,
    last_life: u64,
    /// Live peers whose input is away, or is back and may not have repeated everything.
    held: usize,
    /// How many peers are live.
    live: usize,
    last_found: Option<LastFound>,
    meter: MemoryMeter,
}

impl PeerTable {
    /// No peers. `meter` counts the memory of what is kept about them.
    pub(super) fn new(hasher: RandomState, meter: MemoryMeter) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            ended: VecDeque::new(),
            by_id: HashMap::with_hasher(hasher.clone()),
            by_connection: PeersByConnection::new(hasher.clone()),
            by_key: HashMap::with_hasher(hasher),
            inputs: 0,
            last_life: 0,
            held: 0,
            live: 0,
            last_found: None,
            meter,
        }
    }

    /// How many peers are live.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Memory of the table itself, in bytes, estimated.
    pub(super) fn memory(&self) -> usize {
        self.slots.len() * (size_of::<PeerSlot>() + INDEX_ENTRIES)
    }

    /// The memory of RIBs and frames, and of the attribute sets that RIBs pay for, both looked up.
    #[cfg(test)]
    pub(super) fn walked_memory(&self, attributes: &super::attributes::AttributeSets) -> (usize, usize) {
        let (mut memory, mut sets) = (0, 0);
        for slot in &self.slots {
            memory += slot.last_end.as_ref().map_or(0, |end| end.peer_downs.len());
            let Some(peer) = &slot.peer else { continue };
            let mut charged = peer.walked_frames();
            memory += charged;
            for rib in &peer.ribs {
                let (own, paid) = rib.walked_memory(attributes);
                memory += own;
                sets += paid;
                charged += own + paid;
            }
            assert_eq!(charged, peer.charged_memory());
        }
        (memory, sets)
    }

    /// The live peers: who they are, the connection that owns each, and the memory that would be
    /// free without it, in bytes.
    pub(super) fn charged(&self) -> impl Iterator<Item = (PeerId, ConnectionId, usize)> {
        let live = self.slots.iter().filter_map(|slot| Some((slot.id, slot.peer.as_ref()?)));
        live.map(|(id, peer)| (id, peer.ownership.connection, peer.charged_memory()))
    }

    /// How many slots there are.
    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The slot of a peer.
    pub(super) fn slot(&self, id: PeerId) -> Option<&PeerSlot> {
        self.slots.get(*self.by_id.get(&id)? as usize)
    }

    /// The peer of a slot.
    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&LivePeer> {
        self.slots.get(slot as usize)?.peer.as_ref()
    }

    /// The same, to be changed.
    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut LivePeer> {
        self.slots.get_mut(slot as usize)?.peer.as_mut()
    }

    /// The peer of a life that is not over.
    pub(super) fn of_life(&self, life: &Incarnation) -> Option<&LivePeer> {
        self.slot(life.peer)?.peer.as_ref().filter(|peer| peer.life.number == life.number)
    }

    /// The same, to be changed.
    pub(super) fn of_life_mut(&mut self, life: &Incarnation) -> Option<&mut LivePeer> {
        let slot = self.slots.get_mut(*self.by_id.get(&life.peer)? as usize)?;
        slot.peer.as_mut().filter(|peer| peer.life.number == life.number)
    }

    /// Changes every live peer.
    pub(super) fn each_mut(&mut self, change: impl FnMut(&mut LivePeer)) {
        self.slots.iter_mut().filter_map(|slot| slot.peer.as_mut()).for_each(change);
    }

    /// A connection speaks about a live peer, and owns it from now on.
    pub(super) fn take_over(&mut self, slot: u32, connection: ConnectionId) {
        if let Some(peer) = self.slots.get_mut(slot as usize).and_then(|slot| slot.peer.as_mut()) {
            peer.take_over(connection, slot, &mut self.by_connection);
        }
    }

    /// The live peers in the order in which they came up.
    pub(super) fn in_order(&self) -> Vec<&LivePeer> {
        let mut peers: Vec<_> = self.slots.iter().filter_map(|slot| slot.peer.as_ref()).collect();
        peers.sort_unstable_by_key(|peer| peer.life.number);
        peers
    }

    /// Looks at the live peers in the next `count` slots from `from` on. Returns where to go on, or
    /// `None` at the end.
    pub(super) fn visit(&self, from: usize, count: usize, look: impl FnMut(&LivePeer)) -> Option<usize> {
        let slots = self.slots.get(from..).unwrap_or_default();
        slots.iter().take(count).filter_map(|slot| slot.peer.as_ref()).for_each(look);
        (slots.len() > count).then_some(from + count)
    }

    /// The peer that the last frame was about, if a frame of this connection is about the same.
    #[inline]
    pub(super) fn last_found(&self, connection: ConnectionId, identity: &PeerIdentity) -> Option<u32> {
        let last = self.last_found.as_ref()?;
        (last.connection == connection && last.identity == *identity).then_some(last.slot)
    }

    /// Remembers the peer that a frame is about.
    pub(super) fn set_last_found(&mut self, connection: ConnectionId, identity: PeerIdentity, slot: u32) {
        self.last_found = Some(LastFound { connection, identity, slot });
    }

    /// Forgets the peer that the last frame was about.
    pub(super) fn forget_last_found(&mut self) {
        self.last_found = None;
    }

    /// The slot of a live peer.
    pub(super) fn find(&self, id: &PeerId) -> Option<u32> {
        self.by_id.get(id).copied().filter(|slot| self.get(*slot).is_some())
    }

    /// The slot of a peer, which gets one if it has none. `changed` is the sequence number after
    /// the frame that is about the peer.
    pub(super) fn slot_for(&mut self, id: PeerId, changed: u64) -> u32 {
        if let Some(slot) = self.by_id.get(&id) {
            return *slot;
        }
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        let new = PeerSlot { id, peer: None, last_end: None };
        match self.slots.get_mut(slot as usize) {
            Some(freed) => *freed = new,
            None => self.slots.push(new),
        }
        self.by_id.insert(id, slot);
        self.ended.push_back(EndedPeer { slot, id, changed });
        slot
    }

    /// The live peers of an input with this type, distinguisher and address.
    pub(super) fn with_key(&self, input: u32, key: PeerKey) -> &[u32] {
        self.by_key.get(&(input, key)).map_or(&[], Vec::as_slice)
    }

    /// The live peers of its input that look like the one in `slot`, itself included.
    fn look_alikes(&self, slot: u32) -> &[u32] {
        let PeerId { input, identity } = self.slots[slot as usize].id;
        self.with_key(input, identity.key)
    }

    /// The live peers that look like the one in `slot` and are over when that one comes up with
    /// this Peer Up: peers that were never announced, peers that are held and not back, and peers
    /// that cannot be beside it.
    fn outlived_by(&self, slot: u32, up: &PeerUp<'_>) -> Vec<u32> {
        let is_over = |other: &&u32| {
            let goes_on = |peer: &LivePeer| peer.is_announced() && !peer.is_away() && peer.is_beside(up);
            **other != slot && self.get(**other).is_some_and(|peer| !goes_on(peer))
        };
        self.look_alikes(slot).iter().filter(is_over).copied().collect()
    }

    /// The subject of a frame about a peer that is not there.
    pub(super) fn subject_of_unknown(&self, slot: u32) -> FrameSubject {
        let PeerId { input, identity } = self.slots[slot as usize].id;
        let has_look_alike = |other: u32| other != input && self.by_key.contains_key(&(other, identity.key));
        // Among so many inputs nobody looks for it, and no station is told the frame.
        let are_many = self.inputs > MOST_SEARCHED_INPUTS;
        if are_many || (0..self.inputs).any(has_look_alike) { FrameSubject::LookAlike } else { FrameSubject::Nobody }
    }

    /// The numbers of the inputs that live peers have, some more than once.
    pub(super) fn inputs(&self) -> impl Iterator<Item = u32> {
        self.by_key.keys().map(|(input, _)| *input)
    }

    /// How many peers a connection owns.
    pub(super) fn count_of(&self, connection: ConnectionId) -> usize {
        self.by_connection.count(connection)
    }

    /// Counts the peers that a connection owns, and what their RIBs hold.
    pub(super) fn holdings_of(&self, connection: ConnectionId) -> ConnectionHoldings {
        let owned = self.by_connection.each(connection).filter_map(|slot| self.get(slot));
        owned.fold(ConnectionHoldings::default(), |ConnectionHoldings { peers, routes }, peer| ConnectionHoldings {
            peers: peers + 1,
            routes: routes + peer.ribs.iter().map(Rib::entries).sum::<usize>(),
        })
    }

    /// The peers that a connection owns, in the order in which they came up.
    pub(super) fn owned_by(&self, connection: ConnectionId) -> Vec<u32> {
        let mut slots = self.by_connection.owned(connection);
        slots.sort_unstable_by_key(|slot| self.get(*slot).map(|peer| peer.life.number));
        slots
    }

    /// RIBs without End-of-RIB of the peers that a connection announced, if nothing came for them
    /// since `frames_applied` was `since`; in the order in which the peers came up.
    pub(super) fn quiet_ribs(&self, connection: ConnectionId, since: u64) -> Vec<RibPlace> {
        let mut found = Vec::new();
        for slot in self.owned_by(connection) {
            let Some(peer) = self.get(slot).filter(|peer| peer.is_announced()) else { continue };
            let is_quiet = |rib: &Rib| rib.end_of_rib.is_none() && rib.is_in_use() && rib.last_frame <= since;
            let quiet = peer.ribs.iter().enumerate().filter(|(_, rib)| is_quiet(rib));
            found.extend(quiet.map(|(rib, _)| RibPlace { slot, rib }));
        }
        found
    }

    /// Holds peers whose input went away: they stay as they are until they return or are ended.
    /// Returns the peers that cannot be held, because the feed does not keep all of their routes.
    pub(super) fn hold(&mut self, slots: &[u32]) -> Vec<u32> {
        let mut incomplete = Vec::new();
        for &slot in slots {
            let Some(peer) = &mut self.slots[slot as usize].peer else { continue };
            if peer.is_incomplete() {
                incomplete.push(slot);
                continue;
            }
            self.held += usize::from(peer.ownership.presence == PeerPresence::Present);
            let away = Ownership { presence: PeerPresence::Away, ..peer.ownership };
            self.by_connection.replace(slot, &mut peer.ownership, away);
            peer.unrepeated_ups = peer.ups().cloned().collect();
            peer.ribs.iter_mut().for_each(Rib::set_stale);
        }
        incomplete
    }

    /// True if an input is away, or repeats what it said before.
    pub(super) fn holds_any(&self) -> bool {
        self.held > 0
    }

    /// The peers that a connection left behind and that did not return.
    pub(super) fn still_away(&self, connection: ConnectionId) -> Vec<u32> {
        let mut away = self.by_connection.owned(connection);
        away.retain(|slot| self.get(*slot).is_some_and(LivePeer::is_away));
        away
    }

    /// The peers that returned after a connection had gone away have repeated everything that they
    /// will repeat. Returns them.
    pub(super) fn end_returns(&mut self, connection: ConnectionId) -> Vec<u32> {
        let returned = self.by_connection.returned(connection);
        for &slot in &returned {
            if let Some(peer) = &mut self.slots[slot as usize].peer {
                let present = Ownership { presence: PeerPresence::Present, ..peer.ownership };
                self.by_connection.replace(slot, &mut peer.ownership, present);
            }
        }
        self.held -= returned.len();
        returned
    }

    /// RIBs with whole fields from before their peer went away, if a Route Monitoring frame of this
    /// connection may be about them.
    ///
    /// The router may pack its routes differently now. Then a field that it does not repeat says
    /// nothing about the routes in it, so all are withdrawn before the peer says anything.
    pub(super) fn unreadable_ribs(&self, connection: ConnectionId, input: u32, key: PeerKey) -> Vec<RibPlace> {
        let may_repeat = |peer: &&LivePeer| match peer.ownership.presence {
            PeerPresence::Present => false,
            PeerPresence::Away => !peer.is_announced(),
            PeerPresence::Returned(_) => peer.ownership.connection == connection,
        };
        let mut found = Vec::new();
        for &slot in self.with_key(input, key) {
            let peer = self.get(slot).filter(may_repeat);
            let ribs = peer.into_iter().flat_map(|peer| peer.ribs.iter().enumerate());
            found.extend(ribs.filter(|(_, rib)| rib.has_whole()).map(|(rib, _)| RibPlace { slot, rib }));
        }
        found
    }

    /// True if there is a peer that is not up and may be forgotten.
    pub(super) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Forgets the peers that are not up, if no station has to be told their end any more: all
    /// followers know what changed up to `needed_since`. Forgets the first ones if there are too
    /// many.
    pub(super) fn forget_ended(&mut self, needed_since: u64) {
        while let Some(&EndedPeer { slot, id, changed }) = self.ended.front() {
            if changed > needed_since && self.ended.len() <= MOST_ENDED {
                break;
            }
            self.ended.pop_front();
            if self.by_id.get(&id) == Some(&slot) && self.slots[slot as usize].peer.is_none() {
                self.by_id.remove(&id);
                self.slots[slot as usize].last_end = None;
                self.free.push(slot);
                self.last_found = None;
            }
        }
    }

    /// A peer is live now.
    fn set_live(&mut self, slot: u32, peer: LivePeer) {
        let PeerId { input, identity } = self.slots[slot as usize].id;
        self.by_connection.insert(slot, peer.ownership);
        self.live += usize::from(self.slots[slot as usize].peer.is_none());
        self.slots[slot as usize].peer = Some(peer);
        self.by_key.entry((input, identity.key)).or_default().push(slot);
        self.inputs = self.inputs.max(input.saturating_add(1));
        self.last_found = None;
    }

    /// Takes a peer out that is live no more.
    fn take_live(&mut self, slot: u32) -> Option<LivePeer> {
        let known = &mut self.slots[slot as usize];
        let peer = known.peer.take()?;
        let PeerId { input, identity } = known.id;
        self.by_connection.remove(slot, peer.ownership);
        self.live -= 1;
        let key = (input, identity.key);
        if let Some(live) = self.by_key.get_mut(&key) {
            live.retain(|other| *other != slot);
            if live.is_empty() {
                self.by_key.remove(&key);
            }
        }
        self.held -= usize::from(peer.ownership.presence != PeerPresence::Present);
        self.last_found = None;
        Some(peer)
    }

    /// The number of a life that begins.
    fn next_life(&mut self) -> u64 {
        self.last_life += 1;
        self.last_life
    }
}
