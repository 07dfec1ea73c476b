//! `display configuration trial`: whose trial is in force, and for how long yet.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use crate::config::TrialReport;

/// The trial that is in force, if any.
#[derive(Clone, Debug, JsonSchema, Serialize)]
#[serde(transparent)]
pub(super) struct CurrentTrial(pub(super) Option<TrialReport>);

impl fmt::Display for CurrentTrial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(TrialReport { user, uid, process, connected, seconds, seconds_left }) = &self.0 else {
            return f.write_str("No trial is in force.\n");
        };
        let user = user.clone().or(uid.map(|uid| format!("user {uid}"))).unwrap_or_else(|| "unknown".to_owned());
        let process = process.map(|process| format!("process {process}, ")).unwrap_or_default();
        let connected = if *connected { "connected" } else { "its connection is closed" };
        writeln!(f, " Owner       : {user}")?;
        writeln!(f, " Connection  : {process}{connected}")?;
        writeln!(f, " Time left   : {seconds_left} s of {seconds} s")
    }
}
