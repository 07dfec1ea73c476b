//! What the RIBs of all peers share.

use foldhash::fast::RandomState;

use super::{Trouble, attributes::AttributeSets, memory::MemoryMeter, withdrawals::Withdrawals};

/// The attributes, withdrawals and counters that all RIBs share.
#[derive(Debug)]
pub(super) struct RibTables {
    pub(super) attributes: AttributeSets,
    pub(super) withdrawals: Withdrawals,
    pub(super) trouble: Trouble,
    pub(super) hasher: RandomState,
    /// The memory of all RIBs, and of what is kept about their peers.
    pub(super) meter: MemoryMeter,
}

impl RibTables {
    pub(super) fn new(withdrawal_limit: usize, hasher: RandomState) -> Self {
        Self {
            attributes: AttributeSets::new(),
            withdrawals: Withdrawals::new(withdrawal_limit),
            trouble: Trouble::default(),
            hasher,
            meter: MemoryMeter::default(),
        }
    }
}
