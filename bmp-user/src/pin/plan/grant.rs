//! A pin that is in force.

use super::resolve::ResolvedPin;
use crate::pin::kernel::PinTarget;

/// A resolved connect-interface that the kernel tables hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The connections that the grant is for.
    pub target: PinTarget,
    /// Source and egress.
    pub resolved: ResolvedPin,
    /// Identifies the pin over its changes. Connections of an earlier grant with the same number go
    /// on under this one: the keeper moved them to its slot.
    pub line: u64,
    /// True if the pin holds bmpd's own sockets alone and lets those of other processes pass.
    pub own_only: bool,
    /// The fwmark that selects the session's own route; 0 where it has none.
    pub mark: u32,
}
