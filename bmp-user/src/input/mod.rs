//! Everything that feeds.

pub mod relay;
