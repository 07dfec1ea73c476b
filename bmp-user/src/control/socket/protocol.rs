//! What goes over the control socket: one JSON object a line in each direction, one answer for each request.
//!
//! A connection is one operator at work: it has a view, a candidate, and what was in force when that was begun. All of it is gone
//! with the connection.

use serde::{Deserialize, Serialize};

/// A request line longer than this is refused.
pub const LINE_MAX: usize = 64 * 1024;

/// Where the control socket is unless `--control` says otherwise.
pub const DEFAULT_PATH: &str = "/run/bmpd/bmpd.sock";

/// A command to carry out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The command line, as typed.
    pub command: String,
    /// Whether the answer shall be JSON rather than text.
    #[serde(default)]
    pub json: bool,
    /// What to do with the command line.
    #[serde(default)]
    pub mode: Mode,
    /// Nothing is asked: tell what operators are told of trials, an answer for each, for as long as the connection lasts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
    /// Where the command line comes from: a refusal then names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// What to do with a command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Carry it out, asking nothing.
    #[default]
    Run,
    /// Carry it out; where there is a question, ask it. The next request of this mode is the answer. Where it takes a moment, a notice
    /// comes before the answer and says what is waited for.
    Interactive,
    /// Repeat the question that is open, if it still is one.
    Repeat,
    /// Say what may come next.
    Help,
    /// Give the words that may come next.
    Complete,
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// As the operator named the file.
    pub file: String,
    /// 1-based.
    pub line: usize,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The answer.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Where the operator is now: `<edge1>`, `[*edge1-bmp]`, ...
    #[serde(default)]
    pub prompt: String,
    /// Whether changes are pending that would be gone with the connection.
    #[serde(default)]
    pub pending: bool,
    /// Whether the command line held a secret: it is not to be remembered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
    /// Of a `display`: what is lost of the kernel's enforcement, if anything is. bmpctl then ends with exit status 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was carried out; this is what it prints.
    Done(String),
    /// It was refused; this is why.
    Refused(String),
    /// It depends: the next request is the answer to this question.
    Question(String),
    /// What operators are told while they do something else, or wait for the answer.
    Notice(String),
    /// Words that may come next.
    Words(Vec<String>),
    /// The operator has left.
    Left(String),
}
