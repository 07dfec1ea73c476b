//! Interfaces, addresses and routes of this host, read and watched over netlink.
//!
//! [`watch`] keeps a [`Host`] up to date and publishes each new value. [`RouteLookup`] asks the
//! kernel for a route. [`Steering`] adds routing rules and tables for sessions with a `next-hop`.
//! Each belongs to the network namespace of the thread that calls [`watch`] or opens it. No other
//! room uses rtnetlink.
//!
//! A notification only says what has changed. The watch then asks the kernel, so every published
//! value is newer than the notification, and addresses are in the kernel's order. Parsers read only
//! the attributes that they need. An unknown attribute never hides an interface.
//!
//! * `host`: the published value and its questions. `watch`: the task that keeps it. `interface`:
//!   an interface by index and name.
//! * `routes`: route lookups. `steering`: rules and tables of sessions. `marks`: which bmpd owns a
//!   mark.
//! * `drops`: packets that an interface dropped.
//! * `netlink`: sockets for requests and notifications. `message`: parsers.

mod drops;
mod host;
mod interface;
mod marks;
mod message;
mod netlink;
mod routes;
mod steering;
mod watch;

#[cfg(test)]
mod tests;

pub use drops::{DropCounters, Drops};
pub use host::{Host, InterfaceAddress, InterfaceSubnet, Link};
pub use interface::Interface;
pub use marks::{Marks, OwnedMark};
pub use routes::{KernelRoute, MarkedFlow, RouteLookup};
pub use steering::{EarlierRule, MARKS, MarkRoute, PRIORITY, PROTOCOL, Steer, SteeredMark, Steering};
pub use watch::watch;
