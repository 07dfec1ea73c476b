//! The truth, in numbers: what the peers of each input have said, and who may speak about them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::*,
    histories::{CONNECTIONS, PeerMessage, filters, selects},
    world::{
        self, ExpectedMeaning, FAMILIES, NumberedPeer, NumberedRoute, UNANNOUNCED_PEER, UpdatePart, key_of,
        view_of_peer,
    },
};
use crate::wire::{bgp::Family, bmp::RibView};

/// The truth.
#[derive(Default)]
pub(super) struct FeedTruth {
    peers: BTreeMap<(&'static str, u8), KnownInput>,
    /// The number of each connection. No number comes twice.
    pub(super) connections: [u64; CONNECTIONS.len()],
    last: u64,
    /// Connections that are gone, which nobody has noticed.
    pub(super) lost: BTreeSet<u64>,
    /// The peers that a connection may not speak about, by connection and key.
    refused: BTreeSet<(u64, u8)>,
    /// Connections that claimed a peer of a connection that is there.
    rivals: BTreeSet<(u64, u64)>,
}

/// A claim that the feed has to find: the bytes before it, the owner of the peer, and whether the
/// owner is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExpectedClaim {
    pub(super) at: usize,
    pub(super) owner: u64,
    pub(super) is_gone: bool,
}

pub(super) type StaleNames = BTreeSet<(RibView, Family, world::RouteName)>;

/// True if what a station knows about a peer is true. A RIB with whole fields loses stale routes
/// when its peer returns, other RIBs later.
pub(super) fn agrees(found: &NumberedPeer, expected: &NumberedPeer, stale: &StaleNames) -> bool {
    let none = BTreeMap::new();
    let rib = |peer: &NumberedPeer, rib: &(RibView, Family)| peer.ribs.get(rib).unwrap_or(&none).clone();
    (&found.ups, &found.ends, &found.statistics) == (&expected.ups, &expected.ends, &expected.statistics)
        && found.ribs.keys().chain(expected.ribs.keys()).all(|at| {
            let (found, expected) = (rib(found, at), rib(expected, at));
            let is_stale = |name: &world::RouteName| stale.contains(&(at.0, at.1, *name));
            found.iter().all(|(name, said)| expected.get(name) == Some(said))
                && expected.keys().all(|name| found.contains_key(name) || is_stale(name))
        })
}

#[derive(Clone, Default)]
struct KnownInput {
    peer: NumberedPeer,
    owner: u64,
    /// Whether the peer is held.
    away: bool,
    /// The connection that went away, if the peer has returned.
    back: Option<u64>,
    /// Routes that the peer has not repeated since.
    stale: StaleNames,
    /// Routes that were stale already when it went away again.
    long_stale: StaleNames,
    /// Peer Ups that the peer has not repeated since.
    unsaid: BTreeSet<Vec<u8>>,
    /// RIBs that had a route, or End-of-RIB.
    made: BTreeSet<(RibView, Family)>,
    /// RIBs that had routes in the other encoding.
    mixed: BTreeSet<(RibView, Family)>,
}

impl KnownInput {
    fn set_stale(&mut self) {
        self.unsaid = self.peer.ups.clone();
        self.long_stale.append(&mut self.stale);
        let ribs = self.peer.ribs.iter();
        self.stale =
            ribs.flat_map(|((view, family), routes)| routes.keys().map(|name| (*view, *family, *name))).collect();
    }

    /// The peer says something about a route.
    fn says(&mut self, route: &(RibView, Family, world::RouteName)) {
        self.stale.remove(route);
        self.long_stale.remove(route);
    }

    fn all_stale(&self) -> StaleNames {
        self.stale.union(&self.long_stale).copied().collect()
    }

    fn comes_back(&mut self, connection: u64) {
        if std::mem::take(&mut self.away) {
            self.back = Some(self.owner);
        }
        self.owner = connection;
    }

    /// One of several tables ends.
    fn end_table(&mut self, table: &Option<Vec<u8>>) {
        let gone = self.peer.end_table(table);
        self.unsaid.retain(|up| world::table_of(up) != *table);
        for ribs in [&mut self.made, &mut self.mixed] {
            ribs.retain(|(_, family)| !gone.contains(family));
        }
        for stale in [&mut self.stale, &mut self.long_stale] {
            stale.retain(|(_, family, _)| !gone.contains(family));
        }
    }

    /// Ends the tables that the peer has not announced again, except for the last one.
    fn end_unsaid_tables(&mut self) {
        for table in self.peer.tables() {
            let of_table = |up: &&Vec<u8>| world::table_of(up) == table;
            let is_unsaid = self.peer.ups.iter().filter(of_table).all(|up| self.unsaid.contains(up));
            if is_unsaid && self.peer.tables().len() > 1 {
                self.end_table(&table);
            }
        }
    }

    /// Withdraws the routes that the peer has not repeated.
    fn sweep(&mut self, swept: impl Fn(RibView, Family) -> bool) {
        for (view, family, name) in self.stale.extract_if(.., |(view, family, _)| swept(*view, *family)) {
            self.peer.ribs.entry((view, family)).or_default().remove(&name);
            self.long_stale.remove(&(view, family, name));
        }
    }
}

impl FeedTruth {
    pub(super) fn connect(&mut self, connection: usize) -> u64 {
        self.last += 1;
        std::mem::replace(&mut self.connections[connection], self.last)
    }

    /// The peers of an input that look like this one: those that are not held, or all.
    fn alike(&self, input: &'static str, peer: u8, with_held: bool) -> Vec<u8> {
        let all = self.peers.iter().filter(|((its, other), known)| {
            *its == input && key_of(*other) == key_of(peer) && (with_held || !known.away)
        });
        all.map(|((_, other), _)| *other).collect()
    }

    /// True if a connection may say this about a peer. Decides a claim at once.
    fn may_say(
        &mut self,
        number: u64,
        input: &'static str,
        peer: u8,
        said: &PeerMessage,
        before: usize,
        claims: &mut Vec<ExpectedClaim>,
    ) -> bool {
        let is_up = matches!(said, PeerMessage::Up { .. });
        let is_refused = self.refused.contains(&(number, key_of(peer)));
        let alike = self.alike(input, peer, false);
        if let Some(owner) =
            alike.first().map(|other| self.peers[&(input, *other)].owner).filter(|owner| *owner != number)
        {
            let is_announced = alike.iter().any(|other| !self.peers[&(input, *other)].peer.ups.is_empty());
            let is_route = matches!(said, PeerMessage::Routes { .. } | PeerMessage::EndOfRib { .. });
            if (is_up || is_route && !is_announced && !is_refused) && !self.rivals.contains(&(number, owner)) {
                let is_gone = self.lost.remove(&owner);
                claims.push(ExpectedClaim { at: before, owner, is_gone });
                if is_gone {
                    self.notice(owner);
                    return self.may_say(number, input, peer, said, before, claims);
                }
                self.rivals.insert((number, owner));
            }
            self.refused.insert((number, key_of(peer)));
            return false;
        }
        if is_up {
            self.refused.remove(&(number, key_of(peer)));
        }
        is_up || !is_refused
    }

    /// The bytes of what the connection says; none if it could not say that. `before` is how many
    /// bytes come before.
    pub(super) fn say(
        &mut self,
        connection: usize,
        said: &PeerMessage,
        before: usize,
        claims: &mut Vec<ExpectedClaim>,
    ) -> Vec<u8> {
        let (input, peers) = CONNECTIONS[connection];
        let number = self.connections[connection];
        let pick = |peer: usize| peers[peer % peers.len()];
        let (PeerMessage::Up { peer, .. }
        | PeerMessage::Down { peer, .. }
        | PeerMessage::TableDown { peer, .. }
        | PeerMessage::Routes { peer, .. }
        | PeerMessage::EndOfRib { peer, .. }
        | PeerMessage::Statistics { peer, .. }
        | PeerMessage::Mirrored { peer }) = said;
        let peer = pick(*peer);
        let id = (input, peer);
        if peer == UNANNOUNCED_PEER && matches!(said, PeerMessage::Up { .. }) {
            return vec![];
        }
        let may_say = self.may_say(number, input, peer, said, before, claims);
        if let PeerMessage::Up { port, view, time, .. } = said {
            let up = world::up_at(peer, *port, *view, *time);
            if !may_say {
                return up;
            }
            let news =
                self.peers.get(&id).map_or(ExpectedMeaning::AnotherLife, |known| known.peer.clone().comes_up(&up));
            if news == ExpectedMeaning::AnotherLife {
                for other in self.alike(input, peer, true) {
                    let known = &self.peers[&(input, other)];
                    if other == peer || known.away || !goes_on(known, other, &up) {
                        self.peers.remove(&(input, other));
                    }
                }
                self.peers.insert(id, KnownInput { owner: number, ..KnownInput::default() });
                // Peers that look the same have their own names.
                let alike = self.alike(input, peer, true);
                for other in alike.iter().filter(|_| alike.len() > 1) {
                    self.peers.get_mut(&(input, *other)).unwrap().peer.name_all();
                }
            }
            let known = self.peers.get_mut(&id).unwrap();
            if news == ExpectedMeaning::TableAgain {
                known.end_table(&world::table_of(&up));
                known.peer.ups.insert(up.clone());
            } else {
                known.peer.comes_up(&up);
            }
            let again = world::without_time(&up);
            known.unsaid.retain(|unsaid| world::without_time(unsaid) != again);
            if news != ExpectedMeaning::AnotherLife {
                known.comes_back(number);
            }
            return up;
        }
        if let PeerMessage::Routes { .. } | PeerMessage::EndOfRib { .. } = said
            && peer == UNANNOUNCED_PEER
            && may_say
        {
            self.peers.entry(id).or_default().comes_back(number);
        }
        // A frame about a peer of others, or about a look-alike, is about an unknown peer.
        let is_of_other = !may_say || !self.peers.contains_key(&id) && !self.alike(input, peer, true).is_empty();
        if !is_of_other && self.peers.get(&id).is_none_or(|known| known.away) {
            return vec![];
        }
        let is_its_own = !is_of_other;
        // If two peers look the same, a frame without a name may be about either.
        let is_alone = self.alike(input, peer, true).iter().all(|other| *other == peer);
        let mut other = self.peers.get(&id).cloned().unwrap_or_default();
        let known = if is_its_own { self.peers.get_mut(&id).unwrap() } else { &mut other };
        match said {
            PeerMessage::Up { .. } => unreachable!("said above"),
            PeerMessage::Down { code, .. } => {
                if is_its_own {
                    self.peers.remove(&id);
                }
                world::down(peer, *code)
            }
            PeerMessage::TableDown { table, .. } => {
                let down = world::down_of_table(peer, *table);
                let tables = known.peer.tables();
                let named = Some(world::table_of(&down)).filter(|named| tables.contains(named) || named.is_none());
                let over = named.or_else(|| tables.contains(&None).then_some(None));
                match over.filter(|_| is_its_own) {
                    Some(table) if tables.len() > 1 && (table.is_some() || world::table_of(&down).is_some()) => {
                        known.end_table(&table);
                    }
                    None if world::is_loc_rib(peer) || !is_its_own => {}
                    _ => drop(self.peers.remove(&id)),
                }
                down
            }
            PeerMessage::Routes { view, time, set, parts, otherwise, without_as, .. } => {
                let without_as = *without_as && is_alone;
                let asn = if without_as { 0 } else { world::AS };
                let view = view_of_peer(peer, *view);
                let mut update = Vec::new();
                for (family, withdrawn, announced) in parts {
                    let family = FAMILIES[*family];
                    let name = |route: &NumberedRoute| world::name(peer, family, *route, *otherwise);
                    // No router puts a route twice into one UPDATE.
                    let once = |routes: &[NumberedRoute]| -> Vec<NumberedRoute> {
                        let by_name: BTreeMap<_, _> = routes.iter().map(|route| (name(route), *route)).collect();
                        by_name.into_values().collect()
                    };
                    let (withdrawn, announced) = (once(withdrawn), once(announced));
                    withdrawn.iter().chain(&announced).for_each(|route| known.says(&(view, family, name(route))));
                    let routes = known.peer.ribs.entry((view, family)).or_default();
                    withdrawn.iter().for_each(|route| drop(routes.remove(&name(route))));
                    if !announced.is_empty() {
                        known.made.insert((view, family));
                    }
                    if *otherwise {
                        known.mixed.insert((view, family));
                    }
                    for route in &announced {
                        routes.insert(name(route), world::said(*set, family, route.variant, asn));
                    }
                    update.push(UpdatePart { family, withdrawn, announced });
                }
                if update.iter().all(|part| part.withdrawn.is_empty() && part.announced.is_empty()) {
                    known.peer.ends.insert((view, Family::IPV4_UNICAST));
                    known.sweep(|its, family| (its, family) == (view, Family::IPV4_UNICAST));
                }
                let update = world::update_otherwise(peer, view, *time, *set, &update, *otherwise);
                if without_as { world::without_as(update) } else { update }
            }
            PeerMessage::EndOfRib { view, family, .. } => {
                let (view, family) = (view_of_peer(peer, *view), FAMILIES[*family]);
                known.peer.ends.insert((view, family));
                known.sweep(|its, other| (its, other) == (view, family));
                world::end_of_rib(peer, view, family)
            }
            PeerMessage::Statistics { value, .. } => {
                let frame = world::statistics(peer, *value);
                known.peer.statistics = Some(frame.clone());
                frame
            }
            PeerMessage::Mirrored { .. } => world::mirrored(peer),
        }
    }

    pub(super) fn quiet(&mut self, connection: usize) {
        let number = self.connections[connection];
        for known in self.peers.values_mut().filter(|known| known.owner == number && !known.peer.ups.is_empty()) {
            known.peer.ends.extend(&known.made);
        }
    }

    pub(super) fn disconnect(&mut self, connection: usize) {
        let before = self.connect(connection);
        self.peers.retain(|_, known| known.owner != before);
    }

    /// The number of the connection that went away.
    pub(super) fn hold(&mut self, connection: usize) -> u64 {
        let before = self.connect(connection);
        for known in self.peers.values_mut().filter(|known| known.owner == before) {
            known.away = true;
            known.back = None;
            known.set_stale();
        }
        before
    }

    /// Somebody notices that the connection of this number is gone.
    pub(super) fn notice(&mut self, gone: u64) {
        self.lost.remove(&gone);
        self.peers.retain(|_, known| known.owner != gone);
        self.release(gone);
    }

    pub(super) fn release(&mut self, gone: u64) {
        self.peers.retain(|_, known| !known.away || known.owner != gone);
        for known in self.peers.values_mut().filter(|known| known.back == Some(gone)) {
            known.back = None;
            known.sweep(|_, _| true);
            known.end_unsaid_tables();
        }
    }

    /// What a station with a selection may know about a peer. The station may know the peer of
    /// either input. `found` is what it knows.
    pub(super) fn candidates(
        &self,
        feed: &Feed,
        selection: usize,
        number: u8,
        found: Option<&NumberedPeer>,
    ) -> Vec<(NumberedPeer, StaleNames)> {
        let of = |input: &'static str| {
            let known = self.peers.get(&(input, number))?;
            if !selects(selection, input, number, None) {
                return None;
            }
            let mut peer = known.peer.clone();
            peer.ribs.retain(|rib, _| selects(selection, input, number, Some(*rib)));
            peer.ends.retain(|rib| selects(selection, input, number, Some(*rib)));
            for (rib, routes) in &mut peer.ribs {
                let Some(filters) = filters(selection, number, *rib) else { continue };
                let is_decided = is_decided(feed, input, number, *rib);
                let is_mixed = known.mixed.contains(rib);
                let found = found.and_then(|found| found.ribs.get(rib));
                routes.retain(|name, content| {
                    let decisions = filters.iter().map(|filter| filter.decision(rib.1, name.0, world::set_of(content)));
                    let (route, whole) = decisions.fold((false, false), |(route, whole), decision| {
                        (route || decision.route, whole || decision.whole)
                    });
                    match (is_decided, is_mixed) {
                        // The feed may keep the route in either form.
                        (_, true) if route != whole => found.is_some_and(|found| found.contains_key(name)),
                        (true, _) => route,
                        (false, _) => whole,
                    }
                });
            }
            Some((peer, known.all_stale()))
        };
        ["frr", "gobgp"].into_iter().filter_map(of).collect()
    }

    /// True if both inputs have a peer. A station may be told either.
    pub(super) fn is_of_both(&self, number: u8) -> bool {
        ["frr", "gobgp"].iter().all(|input| self.peers.contains_key(&(*input, number)))
    }

    /// How many routes the feed has to count in a RIB; `None` if it counts fields, or may count
    /// fewer.
    pub(super) fn routes(&self, input: &str, number: u8, rib: &RibRoutes) -> Option<usize> {
        let known =
            self.peers.iter().find(|((its, peer), _)| (*its, *peer) == (input, number)).map(|(_, known)| known)?;
        let at = (rib.view, rib.family);
        let counts =
            rib.is_decided && !known.mixed.contains(&at) && !known.all_stale().iter().any(|(v, f, _)| (*v, *f) == at);
        counts.then(|| known.peer.ribs.get(&at).map_or(0, BTreeMap::len))
    }
}

/// True if the feed can read the routes of a RIB.
fn is_decided(feed: &Feed, input: &str, number: u8, (view, family): (RibView, Family)) -> bool {
    let is_of_input =
        |peer: &PeerRibs| peer.input().router().is_some_and(|router| router.sys_name.as_deref() == Some(input));
    let is_it = |peer: &PeerRibs| is_of_input(peer) && world::peer_number(peer.header()) == number;
    let peers = feed.peers();
    let mut ribs = peers.iter().filter(|peer| is_it(peer)).flat_map(PeerRibs::ribs);
    ribs.any(|rib| (rib.view, rib.family) == (view, family) && rib.is_decided)
}

/// True if a peer goes on beside one that looks the same and comes up: on another link, or for
/// other tables.
fn goes_on(known: &KnownInput, peer: u8, up: &[u8]) -> bool {
    let (tables, table) = (known.peer.tables(), world::table_of(up));
    match key_of(peer) {
        0 => true,
        world::LOC_RIB_PEER => table.is_some() && !tables.contains(&table) && !tables.contains(&None),
        _ => false,
    }
}
