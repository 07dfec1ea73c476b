//! The inputs of the feed: BGP peers, BMP relays and MRT files.

pub mod bgp;
pub mod mrt;
pub mod relay;
