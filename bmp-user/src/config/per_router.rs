//! Sessions that tell each router behind a relay on a connection of its own.

use super::model::{Config, PerRouter, RelayConfig, SessionConfig};

impl PerRouter {
    /// True if routers of a relay have connections.
    pub fn has(&self, relay: &str) -> bool {
        self.relay.as_deref().is_none_or(|name| name == relay)
    }
}

impl SessionConfig {
    /// The most connections of a session with `per-router`. Routers beyond that have none.
    pub const MOST_ROUTERS: usize = 1024;
}

impl Config {
    /// True if a session tells the routers of a relay each by itself.
    pub fn is_divided(&self, relay: &str) -> bool {
        let mut sessions = self.bmp.sessions.values();
        sessions.any(|session| session.per_router.as_ref().is_some_and(|routers| routers.has(relay)))
    }

    /// Returns how many connections to stations and BGP peers there may be: one for each entry of
    /// the kernel tables, and for a session with `per-router` one for each router that its relays
    /// may let in.
    pub fn connection_count(&self) -> usize {
        let routers_of = |relay: &RelayConfig| {
            let most = relay.max_connections.unwrap_or(RelayConfig::MAX_CONNECTIONS).total;
            usize::try_from(most).unwrap_or(usize::MAX)
        };
        let divided = self.bmp.sessions.values().filter_map(|session| session.per_router.as_ref());
        let routers = divided.map(|routers| {
            let own = self.relays.iter().filter(|(name, _)| routers.has(name)).map(|(_, relay)| routers_of(relay));
            own.fold(0, usize::saturating_add).min(SessionConfig::MOST_ROUTERS)
        });
        self.session_count() + routers.sum::<usize>()
    }
}
