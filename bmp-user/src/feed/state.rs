//! What the feed knows: the peers, their RIBs, and the withdrawals that somebody may still need.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use foldhash::fast::RandomState;

use super::shown::{Holdings, PeerRibs};
use super::{
    Counts, InputId, Trouble,
    attributes::Attributes,
    belongings::Belongings,
    journal::About,
    lives::Over,
    owners::{Claim, Connection, Dropped, Standing},
    peers::{ConnectionId, Hold, Incarnation, Latest, Peer, PeerId, Slot},
    rib::{Outcome, Rib, Time},
    update::Hand,
};
use crate::wire::{
    bgp::{Family, Update},
    bmp::{COMMON_HEADER, Frame, MessageType, PER_PEER_HEADER, PeerHeader, PeerIdentity, PeerKey, peer_flags},
};

#[derive(Debug)]
pub(super) struct State {
    pub(super) slots: Vec<Slot>,
    /// Those that are free.
    free: Vec<u32>,
    /// Peers that went down, or were spoken of without ever being up; oldest first.
    pub(super) ended: VecDeque<Ended>,
    pub(super) by_id: HashMap<PeerId, u32, RandomState>,
    /// Peers that are up, or have routes, by connection.
    pub(super) belongings: Belongings,
    /// The same by input and by what stations tell peers apart by.
    pub(super) living: HashMap<(u32, PeerKey), Vec<u32>, RandomState>,
    pub(super) attributes: Attributes,
    pub(super) connections: HashMap<ConnectionId, Connection>,
    /// Connections whose OPENs say for certain how NLRI are written.
    pub(super) trusted: HashSet<ConnectionId>,
    inputs: HashMap<InputId, u32>,
    last_connection: ConnectionId,
    pub(super) incarnations: u64,
    pub(super) withdrawals: VecDeque<Withdrawal>,
    withdrawal_bytes: usize,
    withdrawal_limit: usize,
    /// Peers whose input is away, or has come back and may not have said all again.
    pub(super) held: usize,
    followers: HashMap<u64, Arc<AtomicU64>>,
    last_follower: u64,
    pub(super) hasher: RandomState,
    pub(super) received: Counts,
    /// How many frames there were, also those that say nothing new.
    pub(super) applied: u64,
    pub(super) trouble: Trouble,
    /// Which peer the last frame was about, by its owner: frames come in runs.
    pub(super) last: Option<(ConnectionId, PeerIdentity, u32)>,
}

/// Peers that are not up and are kept all the same, at most: of a later one the Peer Down that a slow station is told is bmpd's own.
const MOST_ENDED: usize = 10_000;

/// When a peer was last up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) slot: u32,
    pub(super) id: PeerId,
    /// Sequence number after its end.
    pub(super) changed: u64,
}

/// A withdrawal that a station which is behind has to be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Withdrawal {
    pub(super) slot: u32,
    pub(super) rib: u32,
    pub(super) route: u32,
    /// What it takes.
    pub(super) bytes: u32,
    pub(super) life: u64,
    pub(super) changed: u64,
}

impl Withdrawal {
    /// A withdrawal in a RIB, under this number.
    pub(super) fn of(rib: &Rib, route: u32, (slot, number): (u32, usize), life: u64, changed: u64) -> Self {
        let bytes = u32::try_from(rib.withdrawal_bytes(route)).unwrap_or(u32::MAX);
        Self { slot, rib: number as u32, route, bytes, life, changed }
    }
}

/// What became of a frame.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) about: About,
    /// False if no station learns anything from it: the peer only says again what it said before its input went away.
    pub(super) news: bool,
    /// What has to be said before it: the lives that are over, with their Peer Downs.
    pub(super) before: Vec<Over>,
    /// Lives of which stations are to be told anew from then on: what is left of one that is over, and those that are told otherwise now.
    pub(super) anew: Vec<Arc<Incarnation>>,
    /// Why it did nothing and is told to nobody.
    pub(super) dropped: Option<Dropped>,
    /// The RIB of which the peer has said all again: what it did not is to be withdrawn.
    pub(super) complete: Option<(u32, usize)>,
}

impl Applied {
    pub(super) fn new(about: About, news: bool) -> Self {
        Self { about, news, before: Vec::new(), anew: Vec::new(), dropped: None, complete: None }
    }

    pub(super) fn dropped(why: Dropped) -> Self {
        Self { dropped: Some(why), ..Self::new(About::LookAlike, false) }
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
            belongings: Belongings::new(hasher.clone()),
            living: HashMap::with_hasher(hasher.clone()),
            attributes: Attributes::new(),
            connections: HashMap::new(),
            trusted: HashSet::new(),
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

    /// Opens a connection of an input.
    pub(super) fn connect(&mut self, id: InputId) -> ConnectionId {
        // An input keeps its number for good: there are only as many as an operator ever configured.
        let next = u32::try_from(self.inputs.len()).unwrap_or(u32::MAX);
        let input = *self.inputs.entry(id.clone()).or_insert(next);
        self.last_connection += 1;
        self.connections.insert(self.last_connection, Connection::new(input, id));
        self.last_connection
    }

    /// Closes a connection. Its peers that are up go with [`State::end`].
    pub(super) fn disconnect(&mut self, connection: ConnectionId) -> Vec<u32> {
        self.last = None;
        self.connections.remove(&connection);
        self.forget_rival(connection);
        self.trusted.remove(&connection);
        let mut slots = self.belongings.owned(connection);
        slots.sort_unstable_by_key(|slot| self.living_at(*slot).map(|peer| peer.life.number));
        slots
    }

    /// Peers whose input went away stay as they are, until they are ended or come back. Gives those that cannot.
    pub(super) fn hold(&mut self, slots: &[u32]) -> Vec<u32> {
        let mut incomplete = Vec::new();
        for slot in slots {
            if let Some(peer) = &mut self.slots[*slot as usize].peer {
                if peer.is_incomplete() {
                    incomplete.push(*slot);
                    continue;
                }
                self.held += usize::from(peer.hold == Hold::No);
                self.belongings.remove(*slot, peer);
                peer.hold = Hold::Away;
                self.belongings.insert(*slot, peer);
                peer.unsaid = peer.ups().cloned().collect();
                peer.ribs.iter_mut().for_each(Rib::set_stale);
            }
        }
        incomplete
    }

    /// Whether an input is away or saying again what it said before.
    pub(super) fn holds(&self) -> bool {
        self.held > 0
    }

    /// The time is over for peers that were held when a connection went away: those that did not come back, and those that did.
    pub(super) fn release(&mut self, connection: ConnectionId) -> (Vec<u32>, Vec<u32>) {
        let mut away = self.belongings.owned(connection);
        away.retain(|slot| self.living_at(*slot).is_some_and(|peer| peer.hold == Hold::Away));
        let back = self.belongings.back(connection);
        for slot in &back {
            if let Some(peer) = &mut self.slots[*slot as usize].peer {
                self.belongings.remove(*slot, peer);
                peer.hold = Hold::No;
                self.belongings.insert(*slot, peer);
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
                let withdrawal = Withdrawal::of(rib, route, (slot, number), life, changed);
                self.withdrawal_bytes += withdrawal.bytes as usize;
                self.withdrawals.push_back(withdrawal);
            }
        }
        stale
    }

    /// RIBs of a peer that is back, in which there are fields that are kept whole of before. A router may pack its routes otherwise now, so that what it does
    /// not say again of these fields says nothing: they are to be withdrawn before it says anything.
    pub(super) fn unreadable_again(&self, connection: ConnectionId, frame: &Frame<'_>) -> Vec<(u32, usize)> {
        if frame.message_type() != Some(MessageType::RouteMonitoring) {
            return Vec::new();
        }
        let alike = || {
            let Connection { input, .. } = self.connections.get(&connection)?;
            self.living.get(&(*input, PeerKey::of(frame)?))
        };
        let is_back = |peer: &Peer| match peer.hold {
            Hold::No => false,
            Hold::Away => peer.life.up.is_none(),
            Hold::Back(_) => peer.owner == connection,
        };
        let mut found = Vec::new();
        for &slot in alike().into_iter().flatten() {
            let peer = self.slots[slot as usize].peer.as_ref().filter(|peer| is_back(peer));
            let ribs = peer.into_iter().flat_map(|peer| peer.ribs.iter().enumerate());
            found.extend(ribs.filter(|(_, rib)| rib.has_whole()).map(|(number, _)| (slot, number)));
        }
        found
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

    /// Adds what is shown of those in the next `count` slots from `from` on. Gives where to go on, or `None` at the end.
    pub(super) fn shown(&self, from: usize, count: usize, peers: &mut Vec<PeerRibs>) -> Option<usize> {
        self.some(from, count, |peer| peers.push(PeerRibs::of(peer)))
    }

    /// Counts what those in the next `count` slots from `from` on hold. Gives where to go on, or `None` at the end.
    pub(super) fn count(&self, from: usize, count: usize, held: &mut Holdings) -> Option<usize> {
        self.some(from, count, |peer| held.add(peer))
    }

    fn some(&self, from: usize, count: usize, look: impl FnMut(&Peer)) -> Option<usize> {
        let slots = self.slots.get(from..).unwrap_or_default();
        slots.iter().take(count).filter_map(|slot| slot.peer.as_ref()).for_each(look);
        (slots.len() > count).then_some(from + count)
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
        for slot in self.belongings.owned(connection) {
            let Some(peer) = self.living_at(slot).filter(|peer| peer.life.up.is_some()) else { continue };
            let is_quiet = |rib: &Rib| rib.end_of_rib.is_none() && rib.is_spoken_of() && rib.heard <= since;
            let quiet = peer.ribs.iter().enumerate().filter(|(_, rib)| is_quiet(rib));
            found.extend(quiet.map(|(rib, _)| (peer.life.number, slot, rib)));
        }
        found.sort_unstable();
        found.into_iter().map(|(_, slot, rib)| (slot, rib)).collect()
    }

    /// Withdrawals that are kept, and what they take in bytes.
    pub(super) fn withdrawals(&self) -> (usize, usize) {
        (self.withdrawals.len(), self.withdrawal_bytes)
    }

    /// The slot of a peer, which gets one if it has none.
    pub(super) fn slot_for(&mut self, id: PeerId, changed: u64) -> u32 {
        if let Some(slot) = self.by_id.get(&id) {
            return *slot;
        }
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        match self.slots.get_mut(slot as usize) {
            Some(freed) => *freed = Slot { id, peer: None, gone: None },
            None => self.slots.push(Slot { id, peer: None, gone: None }),
        }
        self.by_id.insert(id, slot);
        self.ended.push_back(Ended { slot, id, changed });
        slot
    }

    /// Applies a frame that the scanner found good. `changed` is the sequence number after it. What is heard of for the first time without having
    /// been announced is told to `heard` before.
    ///
    /// # Errors
    ///
    /// If the frame claims a peer of another connection that is there: nothing has changed then.
    pub(super) fn apply(
        &mut self,
        connection: ConnectionId,
        frame: &Frame<'_>,
        changed: u64,
        heard: &mut dyn FnMut(Arc<Incarnation>),
    ) -> Result<Applied, Claim> {
        let nobody = || Applied::new(About::Nobody, true);
        let Some((header, message)) = PeerHeader::of(frame).zip(frame.message_type()) else {
            self.applied += 1;
            return Ok(nobody());
        };
        let standing = self.standing(connection, &header, message, changed)?;
        self.applied += 1;
        let slot = match standing {
            Standing::Of(slot) => slot,
            Standing::Dropped(why) => {
                let is_unannounced = !matches!(why, Dropped::Odd(_)) && message == MessageType::RouteMonitoring;
                self.trouble.unannounced += u64::from(is_unannounced);
                return Ok(Applied::dropped(why));
            }
        };
        Ok(match message {
            MessageType::RouteMonitoring => {
                self.routes(connection, slot, header, frame, changed, heard).unwrap_or_else(nobody)
            }
            MessageType::PeerUp => self.up(connection, slot, frame, changed).unwrap_or_else(nobody),
            MessageType::PeerDown => self.peer_down(slot, frame, changed),
            about @ (MessageType::StatisticsReport | MessageType::RouteMirroring) => {
                let Some(peer) = self.slots[slot as usize].peer.as_mut() else {
                    return Ok(Applied::new(self.unknown(slot), true));
                };
                if about == MessageType::StatisticsReport {
                    peer.statistics = Some(Latest { changed, frame: Bytes::copy_from_slice(frame.bytes()) });
                } else {
                    peer.mirrored = Some((changed, peer.life.header));
                }
                Applied::new(About::Peer(Arc::clone(&peer.life)), true)
            }
            MessageType::Initiation | MessageType::Termination => nobody(),
        })
    }

    /// What a frame is about that is about a peer that is not there.
    pub(super) fn unknown(&self, slot: u32) -> About {
        let PeerId { input, identity } = self.slots[slot as usize].id;
        let inputs = u32::try_from(self.inputs.len()).unwrap_or(u32::MAX);
        let is_there = |other: u32| other != input && self.living.contains_key(&(other, identity.key));
        if (0..inputs).any(is_there) { About::LookAlike } else { About::Nobody }
    }

    fn routes(
        &mut self,
        connection: ConnectionId,
        slot: u32,
        header: PeerHeader,
        frame: &Frame<'_>,
        changed: u64,
        heard: &mut dyn FnMut(Arc<Incarnation>),
    ) -> Option<Applied> {
        if self.slots[slot as usize].peer.is_none() {
            self.incarnations += 1;
            let input = &self.connections.get(&connection)?.input_id;
            let id = self.slots[slot as usize].id;
            let life = Arc::new(Incarnation::unannounced(self.incarnations, id, input, header));
            heard(Arc::clone(&life));
            self.start(slot, life, connection);
        }
        let Self {
            slots,
            belongings,
            attributes,
            trouble,
            withdrawals,
            withdrawal_bytes,
            hasher,
            applied,
            trusted,
            ..
        } = self;
        let peer = slots[slot as usize].peer.as_mut()?;
        let life = Arc::clone(&peer.life);
        if life.up.is_none() {
            trouble.unannounced += 1;
            peer.comes_back(connection, slot, belongings);
        }
        let again = matches!(peer.hold, Hold::Back(_));
        let view = header.view();
        let two_byte = header.flags & peer_flags::TWO_BYTE_AS != 0;
        let message = frame.bytes().get(COMMON_HEADER + PER_PEER_HEADER..).unwrap_or_default();
        let as_size = if two_byte { 2 } else { 4 };
        let (update, is_whole) = match Update::parse(message, as_size) {
            Ok(update) => (update, true),
            Err(error) => {
                trouble.malformed += 1;
                // The fields for IPv4 unicast can be told all the same.
                let Ok(update) = Update::parse_plain(message, error) else {
                    return Some(Applied::new(About::Mixed(life, view), true));
                };
                (update, false)
            }
        };
        let time = Time { seconds: header.seconds, microseconds: header.microseconds };
        let mut hand = Hand {
            ribs: &mut peer.ribs,
            life: &life,
            more_ups: &peer.more_ups,
            lacks_families: &mut peer.lacks_families,
            anew_since: &mut peer.anew_since,
            heard: *applied,
            trusted,
            connection,
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
            let complete = rib.filter(|_| again).map(|rib| (slot, rib));
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
            Some(Some(family)) if is_whole => About::Routes(life, view, family),
            _ => About::Mixed(life, view),
        };
        Some(Applied::new(about, news || !again || !is_whole))
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
        while let Some(&Withdrawal { slot, rib, route, bytes, life, changed }) = self.withdrawals.front() {
            let too_many = self.withdrawal_bytes > self.withdrawal_limit;
            if changed > needed && !too_many {
                break;
            }
            self.withdrawals.pop_front();
            self.withdrawal_bytes -= bytes as usize;
            let peer = self.slots.get_mut(slot as usize).and_then(|slot| slot.peer.as_mut());
            let Some(rib) =
                peer.filter(|peer| peer.life.number == life).and_then(|peer| peer.ribs.get_mut(rib as usize))
            else {
                continue;
            };
            rib.forget(route, changed, &mut self.attributes);
            self.trouble.overflowed += rib.newly_not_kept();
        }
    }
}
