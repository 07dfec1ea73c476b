//! `bmp-relay`: takes BMP from daemons on this host, and from where and whom `allow` says.
//!
//! Each relay of the configuration has a listener, and each connection a task. Frames go into the
//! feed byte for byte. Left out are Initiation and Termination, which are about the daemon's own
//! session, and messages that no station could read. A connection with broken framing is closed;
//! the others go on. A peer belongs to the connection that announced it, as long as that connection
//! is alive.
//!
//! * `listener`: the listening socket of a relay.
//! * `connection`: the task of one connection.
//! * `receiver`: from bytes to frames in the feed.
//! * `claims`: a peer that two connections want.
//! * `quiet`: when a RIB is taken for complete.
//! * `signing`: the key chain of a relay.
//! * `encryption`: the TLS profile of a relay.
//! * `client`: who a connection is from, also behind a proxy.
//! * `proxy_header`: what a proxy sends in front of BMP or TLS.
//! * `status`: what displays show.
//! * `users`: which users of this host may connect.

mod claims;
mod client;
mod connection;
mod encryption;
mod keepalive;
mod listener;
mod proxy_header;
mod quiet;
mod receiver;
mod signing;
mod status;
#[cfg(test)]
mod tests;
mod users;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tokio::{select, sync::watch, task::JoinHandle, time::sleep};
use tracing::info;

use crate::{
    config::{self, Config, MaximumRoutes, Prefix},
    feed::Feed,
    link::Host,
    tasks,
    tls::TlsProfiles,
    visitors::{self, ClientOrigin, LimitRequest, Limits, SourceLimit},
};

pub use client::RelayProxy;
pub use connection::MOST_PEERS_OF_CONNECTION;
pub use receiver::{BmpReceiver, DaemonGoodbye, ReceiveOutcome};
pub use status::{ConnectionStatus, HeldConnection, LimitedClient, RelayState, RelayStatus, Relays, SystemInfo};
pub use users::learn_system_accounts;

use client::{RelayClient, ShutOut};
use encryption::RelayTls;
use signing::RelaySigning;
use users::{AllowedUsers, UserNumbers};

/// Runs the relays of the configuration until its sender is gone. Dropping the future closes them
/// all.
///
/// Compares every new configuration with the running relays. A new relay gets a listener. A relay
/// that is gone or listens elsewhere loses its listener and its connections. Any other relay goes
/// on. `relays` shows their status. `host` tells the addresses of this host.
/// `tls` has the TLS profiles.
pub async fn run(
    mut config: watch::Receiver<Arc<Config>>,
    feed: Feed,
    relays: Relays,
    host: watch::Receiver<Arc<Host>>,
    tls: TlsProfiles,
) {
    let mut running: BTreeMap<String, RunningRelay> = BTreeMap::new();
    loop {
        let now = Arc::clone(&config.borrow_and_update());
        // The limits of relays are made of what is left.
        visitors::keep_for(now.connection_count());
        let lacks_users = tasks::idle(relays.users().learn(&now)).await;
        let wanted = wanted(&now, relays.users());
        let obsolete: Vec<String> = running
            .iter()
            .filter(|(name, relay)| wanted.get(*name).is_none_or(|wanted| wanted.listening() != relay.listening()))
            .map(|(n, _)| n.clone())
            .collect();
        // Closed before any starts: a new relay may need an address that one of them holds.
        for name in obsolete {
            if let Some(relay) = running.remove(&name) {
                info!(relay = name, listen = %relay.listen, "closed: the configuration has the relay listen there no more, or listen otherwise");
                relay.stop().await;
            }
        }
        for (name, wanted) in wanted {
            match running.get(&name) {
                Some(relay) => {
                    relay.terms.send_if_modified(|terms| {
                        let differ = *terms != wanted.terms;
                        terms.clone_from(&wanted.terms);
                        differ
                    });
                }
                None => {
                    let encryption = wanted.tls.clone().map(|name| RelayTls::new(name, tls.clone(), config.clone()));
                    let signing = wanted.keychain.clone();
                    let signing = signing.map(|chain| RelaySigning::new(chain, wanted.listen, config.clone()));
                    let relay = RunningRelay::start(&name, wanted, (&feed, &relays), host.clone(), signing, encryption);
                    running.insert(name, relay);
                }
            }
        }
        let changed = async {
            select! {
                changed = config.changed() => changed.is_ok(),
                () = sleep(users::LOOK_AGAIN), if lacks_users => true,
            }
        };
        if !tasks::idle(changed).await {
            return;
        }
    }
}

/// The relays that have a `listen`.
fn wanted(config: &Config, users: &UserNumbers) -> BTreeMap<String, WantedRelay> {
    let wanted = |name: &str, relay: &config::RelayConfig| {
        let (listen, keychain, tls) = (relay.listen?, relay.keychain.clone(), relay.tls.clone());
        let is_divided = config.is_divided(name);
        Some(WantedRelay { listen, keychain, tls, is_divided, terms: Arc::new(RelayTerms::of(relay, users)) })
    };
    config.relays.iter().filter_map(|(name, relay)| Some((name.clone(), wanted(name, relay)?))).collect()
}

struct WantedRelay {
    listen: SocketAddr,
    /// The key chain that daemons sign with.
    keychain: Option<String>,
    /// The TLS profile that daemons are met with.
    tls: Option<String>,
    /// Whether each router is an input of its own, because sessions tell it by itself.
    is_divided: bool,
    terms: Arc<RelayTerms>,
}

impl WantedRelay {
    /// Returns what the listener is opened with.
    fn listening(&self) -> (SocketAddr, Option<&str>, Option<&str>, bool) {
        (self.listen, self.keychain.as_deref(), self.tls.as_deref(), self.is_divided)
    }
}

/// What may change while a relay listens.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RelayTerms {
    /// Hosts that may connect besides this one.
    allow: BTreeSet<Prefix>,
    /// Users of this host that may connect.
    users: AllowedUsers,
    /// Proxies, whose connections begin with a PROXY header.
    proxies: BTreeSet<Prefix>,
    /// How long the peers of a daemon stay up after it went away.
    hold: Duration,
    /// How long a RIB is quiet before bmpd adds its End-of-RIB; zero for never.
    end_of_rib_after: Duration,
    /// How many connections the relay may have.
    limits: Limits,
    /// How many routes each connection may have.
    maximum_routes: Option<MaximumRoutes>,
}

/// How many connections a relay may have.
fn limits(relay: &config::RelayConfig) -> Limits {
    let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let usual = config::RelayConfig::MAX_CONNECTIONS;
    let total = relay.max_connections.map_or(usual.total, |asked| asked.total);
    let for_each_source = match relay.max_connections.and_then(|asked| asked.per_source) {
        Some(limit) => SourceLimit::Configured(number(limit)),
        None => SourceLimit::Default(number(usual.per_source.unwrap_or(usual.total))),
    };
    Limits::new(LimitRequest { most: number(total), for_each_source })
}

/// How many connections a relay may have, for displays.
pub fn connection_limits(relay: &config::RelayConfig) -> (usize, usize) {
    let Limits { most, for_each_source } = limits(relay);
    (most, for_each_source)
}

/// Decides whether a relay with this configuration lets the client of a connection in.
pub fn lets_in(relay: &config::RelayConfig, relays: &Relays, connection: &ConnectionStatus) -> bool {
    RelayTerms::of(relay, relays.users()).shut_out(&connection.relay_client()).is_none()
}

/// Returns the names of `allow user` of a relay that were looked up, and whether this host knows
/// them.
pub fn looked_up_users(relay: &config::RelayConfig, relays: &Relays) -> Vec<(String, bool)> {
    relays.users().looked_up(relay)
}

impl RelayTerms {
    fn of(relay: &config::RelayConfig, users: &UserNumbers) -> Self {
        Self {
            allow: relay.allow.clone(),
            users: users.allowed_by(relay),
            proxies: relay.allow_proxies.clone(),
            hold: relay.hold,
            end_of_rib_after: relay.end_of_rib_after,
            limits: limits(relay),
            maximum_routes: relay.maximum_routes,
        }
    }

    /// Returns why a client may not connect; `None` if it may.
    fn shut_out(&self, client: &RelayClient) -> Option<ShutOut> {
        match client.proxy {
            Some(proxy) if !self.expects_header(proxy.address, proxy.origin()) => Some(ShutOut::Proxy),
            None if self.expects_header(client.address, client.origin) => Some(ShutOut::NoHeader),
            _ if self.permits(client.origin) => None,
            _ if client.origin.is_local() => Some(ShutOut::User),
            _ => Some(ShutOut::Host),
        }
    }

    /// True if a connection from `address` begins with a PROXY header. A proxy on this host must
    /// run as a user that may connect, because every user has the addresses of this host.
    fn expects_header(&self, address: SocketAddr, origin: ClientOrigin) -> bool {
        let is_proxy = self.proxies.iter().any(|prefix| prefix.contains(address.ip()));
        is_proxy && (!origin.is_local() || self.permits(origin))
    }

    fn permits(&self, origin: ClientOrigin) -> bool {
        match origin {
            ClientOrigin::User(user) => self.users.has(user),
            ClientOrigin::UnknownUser(_) => false,
            ClientOrigin::Host(address) => self.allow.iter().any(|prefix| prefix.contains(address)),
        }
    }
}

/// A relay that runs.
struct RunningRelay {
    listen: SocketAddr,
    keychain: Option<String>,
    tls: Option<String>,
    is_divided: bool,
    terms: watch::Sender<Arc<RelayTerms>>,
    task: JoinHandle<()>,
}

impl RunningRelay {
    fn start(
        name: &str,
        WantedRelay { listen, keychain, tls, is_divided, terms }: WantedRelay,
        (feed, relays): (&Feed, &Relays),
        host: watch::Receiver<Arc<Host>>,
        signing: Option<RelaySigning>,
        encryption: Option<RelayTls>,
    ) -> Self {
        let status = relays.register(name, listen);
        let (terms, receiver) = watch::channel(terms);
        let listener = listener::run(status, (feed.clone(), is_divided), receiver, host, signing, encryption);
        let task = tasks::forever("relay listener", listener);
        Self { listen, keychain, tls, is_divided, terms, task }
    }

    /// Returns what the listener was opened with.
    fn listening(&self) -> (SocketAddr, Option<&str>, Option<&str>, bool) {
        (self.listen, self.keychain.as_deref(), self.tls.as_deref(), self.is_divided)
    }

    /// Closes the listener, and its connections with it. The address is free when this returns.
    async fn stop(mut self) {
        self.task.abort();
        // The task was aborted on purpose, or has ended already.
        let _ = (&mut self.task).await;
    }
}

impl Drop for RunningRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}
