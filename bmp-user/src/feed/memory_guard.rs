//! Holds the feed to a limit of its memory.
//!
//! Beyond the limit, the connection whose peers have grown most is told to close. Growth counts
//! from the moment when the limit came near, or when the peer came, whichever is later. So peers
//! that stay as they are stay, however large they are.

use std::collections::HashMap;

use tokio::sync::watch;

use super::{
    incarnation::{ConnectionId, PeerId},
    peers::PeerTable,
};

/// The share of the limit that is near the limit, in percent.
pub const NEAR_PERCENT: usize = 75;
/// The limit is no longer near below this share, in percent.
const FAR_PERCENT: usize = 70;

/// How near the limit is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryStage {
    /// The feed takes less, or there is no limit.
    #[default]
    Within,
    /// The feed takes more than [`NEAR_PERCENT`] of the limit.
    Near,
    /// The feed takes more than the limit. A connection is told to close.
    Beyond,
    /// The feed takes more than the limit, and no connection has grown.
    Stuck,
}

/// The limit of the feed's memory, and how near it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStanding {
    /// The limit in bytes.
    pub limit: Option<usize>,
    /// How near it is.
    pub stage: MemoryStage,
    /// The bytes that the feed took when the stage began.
    pub used: usize,
    /// How many connections have closed because of the limit.
    pub closed: u64,
}

impl MemoryStanding {
    /// True if the feed takes more memory than it may.
    pub fn is_beyond(&self) -> bool {
        matches!(self.stage, MemoryStage::Beyond | MemoryStage::Stuck)
    }
}

/// More memory than the feed may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryExcess {
    /// The bytes that the feed took.
    pub used: usize,
    /// The limit in bytes.
    pub limit: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct MemoryGuard {
    standing: watch::Sender<MemoryStanding>,
    /// What each peer took when the limit came near, in bytes.
    baseline: HashMap<PeerId, usize>,
    /// The connections that can be told to close.
    connections: HashMap<ConnectionId, watch::Sender<Option<MemoryExcess>>>,
    /// The connection that was told to close, and has not closed yet.
    closing: Option<ConnectionId>,
    /// Nobody had grown. Another look is worth its time when the feed takes so many bytes.
    next_look: usize,
}

impl MemoryGuard {
    /// Follows the standing.
    pub(super) fn watch(&self) -> watch::Receiver<MemoryStanding> {
        self.standing.subscribe()
    }

    /// The standing of this moment.
    pub(super) fn standing(&self) -> MemoryStanding {
        *self.standing.borrow()
    }

    /// Has a new limit. Forgets what each peer took before.
    pub(super) fn set_limit(&mut self, limit: Option<usize>) {
        let changed = self.standing.send_if_modified(|standing| {
            let differs = standing.limit != limit;
            if differs {
                *standing = MemoryStanding { limit, stage: MemoryStage::Within, used: 0, ..*standing };
            }
            differs
        });
        if changed {
            self.baseline = HashMap::new();
            self.next_look = 0;
        }
    }

    /// A connection begins. Returns where it learns that it has to close.
    pub(super) fn open(&mut self, connection: ConnectionId) -> watch::Receiver<Option<MemoryExcess>> {
        let (sender, receiver) = watch::channel(None);
        self.connections.insert(connection, sender);
        receiver
    }

    /// The peers of a connection that was told to close are down.
    pub(super) fn has_closed(&mut self, connection: ConnectionId) {
        if self.closing == Some(connection) {
            self.closing = None;
            self.next_look = 0;
            self.standing.send_modify(|standing| standing.closed += 1);
        }
        if let Some(order) = self.connections.get(&connection) {
            order.send_if_modified(|order| order.take().is_some());
        }
    }

    /// A connection is over, and none of its peers is held.
    pub(super) fn close(&mut self, connection: ConnectionId) {
        self.has_closed(connection);
        self.connections.remove(&connection);
    }

    /// Looks how near the limit is. Beyond it, tells a connection to close. `used` is what the feed
    /// takes now.
    pub(super) fn look(&mut self, used: usize, peers: &PeerTable) {
        let MemoryStanding { limit: Some(limit), stage: before, .. } = self.standing() else { return };
        if used > limit {
            return self.look_beyond(MemoryExcess { used, limit }, before, peers);
        }
        let near = if before == MemoryStage::Within { NEAR_PERCENT } else { FAR_PERCENT };
        let stage = if used > percent(limit, near) { MemoryStage::Near } else { MemoryStage::Within };
        if stage == before {
            return;
        }
        match (before, stage) {
            (MemoryStage::Within, _) => self.baseline = peers.charged().map(|(peer, _, bytes)| (peer, bytes)).collect(),
            (_, MemoryStage::Within) => self.baseline = HashMap::new(),
            _ => {}
        }
        self.next_look = 0;
        self.enter(stage, used);
    }

    fn look_beyond(&mut self, excess: MemoryExcess, before: MemoryStage, peers: &PeerTable) {
        if self.closing.is_some() || excess.used < self.next_look {
            return;
        }
        let order =
            self.grown_most(peers).and_then(|connection| Some((connection, self.connections.get(&connection)?)));
        let stage = match order {
            Some((connection, order)) => {
                self.closing = Some(connection);
                order.send_replace(Some(excess));
                MemoryStage::Beyond
            }
            None => {
                self.next_look = excess.used + excess.limit / 64;
                MemoryStage::Stuck
            }
        };
        if stage != before {
            self.enter(stage, excess.used);
        }
    }

    fn enter(&self, stage: MemoryStage, used: usize) {
        self.standing.send_modify(|standing| (standing.stage, standing.used) = (stage, used));
    }

    /// The connection whose peers have grown most; `None` if none has grown.
    fn grown_most(&self, peers: &PeerTable) -> Option<ConnectionId> {
        let mut growth: HashMap<ConnectionId, i64> = HashMap::new();
        let signed = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        for (peer, connection, bytes) in peers.charged() {
            let before = self.baseline.get(&peer).copied().unwrap_or(0);
            *growth.entry(connection).or_default() += signed(bytes) - signed(before);
        }
        let grown =
            growth.into_iter().filter(|(connection, growth)| *growth > 0 && self.connections.contains_key(connection));
        grown.max_by_key(|(connection, growth)| (*growth, *connection)).map(|(connection, _)| connection)
    }
}

/// Returns a share of a limit.
fn percent(limit: usize, percent: usize) -> usize {
    limit / 100 * percent + limit % 100 * percent / 100
}
