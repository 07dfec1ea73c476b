//! Peers over streams in memory, with a clock that the tests advance.

mod collision;
mod damage;
mod limits;
mod malformed;
mod restart;
mod sessions;
mod statistics;
mod translated;
mod world;
