//! Everything that feeds.

// `bgp/` is not finished and not built: its tests have not been seen to pass.
pub mod mrt;
pub mod relay;
