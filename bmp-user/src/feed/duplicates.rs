//! What a peer says a second time.

/// How often a peer said what was known already, in its current life. Numbers wrap, as the counters
/// of a Statistics Report do (RFC 7854 §4.8).
///
/// Routes of families whose NLRI nobody can tell apart are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DuplicateCounts {
    /// Routes that were announced with the attributes that they had.
    pub advertisements: u32,
    /// Withdrawals of routes that were not there.
    pub withdrawals: u32,
    /// UPDATEs with routes, none of which changed anything.
    pub updates: u32,
}

impl DuplicateCounts {
    /// Adds other numbers.
    pub fn add(&mut self, other: Self) {
        self.advertisements = self.advertisements.wrapping_add(other.advertisements);
        self.withdrawals = self.withdrawals.wrapping_add(other.withdrawals);
        self.updates = self.updates.wrapping_add(other.updates);
    }

    /// Returns what was counted after an earlier reading.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            advertisements: self.advertisements.wrapping_sub(earlier.advertisements),
            withdrawals: self.withdrawals.wrapping_sub(earlier.withdrawals),
            updates: self.updates.wrapping_sub(earlier.updates),
        }
    }
}
