//! What the feed knows: the peers, their RIBs, and the withdrawals that somebody may still need.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use foldhash::fast::RandomState;

use super::{
    Counts, Trouble,
    attributes::Attributes,
    journal::About,
    peers::{ConnectionId, Gone, Hold, Incarnation, Latest, Peer, PeerId, Slot, view_of},
    rib::{Outcome, Rib, TOMBSTONE, Time},
    update::Hand,
};
use crate::wire::{
    bgp::{Family, Update},
    bmp::{COMMON_HEADER, Frame, Message, MessageType, PER_PEER_HEADER, PeerHeader, PeerKey, peer_flags},
};

#[derive(Debug)]
pub(super) struct State {
    pub(super) slots: Vec<Slot>,
    /// Those that are free.
    free: Vec<u32>,
    /// Peers that went down, or were spoken of without ever being up; oldest first.
    ended: VecDeque<Ended>,
    by_id: HashMap<PeerId, u32, RandomState>,
    pub(super) attributes: Attributes,
    connections: HashMap<ConnectionId, (u32, Arc<str>)>,
    inputs: HashMap<String, u32>,
    last_connection: ConnectionId,
    incarnations: u64,
    withdrawals: VecDeque<Withdrawal>,
    withdrawal_bytes: usize,
    withdrawal_limit: usize,
    /// Peers whose input is away, or has come back and may not have said all again.
    held: usize,
    followers: HashMap<u64, Arc<AtomicU64>>,
    last_follower: u64,
    hasher: RandomState,
    pub(super) received: Counts,
    /// How many frames there were, also those that say nothing new.
    pub(super) applied: u64,
    pub(super) trouble: Trouble,
    /// Whom the last frame was about: frames come in runs.
    last: Option<(ConnectionId, PeerKey, u32)>,
}

/// Peers that are not up and are kept all the same, at most: of a later one the Peer Down that a slow station is told is bmpd's own.
const MOST_ENDED: usize = 10_000;

/// When a peer was last up.
#[derive(Clone, Copy, Debug)]
struct Ended {
    slot: u32,
    id: PeerId,
    /// Sequence number after its end.
    changed: u64,
}

/// A withdrawal that a station which is behind has to be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Withdrawal {
    pub(super) slot: u32,
    pub(super) rib: u32,
    pub(super) route: u32,
    pub(super) life: u64,
    pub(super) changed: u64,
}

/// What became of a frame.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) about: About,
    /// False if no station learns anything from it: the peer only says again what it said before its input went away.
    pub(super) news: bool,
    /// What has to be said before it: that a life of the peer is over.
    pub(super) before: Option<(Arc<Incarnation>, Bytes)>,
    /// The RIB of which the peer has said all again: what it did not is to be withdrawn.
    pub(super) complete: Option<(u32, usize)>,
}

impl Applied {
    fn new(about: About, news: bool) -> Self {
        Self { about, news, before: None, complete: None }
    }
}

impl State {
    pub(super) fn new(withdrawal_limit: usize) -> Self {
        let hasher = RandomState::default();
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            ended: VecDeque::new(),
            by_id: HashMap::with_hasher(hasher.clone()),
            attributes: Attributes::new(),
            connections: HashMap::new(),
            inputs: HashMap::new(),
            last_connection: 0,
            incarnations: 0,
            withdrawals: VecDeque::new(),
            withdrawal_bytes: 0,
            withdrawal_limit,
            held: 0,
            followers: HashMap::new(),
            last_follower: 0,
            hasher,
            received: Counts::default(),
            applied: 0,
            trouble: Trouble::default(),
            last: None,
        }
    }

    /// Opens a connection of the input `name`.
    pub(super) fn connect(&mut self, name: &str) -> ConnectionId {
        // One number a name, for good: there are only as many as an operator ever configured.
        let next = u32::try_from(self.inputs.len()).unwrap_or(u32::MAX);
        let input = *self.inputs.entry(name.to_owned()).or_insert(next);
        self.last_connection += 1;
        self.connections.insert(self.last_connection, (input, name.into()));
        self.last_connection
    }

    /// Closes a connection. Its peers that are up go with [`State::end`].
    pub(super) fn disconnect(&mut self, connection: ConnectionId) -> Vec<u32> {
        self.last = None;
        self.connections.remove(&connection);
        for peer in self.slots.iter_mut().filter_map(|slot| slot.peer.as_mut()) {
            peer.others.retain(|other| *other != connection);
        }
        let owned =
            |slot: &Slot| slot.peer.as_ref().filter(|peer| peer.owner == connection).map(|peer| peer.life.number);
        let mut slots: Vec<_> =
            self.slots.iter().enumerate().filter_map(|(number, slot)| Some((owned(slot)?, number as u32))).collect();
        slots.sort_unstable();
        slots.into_iter().map(|(_, slot)| slot).collect()
    }

    /// Peers whose input went away stay as they are, until they are ended or come back.
    pub(super) fn hold(&mut self, slots: &[u32]) {
        for slot in slots {
            if let Some(peer) = &mut self.slots[*slot as usize].peer {
                self.held += usize::from(peer.hold == Hold::No);
                peer.hold = Hold::Away;
                peer.ribs.iter_mut().for_each(Rib::set_stale);
            }
        }
    }

    /// Whether an input is away or saying again what it said before.
    pub(super) fn holds(&self) -> bool {
        self.held > 0
    }

    /// The time is over for peers that were held when a connection went away: those that did not come back, and those that did.
    pub(super) fn release(&mut self, connection: ConnectionId) -> (Vec<u32>, Vec<u32>) {
        let with = |state: &Self, wanted: &dyn Fn(&Peer) -> bool| -> Vec<u32> {
            let numbered = state.slots.iter().enumerate();
            numbered
                .filter(|(_, slot)| slot.peer.as_ref().is_some_and(wanted))
                .map(|(number, _)| number as u32)
                .collect()
        };
        let away = with(self, &|peer| peer.owner == connection && peer.hold == Hold::Away);
        let back = with(self, &|peer| peer.hold == Hold::Back(connection));
        for slot in &back {
            if let Some(peer) = &mut self.slots[*slot as usize].peer {
                peer.hold = Hold::No;
            }
        }
        self.held -= back.len();
        (away, back)
    }

    /// Withdraws routes that were not announced again since their input came back, as many as fit into one message: their numbers.
    pub(super) fn withdraw_stale(&mut self, slot: u32, number: usize, changed: u64) -> Vec<u32> {
        let Some(peer) = self.slots[slot as usize].peer.as_mut() else { return Vec::new() };
        let life = peer.life.number;
        let Some(rib) = peer.ribs.get_mut(number) else { return Vec::new() };
        let stale = rib.stale();
        for &route in &stale {
            if rib.withdraw_stale(route, changed, &mut self.attributes) != Outcome::Same {
                self.withdrawal_bytes += TOMBSTONE;
                self.withdrawals.push_back(Withdrawal { slot, rib: number as u32, route, life, changed });
            }
        }
        stale
    }

    /// A follower that needs withdrawals from the number on that is in what this gives.
    pub(super) fn follow(&mut self, since: u64) -> (u64, Arc<AtomicU64>) {
        self.last_follower += 1;
        let needs = Arc::new(AtomicU64::new(since));
        self.followers.insert(self.last_follower, Arc::clone(&needs));
        (self.last_follower, needs)
    }

    pub(super) fn unfollow(&mut self, follower: u64) {
        self.followers.remove(&follower);
    }

    /// The peers that are up, or have routes, in the order in which they came up.
    pub(super) fn peers(&self) -> Vec<&Peer> {
        let mut peers: Vec<_> = self.slots.iter().filter_map(|slot| slot.peer.as_ref()).collect();
        peers.sort_unstable_by_key(|peer| peer.life.number);
        peers
    }

    pub(super) fn slot(&self, id: PeerId) -> Option<&Slot> {
        self.slots.get(*self.by_id.get(&id)? as usize)
    }

    /// A life that is not over.
    pub(super) fn peer(&self, life: &Incarnation) -> Option<&Peer> {
        self.slot(life.peer)?.peer.as_ref().filter(|peer| peer.life.number == life.number)
    }

    /// A life that is not over, and the attribute sets of its routes.
    pub(super) fn peer_mut(&mut self, life: &Incarnation) -> Option<(&mut Peer, &Attributes)> {
        let slot = self.slots.get_mut(*self.by_id.get(&life.peer)? as usize)?;
        let peer = slot.peer.as_mut().filter(|peer| peer.life.number == life.number)?;
        Some((peer, &self.attributes))
    }

    /// A RIB by its place.
    pub(super) fn rib(&self, slot: u32, number: usize) -> Option<(&Arc<Incarnation>, &Rib)> {
        let peer = self.slots.get(slot as usize)?.peer.as_ref()?;
        Some((&peer.life, peer.ribs.get(number)?))
    }

    /// RIBs without End-of-RIB of the peers that a connection announced, of which nothing came since `since` frames had been applied: their places, in the order in
    /// which the peers came up.
    pub(super) fn quiet_ribs(&self, connection: ConnectionId, since: u64) -> Vec<(u32, usize)> {
        let mut found = Vec::new();
        for (slot, known) in self.slots.iter().enumerate() {
            let Some(peer) = known.peer.as_ref().filter(|peer| peer.owner == connection && peer.life.up.is_some())
            else {
                continue;
            };
            let is_quiet = |rib: &Rib| rib.end_of_rib.is_none() && rib.heard <= since;
            let quiet = peer.ribs.iter().enumerate().filter(|(_, rib)| is_quiet(rib));
            found.extend(quiet.map(|(rib, _)| (peer.life.number, slot as u32, rib)));
        }
        found.sort_unstable();
        found.into_iter().map(|(_, slot, rib)| (slot, rib)).collect()
    }

    /// Withdrawals that are kept, and what they take in bytes.
    pub(super) fn withdrawals(&self) -> (usize, usize) {
        (self.withdrawals.len(), self.withdrawal_bytes)
    }

    fn slot_for(&mut self, connection: ConnectionId, key: PeerKey, changed: u64) -> Option<u32> {
        if let Some((last_connection, last_key, slot)) = self.last
            && last_connection == connection
            && last_key == key
        {
            return Some(slot);
        }
        let (input, _) = self.connections.get(&connection)?;
        let id = PeerId { input: *input, key };
        let slot = match self.by_id.get(&id) {
            Some(slot) => *slot,
            None => {
                let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
                match self.slots.get_mut(slot as usize) {
                    Some(freed) => *freed = Slot { id, peer: None, gone: None },
                    None => self.slots.push(Slot { id, peer: None, gone: None }),
                }
                self.by_id.insert(id, slot);
                self.ended.push_back(Ended { slot, id, changed });
                slot
            }
        };
        self.last = Some((connection, key, slot));
        Some(slot)
    }

    /// Applies a frame that the scanner found good. `changed` is the sequence number after it. What is heard of for the first time without having
    /// been announced is told to `heard` before.
    pub(super) fn apply(
        &mut self,
        connection: ConnectionId,
        frame: &Frame<'_>,
        changed: u64,
        heard: &mut dyn FnMut(Arc<Incarnation>),
    ) -> Applied {
        self.applied += 1;
        let nobody = || Applied::new(About::Nobody, true);
        let Some(slot) = PeerKey::of(frame).and_then(|key| self.slot_for(connection, key, changed)) else {
            return nobody();
        };
        match frame.message_type() {
            Some(MessageType::RouteMonitoring) => {
                self.routes(connection, slot, frame, changed, heard).unwrap_or_else(nobody)
            }
            Some(MessageType::PeerUp) => self.up(connection, slot, frame, changed).unwrap_or_else(nobody),
            Some(MessageType::PeerDown | MessageType::StatisticsReport | MessageType::RouteMirroring)
                if self.slots[slot as usize].peer.as_ref().is_some_and(|peer| !peer.is_spoken_of_by(connection)) =>
            {
                Applied::new(About::LookAlike, true)
            }
            Some(MessageType::PeerDown) => {
                let life = self.down(slot, Bytes::copy_from_slice(frame.bytes()), changed);
                Applied::new(life.map_or_else(|| self.unknown(slot), About::Down), true)
            }
            Some(about @ (MessageType::StatisticsReport | MessageType::RouteMirroring)) => {
                let Some(peer) = self.slots[slot as usize].peer.as_mut() else {
                    return Applied::new(self.unknown(slot), true);
                };
                if about == MessageType::StatisticsReport {
                    peer.statistics = Some(Latest { changed, frame: Bytes::copy_from_slice(frame.bytes()) });
                } else {
                    peer.mirrored = Some((changed, peer.life.header));
                }
                Applied::new(About::Peer(Arc::clone(&peer.life)), true)
            }
            Some(MessageType::Initiation | MessageType::Termination) | None => nobody(),
        }
    }

    /// What a frame is about that is about a peer that is not there.
    fn unknown(&self, slot: u32) -> About {
        let PeerId { input, key } = self.slots[slot as usize].id;
        let is_there = |input: u32| {
            let slot = self.by_id.get(&PeerId { input, key });
            slot.is_some_and(|slot| self.slots[*slot as usize].peer.is_some())
        };
        let inputs = u32::try_from(self.inputs.len()).unwrap_or(u32::MAX);
        if (0..inputs).any(|other| other != input && is_there(other)) { About::LookAlike } else { About::Nobody }
    }

    fn up(&mut self, connection: ConnectionId, slot: u32, frame: &Frame<'_>, changed: u64) -> Option<Applied> {
        let known = &mut self.slots[slot as usize];
        if let Some(peer) = &mut known.peer
            && peer.is_restated_by(frame)
        {
            self.held += usize::from(peer.is_said_again(connection));
            let news = peer.hold == Hold::No;
            return Some(Applied::new(About::Up(Arc::clone(&peer.life)), news));
        }
        let Ok(Message::PeerUp(up)) = Message::parse(frame) else { return None };
        let same = known.peer.as_ref().is_some_and(|peer| peer.is_same_session(&up));
        if let Some(peer) = &mut known.peer
            && same
            && peer.takes(frame, changed)
        {
            self.held += usize::from(peer.is_said_again(connection));
            return Some(Applied::new(About::Up(Arc::clone(&peer.life)), true));
        }
        let id = known.id;
        let mut before = None;
        if let Some(peer) = &known.peer {
            // A station takes another Peer Up for the start of another life; but not if it does not come from who sent the first, or looks as if it were
            // a further one of the same session.
            let (told, down) = (same || peer.hold == Hold::Away, peer.life.down.clone());
            let life = self.down(slot, down.clone(), changed);
            before = life.filter(|_| told).map(|life| (life, down));
        }
        self.incarnations += 1;
        let (_, input) = self.connections.get(&connection)?;
        let life = Arc::new(Incarnation::announced(self.incarnations, id, input, frame, &up));
        self.start(slot, Arc::clone(&life), connection);
        Some(Applied { before, ..Applied::new(About::Up(life), true) })
    }

    fn start(&mut self, slot: u32, life: Arc<Incarnation>, connection: ConnectionId) {
        let (more_ups, ribs) = (Vec::new(), Vec::new());
        let (owner, others) = (connection, Vec::new());
        let peer = Peer { life, more_ups, owner, others, hold: Hold::No, ribs, statistics: None, mirrored: None };
        self.slots[slot as usize].peer = Some(peer);
    }

    /// Ends the life of a peer, if it has one. `down` is its Peer Down, `changed` the sequence number after that.
    pub(super) fn down(&mut self, slot: u32, down: Bytes, changed: u64) -> Option<Arc<Incarnation>> {
        let known = &mut self.slots[slot as usize];
        let mut peer = known.peer.take()?;
        known.gone = Some(Gone { number: peer.life.number, down });
        self.ended.push_back(Ended { slot, id: known.id, changed });
        self.held -= usize::from(peer.hold != Hold::No);
        for rib in &mut peer.ribs {
            rib.release(&mut self.attributes);
        }
        Some(peer.life)
    }

    fn routes(
        &mut self,
        connection: ConnectionId,
        slot: u32,
        frame: &Frame<'_>,
        changed: u64,
        heard: &mut dyn FnMut(Arc<Incarnation>),
    ) -> Option<Applied> {
        let header = PeerHeader::of(frame)?;
        if self.slots[slot as usize].peer.is_none() {
            self.incarnations += 1;
            let (_, input) = self.connections.get(&connection)?;
            let id = self.slots[slot as usize].id;
            let life = Arc::new(Incarnation::unannounced(self.incarnations, id, input, header));
            heard(Arc::clone(&life));
            self.start(slot, life, connection);
        }
        let Self { slots, attributes, trouble, withdrawals, withdrawal_bytes, hasher, applied, .. } = self;
        let peer = slots[slot as usize].peer.as_mut()?;
        if !peer.is_spoken_of_by(connection) {
            trouble.unannounced += 1;
            return Some(Applied::new(About::LookAlike, true));
        }
        let life = Arc::clone(&peer.life);
        if life.up.is_none() {
            trouble.unannounced += 1;
            peer.comes_back(connection);
        }
        let again = matches!(peer.hold, Hold::Back(_));
        // Another connection that is still there may know of an end of what it says itself.
        let says_all = again && peer.owner == connection;
        let view = view_of(header.key.peer_type, header.flags);
        let two_byte = header.flags & peer_flags::TWO_BYTE_AS != 0;
        let message = frame.bytes().get(COMMON_HEADER + PER_PEER_HEADER..).unwrap_or_default();
        let as_size = if two_byte { 2 } else { 4 };
        let Ok(update) = Update::parse(message, as_size) else {
            trouble.malformed += 1;
            return Some(Applied::new(About::Mixed(life, view), true));
        };
        let time = Time { seconds: header.seconds, microseconds: header.microseconds };
        let mut hand = Hand {
            ribs: &mut peer.ribs,
            life: &life,
            more_ups: &peer.more_ups,
            heard: *applied,
            slot,
            view,
            header,
            time,
            changed,
            attributes,
            trouble,
            withdrawals,
            withdrawal_bytes,
            hasher,
            families: None,
            again,
            news: false,
        };
        if let Some(family) = update.end_of_rib() {
            let rib = hand.end_of_rib(family);
            let complete = rib.filter(|_| says_all).map(|rib| (slot, rib));
            let news = hand.news || !again;
            return Some(Applied { complete, ..Applied::new(About::Routes(life, view, family), news) });
        }
        // The router has the route, whatever is wrong with what it tells of it.
        hand.trouble.count_attributes(&update, message, as_size, hand.life.internal);
        if !update.withdrawn.is_empty() {
            hand.withdraw(Family::IPV4_UNICAST, update.withdrawn);
        }
        if let Some(unreach) = update.unreach {
            hand.withdraw(unreach.family, unreach.nlri);
        }
        if !update.nlri.is_empty() {
            let set = hand.attributes.of_nlri(&update, two_byte);
            hand.announce(Family::IPV4_UNICAST, update.nlri, set);
        }
        if let Some(reach) = update.reach {
            let set = hand.attributes.of_reach(&update, &reach, two_byte);
            hand.announce(reach.family, reach.nlri, set);
        }
        let Hand { families, news, .. } = hand;
        let about = match families {
            Some(Some(family)) => About::Routes(life, view, family),
            None | Some(None) => About::Mixed(life, view),
        };
        Some(Applied::new(about, news || !again))
    }

    /// Forgets the peers that are not up, when nobody needs to be told so any more; or the first of them if they are too many.
    fn forget_peers(&mut self, needed: u64) {
        while let Some(&Ended { slot, id, changed }) = self.ended.front() {
            if changed > needed && self.ended.len() <= MOST_ENDED {
                break;
            }
            self.ended.pop_front();
            if self.by_id.get(&id) == Some(&slot) && self.slots[slot as usize].peer.is_none() {
                self.by_id.remove(&id);
                self.slots[slot as usize].gone = None;
                self.free.push(slot);
                self.last = None;
            }
        }
    }

    /// Forgets withdrawals that nobody needs any more, and the oldest of those that somebody does if they are too many.
    pub(super) fn forget(&mut self) {
        if self.withdrawals.is_empty() && self.ended.is_empty() {
            return;
        }
        let needed = self.followers.values().map(|needs| needs.load(Ordering::Relaxed)).min().unwrap_or(u64::MAX);
        self.forget_peers(needed);
        while let Some(&Withdrawal { slot, rib, route, life, changed }) = self.withdrawals.front() {
            let too_many = self.withdrawal_bytes > self.withdrawal_limit;
            if changed > needed && !too_many {
                break;
            }
            self.withdrawals.pop_front();
            self.withdrawal_bytes -= TOMBSTONE;
            let peer = self.slots.get_mut(slot as usize).and_then(|slot| slot.peer.as_mut());
            let Some(rib) =
                peer.filter(|peer| peer.life.number == life).and_then(|peer| peer.ribs.get_mut(rib as usize))
            else {
                continue;
            };
            if rib.forget(route, changed, &mut self.attributes) {
                rib.forgotten = rib.forgotten.max(changed);
            }
        }
    }
}

impl Peer {
    /// A connection announces it as it was announced. Where that was another connection, its end has not been heard of yet, and what was said meanwhile
    /// was not either: all that is not said again is to go, as if it had been held. True if that is new.
    fn is_said_again(&mut self, connection: ConnectionId) -> bool {
        let was_held = self.hold != Hold::No;
        self.others.retain(|other| *other != connection);
        if self.owner != connection && self.hold != Hold::Away {
            self.hold = Hold::Back(self.owner);
            self.others.push(self.owner);
            self.ribs.iter_mut().for_each(Rib::set_stale);
        }
        self.comes_back(connection);
        !was_held && self.hold != Hold::No
    }

    /// A connection speaks of it.
    fn comes_back(&mut self, connection: ConnectionId) {
        let before = std::mem::replace(&mut self.owner, connection);
        if self.hold == Hold::Away {
            self.hold = Hold::Back(before);
        }
    }
}
