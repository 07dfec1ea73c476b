//! What this host has: interfaces, addresses and routes, as one table that is watched over netlink.
//!
//! [`watch`] keeps a [`Host`] up to date and publishes each new value of it; [`Routes`] asks the kernel whether it has a route;
//! [`Steering`] gives it routes of sessions' own. All belong to the network namespace of the thread that calls
//! [`watch`], or opens it.
//!
//! Notifications only say *what* to ask about: every value in the table is the kernel's answer to a question asked after the
//! notification came, so it is never older than what it replaces, and addresses are in the kernel's own order. Messages are
//! read attribute by attribute, by need: one that this code has never heard of does not hide the interface that has it.

mod drops;
mod host;
mod marks;
mod message;
mod netlink;
mod routes;
mod steering;
mod watch;

#[cfg(test)]
mod tests;

pub use drops::{DropCounters, Drops};
pub use host::{Address, Host, Link};
pub use marks::{Marks, OwnedMark};
pub use routes::{MarkedFlow, Route, Routes};
pub use steering::{EarlierRule, Found, MARKS, PRIORITY, PROTOCOL, Steer, Steering};
pub use watch::watch;
