//! Which peers belong to which connection, so that the end of a connection costs what it had, however many peers others have.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use super::peers::{ConnectionId, Hold, Peer};

/// The slots of peers, by connection.
#[derive(Debug)]
pub(super) struct Belongings {
    of: HashMap<ConnectionId, Slots, RandomState>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Slots {
    /// Of the peers that the connection owns.
    owned: HashSet<u32, RandomState>,
    /// Of the peers that it owned when it went away, and that came back on another one: [`Hold::Back`].
    back: HashSet<u32, RandomState>,
}

impl Belongings {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self { of: HashMap::with_hasher(hasher.clone()), hasher }
    }

    /// The peers that a connection owns, in the order of their slots.
    pub(super) fn owned(&self, connection: ConnectionId) -> Vec<u32> {
        sorted(self.of.get(&connection).map(|slots| &slots.owned))
    }

    /// How many these are.
    pub(super) fn count(&self, connection: ConnectionId) -> usize {
        self.of.get(&connection).map_or(0, |slots| slots.owned.len())
    }

    /// The peers that came back after a connection had gone away, in the order of their slots.
    pub(super) fn back(&self, connection: ConnectionId) -> Vec<u32> {
        sorted(self.of.get(&connection).map(|slots| &slots.back))
    }

    /// Notes whose a peer is.
    pub(super) fn insert(&mut self, slot: u32, peer: &Peer) {
        self.of(peer.owner).owned.insert(slot);
        if let Hold::Back(before) = peer.hold {
            self.of(before).back.insert(slot);
        }
    }

    /// Forgets whose a peer was. This has to see the peer as it was when it was inserted.
    pub(super) fn remove(&mut self, slot: u32, peer: &Peer) {
        self.prune(peer.owner, |slots| slots.owned.remove(&slot));
        if let Hold::Back(before) = peer.hold {
            self.prune(before, |slots| slots.back.remove(&slot));
        }
    }

    fn of(&mut self, connection: ConnectionId) -> &mut Slots {
        let Self { of, hasher } = self;
        let empty = || HashSet::with_hasher(hasher.clone());
        of.entry(connection).or_insert_with(|| Slots { owned: empty(), back: empty() })
    }

    fn prune(&mut self, connection: ConnectionId, remove: impl FnOnce(&mut Slots) -> bool) {
        if let Some(slots) = self.of.get_mut(&connection) {
            remove(slots);
            if slots.owned.is_empty() && slots.back.is_empty() {
                self.of.remove(&connection);
            }
        }
    }
}

fn sorted(slots: Option<&HashSet<u32, RandomState>>) -> Vec<u32> {
    let mut sorted: Vec<_> = slots.into_iter().flatten().copied().collect();
    sorted.sort_unstable();
    sorted
}
