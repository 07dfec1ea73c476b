//! Everything that feeds.
