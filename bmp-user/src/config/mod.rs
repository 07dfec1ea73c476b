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
//! * `per_router`: sessions with a connection for each router
//! * `refresh`: when sessions are first told the state
//! * `section`, `print`, `difference`, `comments`, `file`: the printed form, read and written
//! * `store`, `candidate`, `trial`, `kept`, `history`, `commit`: commits
//! * `key_file`, `sealing`: secrets, which are kept sealed
//! * `keychain`: which keys sign connections when
//! * `tls`: the profiles of TLS
//! * `route_filter`: which routes stations are told

mod candidate;
mod change;
mod command;
mod comments;
mod commit;
mod commit_error;
mod debugging;
mod defaults;
mod difference;
mod edit;
mod effective;
mod file;
mod history;
mod kept;
mod key_file;
mod keychain;
mod language;
mod model;
mod operator;
mod parse;
mod per_router;
mod prefix;
mod print;
mod reference;
mod refresh;
mod route_filter;
mod sealing;
mod section;
mod settings;
mod start_limits;
mod store;
mod tls;
mod trial;
mod view;

#[cfg(test)]
mod tests;

pub use candidate::CandidateEditor;
pub use command::{
    CandidateCommand, ConfigureCommand, DisplayCommand, ParsedCommand, ResetCommand, apply, has_secret, parse_line,
};
pub use commit::{COMMITS_KEPT, CommitNote, CommitOrigin, RollbackTarget};
pub use commit_error::CommitError;
pub use debugging::{DebuggedSessions, DebuggingCommand, DebuggingTopic};
pub use defaults::{DefaultParameter, default_parameters};
pub use difference::{Conflict, Difference, rebase};
pub use edit::{ConfigEdit, PartialUndo};
pub use effective::{EffectiveSource, SourceLevel, dump_rate, effective, initial_refresh_wait, initiation_message};
pub use file::{LoadError, load, parse_file};
pub use history::{CommitHistory, CommitRecord, HistoryError};
pub use kept::KeepError;
pub use key_file::{KeyError, KeyFile};
pub use keychain::{
    ChainKey, KeyAlgorithm, KeyLifetime, KeyPlan, KeychainConfig, NoKeyPlan, SigningProtocol, UsableKey,
};
pub(crate) use language::line::sentence;
pub use language::{
    argument::PUBLIC,
    line::CommandError,
    secret::{MASK, Secret, masked},
    utc::UtcTime,
};
pub use model::{
    AllowedUser, BgpConfig, BgpPeerConfig, BgpTimer, BmpConfig, Config, ConnectInterface, ConnectRetry, HttpListen,
    KeepaliveProbes, LineText, MEGABYTE, MaxConnections, MaximumRoutes, MonitorConfig, MonitorId, PerRouter,
    RelayConfig, ReplayConfig, ReplayPace, RouteMode, SessionConfig, SessionId, SessionKeepalive, Transport,
};
pub use operator::{Allow, OperatorId, Who};
pub use parse::{
    filter::LineFilter,
    help::{NextWord, NextWords, SuggestionSource, next_words},
};
pub use prefix::Prefix;
pub use print::{print, print_view};
pub use reference::commands_reference;
pub use refresh::InitialRefresh;
pub use route_filter::{AsPathMatch, MOST_ROUTE_RULES, PrefixEntry, PrefixIndex, RouteFilterConfig, RouteRuleConfig};
pub use sealing::secrecy_warnings;
pub use settings::{Effect, Setting};
pub use start_limits::{LimitExceeded, LowPort, StartLimits};
pub use store::{CommitList, Committed, Committer, ConfigStore};
pub use tls::{CertificateFingerprint, TlsProfileConfig};
pub use trial::{TrialEnd, TrialNotice, TrialReport};
pub use view::CommandView;
