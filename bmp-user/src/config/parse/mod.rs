//! Words against the language: every command is a setting of [`super::settings`] or one of
//! [`commands`]. Matching, help, completion and suggestions walk the same table.

pub(super) mod commands;
pub(super) mod filter;
pub(super) mod help;
pub(super) mod matching;
pub(super) mod outcome;
pub(super) mod rule;
mod suggestion;
