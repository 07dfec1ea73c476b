//! `bmp-relay`: BMP from a daemon, on this host if nothing else is allowed.
//!
//! One listener for each relay of the configuration, one task for each connection. What arrives goes into the feed byte for
//! byte, less Initiation and Termination, which are about the daemon's own session and not about its peers, and less what nobody could read. A
//! connection whose framing is broken is closed, and nothing else is touched. A peer belongs to the connection that announced it, for as long as
//! that is alive.

mod claims;
mod connection;
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
    visitors::{self, Limits},
};

pub use receiver::{Goodbye, Received, Receiver};
pub use status::{ConnectionStatus, HeldStatus, RelayState, RelayStatus, Relays, System};

/// Runs the relays that the configuration names, until its sender is gone. Dropping this closes them all.
///
/// Reacts to a new configuration by comparing it with what runs: a relay that is new gets a listener; one that is gone or
/// listens elsewhere loses its listener and its connections; any other is left alone. `relays` shows how they do.
pub async fn run(mut config: watch::Receiver<Arc<Config>>, feed: Feed, relays: Relays) {
    let mut running: BTreeMap<String, Running> = BTreeMap::new();
    loop {
        let wanted = {
            let config = config.borrow_and_update();
            // Before the limits of relays are made of what is left.
            visitors::keep_for(config.session_count());
            wanted(&config)
        };
        let obsolete: Vec<String> = running
            .iter()
            .filter(|(name, relay)| wanted.get(*name).is_none_or(|wanted| wanted.listen != relay.listen))
            .map(|(n, _)| n.clone())
            .collect();
        // All of these first: another relay may be moving to an address that one of them holds.
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
                    let relay = Running::start(&name, wanted, &feed, &relays);
                    running.insert(name, relay);
                }
            }
        }
        if config.changed().await.is_err() {
            return;
        }
    }
}

/// The relays that have a `listen`.
fn wanted(config: &Config) -> BTreeMap<String, Wanted> {
    let wanted = |relay: &config::Relay| {
        let terms = Terms {
            allow: relay.allow.clone(),
            hold: relay.hold,
            end_of_rib_after: relay.end_of_rib_after,
            limits: limits(relay),
        };
        Some(Wanted { listen: relay.listen?, terms: Arc::new(terms) })
    };
    config.relays.iter().filter_map(|(name, relay)| Some((name.clone(), wanted(relay)?))).collect()
}

struct Wanted {
    listen: SocketAddr,
    terms: Arc<Terms>,
}

/// What may change while a relay listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Terms {
    /// Who may connect besides this host.
    allow: BTreeSet<Prefix>,
    /// How long the peers of a daemon that went away stay up.
    hold: Duration,
    /// How long a RIB without End-of-RIB is quiet before it is taken to be complete; zero is never.
    end_of_rib_after: Duration,
    /// How many may be connected.
    limits: Limits,
}

/// How many connections a relay has.
fn limits(relay: &config::Relay) -> Limits {
    let of = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let asked = relay.max_connections;
    Limits::new(asked.map(|asked| of(asked.total)), asked.and_then(|asked| asked.per_source).map(of))
}

/// The same, for displays: in all, and of one source.
pub fn connection_limits(relay: &config::Relay) -> (usize, usize) {
    let Limits { most, for_each_source } = limits(relay);
    (most, for_each_source)
}

impl Terms {
    /// Whether `client` may be connected, to this address of the host.
    fn lets_in(&self, own: IpAddr, client: IpAddr) -> bool {
        is_local(own, client) || self.allow.iter().any(|prefix| prefix.contains(client))
    }
}

/// A client is on this host if it comes from loopback, or from the very address that it connected to.
fn is_local(own: IpAddr, client: IpAddr) -> bool {
    let client = client.to_canonical();
    client.is_loopback() || own.to_canonical() == client
}

/// A relay's listener.
struct Running {
    listen: SocketAddr,
    terms: watch::Sender<Arc<Terms>>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(name: &str, Wanted { listen, terms }: Wanted, feed: &Feed, relays: &Relays) -> Self {
        let status = relays.register(name, listen);
        let (terms, receiver) = watch::channel(terms);
        Self { listen, terms, task: tasks::forever("relay listener", listener::run(status, feed.clone(), receiver)) }
    }

    /// Closes the listener, and its connections with it. The address is free when this returns.
    async fn stop(mut self) {
        self.task.abort();
        // Aborted on purpose, or it has ended already: neither is news.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Running {
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
