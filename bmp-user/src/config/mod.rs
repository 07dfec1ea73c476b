//! The command language, the configuration it edits, and its printed form.
//!
//! One table (`grammar`) says what the commands are. Words are matched with it to a [`Command`], a value; [`apply`] does what a
//! command says to a [`Config`], and a whole file ([`parse_file`], [`load`]) is its commands in order. [`print`] fills the same
//! table in: reading what it wrote gives an equal configuration.

mod change;
mod command;
mod effective;
mod file;
mod filter;
mod grammar;
mod matching;
mod model;
mod print;
mod setting;
mod text;
mod value;

#[cfg(test)]
mod tests;

pub use command::{CandidateCommand, Command, Configure, Display, Edit, Reset, View, apply, parse_line};
pub use effective::{Effective, From, effective};
pub use file::{LoadError, load, parse_file};
pub use filter::Filter;
pub use grammar::Item;
pub use model::{Bmp, Config, ConnectInterface, Relay, Session, SessionId, Transport};
pub use print::print;
pub use setting::Setting;
pub use text::Error;
pub use value::PUBLIC;
