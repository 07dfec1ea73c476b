//! Everything that feeds.

pub mod bgp;
pub mod mrt;
pub mod relay;
