//! Which peers belong to which connection.
//!
//! The end of a connection takes as long as its own peers take, however many peers others have.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use super::super::incarnation::ConnectionId;

/// Whether the input of a peer is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::feed) enum PeerPresence {
    /// It is there.
    #[default]
    Present,
    /// It went away. The peer is held.
    Away,
    /// It went away and is back. The peer may not have repeated everything yet. This is the
    /// connection that went away.
    Returned(ConnectionId),
}

/// Whose a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::feed) struct Ownership {
    /// The only connection that may speak about the peer.
    pub(in crate::feed) connection: ConnectionId,
    pub(in crate::feed) presence: PeerPresence,
}

/// The slots of peers, by connection.
#[derive(Debug)]
pub(in crate::feed) struct PeersByConnection {
    connections: HashMap<ConnectionId, OwnedSlots, RandomState>,
    hasher: RandomState,
}

#[derive(Debug)]
struct OwnedSlots {
    /// Peers that the connection owns.
    owned: HashSet<u32, RandomState>,
    /// Peers that the connection owned when it went away, and that returned on another connection.
    returned: HashSet<u32, RandomState>,
}

impl PeersByConnection {
    pub(in crate::feed) fn new(hasher: RandomState) -> Self {
        Self { connections: HashMap::with_hasher(hasher.clone()), hasher }
    }

    /// The peers that a connection owns, in the order of their slots.
    pub(in crate::feed) fn owned(&self, connection: ConnectionId) -> Vec<u32> {
        sorted(self.connections.get(&connection).map(|slots| &slots.owned))
    }

    /// The peers that a connection owns, in no order.
    pub(in crate::feed) fn each(&self, connection: ConnectionId) -> impl Iterator<Item = u32> {
        self.connections.get(&connection).into_iter().flat_map(|slots| slots.owned.iter().copied())
    }

    /// How many peers a connection owns.
    pub(in crate::feed) fn count(&self, connection: ConnectionId) -> usize {
        self.connections.get(&connection).map_or(0, |slots| slots.owned.len())
    }

    /// The peers that returned after a connection had gone away, in the order of their slots.
    pub(in crate::feed) fn returned(&self, connection: ConnectionId) -> Vec<u32> {
        sorted(self.connections.get(&connection).map(|slots| &slots.returned))
    }

    /// Adds a peer.
    pub(in crate::feed) fn insert(&mut self, slot: u32, ownership: Ownership) {
        self.slots_of(ownership.connection).owned.insert(slot);
        if let PeerPresence::Returned(before) = ownership.presence {
            self.slots_of(before).returned.insert(slot);
        }
    }

    /// Removes a peer.
    pub(in crate::feed) fn remove(&mut self, slot: u32, ownership: Ownership) {
        self.prune(ownership.connection, |slots| slots.owned.remove(&slot));
        if let PeerPresence::Returned(before) = ownership.presence {
            self.prune(before, |slots| slots.returned.remove(&slot));
        }
    }

    /// Gives a peer another ownership.
    pub(in crate::feed) fn replace(&mut self, slot: u32, ownership: &mut Ownership, new: Ownership) {
        self.remove(slot, *ownership);
        *ownership = new;
        self.insert(slot, new);
    }

    fn slots_of(&mut self, connection: ConnectionId) -> &mut OwnedSlots {
        let Self { connections, hasher } = self;
        let empty = || HashSet::with_hasher(hasher.clone());
        connections.entry(connection).or_insert_with(|| OwnedSlots { owned: empty(), returned: empty() })
    }

    fn prune(&mut self, connection: ConnectionId, remove: impl FnOnce(&mut OwnedSlots) -> bool) {
        if let Some(slots) = self.connections.get_mut(&connection) {
            remove(slots);
            if slots.owned.is_empty() && slots.returned.is_empty() {
                self.connections.remove(&connection);
            }
        }
    }
}

fn sorted(slots: Option<&HashSet<u32, RandomState>>) -> Vec<u32> {
    let mut sorted: Vec<_> = slots.into_iter().flatten().copied().collect();
    sorted.sort_unstable();
    sorted
}
