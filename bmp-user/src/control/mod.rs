//! How an operator reaches bmpd: the control socket, the displays, and commands.
//!
//! * `socket`: the server, the client and their language
//! * `operator`: one operator at work over one connection
//! * `display`: a report for each `display`, as text and as JSON
//! * `consequences`: what a commit changes for sessions, peers, relays and replays; `warnings`:
//!   settings that do not do what an operator may expect
//! * `api`: the displays and metrics for the HTTP server; `http_status`: what is known of it
//! * `pieces`: large answers
//! * `sentence`: what bmpd does now, for a service manager
//! * `waiting`, `names`, `words`: what these share

mod api;
mod consequences;
mod defaults;
mod display;
mod http_status;
mod names;
mod operator;
pub(crate) mod pieces;
mod sentence;
mod socket;
mod waiting;
mod words;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::watch;

pub use api::{API_PATHS, ApiPath};
pub use consequences::warnings::{on_host, without_host};
pub use consequences::{Baseline, Remark, Severity};
pub use display::VALUE_COLUMN;
pub(crate) use display::WriteAnswer;
pub use http_status::{HttpCounts, HttpListenerState, HttpStatus, OpenHttpConnection};
pub use operator::Operator;
pub use socket::{
    AccessGroups, Client, CommandAnswer, ControlSocket, DEFAULT_PATH, LINE_MAX, NoDaemon, Notices, OperatorRole,
    Origin, Request, RequestMode, Response, ask, serve,
};

use crate::{
    config::ConfigStore,
    feed::Feed,
    input::{bgp::BgpPeers, mrt::Replays, relay::Relays},
    link::{Host, RouteLookup},
    pin::Pins,
    session::Sessions,
};

/// Everything that a command can see and change.
#[derive(Clone, Debug)]
pub struct ControlContext {
    /// The running configuration and its file.
    pub store: ConfigStore,
    /// The interfaces and addresses of this host.
    pub host: watch::Receiver<Arc<Host>>,
    /// The routes of this host.
    pub routes: RouteLookup,
    /// The sessions.
    pub sessions: Sessions,
    /// The pins of the sessions and BGP peers.
    pub pins: Pins,
    /// The feed.
    pub feed: Feed,
    /// The BGP peers.
    pub bgp_peers: BgpPeers,
    /// The relays.
    pub relays: Relays,
    /// The replays of files.
    pub replays: Replays,
    /// The HTTP server.
    pub http: HttpStatus,
}
