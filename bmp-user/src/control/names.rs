//! The current names of interfaces. A pin knows its interfaces by index: one that is renamed is the
//! same interface, and the same pin.

use crate::{link::Host, pin::Resolved};

/// Returns the current names of the interfaces that a session may leave by.
pub(super) fn egress_names(resolved: &Resolved, host: &Host) -> Vec<String> {
    resolved.egress.iter().map(|interface| current_name(interface, host)).collect()
}

/// Returns the current name of an interface, or the last one known where the interface is gone.
pub(super) fn current_name((index, name): &(u32, String), host: &Host) -> String {
    host.links.get(index).map_or(name, |link| &link.name).clone()
}
