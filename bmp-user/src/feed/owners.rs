//! Which connection may speak of which peer.
//!
//! A connection owns the peers that it announced, or spoke of first where nobody announces them. While it is there, no other connection of its
//! input may speak of a peer with the same type, distinguisher and address. An attempt is a [`Claim`]: the feed stops there, and whoever reads the
//! connection finds out whether the owner is still alive.

use std::{collections::HashMap, net::IpAddr};

use super::{
    Counts, InputId,
    oddity::Oddity,
    peers::{ConnectionId, Hold, Peer, PeerId},
    state::State,
};
use crate::wire::bmp::{MessageType, PeerHeader, PeerKey, PeerType, PeerUp};

/// Peers of one input that differ in AS or BGP identifier alone, at most: two neighbours on unnumbered links are two.
const MOST_ALIKE: usize = 64;

/// A connection speaks of a peer that another connection of its input owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The peer.
    pub peer: PeerHeader,
    /// The connection that owns it.
    pub owner: ConnectionId,
    /// How many bytes come before the message that claims it; all of them have been appended.
    pub at: usize,
}

/// A peer that a connection may not speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The peer.
    pub peer: PeerHeader,
    /// The connection that owned it then.
    pub owner: ConnectionId,
    /// Messages about it that were dropped.
    pub dropped: Counts,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) input: u32,
    pub(super) input_id: InputId,
    /// The peers that it may not speak of.
    pub(super) refused: HashMap<PeerKey, Refusal>,
    /// Connections of the same input that were found alive when this one claimed a peer of theirs.
    rivals: Vec<ConnectionId>,
    /// Peers that it may have at one time.
    pub(super) most_peers: usize,
}

impl Connection {
    pub(super) fn new(input: u32, input_id: InputId) -> Self {
        Self { input, input_id, refused: HashMap::new(), rivals: Vec::new(), most_peers: usize::MAX }
    }
}

/// What a message may do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing {
    /// It is about the peer in this slot, which is up, may come up, or was never there.
    Of(u32),
    Dropped(Dropped),
}

/// Why a message does nothing and is told to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dropped {
    /// Another connection owns the peer: which, with the first message about it.
    Refused(Option<ConnectionId>),
    /// The peer is held, and the connection has not announced it.
    Unannounced,
    Odd(Oddity),
}

/// What a station that keeps to RFC 7854 tells peers of one input apart by.
type Alike = (u32, PeerKey);

impl State {
    /// Whether a connection may say this of a peer, and where the peer is. `changed` is the sequence number after the message.
    ///
    /// # Errors
    ///
    /// If that is a claim to be decided first: nothing has changed then.
    #[inline]
    pub(super) fn standing(
        &mut self,
        connection: ConnectionId,
        header: &PeerHeader,
        message: MessageType,
        changed: u64,
    ) -> Result<Standing, Claim> {
        let identity = header.identity();
        if let Some((last_connection, last, slot)) = self.last
            && last_connection == connection
            && last == identity
            && message != MessageType::PeerUp
        {
            return Ok(Standing::Of(slot));
        }
        let standing = self.decide(connection, header, message, changed)?;
        if let Standing::Of(slot) = standing
            && self.living_at(slot).is_some_and(|peer| peer.owner == connection && peer.hold != Hold::Away)
        {
            self.last = Some((connection, identity, slot));
        }
        Ok(standing)
    }

    fn decide(
        &mut self,
        connection: ConnectionId,
        header: &PeerHeader,
        message: MessageType,
        changed: u64,
    ) -> Result<Standing, Claim> {
        let Some(Connection { input, refused, rivals, .. }) = self.connections.get(&connection) else {
            return Ok(Standing::Dropped(Dropped::Unannounced));
        };
        let alike = (*input, header.key);
        let is_refused = refused.contains_key(&header.key);
        if let Some((owner, is_announced)) = self.owner_of(&alike)
            && owner != connection
        {
            let speaks_first = message == MessageType::RouteMonitoring && !is_announced && !is_refused;
            if (message == MessageType::PeerUp || speaks_first) && !rivals.contains(&owner) {
                return Err(Claim { peer: *header, owner, at: 0 });
            }
            return Ok(self.refuse_message(connection, header, owner, message));
        }
        match self.connections.get_mut(&connection).filter(|_| is_refused) {
            Some(known) if message == MessageType::PeerUp => drop(known.refused.remove(&header.key)),
            Some(_) => return Ok(self.refuse_message(connection, header, 0, message)),
            None => {}
        }
        Ok(self.place(connection, alike, header, message, changed))
    }

    /// Finds the peer that a message is about, where no other connection owns it.
    fn place(
        &mut self,
        connection: ConnectionId,
        alike: Alike,
        header: &PeerHeader,
        message: MessageType,
        changed: u64,
    ) -> Standing {
        let id = PeerId { input: alike.0, identity: header.identity() };
        let is_up = message == MessageType::PeerUp;
        let exact = self.by_id.get(&id).copied().filter(|slot| self.living_at(*slot).is_some());
        let others = self.living.get(&alike).map_or(&[][..], Vec::as_slice);
        // An AS or BGP identifier of zero is one that the router does not know.
        let only = match others {
            [only] if !is_up && self.slots[*only as usize].id.identity.may_be(&id.identity) => Some(*only),
            _ => None,
        };
        if let Some(slot) = exact.or(only) {
            let is_held = |peer: &Peer| peer.owner != connection && peer.life.up.is_some();
            if !is_up && self.living_at(slot).is_some_and(is_held) {
                return Standing::Dropped(Dropped::Unannounced);
            }
            return Standing::Of(slot);
        }
        let is_announced = |slot: &u32| self.living_at(*slot).is_some_and(|peer| peer.life.up.is_some());
        // A station would take it for one of the others.
        let is_taken_for_another = match message {
            MessageType::PeerUp => false,
            MessageType::RouteMonitoring if header.asn != 0 && !header.bgp_id.is_unspecified() => {
                others.iter().any(is_announced)
            }
            _ => !others.is_empty(),
        };
        if is_taken_for_another {
            return Standing::Dropped(Dropped::Odd(Oddity::OtherPeer));
        }
        if others.len() >= MOST_ALIKE {
            return Standing::Dropped(Dropped::Odd(Oddity::TooManyAlike));
        }
        if matches!(message, MessageType::PeerUp | MessageType::RouteMonitoring)
            && self.connections.get(&connection).is_some_and(|it| self.belongings.count(connection) >= it.most_peers)
        {
            return Standing::Dropped(Dropped::Odd(Oddity::TooManyPeers));
        }
        Standing::Of(self.slot_for(id, changed))
    }

    /// The connection that owns the peers that look the same, if it is there, and whether one of them was announced.
    fn owner_of(&self, alike: &Alike) -> Option<(ConnectionId, bool)> {
        let living = self.living.get(alike)?.iter().filter_map(|slot| self.living_at(*slot));
        let mut owned = living.filter(|peer| peer.hold != Hold::Away).peekable();
        let owner = owned.peek()?.owner;
        Some((owner, owned.any(|peer| peer.life.up.is_some())))
    }

    pub(super) fn living_at(&self, slot: u32) -> Option<&Peer> {
        self.slots.get(slot as usize)?.peer.as_ref()
    }

    /// Drops and counts a message about a peer that `owner` has.
    fn refuse_message(
        &mut self,
        connection: ConnectionId,
        header: &PeerHeader,
        owner: ConnectionId,
        message: MessageType,
    ) -> Standing {
        let Some(known) = self.connections.get_mut(&connection) else {
            return Standing::Dropped(Dropped::Refused(None));
        };
        let new = Refusal { peer: *header, owner, dropped: Counts::default() };
        let refusal = known.refused.entry(header.key).or_insert(new);
        let is_first = refusal.dropped.total() == 0;
        refusal.dropped.record(message.code(), 1);
        Standing::Dropped(Dropped::Refused(is_first.then_some(owner)))
    }

    /// The owner of a claimed peer is alive: the connection may claim nothing of it.
    pub(super) fn refuse(&mut self, connection: ConnectionId, owner: ConnectionId) {
        if let Some(known) = self.connections.get_mut(&connection)
            && !known.rivals.contains(&owner)
        {
            known.rivals.push(owner);
        }
    }

    /// A connection is gone: nobody has to be compared with it any more.
    pub(super) fn forget_rival(&mut self, gone: ConnectionId) {
        self.connections.values_mut().for_each(|known| known.rivals.retain(|rival| *rival != gone));
    }

    /// The peers of one connection that look like the claimed one.
    pub(super) fn claimed(&self, connection: ConnectionId, claim: &Claim) -> Vec<u32> {
        let Some(known) = self.connections.get(&connection) else { return Vec::new() };
        self.living.get(&(known.input, claim.peer.key)).cloned().unwrap_or_default()
    }

    /// The peers that a connection may not speak of.
    pub(super) fn refusals(&self, connection: ConnectionId) -> Vec<Refusal> {
        let known = self.connections.get(&connection);
        let mut refusals: Vec<_> = known.iter().flat_map(|known| known.refused.values().copied()).collect();
        refusals.sort_unstable_by_key(|refusal| refusal.peer.identity());
        refusals
    }

    /// A peer that is up now.
    pub(super) fn lives(&mut self, slot: u32) {
        let PeerId { input, identity } = self.slots[slot as usize].id;
        self.living.entry((input, identity.key)).or_default().push(slot);
        self.last = None;
    }

    /// A peer that is not up any more.
    pub(super) fn lives_no_more(&mut self, slot: u32) {
        let PeerId { input, identity } = self.slots[slot as usize].id;
        let alike = (input, identity.key);
        if let Some(living) = self.living.get_mut(&alike) {
            living.retain(|other| *other != slot);
            if living.is_empty() {
                self.living.remove(&alike);
            }
        }
        self.last = None;
    }

    /// Peers that a station would take for the one in `slot` and that are over when it comes up with this Peer Up: those that were never announced, those
    /// that are held and not back, and those that cannot be there beside it.
    pub(super) fn outlived_by(&self, slot: u32, up: &PeerUp<'_>) -> Vec<u32> {
        let is_over = |other: &&u32| {
            let goes_on = |peer: &Peer| peer.life.up.is_some() && peer.hold != Hold::Away && peer.is_beside(up);
            **other != slot && self.living_at(**other).is_some_and(|peer| !goes_on(peer))
        };
        self.alike(slot).iter().filter(is_over).copied().collect()
    }

    /// The peers of its input that look like the one in `slot`, if they are up, with itself.
    pub(super) fn alike(&self, slot: u32) -> &[u32] {
        let PeerId { input, identity } = self.slots[slot as usize].id;
        self.living.get(&(input, identity.key)).map_or(&[], Vec::as_slice)
    }
}

impl Peer {
    /// Whether it goes on while one comes up that has the same type, distinguisher and address: two neighbours on unnumbered links may have one link-local
    /// address, and two tables of a router no distinguisher. Any other is the same peer with another AS or BGP identifier.
    fn is_beside(&self, up: &PeerUp<'_>) -> bool {
        let has_room = if up.peer.key.peer_type == PeerType::LOC_RIB {
            let name = up.table_name();
            name.is_some() && self.tables().iter().all(|table| table.is_some() && *table != name)
        } else {
            matches!(up.peer.address(), IpAddr::V6(address) if address.is_unicast_link_local())
        };
        has_room && !self.life.peer.identity.may_be(&up.peer.identity())
    }
}
