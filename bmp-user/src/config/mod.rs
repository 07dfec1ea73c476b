//! The command language, the configuration that it edits, and its printed form.
//!
//! Every setting has one descriptor (`settings`). From it come the parser, the help, the printed
//! form, `undo`, differences, defaults and the reference. Words are matched to a [`ParsedCommand`]
//! (`parse`), and [`apply`] does to a [`Config`] what the command says. A whole file
//! ([`parse_file`], [`load`]) is its commands in order. [`print`] writes a configuration, and
//! reading that gives an equal one. The [`ConfigStore`] has the configuration in force, and its
//! file.
//!
//! * `model`: the configuration as a value
//! * `language`: words, arguments and syntax; knows no command
//! * `settings`: the descriptors, a file a view
//! * `parse`: commands that set nothing, matching, help
//! * `command`, `edit`, `change`: a line as a value, and what it does
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
mod edit;
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

pub use candidate::CandidateEditor;
pub use capacity::TooManySessions;
pub use command::{
    CandidateCommand, ConfigureCommand, DisplayCommand, ParsedCommand, ResetCommand, apply, has_secret, parse_line,
};
pub use commit_error::CommitError;
pub use defaults::{DefaultParameter, default_parameters};
pub use difference::{Conflict, Difference, rebase};
pub use edit::{ConfigEdit, PartialUndo};
pub use effective::{EffectiveSource, SourceLevel, effective};
pub use file::{LoadError, load, parse_file};
pub use kept::KeepError;
pub(crate) use language::line::sentence;
pub use language::{
    argument::PUBLIC,
    line::CommandError,
    secret::{MASK, Secret, masked},
};
pub use model::{
    BgpConfig, BgpPeerConfig, BgpTimer, BmpConfig, Config, ConnectInterface, ConnectRetry, HttpListen, MaxConnections,
    MonitorId, Prefix, RelayConfig, ReplayConfig, ReplayPace, RouteMode, SessionConfig, SessionId, Transport,
};
pub use operator::{Allow, OperatorId, Who};
pub use parse::{
    filter::LineFilter,
    help::{NextWord, NextWords, SuggestionSource, next_words},
};
pub use print::print;
pub use reference::commands_reference;
pub use settings::{Effect, Setting};
pub use store::{Committed, ConfigStore};
pub use trial::{TrialEnd, TrialNotice, TrialReport};
pub use view::CommandView;
