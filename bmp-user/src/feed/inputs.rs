//! The connections of the inputs, and which connection may speak about which peer.
//!
//! A connection owns the peers that it announced, or spoke about first where no connection
//! announces them. While it is there, no other connection of its input may speak about a peer with
//! the same type, distinguisher and address. An attempt is a [`Claim`]: the feed stops there. The
//! reader of the connection finds out whether the owner is still alive.

use std::collections::{HashMap, HashSet};

use super::{
    FrameCounts, InputId,
    applied::DropReason,
    incarnation::{ConnectionId, PeerId},
    oddity::Oddity,
    peers::{LivePeer, PeerTable},
};
use crate::wire::bmp::{MessageType, PeerHeader, PeerKey};

/// Peers of one input that differ in AS or BGP identifier alone, at most. Two neighbours on
/// unnumbered links are two such peers.
const MOST_LOOK_ALIKES: usize = 64;

/// Routers that are remembered although they have no connection and no peers, about.
const MOST_FORGOTTEN_ROUTERS: usize = 1024;

/// Peers of all inputs that are up at one time, at most.
pub const MOST_PEERS: usize = 262_144;

/// A connection speaks about a peer that another connection of its input owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The peer.
    pub peer: PeerHeader,
    /// The connection that owns it.
    pub owner: ConnectionId,
    /// How many bytes come before the frame that claims the peer. All of them have been appended.
    pub at: usize,
}

/// A peer that a connection may not speak about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerRefusal {
    /// The peer.
    pub peer: PeerHeader,
    /// The connection that owned it then.
    pub owner: ConnectionId,
    /// The frames about it that were dropped.
    pub dropped: FrameCounts,
}

/// An open connection.
#[derive(Debug)]
struct InputConnection {
    input: u32,
    id: InputId,
    /// The peers that it may not speak about.
    refused: HashMap<PeerKey, PeerRefusal>,
    /// Connections of the same input that were alive when this one claimed a peer of theirs.
    rivals: Vec<ConnectionId>,
    /// How many peers it may have at one time.
    most_peers: usize,
    /// Whether its OPENs say for certain how NLRI are written.
    trusts_opens: bool,
}

/// Where a frame about a peer goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum FrameTarget {
    /// To the peer in this slot, which is up, may come up, or was never there.
    Peer(u32),
    Nowhere(DropReason),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct InputTable {
    connections: HashMap<ConnectionId, InputConnection>,
    /// The number of every input that had a connection. Routers without one are forgotten.
    numbers: HashMap<InputId, u32>,
    last_number: u32,
    /// How many inputs there may be before routers are forgotten.
    most_numbers: usize,
    last_connection: ConnectionId,
}

impl InputTable {
    /// Opens a connection of an input.
    pub(super) fn connect(&mut self, id: InputId) -> ConnectionId {
        let input = self.number(&id);
        self.last_connection += 1;
        let connection = InputConnection {
            input,
            id,
            refused: HashMap::new(),
            rivals: Vec::new(),
            most_peers: usize::MAX,
            trusts_opens: false,
        };
        self.connections.insert(self.last_connection, connection);
        self.last_connection
    }

    /// The number of an input, which the input keeps.
    fn number(&mut self, id: &InputId) -> u32 {
        let last = &mut self.last_number;
        *self.numbers.entry(id.clone()).or_insert_with(|| {
            *last += 1;
            *last
        })
    }

    /// How many inputs are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.numbers.len()
    }

    /// Makes a connection that has no peers yet one of another input.
    pub(super) fn rename(&mut self, peers: &PeerTable, connection: ConnectionId, id: InputId) {
        self.forget_routers(peers);
        let input = self.number(&id);
        if let Some(known) = self.connections.get_mut(&connection) {
            (known.input, known.id) = (input, id);
        }
    }

    /// Forgets the numbers of routers that have neither a connection nor a peer. There may be any
    /// number of them, unlike inputs that an operator configures.
    fn forget_routers(&mut self, peers: &PeerTable) {
        if self.numbers.len() < self.most_numbers.max(MOST_FORGOTTEN_ROUTERS) {
            return;
        }
        let mut used: HashSet<u32> = self.connections.values().map(|known| known.input).collect();
        used.extend(peers.inputs());
        self.numbers.retain(|id, number| id.router().is_none() || used.contains(number));
        self.most_numbers = self.numbers.len() + MOST_FORGOTTEN_ROUTERS;
    }

    /// Closes a connection.
    pub(super) fn disconnect(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
        self.connections.values_mut().for_each(|other| other.rivals.retain(|rival| *rival != connection));
    }

    /// The input of an open connection.
    pub(super) fn input_of(&self, connection: ConnectionId) -> Option<&InputId> {
        Some(&self.connections.get(&connection)?.id)
    }

    /// The number of the input of an open connection.
    pub(super) fn number_of(&self, connection: ConnectionId) -> Option<u32> {
        Some(self.connections.get(&connection)?.input)
    }

    /// The OPENs of this connection say for certain how NLRI are written.
    pub(super) fn trust_opens(&mut self, connection: ConnectionId) {
        if let Some(known) = self.connections.get_mut(&connection) {
            known.trusts_opens = true;
        }
    }

    /// True if the OPENs of a connection say for certain how NLRI are written.
    pub(super) fn trusts_opens(&self, connection: ConnectionId) -> bool {
        self.connections.get(&connection).is_some_and(|known| known.trusts_opens)
    }

    /// Limits how many peers a connection may have at one time.
    pub(super) fn limit_peers(&mut self, connection: ConnectionId, most: usize) {
        if let Some(known) = self.connections.get_mut(&connection) {
            known.most_peers = most;
        }
    }

    /// The owner of a claimed peer is alive: the connection may claim nothing of that owner.
    pub(super) fn refuse(&mut self, connection: ConnectionId, owner: ConnectionId) {
        if let Some(known) = self.connections.get_mut(&connection)
            && !known.rivals.contains(&owner)
        {
            known.rivals.push(owner);
        }
    }

    /// The peers that a connection may not speak about.
    pub(super) fn refusals(&self, connection: ConnectionId) -> Vec<PeerRefusal> {
        let known = self.connections.get(&connection);
        let mut refused: Vec<_> = known.iter().flat_map(|known| known.refused.values().copied()).collect();
        refused.sort_unstable_by_key(|refused| refused.peer.identity());
        refused
    }

    /// Finds where a frame about a peer goes. `changed` is the sequence number after the frame.
    ///
    /// # Errors
    ///
    /// If the frame claims a peer. Nothing has changed then: the claim has to be decided first.
    #[inline]
    pub(super) fn target_of(
        &mut self,
        peers: &mut PeerTable,
        connection: ConnectionId,
        header: &PeerHeader,
        message: MessageType,
        changed: u64,
    ) -> Result<FrameTarget, Claim> {
        let identity = header.identity();
        if message != MessageType::PeerUp
            && let Some(slot) = peers.last_found(connection, &identity)
        {
            return Ok(FrameTarget::Peer(slot));
        }
        let target = self.decide(peers, connection, header, message, changed)?;
        if let FrameTarget::Peer(slot) = target
            && peers.get(slot).is_some_and(|peer| peer.ownership.connection == connection && !peer.is_away())
        {
            peers.set_last_found(connection, identity, slot);
        }
        Ok(target)
    }

    fn decide(
        &mut self,
        peers: &mut PeerTable,
        connection: ConnectionId,
        header: &PeerHeader,
        message: MessageType,
        changed: u64,
    ) -> Result<FrameTarget, Claim> {
        let Some(InputConnection { input, refused, rivals, most_peers, .. }) = self.connections.get(&connection) else {
            return Ok(FrameTarget::Nowhere(DropReason::Unannounced));
        };
        let (input, most_peers) = (*input, *most_peers);
        let is_refused = refused.contains_key(&header.key);
        if let Some(KeyOwner { owner, has_announced }) = owner_of(peers, input, header.key)
            && owner != connection
        {
            let speaks_first = message == MessageType::RouteMonitoring && !has_announced && !is_refused;
            if (message == MessageType::PeerUp || speaks_first) && !rivals.contains(&owner) {
                return Err(Claim { peer: *header, owner, at: 0 });
            }
            return Ok(self.refuse_frame(connection, header, owner, message));
        }
        match self.connections.get_mut(&connection).filter(|_| is_refused) {
            Some(known) if message == MessageType::PeerUp => drop(known.refused.remove(&header.key)),
            Some(_) => return Ok(self.refuse_frame(connection, header, 0, message)),
            None => {}
        }
        Ok(find_peer(peers, connection, PeerId { input, identity: header.identity() }, message, most_peers, changed))
    }

    /// Drops and counts a frame about a peer that `owner` owns.
    fn refuse_frame(
        &mut self,
        connection: ConnectionId,
        header: &PeerHeader,
        owner: ConnectionId,
        message: MessageType,
    ) -> FrameTarget {
        let Some(known) = self.connections.get_mut(&connection) else {
            return FrameTarget::Nowhere(DropReason::Refused(None));
        };
        let new = PeerRefusal { peer: *header, owner, dropped: FrameCounts::default() };
        let refused = known.refused.entry(header.key).or_insert(new);
        let is_first = refused.dropped.total() == 0;
        refused.dropped.record(message.code(), 1);
        FrameTarget::Nowhere(DropReason::Refused(is_first.then_some(owner)))
    }
}

/// The connection that owns the peers with one type, distinguisher and address.
struct KeyOwner {
    owner: ConnectionId,
    /// Whether one of these peers was announced.
    has_announced: bool,
}

fn owner_of(peers: &PeerTable, input: u32, key: PeerKey) -> Option<KeyOwner> {
    let live = peers.with_key(input, key).iter().filter_map(|slot| peers.get(*slot));
    let mut owned = live.filter(|peer| !peer.is_away()).peekable();
    let owner = owned.peek()?.ownership.connection;
    Some(KeyOwner { owner, has_announced: owned.any(LivePeer::is_announced) })
}

/// Finds the peer that a frame is about, where no other connection owns it.
fn find_peer(
    peers: &mut PeerTable,
    connection: ConnectionId,
    id: PeerId,
    message: MessageType,
    most_peers: usize,
    changed: u64,
) -> FrameTarget {
    let PeerId { input, identity } = id;
    let is_up = message == MessageType::PeerUp;
    let look_alikes = peers.with_key(input, identity.key);
    // An AS or a BGP identifier of zero is one that the router does not know.
    let only = match look_alikes {
        [only] if !is_up => {
            Some(*only).filter(|only| peers.get(*only).is_some_and(|peer| peer.life.peer.identity.may_be(&identity)))
        }
        _ => None,
    };
    if let Some(slot) = peers.find(&id).or(only) {
        let is_held = |peer: &LivePeer| peer.ownership.connection != connection && peer.is_announced();
        if !is_up && peers.get(slot).is_some_and(is_held) {
            return FrameTarget::Nowhere(DropReason::Unannounced);
        }
        return FrameTarget::Peer(slot);
    }
    let is_announced = |slot: &u32| peers.get(*slot).is_some_and(LivePeer::is_announced);
    let is_taken_for_another = match message {
        MessageType::PeerUp => false,
        MessageType::RouteMonitoring if identity.asn != 0 && !identity.bgp_id.is_unspecified() => {
            look_alikes.iter().any(is_announced)
        }
        _ => !look_alikes.is_empty(),
    };
    if is_taken_for_another {
        return FrameTarget::Nowhere(DropReason::Odd(Oddity::OtherPeer));
    }
    if look_alikes.len() >= MOST_LOOK_ALIKES {
        return FrameTarget::Nowhere(DropReason::Odd(Oddity::TooManyAlike));
    }
    let may_begin = matches!(message, MessageType::PeerUp | MessageType::RouteMonitoring);
    if may_begin && (peers.count_of(connection) >= most_peers || peers.live() >= MOST_PEERS) {
        return FrameTarget::Nowhere(DropReason::Odd(Oddity::TooManyPeers));
    }
    FrameTarget::Peer(peers.slot_for(id, changed))
}
