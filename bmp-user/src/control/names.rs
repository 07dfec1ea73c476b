//! The current names of interfaces. A pin knows its interfaces by index: one that is renamed is the
//! same interface, and the same pin.

use crate::{link::Host, pin::ResolvedPin};

/// Returns the current names of the interfaces that a session may leave by.
pub(super) fn egress_names(resolved: &ResolvedPin, host: &Host) -> Vec<String> {
    resolved.egress.iter().map(|interface| interface.name_on(host)).collect()
}
