//! The peers in force: what the frames in the journal, up to its head, have said about peers.

use std::collections::HashMap;

use bytes::Bytes;

use crate::wire::bmp::PeerKey;

/// A peer of the feed: peers of different inputs are different peers even if a station could not tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PeerId {
    /// See [`Peers::input_id`].
    pub(super) input: u32,
    pub(super) key: PeerKey,
}

/// Counts connections; a newer one has the greater number.
pub(super) type ConnectionId = u64;

/// The bytes that tell a station about a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announcement {
    /// Its Peer Up as it was received.
    pub(super) up: Bytes,
    /// The Peer Down that takes it back.
    pub(super) down: Bytes,
}

/// What a batch of frames says about peers, besides being passed on. Rare beside routes.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Up(PeerKey, Announcement),
    Down(PeerKey),
    /// The first routes since it was announced.
    Routes(PeerKey),
    /// The first routes for a peer that the connection did not announce.
    StrayRoutes,
}

/// What a chunk changes in the set of peers that a station was told. Rides on the chunk, so that a follower knows exactly.
#[derive(Clone, Debug)]
pub(super) struct PeerEvent {
    pub(super) peer: PeerId,
    /// The Peer Down that would take it back; `None` if the chunk itself does.
    pub(super) up: Option<Bytes>,
}

/// The peers in force, by their connections.
#[derive(Debug, Default)]
pub(super) struct Peers {
    peers: HashMap<PeerId, Peer>,
    /// How many of `peers` have routes that a station who comes now has missed.
    with_routes: usize,
    connections: HashMap<ConnectionId, Connection>,
    connections_with_strays: usize,
    last_connection: ConnectionId,
    input_ids: HashMap<String, u32>,
    announcements: u64,
}

#[derive(Debug)]
struct Peer {
    owner: ConnectionId,
    announcement: Announcement,
    /// Orders peers by when they came up.
    order: u64,
    routes: bool,
}

#[derive(Debug)]
struct Connection {
    input: u32,
    strays: bool,
}

impl Peers {
    /// Opens a connection of the input `name`.
    pub(super) fn connect(&mut self, name: &str) -> ConnectionId {
        let input = self.input_id(name);
        self.last_connection += 1;
        self.connections.insert(self.last_connection, Connection { input, strays: false });
        self.last_connection
    }

    /// One number a name, for good: there are only as many as an operator ever configured.
    fn input_id(&mut self, name: &str) -> u32 {
        if let Some(&id) = self.input_ids.get(name) {
            return id;
        }
        let id = u32::try_from(self.input_ids.len()).unwrap_or(u32::MAX);
        self.input_ids.insert(name.to_owned(), id);
        id
    }

    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether a station that is told all announcements now has missed no routes.
    pub(super) fn no_routes_passed(&self) -> bool {
        self.with_routes == 0 && self.connections_with_strays == 0
    }

    /// Every peer in force with its announcement, in the order in which they came up.
    pub(super) fn in_force(&self) -> Vec<(PeerId, &Announcement)> {
        let mut all: Vec<_> = self.peers.iter().collect();
        all.sort_unstable_by_key(|(_, peer)| peer.order);
        all.into_iter().map(|(&id, peer)| (id, &peer.announcement)).collect()
    }

    /// The peer in force that only its input tells from `gone`.
    pub(super) fn namesake(&self, gone: PeerId) -> Option<(PeerId, &Announcement)> {
        let (&peer, found) = self.peers.iter().find(|(peer, _)| peer.key == gone.key && peer.input != gone.input)?;
        Some((peer, &found.announcement))
    }

    /// Applies what a batch of frames of `connection` said. Gives what followers have to know.
    ///
    /// A Peer Down counts whichever connection says it: the stations are sent it in any case, and believe it.
    pub(super) fn apply(&mut self, connection: ConnectionId, changes: Vec<Change>) -> Vec<PeerEvent> {
        let mut events = Vec::new();
        let Some(from) = self.connections.get_mut(&connection) else { return events };
        let input = from.input;
        for change in changes {
            match change {
                Change::Up(key, announcement) => {
                    let peer = PeerId { input, key };
                    events.push(PeerEvent { peer, up: Some(announcement.down.clone()) });
                    self.announce(peer, connection, announcement);
                }
                Change::Down(key) => {
                    let peer = PeerId { input, key };
                    events.push(PeerEvent { peer, up: None });
                    self.remove(peer);
                }
                Change::Routes(key) => {
                    if let Some(peer) = self.peers.get_mut(&PeerId { input, key })
                        && !std::mem::replace(&mut peer.routes, true)
                    {
                        self.with_routes += 1;
                    }
                }
                Change::StrayRoutes => {
                    if let Some(from) = self.connections.get_mut(&connection)
                        && !std::mem::replace(&mut from.strays, true)
                    {
                        self.connections_with_strays += 1;
                    }
                }
            }
        }
        events
    }

    /// Closes a connection. Gives the peers it owned, which are no longer in force, in the order in which they came up.
    pub(super) fn disconnect(&mut self, connection: ConnectionId) -> Vec<(PeerId, Announcement)> {
        if self.connections.remove(&connection).is_some_and(|gone| gone.strays) {
            self.connections_with_strays -= 1;
        }
        let mut owned: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.owner == connection)
            .map(|(&id, peer)| (peer.order, id))
            .collect();
        owned.sort_unstable();
        owned.into_iter().filter_map(|(_, id)| Some((id, self.remove(id)?))).collect()
    }

    /// A repeated Peer Up replaces what is stored; routes that have passed have passed. The newest connection that announced
    /// a peer owns it: an older one may still have a Peer Up in its buffers, but its end says nothing about the peer.
    fn announce(&mut self, id: PeerId, connection: ConnectionId, announcement: Announcement) {
        self.announcements += 1;
        let order = self.announcements;
        let peer = self.peers.entry(id).or_insert_with(|| Peer {
            owner: connection,
            announcement: announcement.clone(),
            order,
            routes: false,
        });
        peer.owner = peer.owner.max(connection);
        peer.announcement = announcement;
    }

    fn remove(&mut self, id: PeerId) -> Option<Announcement> {
        let peer = self.peers.remove(&id)?;
        self.with_routes -= usize::from(peer.routes);
        Some(peer.announcement)
    }
}
