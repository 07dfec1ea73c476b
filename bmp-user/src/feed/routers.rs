//! The routers behind relays, for sessions that tell each router by itself.
//!
//! A connection of a divided relay is an input of its own router: see [`InputId::Router`]. A router
//! is known by the address that it connects from and by the sysName of its first Initiation. Two
//! connections with both in common belong to one router.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::sync::watch;

/// What tells a router from others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterId {
    /// `bmp-relay NAME` that the router connects to.
    pub relay: Arc<str>,
    /// The address that it connects from.
    pub address: IpAddr,
    /// sysName of its Initiation, as it came. `None` before an Initiation, and if that has none.
    pub sys_name: Option<Arc<str>>,
}

/// The two ends of a router's connection to its relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterConnection {
    /// The router's end.
    pub remote: SocketAddr,
    /// The relay's end. `None` if the connection was closed before it was looked at.
    pub local: Option<SocketAddr>,
}

/// A router that has a connection, as its newest Initiation describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownRouter {
    /// What tells it from others.
    pub id: Arc<RouterId>,
    /// The newest connection.
    pub connection: RouterConnection,
    /// sysDescr of its Initiation, as it came.
    pub sys_descr: Option<String>,
}

/// The routers that have a connection and have sent an Initiation.
pub type KnownRouters = BTreeMap<Arc<RouterId>, KnownRouter>;

/// All routers, for those who follow them. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct RouterTable(Arc<watch::Sender<RouterPresence>>);

/// The routers, and how many connections each has.
#[derive(Debug, Default)]
pub struct RouterPresence {
    routers: KnownRouters,
    connections: BTreeMap<Arc<RouterId>, usize>,
}

impl RouterPresence {
    /// The routers that have a connection, in the order of their names.
    pub fn routers(&self) -> &KnownRouters {
        &self.routers
    }
}

impl RouterTable {
    /// Follows the routers.
    pub(super) fn watch(&self) -> watch::Receiver<RouterPresence> {
        self.0.subscribe()
    }

    /// Shows a router as long as the returned value lives.
    pub(super) fn register(&self, router: KnownRouter) -> RouterRegistration {
        let id = Arc::clone(&router.id);
        self.0.send_modify(|presence| {
            *presence.connections.entry(Arc::clone(&id)).or_default() += 1;
            presence.routers.insert(Arc::clone(&id), router);
        });
        RouterRegistration { table: self.clone(), id }
    }
}

/// A connection of a router that has sent an Initiation.
#[derive(Debug)]
pub(super) struct RouterRegistration {
    table: RouterTable,
    id: Arc<RouterId>,
}

impl Drop for RouterRegistration {
    fn drop(&mut self) {
        self.table.0.send_modify(|presence| {
            let Some(connections) = presence.connections.get_mut(&self.id) else { return };
            *connections -= 1;
            if *connections == 0 {
                presence.connections.remove(&self.id);
                presence.routers.remove(&self.id);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_is_known_as_long_as_it_has_a_connection() {
        let table = RouterTable::default();
        let id = Arc::new(RouterId { relay: "front".into(), address: [192, 0, 2, 1].into(), sys_name: None });
        let with_port = |port| KnownRouter {
            id: Arc::clone(&id),
            connection: RouterConnection { remote: (id.address, port).into(), local: None },
            sys_descr: None,
        };
        let routers = table.watch();
        let ports =
            || routers.borrow().routers().values().map(|known| known.connection.remote.port()).collect::<Vec<_>>();
        let first = table.register(with_port(1));
        let second = table.register(with_port(2));
        assert_eq!(ports(), [2], "the newest connection counts");
        drop(first);
        assert_eq!(ports(), [2]);
        drop(second);
        assert!(ports().is_empty());
    }
}
