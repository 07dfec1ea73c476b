//! Fuzz targets for bmpd's parsers and its feed.
//!
//! Each target is a function of bytes that panics if a property does not hold. libFuzzer calls it
//! (`cargo xtask fuzz`), and plain tests call it with the [`corpus`], which is made of real
//! captures. [`station::Replica`] models a station's knowledge, so that two of them can be
//! compared. [`lab`] has both ends of a feed.

pub mod corpus;
pub mod lab;
pub mod memory;
pub mod station;
pub mod target;

#[global_allocator]
static MEMORY: memory::CountingAllocator = memory::CountingAllocator;
