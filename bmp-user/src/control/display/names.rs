//! What interfaces are called now.

use crate::{link::Host, pin::Resolved};

/// What the interfaces that a session may leave by are called now: one that is renamed is the same interface, and the same pin.
pub(in crate::control) fn egress_names(resolved: &Resolved, host: &Host) -> Vec<String> {
    resolved.egress.iter().map(|interface| name_now(interface, host)).collect()
}

/// What an interface is called now.
pub(super) fn name_now((index, name): &(u32, String), host: &Host) -> String {
    host.links.get(index).map_or(name, |link| &link.name).clone()
}
