//! Withdrawals that a station which is behind still needs, within a budget.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{applied::RibPlace, rib::Rib};

/// A withdrawn route that stays in its RIB.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeptWithdrawal {
    pub(super) slot: u32,
    pub(super) rib: u32,
    /// The number of the route in its RIB.
    pub(super) route: u32,
    /// The memory that it takes.
    pub(super) bytes: u32,
    /// The life of the peer.
    pub(super) life: u64,
    /// Sequence number after the withdrawal.
    pub(super) changed: u64,
}

/// The withdrawals that are kept, the oldest first, and what the followers need of them.
#[derive(Debug)]
pub(super) struct Withdrawals {
    queue: VecDeque<KeptWithdrawal>,
    bytes: usize,
    limit: usize,
    followers: HashMap<u64, Arc<AtomicU64>>,
    last_follower: u64,
    /// [`Self::needed_since`] as it was first asked for after the latest [`Self::begin_batch`].
    known: Option<u64>,
}

/// A follower that is registered with [`Withdrawals::follow`].
#[derive(Debug)]
pub(super) struct FollowerNeeds {
    pub(super) number: u64,
    /// The follower needs the withdrawals after this sequence number.
    pub(super) since: Arc<AtomicU64>,
}

impl Withdrawals {
    /// Keeps at most `limit` bytes of withdrawals.
    pub(super) fn new(limit: usize) -> Self {
        Self { queue: VecDeque::new(), bytes: 0, limit, followers: HashMap::new(), last_follower: 0, known: None }
    }

    /// Keeps the withdrawal of a route.
    pub(super) fn keep(
        &mut self,
        rib: &Rib,
        RibPlace { slot, rib: place }: RibPlace,
        route: u32,
        life: u64,
        changed: u64,
    ) {
        let bytes = u32::try_from(rib.withdrawal_bytes(route)).unwrap_or(u32::MAX);
        self.bytes += bytes as usize;
        self.queue.push_back(KeptWithdrawal { slot, rib: place as u32, route, bytes, life, changed });
    }

    /// A peer goes on as another life: its withdrawals belong to that one.
    pub(super) fn move_to_life(&mut self, slot: u32, before: u64, life: u64) {
        for kept in self.queue.iter_mut().filter(|kept| (kept.slot, kept.life) == (slot, before)) {
            kept.life = life;
        }
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// The memory that they take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The memory of the list of them, in bytes.
    pub(super) fn queue_memory(&self) -> usize {
        self.queue.len() * size_of::<KeptWithdrawal>()
    }

    /// Registers a follower that needs the withdrawals after `since`.
    pub(super) fn follow(&mut self, since: u64) -> FollowerNeeds {
        self.last_follower += 1;
        let since = Arc::new(AtomicU64::new(since));
        self.followers.insert(self.last_follower, Arc::clone(&since));
        FollowerNeeds { number: self.last_follower, since }
    }

    /// Forgets a follower.
    pub(super) fn unfollow(&mut self, follower: u64) {
        self.followers.remove(&follower);
    }

    /// Every follower knows what changed up to this sequence number.
    pub(super) fn needed_since(&self) -> u64 {
        self.followers.values().map(|since| since.load(Ordering::Relaxed)).min().unwrap_or(u64::MAX)
    }

    /// The same, or less: asks the followers once in a batch.
    pub(super) fn known_to_all(&mut self) -> u64 {
        let known = self.known.unwrap_or_else(|| self.needed_since());
        *self.known.insert(known)
    }

    /// Has [`Self::known_to_all`] ask anew.
    pub(super) fn begin_batch(&mut self) {
        self.known = None;
    }

    /// Takes the oldest withdrawal, if every follower knows what changed up to `needed_since` and
    /// the withdrawal is among that, or if the withdrawals take more memory than they may.
    pub(super) fn take_oldest(&mut self, needed_since: u64) -> Option<KeptWithdrawal> {
        let is_over_limit = self.bytes > self.limit;
        let oldest = self.queue.pop_front_if(|oldest| oldest.changed <= needed_since || is_over_limit)?;
        self.bytes -= oldest.bytes as usize;
        Some(oldest)
    }
}
