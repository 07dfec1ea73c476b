//! Bytes on the wire: BGP, BMP, MRT, and the PROXY protocol.
//!
//! Parsing borrows from a buffer. Building appends to a buffer. Every error has the offset of its
//! byte. Nothing here opens sockets or files, or reads a clock.

pub mod bgp;
pub mod bmp;
mod error;
pub mod mrt;
pub mod proxy;
mod reader;

pub use error::At;
