//! Bytes on the wire: parsing borrows from a buffer, building writes into one, and every error says at which offset.

pub mod bgp;
pub mod bmp;
mod error;
pub mod mrt;
mod reader;

pub use error::At;
