//! What this host has: interfaces, addresses and routes, as one table that is watched over netlink.

mod host;

pub use host::{Address, Host, Link};
