//! `display bmp feed`: the peers, routes and journal that sessions send from.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::{
        ControlContext,
        words::{ViewName, words},
    },
    layout::field,
};
use crate::{
    config::Config,
    feed::{MOST_PEERS, MemoryStage},
    input::relay::MOST_PEERS_OF_CONNECTION,
    visitors,
    wire::bgp::Family,
};

/// The feed. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct FeedReport {
    /// Peers that are announced.
    pub(super) peers: usize,
    pub(super) ribs: usize,
    pub(super) routes: usize,
    /// The routes of all peers, by RIB and family.
    pub(super) by_rib: Vec<RibTotals>,
    /// Distinct sets of path attributes.
    pub(super) attribute_sets: usize,
    /// Withdrawals that are kept for stations that have the route.
    pub(super) withdrawals: usize,
    pub(super) journal: JournalReport,
    pub(super) memory: FeedMemory,
    pub(super) limits: FeedLimits,
    /// BMP messages that inputs have sent.
    pub(super) frames: u64,
    /// The counts of [`crate::feed::Trouble`].
    pub(super) unannounced: u64,
    pub(super) malformed: u64,
    pub(super) mixed_path_ids: u64,
    pub(super) malformed_attributes: u64,
    pub(super) as_size: u64,
    pub(super) incomplete: u64,
    pub(super) unknown_family: u64,
    pub(super) overflowed: u64,
}

/// The RIBs of one family and view, of all peers.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct RibTotals {
    pub(super) family: Family,
    pub(super) view: ViewName,
    /// Peers that have this RIB.
    pub(super) ribs: usize,
    pub(super) routes: usize,
}

/// The messages that sessions follow.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct JournalReport {
    /// Number of the oldest message that is kept.
    pub(super) tail: u64,
    /// Number of the next message.
    pub(super) head: u64,
    pub(super) bytes: usize,
    /// In bytes.
    pub(super) limit: usize,
}

/// Memory of the feed, in bytes.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct FeedMemory {
    pub(super) routes: usize,
    /// What routes have in common.
    pub(super) groups: usize,
    pub(super) attribute_sets: usize,
    /// A part of `routes`.
    pub(super) withdrawals: usize,
    pub(super) journal: usize,
    /// What counts towards the limit: the journal with its own limit, and no free places of
    /// attribute sets.
    pub(super) in_use: usize,
    /// `memory-limit`, in bytes.
    pub(super) limit: Option<usize>,
    pub(super) state: MemoryState,
    /// Inputs that were closed because of the limit.
    pub(super) closed: u64,
}

/// How near the limit of memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemoryState {
    Within,
    Near,
    Beyond,
    Stuck,
}

words!(MemoryState {
    Within => "within",
    Near => "near",
    Beyond => "beyond",
    Stuck => "stuck",
});

impl From<MemoryStage> for MemoryState {
    fn from(stage: MemoryStage) -> Self {
        match stage {
            MemoryStage::Within => Self::Within,
            MemoryStage::Near => Self::Near,
            MemoryStage::Beyond => Self::Beyond,
            MemoryStage::Stuck => Self::Stuck,
        }
    }
}

/// What inputs hold, and what they may hold.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct FeedLimits {
    /// Relays, replays and BGP peers that are configured.
    pub(super) inputs: usize,
    pub(super) most_inputs: usize,
    /// Connections of clients: daemons, and whoever asks over HTTP.
    pub(super) connections: usize,
    pub(super) most_connections: usize,
    /// Peers that are up, announced or not.
    pub(super) peers: usize,
    pub(super) most_peers: usize,
    /// Peers of one connection of a relay at most.
    pub(super) most_peers_of_connection: usize,
}

impl FeedReport {
    pub(super) fn of(context: &ControlContext, config: &Config) -> Self {
        let stats = &context.feed.stats();
        let (connections, most_connections) = visitors::now_and_most();
        let mut by_rib = BTreeMap::new();
        for peer in context.feed.peers() {
            for rib in peer.ribs() {
                let (ribs, routes) = by_rib.entry((rib.family, rib.view)).or_insert((0, 0));
                *ribs += 1;
                *routes += rib.routes;
            }
        }
        let by_rib = by_rib.into_iter().map(|((family, view), (ribs, routes))| RibTotals {
            family,
            view: ViewName(view),
            ribs,
            routes,
        });
        Self {
            by_rib: by_rib.collect(),
            peers: stats.peers,
            ribs: stats.ribs,
            routes: stats.routes,
            attribute_sets: stats.attribute_sets,
            withdrawals: stats.withdrawals,
            journal: JournalReport {
                tail: stats.tail,
                head: stats.head,
                bytes: stats.journal_bytes,
                limit: stats.journal_limit,
            },
            memory: FeedMemory {
                routes: stats.route_bytes,
                groups: stats.group_bytes,
                attribute_sets: stats.attribute_bytes,
                withdrawals: stats.withdrawal_bytes,
                journal: stats.journal_bytes,
                in_use: stats.memory,
                limit: stats.standing.limit,
                state: stats.standing.stage.into(),
                closed: stats.standing.closed,
            },
            limits: FeedLimits {
                inputs: config.input_count(),
                most_inputs: context.store.most_inputs(),
                connections,
                most_connections,
                peers: stats.live_peers,
                most_peers: MOST_PEERS,
                most_peers_of_connection: MOST_PEERS_OF_CONNECTION,
            },
            frames: stats.frames.total(),
            unannounced: stats.trouble.unannounced,
            malformed: stats.trouble.malformed,
            mixed_path_ids: stats.trouble.mixed_path_ids,
            malformed_attributes: stats.trouble.malformed_attributes,
            as_size: stats.trouble.as_size,
            incomplete: stats.trouble.incomplete,
            unknown_family: stats.trouble.unknown_family,
            overflowed: stats.trouble.overflowed,
        }
    }
}

/// Returns the bytes in KiB, rounded up.
fn kib(bytes: usize) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}

/// `70000 KiB of 262144 KiB (within), inputs closed for it: 2`.
impl fmt::Display for FeedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { in_use, limit, state, closed, .. } = self;
        write!(f, "{}", kib(*in_use))?;
        match limit {
            Some(limit) => write!(f, " of {} ({state}), inputs closed for it: {closed}", kib(*limit)),
            None => write!(f, ", no memory-limit"),
        }
    }
}

impl fmt::Display for FeedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { journal, memory, .. } = self;
        writeln!(f, " What there is to tell stations")?;
        field(f, "Peers up", self.peers)?;
        field(f, "RIBs", self.ribs)?;
        field(f, "Routes", self.routes)?;
        for RibTotals { family, view, ribs, routes } in &self.by_rib {
            writeln!(f, "    {family} {view}: {routes}, of {ribs} peers")?;
        }
        field(f, "Attribute sets", self.attribute_sets)?;
        field(f, "Withdrawals kept", self.withdrawals)?;
        let JournalReport { tail, head, bytes, limit } = journal;
        field(f, "Journal", format_args!("messages {tail} to {head}, {} of {}", kib(*bytes), kib(*limit)))?;
        field(f, "Memory of routes", kib(memory.routes))?;
        field(f, "  of groups", kib(memory.groups))?;
        field(f, "  of attributes", kib(memory.attribute_sets))?;
        field(f, "  of withdrawals", format_args!("{} (of that of routes)", kib(memory.withdrawals)))?;
        field(f, "Memory in use", memory)?;
        let FeedLimits { inputs, connections, peers, .. } = self.limits;
        field(f, "Inputs", format_args!("{inputs}, at most {}", self.limits.most_inputs))?;
        let most = self.limits.most_connections;
        field(f, "Connections", format_args!("{connections}, at most {most} of clients of this device"))?;
        let (most, of_one) = (self.limits.most_peers, self.limits.most_peers_of_connection);
        field(f, "Peers", format_args!("{peers}, at most {most}, {of_one} of one connection"))?;
        field(f, "Messages", self.frames)?;
        field(f, "  of unknown peers", self.unannounced)?;
        field(f, "  malformed", self.malformed)?;
        field(f, "  mixed path IDs", self.mixed_path_ids)?;
        field(f, "  bad attributes", self.malformed_attributes)?;
        field(f, "  other AS size", self.as_size)?;
        field(f, "  lack attributes", self.incomplete)?;
        field(f, "  unknown family", self.unknown_family)?;
        field(f, "  not kept", self.overflowed)
    }
}
