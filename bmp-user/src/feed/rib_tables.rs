//! What the RIBs of all peers share.

use foldhash::fast::RandomState;

use super::{Trouble, attributes::AttributeSets, withdrawals::Withdrawals};

/// The attributes, withdrawals and counters that all RIBs share.
#[derive(Debug)]
pub(super) struct RibTables {
    pub(super) attributes: AttributeSets,
    pub(super) withdrawals: Withdrawals,
    pub(super) trouble: Trouble,
    pub(super) hasher: RandomState,
}

impl RibTables {
    pub(super) fn new(withdrawal_limit: usize, hasher: RandomState) -> Self {
        Self {
            attributes: AttributeSets::new(),
            withdrawals: Withdrawals::new(withdrawal_limit),
            trouble: Trouble::default(),
            hasher,
        }
    }
}
