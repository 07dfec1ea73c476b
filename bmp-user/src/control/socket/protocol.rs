//! The language of the control socket: one JSON object a line in each direction, one answer for
//! each request.
//!
//! A connection is one operator at work. The operator has a view, a candidate, and the
//! configuration that was in force when the candidate was begun. All of it ends with the
//! connection.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Longest request line, in bytes.
pub const LINE_MAX: usize = 64 * 1024;

/// Path of the control socket unless `--control` names another.
pub const DEFAULT_PATH: &str = "/run/bmpd/bmpd.sock";

/// A command line and what to do with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The command line, as typed.
    pub command: String,
    /// True for an answer in JSON rather than text.
    #[serde(default)]
    pub json: bool,
    /// What to do with the command line.
    #[serde(default)]
    pub mode: RequestMode,
    /// True to follow the notices about trials instead of asking: one answer for each notice, until
    /// the connection ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
    /// Where the command line comes from. A refusal then names the place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// What to do with a command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestMode {
    /// Carry it out without questions.
    #[default]
    Run,
    /// Carry it out, and ask where there is a question: the next request of this mode is the
    /// answer. A command that takes a moment sends a notice before its answer.
    Interactive,
    /// Repeat the open question, if there still is one.
    Repeat,
    /// Explain the words that may come next.
    Help,
    /// List the words that may come next.
    Complete,
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The file, as the operator named it.
    pub file: String,
    /// Line number, from 1.
    pub line: usize,
}

/// The answer to a request, and where the operator is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The answer.
    #[serde(flatten)]
    pub answer: CommandAnswer,
    /// The prompt: `<edge1>`, `[*edge1-bmp]`, ...
    #[serde(default)]
    pub prompt: String,
    /// True if the candidate has changes that would be lost with the connection.
    #[serde(default)]
    pub pending: bool,
    /// True if the command line held a secret: do not remember the line.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
    /// Of a `display`: the part of the kernel's enforcement that is lost, if any. bmpctl then ends
    /// with exit status 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
    /// The lines that lead from the user view to the operator's view, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub view: Vec<String>,
    /// True if the command line was one of a configuration: it has changed the candidate, or could
    /// have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub edited: bool,
    /// Of the words that may come next: what some of them are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hints: BTreeMap<String, String>,
}

/// An answer, and nothing about the operator.
impl From<CommandAnswer> for Response {
    fn from(answer: CommandAnswer) -> Self {
        Self {
            answer,
            prompt: String::new(),
            pending: false,
            secret: false,
            lost: None,
            view: Vec::new(),
            edited: false,
            hints: BTreeMap::new(),
        }
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandAnswer {
    /// The command was carried out, and prints this.
    Done(String),
    /// The command was refused, for this reason.
    Refused(String),
    /// The next request is the answer to this question.
    Question(String),
    /// News for the operator, who may be doing something else or waiting for the answer.
    Notice(String),
    /// Words that may come next.
    Words(Vec<String>),
    /// The operator has left.
    Left(String),
}
