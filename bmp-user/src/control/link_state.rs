//! The state of an interface in words.

use crate::link::Link;

/// Returns `up`, `no carrier`, `down`, or `absent` where there is no such interface.
pub(super) fn link_state(link: Option<&Link>) -> &'static str {
    match link {
        None => "absent",
        Some(Link { up: false, .. }) => "down",
        Some(Link { carrier: false, .. }) => "no carrier",
        Some(_) => "up",
    }
}
