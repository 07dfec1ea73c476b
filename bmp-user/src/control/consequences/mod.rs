//! What a changed configuration does to what runs: which sessions, BGP peers, relays and replays it
//! leaves down, begins anew or closes, why, and what mends it. A commit says so before it returns;
//! where a file brings the change, the log does.
//!
//! What runs is noted before the change. Afterwards the pins are compared with that, once they
//! follow from the new configuration, and what the change has begun is waited for ([`outcome`]).

mod inputs;
mod outcome;
mod peers;
mod sessions;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::time::timeout;
use tracing::{info, warn};

use super::{Context, warnings};
use crate::{
    config::{CommitError, Config},
    input::{bgp::PeerStatus, relay::RelayStatus},
    pin::{PinState, Pinned, Reason, Role},
};
pub(super) use outcome::PATIENCE as OUTCOME_PATIENCE;
use outcome::{Consequences, Outcome};
use sessions::SessionBefore;

/// How long a commit waits for the pins. They take milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// One sentence about a change, without its full stop. Field names are those of the JSON and are
/// stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Said {
    /// Whether something does not work.
    pub severity: Severity,
    /// The sentence.
    pub text: String,
}

/// How much an operator should care; in JSON the name in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something does not work.
    Warning,
    /// Something is interrupted or ends, as it was told to.
    Info,
}

/// What a sentence is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// Something of the configuration that will not do what somebody may think it does.
    Configuration,
    Session,
    Peer,
    Relay,
    Replay,
}

impl About {
    /// Many of them, and the command that shows them.
    fn in_words(self) -> (&'static str, &'static str) {
        match self {
            Self::Configuration => ("sentences of this kind", "display interface-binding"),
            Self::Session => ("sessions", "display bmp session"),
            Self::Peer => ("BGP peers", "display bgp peer"),
            Self::Relay => ("connections and relays", "display bmp relay"),
            Self::Replay => ("replays", "display mrt-replay"),
        }
    }
}

impl Said {
    pub(super) fn warning(text: String) -> Self {
        Self { severity: Severity::Warning, text }
    }

    pub(super) fn info(text: String) -> Self {
        Self { severity: Severity::Info, text }
    }
}

/// `Warning: session 198.51.100.7 goes down: ....`
impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "Warning",
            Severity::Info => "Info",
        };
        write!(f, "{severity}: {}.", self.text)
    }
}

/// What ran before a change.
#[derive(Debug)]
pub struct Before {
    config: Arc<Config>,
    sessions: Vec<SessionBefore>,
    peers: Vec<PeerBefore>,
    relays: Vec<RelayStatus>,
}

#[derive(Debug)]
struct PeerBefore {
    status: PeerStatus,
    /// See [`crate::input::bgp::PeerProgress`].
    started: u64,
    connect: Standing,
    listen: Standing,
}

/// What a pin said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    Pending,
    /// With the number of its line: under another one, the connection is another.
    Ready(u64),
    Down(Reason, String),
}

impl From<&PinState> for Standing {
    fn from(state: &PinState) -> Self {
        match state {
            PinState::Pending => Self::Pending,
            PinState::Ready(grant) => Self::Ready(grant.line),
            PinState::Down(unresolved) => Self::Down(unresolved.reason, unresolved.why.clone()),
        }
    }
}

impl Context {
    /// Notes what runs, for [`Self::consequences`] of a change that is about to come.
    pub fn before(&self) -> Before {
        let config = self.store.running();
        let peers = self.bgp_peers.snapshot(&self.feed).into_iter().map(|status| PeerBefore {
            connect: self.standing_of_peer(status.address, Role::Connect),
            listen: self.standing_of_peer(status.address, Role::Listen),
            started: self.bgp_peers.progress(status.address).map_or(0, |progress| progress.started),
            status,
        });
        Before {
            sessions: sessions::before(self, &config),
            peers: peers.collect(),
            relays: self.relays.snapshot(),
            config,
        }
    }

    /// Refuses a candidate with addresses that cannot be used on this host, unless they are in
    /// force already.
    ///
    /// # Errors
    ///
    /// The first such address, in a sentence.
    pub(super) fn refuse_unfit(&self, candidate: &Config) -> Result<(), CommitError> {
        let host = self.host.borrow().clone();
        let known = warnings::unfit(&self.store.running(), &host);
        match warnings::unfit(candidate, &host).into_iter().find(|sentence| !known.contains(sentence)) {
            Some(sentence) => Err(CommitError::Unfit(sentence)),
            None => Ok(()),
        }
    }

    /// Says what the change from `before` to the configuration in force does to what runs. Waits
    /// until the pins follow from that configuration, for at most two seconds, and then for what the
    /// change has begun, for at most [`outcome::PATIENCE`]; `waiting` is told of how many things, if
    /// that takes a moment.
    pub async fn consequences(&self, before: &Before, waiting: impl Fn(usize)) -> Vec<Said> {
        let now = self.store.running();
        if Arc::ptr_eq(&before.config, &now) {
            return Vec::new();
        }
        self.pins_follow(&now).await;
        let mut consequences = Consequences::default();
        for warning in self.warnings(&before.config, &now).await {
            consequences.say(About::Configuration, Said::warning(warning));
        }
        sessions::consequences(self, before, &now, &mut consequences);
        peers::consequences(self, before, &now, &mut consequences);
        inputs::consequences(self, before, &now, &mut consequences);
        consequences.said(waiting).await
    }

    /// Logs the same, where no operator has brought the change.
    pub async fn log_consequences(&self, before: &Before) {
        for Said { severity, text } in self.consequences(before, |_| ()).await {
            match severity {
                Severity::Warning => warn!("{text}"),
                Severity::Info => info!("{text}"),
            }
        }
    }

    /// Waits until what is decided about the pins follows from `config`, or from one that is in
    /// force after it.
    async fn pins_follow(&self, config: &Arc<Config>) {
        let is_wanted =
            |applied: &Arc<Config>| Arc::ptr_eq(applied, config) || Arc::ptr_eq(applied, &self.store.running());
        // What is not decided by then is not said.
        let _ = timeout(PATIENCE, self.pins.follow(is_wanted)).await;
    }

    fn standing_of_peer(&self, address: IpAddr, role: Role) -> Standing {
        Standing::from(&self.pins.pin(&Pinned::BgpPeer(address, role)).state())
    }
}

/// A reason with what mends it, in one sentence.
fn in_words(reason: Reason, why: &str, mend: &str) -> String {
    let mend = if mend.is_empty() { String::new() } else { format!(" (what mends it: `{mend}`)") };
    format!("{reason}: {why}{mend}")
}

/// `a`, `a and b`, `a, b and c`.
fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
