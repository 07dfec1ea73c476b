//! `display bmp relay`: the relays, the daemons that are connected to them, and what is kept of
//! their peers.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::{
        ControlContext,
        words::{ViewName, words},
    },
    layout::after,
    refused::RefusedPeer,
    routeless::{DaemonIdentity, RoutelessPeer},
};
use crate::{
    config::{self, Config, MaximumRoutes},
    escape::Untrusted,
    feed::{ConnectionId, InputId, InputTotals, MemoryStanding, PeerRibs},
    input::budget::{ClosingCause, WARNS_AT_PERCENT},
    input::relay::{
        ConnectionStatus, HeldConnection, LimitedClient, RelayState, RelayStatus, connection_limits, looked_up_users,
    },
};

/// How many peers of one kind are named in the text.
const PEERS_SHOWN: usize = 3;
/// How many refused peers of a connection are named in the text.
const REFUSED_SHOWN: usize = 10;

/// All relays, by name.
#[derive(Clone, Debug, JsonSchema, Serialize)]
#[serde(transparent)]
pub(super) struct RelayReports(pub(super) Vec<RelayReport>);

/// One relay. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct RelayReport {
    pub(super) name: String,
    pub(super) listen: Option<SocketAddr>,
    pub(super) state: ListenState,
    /// Why the relay does not listen.
    pub(super) why: Option<String>,
    pub(super) connections: Vec<DaemonConnection>,
    /// What came in by all connections, also those that ended.
    pub(super) received: ReceivedMessages,
    /// Prefixes of other hosts that may connect.
    pub(super) allow: Vec<String>,
    /// Users of this host that may connect besides system accounts, by name or number.
    pub(super) allow_users: Vec<String>,
    /// Prefixes of proxies, whose connections begin with a PROXY header.
    pub(super) allow_proxies: Vec<String>,
    /// Names among `allow_users` that this host does not know.
    pub(super) unknown_users: Vec<String>,
    pub(super) hold_seconds: u64,
    pub(super) end_of_rib_after_seconds: u64,
    /// Connections at most: as configured, and as bmpd's descriptors allow.
    pub(super) max_connections: usize,
    pub(super) max_connections_per_source: usize,
    /// Routes of each connection at most.
    pub(super) maximum_routes: Option<u32>,
    /// More routes are logged, and nothing is closed.
    pub(super) maximum_routes_warning_only: bool,
    /// Connections that were closed because they had more routes.
    pub(super) closed_for_routes: u64,
    /// Connections that were closed because of `memory-limit`.
    pub(super) closed_for_memory: u64,
    /// Daemons whose user or host is refused because of one of these limits.
    pub(super) limited: Vec<LimitedDaemon>,
    /// Daemons that went away and whose peers are held.
    pub(super) held: Vec<HeldDaemon>,
    /// Peers of this relay whose daemon is not back.
    pub(super) held_peers: usize,
    pub(super) refused: RefusedConnections,
    /// Connections that were proxies' own.
    pub(super) health_checks: u64,
    /// The last user of this host that was refused.
    pub(super) last_refused_user: Option<Untrusted>,
    /// Peers that are up and of which there is no route.
    pub(super) peers_without_routes: Vec<RoutelessPeer>,
    /// Peers of which a late station lacks routes, because there are more than can be kept.
    pub(super) incomplete_peers: Vec<IncompletePeer>,
    /// How the connection that was closed last ended.
    pub(super) last_closed: Option<Untrusted>,
}

/// Whether a relay takes connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListenState {
    /// The relay has no `listen`.
    NotConfigured,
    Starting,
    Listening,
    Failed,
}

words!(ListenState {
    NotConfigured => "not-configured",
    Starting => "starting",
    Listening => "listening",
    Failed => "failed",
});

/// Connections that were closed at once, by cause.
#[derive(Clone, Debug, Default, JsonSchema, Serialize)]
pub(super) struct RefusedConnections {
    /// From a host that may not connect.
    pub(super) not_allowed: u64,
    /// From a user of this host that may not connect.
    #[serde(rename = "user-not-allowed")]
    pub(super) user_not_allowed: u64,
    /// There were too many already.
    #[serde(rename = "too-many-connections")]
    pub(super) too_many: u64,
    /// They came from a proxy and had no sound PROXY header.
    #[serde(rename = "proxy-header")]
    pub(super) proxy_header: u64,
    /// Their user or host had a connection with too many routes.
    #[serde(rename = "maximum-routes")]
    pub(super) maximum_routes: u64,
    /// Their user or host had a connection that had grown most.
    #[serde(rename = "memory-limit")]
    pub(super) memory_limit: u64,
}

/// A peer of which not all is kept.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct IncompletePeer {
    pub(super) peer: IpAddr,
    #[serde(rename = "as")]
    pub(super) asn: u32,
    /// Fields of UPDATEs that were dropped, by family and view. Empty if the peer has more families
    /// of unknown form than there is room for.
    pub(super) not_kept: BTreeMap<String, u64>,
}

/// A daemon that was closed because of a limit.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct LimitedDaemon {
    pub(super) client: SocketAddr,
    /// The proxy that its connection came by.
    pub(super) proxy: Option<SocketAddr>,
    /// The number of its user, who is refused; `None` for another host, which is refused.
    pub(super) uid: Option<u32>,
    pub(super) cause: LimitName,
    /// Routes that it had, if there were too many.
    pub(super) routes: Option<usize>,
    /// Seconds for which it is refused.
    pub(super) left_seconds: u64,
}

/// The limit that a daemon was beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitName {
    MaximumRoutes,
    MemoryLimit,
}

words!(LimitName {
    MaximumRoutes => "maximum-routes",
    MemoryLimit => "memory-limit",
});

/// A daemon that went away.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct HeldDaemon {
    pub(super) client: SocketAddr,
    /// The proxy that its connection came by.
    pub(super) proxy: Option<SocketAddr>,
    pub(super) sys_name: Option<Untrusted>,
    /// Seconds for which its peers stay up.
    pub(super) left_seconds: u64,
}

/// What daemons sent to a relay since it is configured.
#[derive(Clone, Debug, Default, JsonSchema, Serialize)]
pub(super) struct ReceivedMessages {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// Messages with routes of peers that the connection had not announced.
    pub(super) unannounced: u64,
    /// Messages that were passed on although something is wrong with them, by kind.
    pub(super) not_understood: BTreeMap<&'static str, u64>,
    /// Messages that were left out because no station could read them, by kind.
    pub(super) odd: BTreeMap<&'static str, u64>,
    /// Messages that were dropped because they are about peers of another connection.
    pub(super) refused: u64,
}

impl ReceivedMessages {
    fn of(totals: &InputTotals) -> Self {
        Self {
            messages: totals.frames,
            bytes: totals.bytes,
            unannounced: totals.unannounced,
            not_understood: totals.trouble.errors_by_kind().map(|(kind, count)| (kind.as_str(), count)).collect(),
            odd: totals.odd.iter().map(|(oddity, count)| (oddity.as_str(), count)).collect(),
            refused: totals.refused,
        }
    }
}

/// The connection of a daemon.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct DaemonConnection {
    /// The daemon's end. Behind a proxy, it is what the PROXY header names.
    pub(super) client: SocketAddr,
    /// The proxy that the connection comes by.
    pub(super) proxy: Option<SocketAddr>,
    /// The number of the user of this host that the daemon runs as.
    pub(super) uid: Option<u32>,
    pub(super) sys_name: Option<Untrusted>,
    pub(super) sys_descr: Option<Untrusted>,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// Routes of its peers.
    pub(super) routes: usize,
    /// Messages with routes of peers that the daemon has not announced.
    pub(super) unannounced: u64,
    /// Messages that were passed on although something is wrong with them, by kind.
    pub(super) not_understood: BTreeMap<&'static str, u64>,
    /// Messages that were left out because no station could read them, by kind.
    pub(super) odd: BTreeMap<&'static str, u64>,
    /// Messages that were dropped because they are about peers of another connection.
    pub(super) refused_messages: u64,
    /// Those peers.
    pub(super) refused_peers: Vec<RefusedPeer>,
}

impl RelayReports {
    /// Reports on the relays that run, and on those without `listen`.
    pub(super) fn of(context: &ControlContext, config: &Config) -> Self {
        let peers = context.feed.peers();
        let running = context.relays.snapshot().into_iter().map(|status| {
            // It may have been removed between the two looks.
            let configured = config.relays.get(&status.name).cloned().unwrap_or_default();
            RelayReport::running(context, status, &configured, &peers)
        });
        let idle = config.relays.iter().filter(|(_, relay)| relay.listen.is_none());
        let mut relays: Vec<_> = running.chain(idle.map(|(name, relay)| RelayReport::idle(name, relay))).collect();
        relays.sort_by(|one, other| one.name.cmp(&other.name));
        Self(relays)
    }
}

impl RelayReport {
    /// A relay without `listen`.
    fn idle(name: &str, configured: &config::RelayConfig) -> Self {
        let (max_connections, max_connections_per_source) = connection_limits(configured);
        Self {
            name: name.to_owned(),
            listen: None,
            state: ListenState::NotConfigured,
            why: Some("it takes nothing until it has `listen ADDRESS port N`".to_owned()),
            connections: Vec::new(),
            received: ReceivedMessages::default(),
            allow: configured.allow.iter().map(ToString::to_string).collect(),
            allow_users: configured.allow_users.iter().map(ToString::to_string).collect(),
            allow_proxies: configured.allow_proxies.iter().map(ToString::to_string).collect(),
            unknown_users: Vec::new(),
            hold_seconds: configured.hold.as_secs(),
            end_of_rib_after_seconds: configured.end_of_rib_after.as_secs(),
            max_connections,
            max_connections_per_source,
            maximum_routes: configured.maximum_routes.map(|limit| limit.routes),
            maximum_routes_warning_only: configured.maximum_routes.is_some_and(|limit| limit.warning_only),
            closed_for_routes: 0,
            closed_for_memory: 0,
            limited: Vec::new(),
            held: Vec::new(),
            held_peers: 0,
            refused: RefusedConnections::default(),
            health_checks: 0,
            last_refused_user: None,
            peers_without_routes: Vec::new(),
            incomplete_peers: Vec::new(),
            last_closed: None,
        }
    }

    fn running(
        context: &ControlContext,
        status: RelayStatus,
        configured: &config::RelayConfig,
        peers: &[PeerRibs],
    ) -> Self {
        let id = InputId::relay(&status.name);
        let own = || peers.iter().filter(|peer| id.has(peer.input()));
        let (state, why) = match &status.state {
            RelayState::Starting => (ListenState::Starting, None),
            RelayState::Listening => (ListenState::Listening, None),
            RelayState::Failed(why) => (ListenState::Failed, Some(why.clone())),
        };
        let clients = status.connections.iter().map(|connection| (connection.id, connection.client)).collect();
        let connections =
            status.connections.iter().map(|connection| DaemonConnection::of(context, connection, &clients, peers));
        Self {
            listen: Some(status.listen),
            state,
            why,
            connections: connections.collect(),
            received: ReceivedMessages::of(&status.received),
            held_peers: own().filter(|peer| peer.is_away()).count(),
            peers_without_routes: own()
                .filter(|peer| is_routeless(peer))
                .map(|peer| routeless(peer, &status))
                .collect(),
            incomplete_peers: own().filter(|peer| peer.is_incomplete()).map(IncompletePeer::of).collect(),
            unknown_users: unknown_users(context, configured),
            refused: RefusedConnections {
                not_allowed: status.refused_hosts,
                user_not_allowed: status.refused_users,
                too_many: status.refused_too_many,
                proxy_header: status.refused_proxies,
                maximum_routes: status.refused_for_routes,
                memory_limit: status.refused_for_memory,
            },
            health_checks: status.health_checks,
            closed_for_routes: status.closed_for_routes,
            closed_for_memory: status.closed_for_memory,
            limited: still_limited(status.limited, configured.maximum_routes, &context.feed.memory_standing().borrow()),
            last_refused_user: status.last_refused_user.map(Untrusted::new),
            held: status.held.into_iter().map(HeldDaemon::of).collect(),
            last_closed: status.last_closed.map(Untrusted::new),
            ..Self::idle(&status.name, configured)
        }
    }
}

fn unknown_users(context: &ControlContext, configured: &config::RelayConfig) -> Vec<String> {
    let looked_up = looked_up_users(configured, &context.relays).into_iter();
    looked_up.filter_map(|(name, is_known)| (!is_known).then_some(name)).collect()
}

/// Returns the daemons that these limits still refuse.
fn still_limited(
    limited: Vec<LimitedClient>,
    routes: Option<MaximumRoutes>,
    memory: &MemoryStanding,
) -> Vec<LimitedDaemon> {
    let is_refused = |limited: &LimitedClient| limited.still_holds(routes, memory);
    limited.into_iter().filter(is_refused).map(LimitedDaemon::of).collect()
}

fn is_routeless(peer: &PeerRibs) -> bool {
    peer.is_announced() && !peer.is_away() && peer.ribs().iter().all(|rib| rib.routes == 0)
}

fn routeless(peer: &PeerRibs, status: &RelayStatus) -> RoutelessPeer {
    let daemon = status.connections.iter().find(|connection| connection.id == peer.connection());
    let identity = daemon
        .map(|daemon| DaemonIdentity { sys_descr: daemon.sys_descr.as_deref(), sys_name: daemon.sys_name.as_deref() });
    RoutelessPeer::of(peer, identity.unwrap_or_default())
}

impl IncompletePeer {
    fn of(peer: &PeerRibs) -> Self {
        let ribs = peer.ribs().iter().filter(|rib| rib.not_kept > 0);
        Self {
            peer: peer.header().address(),
            asn: peer.header().asn,
            not_kept: ribs.map(|rib| (format!("{} {}", rib.family, ViewName(rib.view)), rib.not_kept)).collect(),
        }
    }
}

impl LimitedDaemon {
    fn of(limited: LimitedClient) -> Self {
        let LimitedClient { client, user, proxy, cause, left } = limited;
        let (cause, routes) = match cause {
            ClosingCause::Routes { routes, .. } => (LimitName::MaximumRoutes, Some(routes)),
            ClosingCause::Memory(_) => (LimitName::MemoryLimit, None),
        };
        Self { client, proxy, uid: user, cause, routes, left_seconds: left.as_secs() }
    }
}

impl HeldDaemon {
    fn of(held: HeldConnection) -> Self {
        let HeldConnection { client, proxy, sys_name, left } = held;
        Self { client, proxy, sys_name: sys_name.map(Untrusted::new), left_seconds: left.as_secs() }
    }
}

impl DaemonConnection {
    /// `clients` are the connections of the relay that are open, `peers` those of the feed.
    fn of(
        context: &ControlContext,
        status: &ConnectionStatus,
        clients: &BTreeMap<ConnectionId, SocketAddr>,
        peers: &[PeerRibs],
    ) -> Self {
        let ConnectionStatus { client, user, proxy, sys_name, sys_descr, id, totals } = status;
        let own = peers.iter().filter(|peer| peer.connection() == *id);
        Self {
            client: *client,
            proxy: proxy.map(|proxy| proxy.address),
            uid: *user,
            sys_name: sys_name.clone().map(Untrusted::new),
            sys_descr: sys_descr.clone().map(Untrusted::new),
            messages: totals.frames,
            bytes: totals.bytes,
            routes: own.flat_map(PeerRibs::ribs).map(|rib| rib.routes).sum(),
            unannounced: totals.unannounced,
            not_understood: totals.trouble.errors_by_kind().map(|(kind, count)| (kind.as_str(), count)).collect(),
            odd: totals.odd.iter().map(|(oddity, count)| (oddity.as_str(), count)).collect(),
            refused_messages: totals.refused,
            refused_peers: context.feed.refusals(*id).iter().map(|peer| RefusedPeer::of(peer, clients)).collect(),
        }
    }
}

impl fmt::Display for RelayReports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Total number of relays : {}", self.0.len())?;
        self.0.iter().try_for_each(|relay| write!(f, "{relay}"))
    }
}

impl fmt::Display for RelayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listen = self.listen.map(|listen| format!("{listen}, ")).unwrap_or_default();
        writeln!(f, " Relay {}, {listen}{}{}", self.name, self.state, after(": ", self.why.as_ref()))?;
        self.connections.iter().try_for_each(|connection| write!(f, "{connection}"))?;
        for HeldDaemon { client, proxy, sys_name, left_seconds } in &self.held {
            let (name, by) = (name_or_none(sys_name.as_ref()), after(" by ", proxy.as_ref()));
            writeln!(f, "  {client}{by} ({name}): away, its peers are held for {left_seconds} s still")?;
        }
        if self.held_peers > 0 {
            writeln!(f, "  Peers held: {}", self.held_peers)?;
        }
        for LimitedDaemon { client, proxy, uid, cause, routes, left_seconds } in &self.limited {
            let by = after(" by ", proxy.as_ref());
            let who = uid.map_or_else(|| "its host".to_owned(), |uid| format!("user {uid}"));
            let with = routes.map(|routes| format!(" with {routes} routes")).unwrap_or_default();
            writeln!(f, "  {client}{by}: closed for {cause}{with}, {who} is refused for {left_seconds} s still")?;
        }
        let (most, of_source) = (self.max_connections, self.max_connections_per_source);
        let RefusedConnections { not_allowed, user_not_allowed, too_many, proxy_header, maximum_routes, memory_limit } =
            self.refused;
        if not_allowed + user_not_allowed + too_many + proxy_header + maximum_routes + memory_limit > 0 {
            writeln!(
                f,
                "  Refused: {not_allowed} of other hosts, {user_not_allowed} user-not-allowed, {too_many} too-many-connections (at most {most}, {of_source} of one source), {proxy_header} proxy-header, {maximum_routes} maximum-routes, {memory_limit} memory-limit"
            )?;
        }
        if self.health_checks > 0 {
            writeln!(f, "  Health checks of proxies: {}", self.health_checks)?;
        }
        if let Some(user) = &self.last_refused_user {
            writeln!(f, "  Last user refused: {user} (what lets it in: `allow user {user}`)")?;
        }
        if !self.unknown_users.is_empty() {
            writeln!(f, "  Users that this host does not know: {}", self.unknown_users.join(", "))?;
        }
        for peer in self.peers_without_routes.iter().take(PEERS_SHOWN) {
            writeln!(f, "  {peer}")?;
        }
        if let Some(more) = more_than(PEERS_SHOWN, self.peers_without_routes.len()) {
            writeln!(f, "  And {more} more peers of which there is no route")?;
        }
        for IncompletePeer { peer, asn, not_kept } in self.incomplete_peers.iter().take(PEERS_SHOWN) {
            let ribs: Vec<_> = not_kept.iter().map(|(rib, fields)| format!("{fields} of {rib}")).collect();
            let what = if ribs.is_empty() { "families without room".to_owned() } else { ribs.join(", ") };
            writeln!(f, "  Peer {peer} (AS {asn}): not kept: {what}; stations that come late lack them")?;
        }
        let terms = self.terms();
        if !terms.is_empty() {
            writeln!(f, "  Configured: {}", terms.join("; "))?;
        }
        if let Some(last) = &self.last_closed {
            writeln!(f, "  Last closed: {last}")?;
        }
        Ok(())
    }
}

impl RelayReport {
    /// Counts the connections that are near the limit of routes, or beyond it.
    pub(super) fn near_maximum_routes(&self) -> u64 {
        let Some(most) = self.maximum_routes else { return 0 };
        let is_near = |routes: usize| routes as u64 * 100 > u64::from(most) * WARNS_AT_PERCENT as u64;
        self.connections.iter().filter(|connection| is_near(connection.routes)).count() as u64
    }

    /// Returns the terms that are not the default.
    fn terms(&self) -> Vec<String> {
        let mut terms = Vec::new();
        if !self.allow.is_empty() {
            terms.push(format!("allow {}", self.allow.join(", ")));
        }
        if !self.allow_users.is_empty() {
            terms.push(format!("allow user {}", self.allow_users.join(", ")));
        }
        if !self.allow_proxies.is_empty() {
            terms.push(format!("allow proxy {}", self.allow_proxies.join(", ")));
        }
        if self.hold_seconds > 0 {
            terms.push(format!("hold {} s", self.hold_seconds));
        }
        if self.end_of_rib_after_seconds > 0 {
            terms.push(format!("End-of-RIB after {} s", self.end_of_rib_after_seconds));
        }
        let (most, of_source) = (self.max_connections, self.max_connections_per_source);
        if (most, of_source) != connection_limits(&config::RelayConfig::default()) {
            terms.push(format!("at most {most} connections, {of_source} of one source"));
        }
        if let Some(most) = self.maximum_routes {
            let warning_only = if self.maximum_routes_warning_only { " (warning-only)" } else { "" };
            terms.push(format!("at most {most} routes of each connection{warning_only}"));
        }
        terms
    }
}

impl fmt::Display for DaemonConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, messages, bytes, routes, unannounced, not_understood, odd, refused_peers, .. } = self;
        let (name, by) = (name_or_none(self.sys_name.as_ref()), after(" by ", self.proxy.as_ref()));
        write!(f, "  {client}{by} ({name}): {messages} messages, {bytes} bytes")?;
        if *unannounced > 0 {
            write!(f, ", {unannounced} of them with routes of peers that it has not announced")?;
        }
        writeln!(f, "; {routes} routes")?;
        for (label, counts) in [("Not understood", not_understood), ("Left out", odd)] {
            if !counts.is_empty() {
                let counts: Vec<_> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
                writeln!(f, "    {label}: {}", counts.join(", "))?;
            }
        }
        for peer in refused_peers.iter().take(REFUSED_SHOWN) {
            writeln!(f, "    Refused: {peer}")?;
        }
        match more_than(REFUSED_SHOWN, refused_peers.len()) {
            Some(more) => writeln!(f, "    Refused: {more} more peers"),
            None => Ok(()),
        }
    }
}

fn name_or_none(sys_name: Option<&Untrusted>) -> String {
    sys_name.map_or_else(|| "no name".to_owned(), ToString::to_string)
}

/// Returns how many there are beside those that are shown, if any.
fn more_than(shown: usize, all: usize) -> Option<usize> {
    all.checked_sub(shown).filter(|more| *more > 0)
}
