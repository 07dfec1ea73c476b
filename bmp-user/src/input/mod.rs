//! Everything that feeds.

pub mod mrt;
pub mod relay;
