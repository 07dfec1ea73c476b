//! The consequences of a change of the configuration: the sessions, BGP peers, relays and replays
//! that it leaves down, restarts or closes, with the reason and the command that mends it. A commit
//! prints them before it returns. A change that comes from the file goes into the log.
//!
//! A [`Baseline`] is taken before the change. Once the pins follow from the new configuration, each
//! subject is compared with the baseline. The commit then waits for the sessions, peers, relays and
//! replays that the change has started ([`finding`]).

mod finding;
mod inputs;
mod peers;
mod sessions;
pub(in crate::control) mod warnings;

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::timeout;
use tracing::{info, warn};

use super::ControlContext;
use crate::{
    config::{CommitError, Config, MaximumRoutes},
    feed::ConnectionId,
    input::{bgp::PeerStatus, relay::RelayStatus},
    pin::{PinState, Pinned, Reason, Role},
};
pub(super) use finding::PATIENCE as FINDING_PATIENCE;
use finding::{Consequences, Finding};
use sessions::SessionBaseline;

/// How long a commit waits for the pins. As a rule they take milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// One sentence about a change, without its full stop. Field names are those of the JSON and are
/// stable.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Remark {
    /// How much an operator should care.
    pub severity: Severity,
    /// The sentence.
    pub text: String,
}

/// How much an operator should care. The JSON has the name in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something does not work.
    Warning,
    /// Something is interrupted or ends, as the operator wants it to.
    Info,
}

/// The subject of a remark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RemarkSubject {
    /// A setting that does not do what an operator may expect.
    Configuration,
    Session,
    Peer,
    Relay,
    Replay,
    Http,
}

impl RemarkSubject {
    /// Returns the plural, and the command that shows all of them.
    fn plural_and_command(self) -> (&'static str, &'static str) {
        match self {
            Self::Configuration => ("sentences of this kind", "display interface-binding"),
            Self::Session => ("sessions", "display bmp session"),
            Self::Peer => ("BGP peers", "display bgp peer"),
            Self::Relay => ("connections and relays", "display bmp relay"),
            Self::Replay => ("replays", "display mrt-replay"),
            Self::Http => ("servers", "display http"),
        }
    }
}

impl Remark {
    /// Returns a warning, without its full stop.
    pub fn warning(text: String) -> Self {
        Self { severity: Severity::Warning, text }
    }

    pub(super) fn info(text: String) -> Self {
        Self { severity: Severity::Info, text }
    }
}

/// Shows the remark as `Warning: session 198.51.100.7 goes down: ....`
impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "Warning",
            Severity::Info => "Info",
        };
        write!(f, "{severity}: {}.", self.text)
    }
}

/// The state of everything that a change may affect, taken before the change.
#[derive(Debug)]
pub struct Baseline {
    config: Arc<Config>,
    sessions: Vec<SessionBaseline>,
    peers: Vec<PeerBaseline>,
    relays: Vec<RelayStatus>,
    /// The routes of each connection of an input.
    routes: BTreeMap<ConnectionId, usize>,
    /// The memory of the feed, in bytes.
    memory: usize,
}

#[derive(Debug)]
struct PeerBaseline {
    status: PeerStatus,
    /// The start of the peer's task, as in [`crate::input::bgp::PeerProgress`].
    started: u64,
    connect: PinVerdict,
    listen: PinVerdict,
}

/// The state of a pin, as far as a change of it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PinVerdict {
    Pending,
    /// A grant with another line is for another connection.
    Ready {
        line: u64,
    },
    Down {
        reason: Reason,
        why: String,
    },
}

impl From<&PinState> for PinVerdict {
    fn from(state: &PinState) -> Self {
        match state {
            PinState::Pending => Self::Pending,
            PinState::Ready(grant) => Self::Ready { line: grant.line },
            PinState::Down(unresolved) => Self::Down { reason: unresolved.reason, why: unresolved.why.clone() },
        }
    }
}

impl ControlContext {
    /// Takes the baseline for the [`Self::consequences`] of a change that is about to come.
    pub fn baseline(&self) -> Baseline {
        let config = self.store.running();
        let peers = self.bgp_peers.snapshot(&self.feed).into_iter().map(|status| PeerBaseline {
            connect: self.verdict_on_peer(status.address, Role::Connect),
            listen: self.verdict_on_peer(status.address, Role::Listen),
            started: self.bgp_peers.progress(status.address).map_or(0, |progress| progress.started),
            status,
        });
        Baseline {
            sessions: sessions::baseline(self, &config),
            peers: peers.collect(),
            relays: self.relays.snapshot(),
            routes: self.routes_by_connection(),
            memory: self.feed.memory(),
            config,
        }
    }

    fn routes_by_connection(&self) -> BTreeMap<ConnectionId, usize> {
        let mut routes = BTreeMap::new();
        for peer in self.feed.peers() {
            *routes.entry(peer.connection()).or_default() += peer.ribs().iter().map(|rib| rib.routes).sum::<usize>();
        }
        routes
    }

    /// Refuses a candidate with addresses that cannot be used on this host, unless they are in
    /// force already.
    ///
    /// # Errors
    ///
    /// The first unusable address, in a sentence.
    pub(super) fn refuse_unfit(&self, candidate: &Config) -> Result<(), CommitError> {
        let host = self.host.borrow().clone();
        let known = warnings::unfit(&self.store.running(), &host);
        match warnings::unfit(candidate, &host).into_iter().find(|sentence| !known.contains(sentence)) {
            Some(sentence) => Err(CommitError::Unfit(sentence)),
            None => Ok(()),
        }
    }

    /// Returns the consequences of the change from `before` to the configuration in force.
    ///
    /// Waits at most two seconds until the pins follow from that configuration. Then waits at most
    /// [`finding::PATIENCE`] for the subjects that the change has started. If that takes a moment,
    /// calls `waiting` with the number of those subjects.
    pub async fn consequences(&self, before: &Baseline, waiting: impl Fn(usize)) -> Vec<Remark> {
        let now = self.store.running();
        if Arc::ptr_eq(&before.config, &now) {
            return Vec::new();
        }
        self.pins_follow(&now).await;
        let mut consequences = Consequences::default();
        for warning in self.warnings(&before.config, &now).await {
            consequences.add(RemarkSubject::Configuration, Remark::warning(warning));
        }
        sessions::consequences(self, before, &now, &mut consequences);
        peers::consequences(self, before, &now, &mut consequences);
        inputs::consequences(self, before, &now, &mut consequences);
        consequences.settle(waiting).await
    }

    /// Logs the consequences of a change that no operator waits for.
    pub async fn log_consequences(&self, before: &Baseline) {
        for Remark { severity, text } in self.consequences(before, |_| ()).await {
            match severity {
                Severity::Warning => warn!("{text}"),
                Severity::Info => info!("{text}"),
            }
        }
    }

    /// Waits until the pins follow from `config`, or from a later configuration that is in force.
    pub async fn pins_follow(&self, config: &Arc<Config>) {
        let is_wanted =
            |applied: &Arc<Config>| Arc::ptr_eq(applied, config) || Arc::ptr_eq(applied, &self.store.running());
        // A pin that is still pending then yields no remark.
        let _ = timeout(PATIENCE, self.pins.follow(is_wanted)).await;
    }

    fn verdict_on_peer(&self, address: IpAddr, role: Role) -> PinVerdict {
        PinVerdict::from(&self.pins.pin(&Pinned::BgpPeer(address, role)).state())
    }
}

/// Returns why a changed limit closes a connection or peer that has so many routes, if it does.
fn beyond(earlier: Option<MaximumRoutes>, limit: Option<MaximumRoutes>, routes: usize) -> Option<String> {
    let limit = limit.filter(|limit| !limit.warning_only && earlier != Some(*limit))?;
    let most = limit.routes;
    usize::try_from(most)
        .is_ok_and(|most| routes > most)
        .then(|| format!("it has {routes} routes, and maximum-routes is {most}"))
}

/// Returns a reason and the command that mends it, in one sentence.
fn reason_in_words(reason: Reason, why: &str, mend: &str) -> String {
    let mend = if mend.is_empty() { String::new() } else { format!(" (what mends it: `{mend}`)") };
    format!("{reason}: {why}{mend}")
}

/// Returns `a`, `a and b` or `a, b and c`.
fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
