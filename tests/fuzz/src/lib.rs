//! What is thrown at bmpd's parsers and at its feed, and what must be so whatever it is.
//!
//! Each target is a function of bytes that panics if something is not as it must be. libFuzzer calls it (`cargo xtask fuzz`), and so do plain
//! tests, with the [`corpus`] that real captures are made into. A [`station::Station`] believes all that it is told, so that two
//! of them can be compared; the [`lab`] has what is at both ends of a feed.

pub mod corpus;
pub mod lab;
pub mod memory;
pub mod station;
pub mod target;

#[global_allocator]
static MEMORY: memory::Counting = memory::Counting;
