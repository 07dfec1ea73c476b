//! The command language, the configuration it edits, and its printed form.
//!
//! One table (`grammar`) says what the commands are. Words are matched with it to a [`Command`], a value; [`apply`] does what a
//! command says to a [`Config`], and a whole file ([`parse_file`], [`load`]) is its commands in order. [`print`] fills the same
//! table in: reading what it wrote gives an equal configuration.

mod address;
mod arguments;
mod candidate;
mod capacity;
mod change;
mod command;
mod comments;
mod difference;
mod effective;
mod file;
mod filter;
mod grammar;
mod help;
mod kept;
mod matching;
mod model;
mod print;
mod secret;
mod setting;
mod store;
mod text;
mod trial;
mod value;

#[cfg(test)]
mod tests;

pub use candidate::Editor;
pub use capacity::TooManySessions;
pub use command::{CandidateCommand, Command, Configure, Display, Edit, Reset, View, apply, has_secret, parse_line};
pub use difference::{Conflict, Difference, rebase};
pub use effective::{Effective, From, effective};
pub use file::{LoadError, load, parse_file};
pub use filter::Filter;
pub use grammar::Item;
pub use help::{Next, NextWord, Suggest, next_words};
pub use kept::KeepError;
pub use model::{
    Bgp, BgpPeer, BgpTimer, Bmp, Config, ConnectInterface, ConnectRetry, MaxConnections, MonitorId, Pace, Prefix,
    Relay, Replay, RouteMode, Session, SessionId, Transport,
};
pub use print::print;
pub use secret::{MASK, Secret, masked};
pub use setting::Setting;
pub use store::{CommitError, Committed, Store};
pub use text::Error;
pub(crate) use text::sentence;
pub use trial::{Allow, Notice, OperatorId, TrialEnd, TrialReport, Who};
pub use value::PUBLIC;
