//! What `display` shows of relays.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::is_local;
use crate::{
    feed::{ConnectionId, InputTotals},
    visitors::Visitor,
};

/// The status of all relays. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Relays(Arc<Mutex<BTreeMap<String, Arc<RelayEntry>>>>);

/// One relay at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayStatus {
    /// `bmp-relay NAME`.
    pub name: String,
    /// `listen ADDR port N`.
    pub listen: SocketAddr,
    /// Its state.
    pub state: RelayState,
    /// The open connections, the oldest first.
    pub connections: Vec<ConnectionStatus>,
    /// The connections that ended and whose peers are held, the oldest first.
    pub held: Vec<HeldConnection>,
    /// What came in by all connections, also those that ended.
    pub received: InputTotals,
    /// Connections of hosts that may not connect.
    pub refused_hosts: u64,
    /// Connections beyond the limits.
    pub refused_too_many: u64,
    /// The client of the connection that was closed last, and how it ended.
    pub last_closed: Option<String>,
}

/// Whether a relay listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RelayState {
    /// It is about to listen.
    #[default]
    Starting,
    /// It listens.
    Listening,
    /// It cannot listen, for this reason. It tries again.
    Failed(String),
}

/// One connection of a relay at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// The daemon's end.
    pub client: SocketAddr,
    /// sysName of its Initiation.
    pub sys_name: Option<String>,
    /// sysDescr of its Initiation.
    pub sys_descr: Option<String>,
    /// Its number in the feed.
    pub id: ConnectionId,
    /// What came in by it.
    pub totals: InputTotals,
}

/// A connection that ended and whose peers are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldConnection {
    /// The daemon's end of the connection.
    pub client: SocketAddr,
    /// sysName of its Initiation.
    pub sys_name: Option<String>,
    /// How long its peers stay up.
    pub left: Duration,
}

impl Relays {
    /// The relays that are configured, by name.
    pub fn snapshot(&self) -> Vec<RelayStatus> {
        let relays: Vec<Arc<RelayEntry>> = lock(&self.0).values().cloned().collect();
        relays.iter().map(|relay| relay.status()).collect()
    }

    /// Where a relay listens, and its state; `None` if there is no relay of that name.
    pub fn state(&self, name: &str) -> Option<(SocketAddr, RelayState)> {
        let relay = lock(&self.0).get(name).cloned()?;
        let state = lock(&relay.now).state.clone();
        Some((relay.listen, state))
    }

    /// Shows a relay as long as the handle lives.
    pub(super) fn register(&self, name: &str, listen: SocketAddr) -> RelayHandle {
        let relay = Arc::new(RelayEntry { name: name.to_owned(), listen, now: Mutex::default() });
        lock(&self.0).insert(name.to_owned(), Arc::clone(&relay));
        RelayHandle { relays: self.clone(), relay }
    }
}

#[derive(Debug)]
struct RelayEntry {
    name: String,
    listen: SocketAddr,
    now: Mutex<RelayProgress>,
}

#[derive(Debug, Default)]
struct RelayProgress {
    state: RelayState,
    connections: Vec<Arc<ConnectionEntry>>,
    held: Vec<(Arc<ConnectionEntry>, Instant)>,
    /// What came in by connections that ended.
    ended: InputTotals,
    refused_hosts: u64,
    refused_too_many: u64,
    last_closed: Option<String>,
}

impl RelayEntry {
    fn status(&self) -> RelayStatus {
        let now = lock(&self.now);
        let connections: Vec<_> = now.connections.iter().map(|connection| connection.status()).collect();
        let mut received = now.ended;
        connections.iter().for_each(|connection| received.add(&connection.totals));
        RelayStatus {
            name: self.name.clone(),
            listen: self.listen,
            state: now.state.clone(),
            connections,
            received,
            held: now.held.iter().map(|(connection, until)| connection.held(*until)).collect(),
            refused_hosts: now.refused_hosts,
            refused_too_many: now.refused_too_many,
            last_closed: now.last_closed.clone(),
        }
    }
}

/// A relay, for its listener.
#[derive(Debug)]
pub(super) struct RelayHandle {
    relays: Relays,
    relay: Arc<RelayEntry>,
}

impl RelayHandle {
    pub(super) fn name(&self) -> &str {
        &self.relay.name
    }

    pub(super) fn listen(&self) -> SocketAddr {
        self.relay.listen
    }

    pub(super) fn set_state(&self, state: RelayState) {
        lock(&self.relay.now).state = state;
    }

    /// Counts a connection of a host that may not connect.
    pub(super) fn refused_host(&self) {
        lock(&self.relay.now).refused_hosts += 1;
    }

    /// Counts a connection beyond the limits.
    pub(super) fn refused_too_many(&self) {
        lock(&self.relay.now).refused_too_many += 1;
    }

    /// Shows a connection as long as the handle lives.
    pub(super) fn connection(&self, id: ConnectionId, own: IpAddr, client: SocketAddr) -> ConnectionHandle {
        let (system, totals) = (Mutex::default(), Mutex::default());
        let connection = Arc::new(ConnectionEntry { id, own, client, system, totals });
        lock(&self.relay.now).connections.push(Arc::clone(&connection));
        ConnectionHandle { relay: Arc::clone(&self.relay), connection, visitor: Mutex::default() }
    }
}

impl Drop for RelayHandle {
    fn drop(&mut self) {
        let mut relays = lock(&self.relays.0);
        if relays.get(&self.relay.name).is_some_and(|shown| Arc::ptr_eq(shown, &self.relay)) {
            relays.remove(&self.relay.name);
        }
    }
}

#[derive(Debug)]
struct ConnectionEntry {
    id: ConnectionId,
    own: IpAddr,
    client: SocketAddr,
    system: Mutex<SystemInfo>,
    totals: Mutex<InputTotals>,
}

/// What the Initiation of a daemon says about its system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemInfo {
    /// Its sysName.
    pub name: Option<String>,
    /// Its sysDescr.
    pub descr: Option<String>,
}

impl ConnectionEntry {
    fn status(&self) -> ConnectionStatus {
        let SystemInfo { name, descr } = lock(&self.system).clone();
        ConnectionStatus {
            client: self.client,
            sys_name: name,
            sys_descr: descr,
            id: self.id,
            totals: *lock(&self.totals),
        }
    }
}

impl ConnectionEntry {
    fn held(&self, until: Instant) -> HeldConnection {
        let left = until.saturating_duration_since(Instant::now());
        HeldConnection { client: self.client, sys_name: lock(&self.system).name.clone(), left }
    }
}

/// A connection, for its task.
#[derive(Debug)]
pub(super) struct ConnectionHandle {
    relay: Arc<RelayEntry>,
    connection: Arc<ConnectionEntry>,
    /// Its place among the connections, until it is closed.
    visitor: Mutex<Option<Visitor>>,
}

impl ConnectionHandle {
    /// Keeps its place among the connections until it is closed.
    pub(super) fn of(self, visitor: Visitor) -> Self {
        *lock(&self.visitor) = Some(visitor);
        self
    }

    pub(super) fn relay_name(&self) -> &str {
        &self.relay.name
    }

    pub(super) fn client(&self) -> SocketAddr {
        self.connection.client
    }

    /// The address of this host that the daemon connected to.
    pub(super) fn own(&self) -> IpAddr {
        self.connection.own
    }

    /// True if the daemon is on this host.
    pub(super) fn is_local(&self) -> bool {
        is_local(self.connection.own, self.connection.client.ip())
    }

    /// How many ended connections of the relay have peers that are held.
    pub(super) fn held_connections(&self) -> usize {
        lock(&self.relay.now).held.len()
    }

    /// Shows the connection among those whose peers are held, as long as the returned value lives.
    pub(super) fn held(self) -> HeldConnectionHandle {
        let (relay, connection) = (Arc::clone(&self.relay), Arc::clone(&self.connection));
        HeldConnectionHandle { relay, connection }
    }

    pub(super) fn set_system(&self, system: SystemInfo) {
        *lock(&self.connection.system) = system;
    }

    pub(super) fn set_totals(&self, totals: InputTotals) {
        *lock(&self.connection.totals) = totals;
    }

    pub(super) fn closed(&self, how: &str) {
        drop(lock(&self.visitor).take());
        lock(&self.relay.now).last_closed = Some(format!("{}: {how}", self.connection.client));
    }
}

impl Drop for ConnectionHandle {
    fn drop(&mut self) {
        let mut now = lock(&self.relay.now);
        now.connections.retain(|shown| !Arc::ptr_eq(shown, &self.connection));
        now.ended.add(&lock(&self.connection.totals));
    }
}

/// A connection that has ended, for the task that holds its peers.
#[derive(Debug)]
pub(super) struct HeldConnectionHandle {
    relay: Arc<RelayEntry>,
    connection: Arc<ConnectionEntry>,
}

impl HeldConnectionHandle {
    pub(super) fn relay_name(&self) -> &str {
        &self.relay.name
    }

    pub(super) fn client(&self) -> SocketAddr {
        self.connection.client
    }

    pub(super) fn set_until(&self, until: Instant) {
        let held = &mut lock(&self.relay.now).held;
        match held.iter_mut().find(|(shown, _)| Arc::ptr_eq(shown, &self.connection)) {
            Some((_, shown)) => *shown = until,
            None => held.push((Arc::clone(&self.connection), until)),
        }
    }
}

impl Drop for HeldConnectionHandle {
    fn drop(&mut self) {
        lock(&self.relay.now).held.retain(|(shown, _)| !Arc::ptr_eq(shown, &self.connection));
    }
}

/// Locks a value for display, which any holder leaves in a sound state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
