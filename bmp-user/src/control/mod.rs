//! How an operator reaches bmpd: the control socket, the displays, and commands.
//!
//! * `socket`: the server, the client and their language
//! * `operator`: one operator at work over one connection
//! * `help`: which words may come next, with the names of this host
//! * `display`: a report for each `display`, as text and as JSON
//! * `consequences`: what a commit changes for sessions, peers, relays and replays; `warnings`:
//!   settings that do not do what an operator may expect
//! * `api`: the displays and metrics for the HTTP server; `http_status`: what is known of it
//! * `json`: answers in JSON, and their version; `schema`, `schema_changes`, `json_page`: their
//!   schemas; `pieces`: large answers
//! * `checked_file`: what `bmpd check` and `bmpd doctor` say about a file
//! * `debugging`: what an operator sees of a session for a time
//! * `sentence`: what bmpd does now, for a service manager
//! * `waiting`, `names`, `link_state`, `words`: what these share

mod api;
mod checked_file;
mod consequences;
mod debugging;
mod defaults;
mod display;
mod help;
mod http_status;
mod json;
mod json_page;
mod link_state;
mod names;
mod operator;
pub(crate) mod pieces;
mod schema;
mod schema_changes;
mod sentence;
mod socket;
mod waiting;
mod words;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::watch;

pub(crate) use api::api_index;
pub use api::{API_PATHS, ApiPath};
pub use checked_file::CheckedFile;
pub use consequences::warnings::{on_host, without_host};
pub use consequences::{Baseline, Remark, Severity};
pub(crate) use display::WriteAnswer;
pub use display::{VALUE_COLUMN, answer_schemas};
pub use http_status::{HttpCounts, HttpListenerState, HttpStatus, OpenHttpConnection};
pub use json::{AnswerSubject, JsonAnswer, SCHEMA_VERSION, as_json, read_json};
pub use operator::Operator;
pub use schema::AnswerSchema;
pub use schema_changes::breaking_changes;
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
    sandbox::Sandbox,
    session::Sessions,
    tls::TlsProfiles,
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
    /// The TLS profiles.
    pub tls: TlsProfiles,
    /// The HTTP server.
    pub http: HttpStatus,
    /// The rights that bmpd has given up.
    pub sandbox: Arc<Sandbox>,
}
