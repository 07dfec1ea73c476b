//! How an operator reaches in: the control socket, what `display` answers, and what becomes of a command.

mod consequences;
mod defaults;
mod display;
mod names;
mod operator;
mod socket;
mod waiting;
mod warnings;
mod words;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::watch;

pub use consequences::{Before, Said, Severity};
pub use display::VALUE_COLUMN;
pub use operator::Operator;
pub use socket::{
    Client, ControlSocket, DEFAULT_PATH, LINE_MAX, Mode, Notices, Origin, Outcome, Request, Response, ask, serve,
};
pub use warnings::without_host;

use crate::{
    config::Store,
    feed::Feed,
    input::{bgp::BgpPeers, mrt::Replays, relay::Relays},
    link::{Host, RouteLookup},
    pin::Pins,
    session::Sessions,
};

/// What a command can see and change.
#[derive(Clone, Debug)]
pub struct Context {
    /// The running configuration and its file.
    pub store: Store,
    /// What this host has.
    pub host: watch::Receiver<Arc<Host>>,
    /// Its routes.
    pub routes: RouteLookup,
    /// The sessions.
    pub sessions: Sessions,
    /// Their pins.
    pub pins: Pins,
    /// The feed.
    pub feed: Feed,
    /// The BGP peers.
    pub bgp_peers: BgpPeers,
    /// The relays.
    pub relays: Relays,
    /// The replays of files.
    pub replays: Replays,
}
