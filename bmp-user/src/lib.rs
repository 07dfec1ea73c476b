//! bmpd: BMP sessions (RFC 7854) that leave this host by the interface and address the operator named, and by no other.
//!
//! The way of the data is [`input`] → [`feed`] → [`session`] → socket, held in place by [`pin`], which knows the host through
//! [`link`]; [`config`] says what is wanted and [`control`] is how an operator reaches in. [`agent`] wires them together.

pub mod agent;
pub mod config;
pub mod control;
pub mod escape;
mod exposure;
pub mod feed;
pub mod input;
pub mod link;
pub mod log;
pub mod pin;
mod replace;
pub mod session;
mod sys;
pub mod tasks;
mod visitors;
pub mod wire;

pub use replace::replace_file;
