//! The pieces of the command language: lines and their words, secrets, arguments and their ranges,
//! and the syntax that commands are made of. Nothing here knows a command.

pub(super) mod address;
pub(super) mod argument;
pub(super) mod line;
pub(super) mod number;
pub(super) mod sealed;
pub(super) mod secret;
pub(super) mod syntax;
pub(super) mod token;
pub(super) mod utc;
pub(in crate::config) mod value;
