//! What inputs are called. A relay has the name that it is configured with, which has no blanks; those of other inputs have one.

use std::net::IpAddr;

const OF_BGP: &str = "bgp ";

/// The input that an `mrt-replay` is.
pub fn of_replay(name: &str) -> String {
    format!("mrt-replay {name}")
}

/// The input that a peer of the `bgp` view is.
pub fn of_bgp_peer(address: IpAddr) -> String {
    format!("{OF_BGP}{address}")
}

/// Whether an input is a peer of the `bgp` view.
pub(super) fn is_of_bgp(input: &str) -> bool {
    input.starts_with(OF_BGP)
}
