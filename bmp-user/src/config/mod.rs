//! The command language, the configuration that it edits, and its printed form.
//!
//! Every setting has one descriptor (`settings`). From it come the parser, the help, the printed
//! form, `undo`, differences, defaults and the reference. Words are matched to a [`Command`]
//! (`parse`), and [`apply`] does to a [`Config`] what the command says. A whole file
//! ([`parse_file`], [`load`]) is its commands in order. [`print`] writes a configuration, and
//! reading that gives an equal one. The [`Store`] has the configuration in force and its file.
//!
//! * `model`: the configuration as a value
//! * `language`: words, arguments and syntax; knows no command
//! * `settings`: the descriptors, a file a view
//! * `parse`: commands that set nothing, matching, help
//! * `command`, `change`: a line as a value, and what it does
//! * `defaults`, `reference`: what the descriptors say of themselves
//! * `section`, `print`, `difference`, `comments`, `file`: the printed form, read and written
//! * `store`, `candidate`, `trial`, `kept`: commits

mod candidate;
mod capacity;
mod change;
mod command;
mod comments;
mod commit_error;
mod defaults;
mod difference;
mod effective;
mod file;
mod kept;
mod language;
mod model;
mod operator;
mod parse;
mod print;
mod reference;
mod section;
mod settings;
mod store;
mod trial;
mod view;

#[cfg(test)]
mod tests;

pub use candidate::Editor;
pub use capacity::TooManySessions;
pub use command::{AnyLine, CandidateCommand, Command, Configure, Display, Edit, Reset, apply, has_secret, parse_line};
pub use commit_error::CommitError;
pub use defaults::{DefaultParameter, default_parameters};
pub use difference::{Conflict, Difference, rebase};
pub use effective::{Effective, From, effective};
pub use file::{LoadError, load, parse_file};
pub use kept::KeepError;
pub(crate) use language::line::sentence;
pub use language::{
    argument::PUBLIC,
    line::Error,
    secret::{MASK, Secret, masked},
};
pub use model::{
    Bgp, BgpPeer, BgpTimer, Bmp, Config, ConnectInterface, ConnectRetry, MaxConnections, MonitorId, Pace, Prefix,
    Relay, Replay, RouteMode, Session, SessionId, Transport,
};
pub use operator::{Allow, OperatorId, Who};
pub use parse::{
    filter::Filter,
    help::{Next, NextWord, Suggest, next_words},
};
pub use print::print;
pub use reference::commands_reference;
pub use settings::{Effect, Setting};
pub use store::{Committed, Store};
pub use trial::{Notice, TrialEnd, TrialReport};
pub use view::View;
