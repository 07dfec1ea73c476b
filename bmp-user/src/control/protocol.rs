//! What goes over the control socket: one JSON object a line in each direction, an answer for each request.

use serde::{Deserialize, Serialize};

/// A request line longer than this is refused.
pub const LINE_MAX: usize = 64 * 1024;

/// Where the control socket is unless `--control` says otherwise.
pub const DEFAULT_PATH: &str = "/run/bmpd/bmpd.sock";

/// A command to carry out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The command line, as typed.
    pub command: String,
    /// Whether the answer shall be JSON rather than text.
    #[serde(default)]
    pub json: bool,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// It was carried out; this is what it prints.
    Done(String),
    /// It was refused; this is why.
    Refused(String),
}
