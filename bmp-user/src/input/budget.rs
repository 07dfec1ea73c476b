//! `maximum-routes`: how many routes one connection of a relay, or one BGP peer, may have.
//!
//! Routes are counted as the feed keeps them, in all RIBs together. A count takes as long as the
//! connection has peers, so it is made only where the limit may be passed: each route takes a byte
//! of a frame at least. What comes in by one read is counted together, and 8 bytes for each peer.
//! The limit is exceeded by that at most.
//!
//! `memory-limit` is another cause to refuse a client for a while ([`ClosingCause`]). The feed
//! decides about that.

use std::{fmt, future::pending, time::Duration};

use tokio::sync::watch;

use crate::{
    config::{MEGABYTE, MaximumRoutes},
    feed::{ConnectionHoldings, MemoryExcess, MemoryStanding, RouteGrowth},
};

/// How long a client is refused after it had too many routes, or had grown most when the feed took
/// too much memory.
pub(crate) const HOLD: Duration = Duration::from_secs(300);

/// The share of the limit that is worth a warning, in percent.
pub(crate) const WARNS_AT_PERCENT: usize = 75;
/// Bytes that come in between two counts, at least, for each peer of the connection.
const BYTES_FOR_EACH_PEER: u64 = 8;

/// How near a limit is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum BudgetStage {
    #[default]
    Within,
    /// More than [`WARNS_AT_PERCENT`] of the routes are there.
    Near,
    Beyond,
}

/// What an operator has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BudgetNews {
    /// More than [`WARNS_AT_PERCENT`] of the routes are there.
    Near(RouteExcess),
    /// There are more routes than the limit, which is there for a warning alone.
    Warning(RouteExcess),
    /// There are more routes than the limit: the connection has to be closed.
    Beyond(RouteExcess),
}

/// A number of routes, and the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RouteExcess {
    pub(super) routes: usize,
    pub(super) most: usize,
}

impl RouteExcess {
    /// True if a limit still refuses the client that had these routes.
    pub(super) fn is_beyond(self, limit: Option<MaximumRoutes>) -> bool {
        limit.is_some_and(|limit| !limit.warning_only && self.routes > most(limit))
    }
}

/// Why a client is refused for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosingCause {
    /// It had more routes than `maximum-routes`.
    Routes {
        /// Its routes.
        routes: usize,
        /// The limit.
        most: usize,
    },
    /// The feed took more memory than `memory-limit`, and the client had grown most.
    Memory(MemoryExcess),
}

impl ClosingCause {
    /// The setting that the client was closed for.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Routes { .. } => "maximum-routes",
            Self::Memory(_) => "memory-limit",
        }
    }

    /// True if these limits still refuse the client.
    pub(crate) fn still_holds(self, routes: Option<MaximumRoutes>, memory: Option<usize>) -> bool {
        match self {
            Self::Routes { routes: had, most } => RouteExcess { routes: had, most }.is_beyond(routes),
            Self::Memory(MemoryExcess { used, .. }) => memory.is_some_and(|limit| used > limit),
        }
    }

    /// True if the client stays refused when its time is over: the feed still takes too much
    /// memory.
    pub(crate) fn outlasts_its_time(self, memory: &MemoryStanding) -> bool {
        matches!(self, Self::Memory(_)) && memory.is_beyond()
    }
}

/// Waits until the feed wants a connection closed because it takes too much memory.
pub(super) async fn ordered(orders: &mut watch::Receiver<Option<MemoryExcess>>) -> ClosingCause {
    match orders.wait_for(Option::is_some).await.map(|order| *order) {
        Ok(Some(excess)) => ClosingCause::Memory(excess),
        // The feed is gone, or there is no order.
        Ok(None) | Err(_) => pending().await,
    }
}

impl From<RouteExcess> for ClosingCause {
    fn from(RouteExcess { routes, most }: RouteExcess) -> Self {
        Self::Routes { routes, most }
    }
}

/// `the feed took 300 MB, memory-limit is 256, and its peers had grown most`.
impl fmt::Display for ClosingCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Routes { routes, most } => write!(f, "it had {routes} routes, and maximum-routes is {most}"),
            Self::Memory(MemoryExcess { used, limit }) => write!(
                f,
                "the feed took {} MB of memory, memory-limit is {}, and its peers had grown most",
                used.div_ceil(MEGABYTE),
                limit / MEGABYTE
            ),
        }
    }
}

fn most(limit: MaximumRoutes) -> usize {
    usize::try_from(limit.routes).unwrap_or(usize::MAX)
}

/// The routes of one connection, held to its limit.
#[derive(Debug, Default)]
pub(super) struct RouteBudget {
    limit: Option<MaximumRoutes>,
    stage: BudgetStage,
    last: ConnectionHoldings,
    /// The limit is another one than at the last count.
    is_new: bool,
}

impl RouteBudget {
    /// Changes the limit. The next look counts.
    pub(super) fn set(&mut self, limit: Option<MaximumRoutes>) {
        if self.limit != limit {
            *self = Self { limit, stage: BudgetStage::Within, is_new: true, last: self.last };
        }
    }

    /// Begins with a connection that has no routes of its own yet.
    pub(super) fn begin(&mut self) {
        *self = Self { limit: self.limit, is_new: true, ..Self::default() };
    }

    /// Looks whether the limit is passed. `growth` is what came since `count` was called last.
    pub(super) fn look(
        &mut self,
        growth: RouteGrowth,
        count: impl FnOnce() -> ConnectionHoldings,
    ) -> Option<BudgetNews> {
        let limit = self.limit?;
        let most = most(limit);
        if !self.is_due(growth, most) {
            return None;
        }
        self.is_new = false;
        self.last = count();
        let routes = self.last.routes;
        let stage = if routes > most {
            BudgetStage::Beyond
        } else if routes > near(most) {
            BudgetStage::Near
        } else {
            BudgetStage::Within
        };
        let before = std::mem::replace(&mut self.stage, stage);
        let excess = RouteExcess { routes, most };
        match stage {
            _ if stage <= before => None,
            BudgetStage::Within => None,
            BudgetStage::Near => Some(BudgetNews::Near(excess)),
            BudgetStage::Beyond if limit.warning_only => Some(BudgetNews::Warning(excess)),
            BudgetStage::Beyond => Some(BudgetNews::Beyond(excess)),
        }
    }

    fn is_due(&self, RouteGrowth { bytes, peers_returned }: RouteGrowth, most: usize) -> bool {
        if self.is_new {
            return true;
        }
        let peers = u64::try_from(self.last.peers).unwrap_or(u64::MAX);
        if bytes < peers.saturating_mul(BYTES_FOR_EACH_PEER) {
            return false;
        }
        let grown = usize::try_from(bytes).unwrap_or(usize::MAX);
        let next = match self.stage {
            BudgetStage::Within => near(most),
            BudgetStage::Near => most,
            BudgetStage::Beyond => usize::MAX,
        };
        // Routes may have gone meanwhile. Then the next warning is news again.
        let is_old = self.stage != BudgetStage::Within && grown > most;
        peers_returned || is_old || self.last.routes.saturating_add(grown) > next
    }
}

/// Returns the number of routes above which a limit is near.
fn near(most: usize) -> usize {
    most / 100 * WARNS_AT_PERCENT + most % 100 * WARNS_AT_PERCENT / 100
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn limit(routes: u32, warning_only: bool) -> Option<MaximumRoutes> {
        Some(MaximumRoutes { routes, warning_only })
    }

    fn holds(routes: usize) -> impl Fn() -> ConnectionHoldings {
        move || ConnectionHoldings { peers: 1, routes }
    }

    fn grown(bytes: u64) -> RouteGrowth {
        RouteGrowth { bytes, peers_returned: false }
    }

    #[test]
    fn it_warns_at_three_quarters_and_closes_beyond_the_limit_and_says_each_once() {
        let mut budget = RouteBudget::default();
        assert_eq!(budget.look(grown(9_000), holds(9_000)), None, "there is no limit");
        budget.set(limit(100, false));
        assert_eq!(budget.look(grown(0), holds(75)), None);
        let near = RouteExcess { routes: 76, most: 100 };
        assert_eq!(budget.look(grown(50), holds(76)), Some(BudgetNews::Near(near)));
        assert_eq!(budget.look(grown(50), holds(100)), None, "as many as may be");
        let beyond = RouteExcess { routes: 101, most: 100 };
        assert_eq!(budget.look(grown(50), holds(101)), Some(BudgetNews::Beyond(beyond)));
        assert!(beyond.is_beyond(limit(100, false)) && !beyond.is_beyond(limit(101, false)));
        assert!(!beyond.is_beyond(limit(100, true)) && !beyond.is_beyond(None));
    }

    #[test]
    fn a_limit_for_a_warning_closes_nothing_and_warns_again_once_routes_have_gone() {
        let mut budget = RouteBudget::default();
        budget.set(limit(100, true));
        let beyond = Some(BudgetNews::Warning(RouteExcess { routes: 150, most: 100 }));
        assert_eq!(budget.look(grown(150), holds(150)), beyond);
        assert_eq!(budget.look(grown(100), || panic!("nothing can be news")), None);
        assert_eq!(budget.look(grown(101), holds(10)), None);
        assert_eq!(budget.look(grown(150), holds(150)), beyond);
    }

    #[test]
    fn routes_are_counted_only_where_there_may_be_too_many() {
        let (counts, mut budget) = (Cell::new(0), RouteBudget::default());
        let count = |routes| {
            counts.set(counts.get() + 1);
            ConnectionHoldings { peers: 10, routes }
        };
        budget.set(limit(1_000, false));
        assert_eq!(budget.look(grown(0), || count(0)), None);
        for bytes in [10, 400, 750] {
            assert_eq!(budget.look(grown(bytes), || count(0)), None);
        }
        assert_eq!(counts.get(), 1, "so few bytes have no 750 routes");
        assert_eq!(budget.look(grown(751), || count(740)), None);
        assert_eq!(budget.look(grown(79), || count(800)), None, "there are 10 peers to count");
        assert_eq!(counts.get(), 2);
        budget.look(grown(80), || count(800)).unwrap();
        budget.look(RouteGrowth { bytes: 80, peers_returned: true }, || count(2_000)).unwrap();
        assert_eq!(counts.get(), 4);
    }

    #[test]
    fn another_limit_counts_at_once() {
        let mut budget = RouteBudget::default();
        budget.set(limit(1_000, false));
        assert_eq!(budget.look(grown(0), holds(500)), None);
        budget.set(limit(1_000, false));
        assert_eq!(budget.look(grown(0), || panic!("it is the same")), None);
        budget.set(limit(499, false));
        let beyond = RouteExcess { routes: 500, most: 499 };
        assert_eq!(budget.look(grown(0), holds(500)), Some(BudgetNews::Beyond(beyond)));
        budget.set(limit(1_000, false));
        assert_eq!(budget.look(grown(0), holds(500)), None);
        budget.set(None);
        assert_eq!(budget.look(grown(9_000), || panic!("there is no limit")), None);
    }

    #[test]
    fn three_quarters_are_exact_for_small_limits_and_never_overflow() {
        let nearly = [1, 2, 3, 4, 10, 99, 100, 1_000].map(near);
        assert_eq!(nearly, [0, 1, 2, 3, 7, 74, 75, 750]);
        assert!(near(usize::MAX) < usize::MAX);
    }
}
