//! The inputs of the feed: BGP peers, BMP relays and MRT files.

pub mod bgp;
pub(crate) mod budget;
pub mod memory;
pub mod mrt;
pub mod relay;
