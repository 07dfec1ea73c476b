//! What `display` shows of relays.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::field::DisplayValue;

use super::{
    client::{RelayClient, RelayProxy},
    users::UserNumbers,
};
use crate::{
    config::MaximumRoutes,
    feed::{ConnectionId, InputTotals, MemoryStanding},
    input::budget::{ClosingCause, HOLD},
    visitors::{ClientOrigin, ClientSource, Visitor},
};

/// The status of all relays. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Relays {
    entries: Arc<Mutex<BTreeMap<String, Arc<RelayEntry>>>>,
    users: UserNumbers,
}

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
    /// Connections of users of this host that may not connect.
    pub refused_users: u64,
    /// The last of these users, by name where this host knows one.
    pub last_refused_user: Option<String>,
    /// Connections beyond the limits.
    pub refused_too_many: u64,
    /// Connections of proxies whose PROXY header was wrong, late or not there.
    pub refused_proxies: u64,
    /// Connections that were proxies' own, as health checks are.
    pub health_checks: u64,
    /// Connections of clients that had too many routes.
    pub refused_for_routes: u64,
    /// Connections of clients that had grown most when the feed took too much memory.
    pub refused_for_memory: u64,
    /// Connections that were closed because they had more routes than `maximum-routes`.
    pub closed_for_routes: u64,
    /// Connections that were closed because of `memory-limit`.
    pub closed_for_memory: u64,
    /// The clients that are refused because of one of these limits, the oldest first.
    pub limited: Vec<LimitedClient>,
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
    /// The number of the user of this host that the daemon runs as; `None` for another host.
    pub user: Option<u32>,
    /// The proxy that the connection comes by.
    pub proxy: Option<RelayProxy>,
    /// sysName of its Initiation.
    pub sys_name: Option<String>,
    /// sysDescr of its Initiation.
    pub sys_descr: Option<String>,
    /// Its number in the feed.
    pub id: ConnectionId,
    /// What came in by it.
    pub totals: InputTotals,
}

impl ConnectionStatus {
    /// The client, as the relay knows it.
    pub(super) fn relay_client(&self) -> RelayClient {
        let Self { client: address, user, proxy, .. } = *self;
        let origin = user.map_or_else(|| ClientOrigin::Host(address.ip().to_canonical()), ClientOrigin::User);
        RelayClient { address, origin, proxy }
    }
}

/// A client that was closed because of a limit, and whose user or host is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitedClient {
    /// The daemon's end of the connection.
    pub client: SocketAddr,
    /// The number of its user; `None` for another host.
    pub user: Option<u32>,
    /// The proxy that the connection came by.
    pub proxy: Option<SocketAddr>,
    /// The limit, and how far the client was beyond it.
    pub cause: ClosingCause,
    /// How long it is refused.
    pub left: Duration,
}

impl LimitedClient {
    /// False if the time of the client is over in any case.
    fn may_hold(&self) -> bool {
        !self.left.is_zero() || matches!(self.cause, ClosingCause::Memory(_))
    }

    /// True if these limits still refuse the client.
    pub fn still_holds(&self, routes: Option<MaximumRoutes>, memory: &MemoryStanding) -> bool {
        let lasts = !self.left.is_zero() || self.cause.outlasts_its_time(memory);
        lasts && self.cause.still_holds(routes, memory.limit)
    }
}

/// A connection that ended and whose peers are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldConnection {
    /// The daemon's end of the connection.
    pub client: SocketAddr,
    /// The proxy that the connection came by.
    pub proxy: Option<SocketAddr>,
    /// sysName of its Initiation.
    pub sys_name: Option<String>,
    /// How long its peers stay up.
    pub left: Duration,
}

impl Relays {
    /// The relays that are configured, by name.
    pub fn snapshot(&self) -> Vec<RelayStatus> {
        let relays: Vec<Arc<RelayEntry>> = lock(&self.entries).values().cloned().collect();
        relays.iter().map(|relay| relay.status()).collect()
    }

    /// Where a relay listens, and its state; `None` if there is no relay of that name.
    pub fn state(&self, name: &str) -> Option<(SocketAddr, RelayState)> {
        let relay = lock(&self.entries).get(name).cloned()?;
        let state = lock(&relay.now).state.clone();
        Some((relay.listen, state))
    }

    /// The numbers of the users that relays let in by name.
    pub(super) fn users(&self) -> &UserNumbers {
        &self.users
    }

    /// Shows a relay as long as the handle lives.
    pub(super) fn register(&self, name: &str, listen: SocketAddr) -> RelayHandle {
        let relay = Arc::new(RelayEntry { name: name.to_owned(), listen, now: Mutex::default() });
        lock(&self.entries).insert(name.to_owned(), Arc::clone(&relay));
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
    refused_users: u64,
    last_refused_user: Option<String>,
    refused_too_many: u64,
    refused_proxies: u64,
    health_checks: u64,
    refused_for_routes: u64,
    refused_for_memory: u64,
    closed_for_routes: u64,
    closed_for_memory: u64,
    limited: VecDeque<LimitedSource>,
    last_closed: Option<String>,
}

/// A source that was closed because of a limit.
#[derive(Clone, Copy, Debug)]
struct LimitedSource {
    source: ClientSource,
    client: RelayClient,
    cause: ClosingCause,
    until: Instant,
}

/// Sources that are refused at one time, at most. Each of them had as many routes, or as much
/// memory, as one may have.
const MOST_LIMITED: usize = 1024;

impl RelayProgress {
    /// Forgets sources whose time is over.
    fn forget_limited(&mut self, memory: &MemoryStanding) {
        let now = Instant::now();
        self.limited.retain(|limited| limited.until > now || limited.cause.outlasts_its_time(memory));
    }
}

impl LimitedSource {
    fn shown(&self) -> LimitedClient {
        let left = self.until.saturating_duration_since(Instant::now());
        let RelayClient { address: client, origin, proxy } = self.client;
        let proxy = proxy.map(|proxy| proxy.address);
        LimitedClient { client, user: origin.user(), proxy, cause: self.cause, left }
    }
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
            refused_users: now.refused_users,
            last_refused_user: now.last_refused_user.clone(),
            refused_too_many: now.refused_too_many,
            refused_proxies: now.refused_proxies,
            health_checks: now.health_checks,
            refused_for_routes: now.refused_for_routes,
            refused_for_memory: now.refused_for_memory,
            closed_for_routes: now.closed_for_routes,
            closed_for_memory: now.closed_for_memory,
            limited: now.limited.iter().map(|limited| limited.shown()).filter(LimitedClient::may_hold).collect(),
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

    /// For a connection of a user of this host who may not connect.
    pub(super) fn refused_user(&self, client: SocketAddr) -> RefusedUserHandle {
        RefusedUserHandle { relay: Arc::clone(&self.relay), client }
    }

    /// Counts a connection beyond the limits.
    pub(super) fn refused_too_many(&self) {
        lock(&self.relay.now).refused_too_many += 1;
    }

    /// Counts a connection of a proxy without a sound PROXY header.
    pub(super) fn refused_proxy(&self) {
        lock(&self.relay.now).refused_proxies += 1;
    }

    /// Counts a connection that is a proxy's own.
    pub(super) fn health_check(&self) {
        lock(&self.relay.now).health_checks += 1;
    }

    /// Counts the connection of a source that was beyond a limit, if these limits still refuse it.
    pub(super) fn refuse_limited(
        &self,
        source: ClientSource,
        routes: Option<MaximumRoutes>,
        memory: &MemoryStanding,
    ) -> Option<LimitedClient> {
        let mut now = lock(&self.relay.now);
        now.forget_limited(memory);
        let is_refused =
            |limited: &&LimitedSource| limited.source == source && limited.cause.still_holds(routes, memory.limit);
        let limited = now.limited.iter().find(is_refused)?.shown();
        match limited.cause {
            ClosingCause::Routes { .. } => now.refused_for_routes += 1,
            ClosingCause::Memory(_) => now.refused_for_memory += 1,
        }
        Some(limited)
    }

    /// Shows a connection as long as the handle lives.
    pub(super) fn connection(&self, id: ConnectionId, client: RelayClient) -> ConnectionHandle {
        let (system, totals) = (Mutex::default(), Mutex::default());
        let connection = Arc::new(ConnectionEntry { id, client, system, totals });
        lock(&self.relay.now).connections.push(Arc::clone(&connection));
        ConnectionHandle { relay: Arc::clone(&self.relay), connection, visitor: Mutex::default() }
    }
}

impl Drop for RelayHandle {
    fn drop(&mut self) {
        let mut relays = lock(&self.relays.entries);
        if relays.get(&self.relay.name).is_some_and(|shown| Arc::ptr_eq(shown, &self.relay)) {
            relays.remove(&self.relay.name);
        }
    }
}

/// A connection of a user of this host who may not connect.
#[derive(Debug)]
pub(super) struct RefusedUserHandle {
    relay: Arc<RelayEntry>,
    client: SocketAddr,
}

impl RefusedUserHandle {
    pub(super) fn relay_name(&self) -> &str {
        &self.relay.name
    }

    pub(super) fn client(&self) -> SocketAddr {
        self.client
    }

    /// Counts the connection. `user` is the user's name, or number; `None` if it is not known.
    pub(super) fn count(&self, user: Option<String>) {
        let mut now = lock(&self.relay.now);
        now.refused_users += 1;
        now.last_refused_user = user.or_else(|| now.last_refused_user.take());
    }
}

#[derive(Debug)]
struct ConnectionEntry {
    id: ConnectionId,
    client: RelayClient,
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
            client: self.client.address,
            user: self.client.origin.user(),
            proxy: self.client.proxy,
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
        let RelayClient { address: client, proxy, .. } = self.client;
        let proxy = proxy.map(|proxy| proxy.address);
        HeldConnection { client, proxy, sys_name: lock(&self.system).name.clone(), left }
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

    /// The daemon's end. Behind a proxy, it is what the PROXY header names.
    pub(super) fn client(&self) -> SocketAddr {
        self.connection.client.address
    }

    /// The proxy, for a field of a log line.
    pub(super) fn proxy_field(&self) -> Option<DisplayValue<SocketAddr>> {
        self.connection.client.proxy_field()
    }

    /// Who the connection is from.
    pub(super) fn relay_client(&self) -> RelayClient {
        self.connection.client
    }

    /// True if the other end of the TCP connection is on this host.
    pub(super) fn is_local(&self) -> bool {
        let RelayClient { origin, proxy, .. } = self.connection.client;
        proxy.map_or(origin, RelayProxy::origin).is_local()
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

    /// Refuses the daemon's user or host for a while, because the connection was beyond a limit.
    pub(super) fn limit(&self, cause: ClosingCause) {
        self.relay.limit(&self.connection, cause);
    }

    pub(super) fn closed(&self, how: &str) {
        drop(lock(&self.visitor).take());
        lock(&self.relay.now).last_closed = Some(format!("{}: {how}", self.connection.client));
    }
}

impl RelayEntry {
    fn limit(&self, connection: &ConnectionEntry, cause: ClosingCause) {
        let client = connection.client;
        let until = Instant::now() + HOLD;
        let limited = LimitedSource { source: client.origin.into(), client, cause, until };
        let mut now = lock(&self.now);
        match cause {
            ClosingCause::Routes { .. } => now.closed_for_routes += 1,
            ClosingCause::Memory(_) => now.closed_for_memory += 1,
        }
        now.limited.retain(|other| other.source != limited.source);
        if now.limited.len() >= MOST_LIMITED {
            now.limited.pop_front();
        }
        now.limited.push_back(limited);
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
        self.connection.client.address
    }

    /// The proxy, for a field of a log line.
    pub(super) fn proxy_field(&self) -> Option<DisplayValue<SocketAddr>> {
        self.connection.client.proxy_field()
    }

    /// See [`ConnectionHandle::limit`].
    pub(super) fn limit(&self, cause: ClosingCause) {
        self.relay.limit(&self.connection, cause);
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
