//! `bmp-relay`: takes BMP from daemons on this host, and from where `allow` says.
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
//! * `status`: what displays show.

mod claims;
mod connection;
mod keepalive;
mod listener;
mod quiet;
mod receiver;
mod status;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle};
use tracing::info;

use crate::{
    config::{self, Config, Prefix},
    feed::Feed,
    tasks,
    visitors::{self, LimitRequest, Limits, SourceLimit},
};

pub use receiver::{BmpReceiver, DaemonGoodbye, ReceiveOutcome};
pub use status::{ConnectionStatus, HeldConnection, RelayState, RelayStatus, Relays, SystemInfo};

/// Runs the relays of the configuration until its sender is gone. Dropping the future closes them
/// all.
///
/// Compares every new configuration with the running relays. A new relay gets a listener. A relay
/// that is gone or listens elsewhere loses its listener and its connections. Any other relay goes
/// on. `relays` shows their status.
pub async fn run(mut config: watch::Receiver<Arc<Config>>, feed: Feed, relays: Relays) {
    let mut running: BTreeMap<String, RunningRelay> = BTreeMap::new();
    loop {
        let wanted = {
            let config = config.borrow_and_update();
            // The limits of relays are made of what is left.
            visitors::keep_for(config.session_count());
            wanted(&config)
        };
        let obsolete: Vec<String> = running
            .iter()
            .filter(|(name, relay)| wanted.get(*name).is_none_or(|wanted| wanted.listen != relay.listen))
            .map(|(n, _)| n.clone())
            .collect();
        // Closed before any starts: a new relay may need an address that one of them holds.
        for name in obsolete {
            if let Some(relay) = running.remove(&name) {
                info!(relay = name, listen = %relay.listen, "closed: the configuration has the relay listen there no more");
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
                    let relay = RunningRelay::start(&name, wanted, &feed, &relays);
                    running.insert(name, relay);
                }
            }
        }
        if tasks::idle(config.changed()).await.is_err() {
            return;
        }
    }
}

/// The relays that have a `listen`.
fn wanted(config: &Config) -> BTreeMap<String, WantedRelay> {
    let wanted = |relay: &config::RelayConfig| {
        Some(WantedRelay { listen: relay.listen?, terms: Arc::new(RelayTerms::of(relay)) })
    };
    config.relays.iter().filter_map(|(name, relay)| Some((name.clone(), wanted(relay)?))).collect()
}

struct WantedRelay {
    listen: SocketAddr,
    terms: Arc<RelayTerms>,
}

/// What may change while a relay listens.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RelayTerms {
    /// Hosts that may connect besides this one.
    allow: BTreeSet<Prefix>,
    /// How long the peers of a daemon stay up after it went away.
    hold: Duration,
    /// How long a RIB is quiet before bmpd adds its End-of-RIB; zero for never.
    end_of_rib_after: Duration,
    /// How many connections the relay may have.
    limits: Limits,
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

impl RelayTerms {
    fn of(relay: &config::RelayConfig) -> Self {
        Self {
            allow: relay.allow.clone(),
            hold: relay.hold,
            end_of_rib_after: relay.end_of_rib_after,
            limits: limits(relay),
        }
    }

    /// True if `client` may connect to the address `own` of this host.
    fn lets_in(&self, own: IpAddr, client: IpAddr) -> bool {
        is_local(own, client) || self.allow.iter().any(|prefix| prefix.contains(client))
    }
}

/// True if a client is on this host: it comes from loopback, or from the address that it connected
/// to.
fn is_local(own: IpAddr, client: IpAddr) -> bool {
    let client = client.to_canonical();
    client.is_loopback() || own.to_canonical() == client
}

/// A relay that runs.
struct RunningRelay {
    listen: SocketAddr,
    terms: watch::Sender<Arc<RelayTerms>>,
    task: JoinHandle<()>,
}

impl RunningRelay {
    fn start(name: &str, WantedRelay { listen, terms }: WantedRelay, feed: &Feed, relays: &Relays) -> Self {
        let status = relays.register(name, listen);
        let (terms, receiver) = watch::channel(terms);
        Self { listen, terms, task: tasks::forever("relay listener", listener::run(status, feed.clone(), receiver)) }
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

#[cfg(test)]
mod terms {
    use super::is_local;

    #[test]
    fn only_loopback_and_the_address_connected_to_are_local() {
        let local = |own: &str, client: &str| is_local(own.parse().unwrap(), client.parse().unwrap());
        assert!(local("127.0.0.1", "127.0.0.1"));
        assert!(local("127.0.0.1", "127.9.9.9"));
        assert!(local("::1", "::1"));
        assert!(local("192.0.2.1", "192.0.2.1"));
        assert!(local("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!local("192.0.2.1", "192.0.2.2"));
        assert!(!local("2001:db8::1", "2001:db8::2"));
        assert!(!local("::ffff:192.0.2.1", "::ffff:192.0.2.2"));
    }
}
