//! Everything that this device can tell a station: peers, their RIBs, and a journal of BMP frames.
//!
//! An [`Input`] appends whole frames. They go into a bounded journal once, however many sessions
//! there are. Beside the journal, the feed keeps what the frames say: the routes of every RIB, each
//! with the time of its last change. A session takes [`Piece`]s with its [`Follower`], at its own
//! pace.
//!
//! A follower that is near the head of the journal reads it there, without copies. Any other
//! follower is told the state instead: what changed after its cursor, withdrawals included. That
//! holds for a new station, for one that was too slow, and for one with another selection. No
//! follower makes an input wait or memory grow. Withdrawals that a slow station still needs are
//! kept within a budget. Beyond it, the peers concerned are taken down and brought up again for
//! that station.
//!
//! The feed has no clock and opens no sockets.
//!
//! Where frames come in:
//!
//! * `input`: one connection of an input. `input_id`: which input that is.
//! * `batch`: frames on their way into the journal.
//! * `hold`: the peers of an input that went away.
//! * `oddity`, `trouble`: messages with errors, by kind.
//!
//! What the feed keeps:
//!
//! * `store`: the locks, and the only place that appends to the journal.
//! * `journal`: the bounded log of frames.
//! * `state`: applies a frame to the parts below.
//! * `inputs`: connections, and which one may speak about which peer. `routers`: the routers behind
//!   relays.
//! * `peers`: the peers of all inputs. `incarnation`: one life of a peer. `stored`: frames that are
//!   kept.
//! * `apply`: applies an UPDATE to the RIBs of its peer. `applied`: what became of a frame.
//! * `rib`: one RIB. `hints`: what the OPENs say about it. `index`, `blocks`, `nlri`: its memory.
//! * `attributes`: attribute sets. `sparse_blocks`: their memory. `withdrawals`: withdrawals that a
//!   follower still needs.
//! * `memory`: how much memory all of this takes. `memory_guard`: the limit of it.
//!
//! How sessions and displays read it:
//!
//! * `follower`: one session. `piece`: what it takes. `selection`: what its station is told.
//! * `route_filter`: which routes it is told. `catch_up`: RIBs whose routes are filtered.
//! * `pass`: a walk over the state. `compose`: writes frames from what the feed keeps.
//! * `report`, `counts`, `duplicates`: what displays and Statistics Reports show.

mod applied;
mod apply;
mod attributes;
mod batch;
mod blocks;
mod catch_up;
mod compose;
mod counts;
mod duplicates;
mod follower;
mod hints;
mod hold;
mod incarnation;
mod index;
mod input;
mod input_id;
mod inputs;
mod journal;
mod memory;
mod memory_guard;
mod nlri;
mod oddity;
mod pass;
mod peers;
mod piece;
mod report;
mod rib;
mod rib_tables;
mod route_filter;
mod routers;
mod selection;
mod sparse_blocks;
mod state;
mod store;
mod stored;
#[cfg(test)]
mod tests;
mod trouble;
mod withdrawals;

use std::sync::Arc;

use tokio::sync::watch;

pub use counts::FrameCounts;
pub use duplicates::DuplicateCounts;
pub use follower::Follower;
pub use hold::HeldPeers;
pub use incarnation::ConnectionId;
pub use input::{Input, InputNotice, InputTotals, RouteGrowth, UpdateError};
pub use input_id::InputId;
pub use inputs::{Claim, MOST_PEERS, PeerRefusal};
pub use journal::JournalPosition;
pub use memory_guard::{MemoryExcess, MemoryStage, MemoryStanding, NEAR_PERCENT};
pub use oddity::{Oddities, Oddity};
pub use pass::DumpProgress;
pub use peers::ConnectionHoldings;
pub use piece::Piece;
pub use report::{HiddenPeer, PeerRibs, RibRoutes};
pub use route_filter::{MOST_FILTER_RULES, PathCondition, PrefixRule, RouteFilter, RouteRule};
pub use routers::{KnownRouter, KnownRouters, RouterConnection, RouterId, RouterPresence};
pub use selection::{Mirroring, PeerFilter, SelectedInputs, Selection, SelectionRule};
pub use trouble::{Trouble, TroubleKind};

use report::PeerHoldings;
use store::FeedStore;

/// Memory that the journal may take unless configured otherwise, in bytes.
pub const DEFAULT_JOURNAL_BYTES: usize = 64 * 1024 * 1024;
/// Memory that kept withdrawals may take unless configured otherwise, in bytes.
pub const DEFAULT_WITHDRAWAL_BYTES: usize = 16 * 1024 * 1024;

/// The feed. Clones are the same feed.
#[derive(Clone, Debug)]
pub struct Feed(Arc<FeedStore>);

/// The feed in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedStats {
    /// Announced peers that are up.
    pub peers: usize,
    /// All peers that are up, at most [`MOST_PEERS`].
    pub live_peers: usize,
    /// Their RIBs, and those of peers that were never announced.
    pub ribs: usize,
    /// Routes in these RIBs.
    pub routes: usize,
    /// Distinct attribute sets of the routes.
    pub attribute_sets: usize,
    /// Withdrawals that are kept because a station may need them.
    pub withdrawals: usize,
    /// Sequence number of the next frame.
    pub head: u64,
    /// Bytes that were appended since the start.
    pub head_bytes: u64,
    /// Sequence number of the oldest frame in the journal; `head` if the journal is empty.
    pub tail: u64,
    /// Memory of the journal, in bytes: what its chunks keep alive, and what it keeps about them.
    pub journal_bytes: usize,
    /// The limit of `journal_bytes`. One chunk always fits, however large.
    pub journal_limit: usize,
    /// Memory of routes and RIBs, in bytes.
    pub route_bytes: usize,
    /// Memory of groups of routes, in bytes.
    pub group_bytes: usize,
    /// Memory of attribute sets, in bytes.
    pub attribute_bytes: usize,
    /// Memory of kept withdrawals, in bytes: a part of `route_bytes`.
    pub withdrawal_bytes: usize,
    /// All memory that counts towards the limit of memory, in bytes: the journal counts with its
    /// limit.
    pub memory: usize,
    /// The limit of memory, and how near it is.
    pub standing: MemoryStanding,
    /// Frames that were appended since the start, by type.
    pub frames: FrameCounts,
    /// Frames that are not as they should be, by kind.
    pub trouble: Trouble,
}

/// How many peers are looked at under one lock.
const PEERS_AT_ONCE: usize = 64;

impl Feed {
    /// Makes a feed whose journal takes at most `journal_bytes` of memory, and whose kept
    /// withdrawals take at most `withdrawal_bytes`.
    pub fn new(journal_bytes: usize, withdrawal_bytes: usize) -> Self {
        Self(Arc::new(FeedStore::new(journal_bytes, withdrawal_bytes)))
    }

    /// Opens a connection of an input. When it is dropped, the stations are told a Peer Down for
    /// every peer that it owns.
    pub fn input(&self, id: InputId) -> Input {
        Input::new(Arc::clone(&self.0), id)
    }

    /// Attaches a follower, whose station knows nothing.
    pub fn attach(&self, selection: Selection) -> Follower {
        Follower::attach(Arc::clone(&self.0), selection)
    }

    /// Returns the filter with these rules. Sessions with the same rules share it, and what it
    /// decides about a route.
    pub fn route_filter(&self, rules: Vec<RouteRule>) -> Arc<RouteFilter> {
        self.0.filters.get(rules)
    }

    /// Follows the routers of divided relays that have a connection: see [`Input::divide`].
    pub fn routers(&self) -> watch::Receiver<RouterPresence> {
        self.0.routers.watch()
    }

    /// The RIBs of the peers of an input, with their numbers of routes.
    pub fn ribs(&self, input: &InputId) -> Vec<RibRoutes> {
        let of_input = self.peers().into_iter().filter(|peer| input.has(peer.input()));
        of_input.flat_map(|peer| peer.ribs().to_vec()).collect()
    }

    /// How often the peers of an input said what was known already, in their current lives.
    pub fn duplicates(&self, input: &InputId) -> DuplicateCounts {
        let (mut duplicates, mut from) = (DuplicateCounts::default(), 0);
        let mut add = |peer: &peers::LivePeer| {
            if peer.life.input == *input {
                duplicates.add(peer.duplicates);
            }
        };
        while let Some(next) = self.0.lock().peers.visit(from, PEERS_AT_ONCE, &mut add) {
            from = next;
        }
        duplicates
    }

    /// The peers that are up, and those that have routes without a Peer Up, in the order in which
    /// they came up.
    ///
    /// Takes the lock for some peers at a time, so that inputs and sessions do not wait.
    pub fn peers(&self) -> Vec<PeerRibs> {
        let mut peers = Vec::new();
        let mut from = 0;
        while let Some(next) = self.0.lock().peers.visit(from, PEERS_AT_ONCE, |peer| peers.push(PeerRibs::of(peer))) {
            from = next;
        }
        peers.sort_unstable_by_key(PeerRibs::number);
        peers
    }

    /// Limits the memory of the feed, in bytes. `None` for no limit.
    ///
    /// Beyond the limit, one connection after the other is told to close: see
    /// [`Input::orders_to_close`].
    pub fn set_memory_limit(&self, limit: Option<usize>) {
        let mut feed = self.0.lock();
        feed.limit.set_limit(limit);
        feed.hold_to_limit();
    }

    /// The memory of the feed, as it counts towards the limit, in bytes. Takes no time.
    pub fn memory(&self) -> usize {
        self.0.lock().memory()
    }

    /// Follows the limit of memory, and how near it is.
    pub fn memory_standing(&self) -> watch::Receiver<MemoryStanding> {
        self.0.lock().limit.watch()
    }

    /// The head of the journal.
    pub fn head(&self) -> JournalPosition {
        self.0.head()
    }

    /// The peers that a connection may not speak about, because another connection of its input
    /// owns them.
    pub fn refusals(&self, connection: ConnectionId) -> Vec<PeerRefusal> {
        self.0.lock().inputs.refusals(connection)
    }

    /// The feed in numbers. Counts some peers at a time, so that inputs and sessions do not wait.
    pub fn stats(&self) -> FeedStats {
        let mut holdings = PeerHoldings::default();
        let mut from = 0;
        while let Some(next) = self.0.lock().peers.visit(from, PEERS_AT_ONCE, |peer| holdings.add(peer)) {
            from = next;
        }
        let state = self.0.lock();
        let memory = state.memory();
        let journal = self.0.journal();
        let PeerHoldings { peers, ribs, routes, route_bytes, group_bytes } = holdings;
        FeedStats {
            peers,
            ribs,
            routes,
            attribute_sets: state.tables.attributes.len(),
            withdrawals: state.tables.withdrawals.len(),
            head: journal.head().frames,
            head_bytes: journal.head().bytes,
            tail: journal.tail(),
            journal_bytes: journal.charged(),
            journal_limit: journal.limit(),
            route_bytes,
            group_bytes,
            attribute_bytes: state.tables.attributes.memory(),
            withdrawal_bytes: state.tables.withdrawals.bytes(),
            memory,
            live_peers: state.peers.live(),
            standing: state.limit.standing(),
            frames: state.appended,
            trouble: state.tables.trouble,
        }
    }
}

/// A feed with the default limits.
impl Default for Feed {
    fn default() -> Self {
        Self::new(DEFAULT_JOURNAL_BYTES, DEFAULT_WITHDRAWAL_BYTES)
    }
}
