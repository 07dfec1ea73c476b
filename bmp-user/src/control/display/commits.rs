//! `display configuration commit list` and `display configuration commit changes`: the history of
//! commits.

use std::fmt::{self, Write as _};

use schemars::JsonSchema;
use serde::Serialize;

use super::layout::{after, heading, or_dash, table};
use crate::config::{COMMITS_KEPT, CommitList, CommitOrigin, CommitRecord};

/// The commits that are kept, newest first.
#[derive(Clone, Debug, JsonSchema, Serialize)]
#[serde(transparent)]
pub(super) struct CommitReports {
    pub(super) commits: Vec<CommitRecord>,
    /// Why some are not among them. Text only.
    #[serde(skip)]
    pub(super) fault: Option<String>,
}

/// Returns how many commits `last COUNT` asks for.
pub(super) fn most(last: Option<u32>) -> usize {
    last.and_then(|last| usize::try_from(last).ok()).unwrap_or(COMMITS_KEPT)
}

impl CommitReports {
    pub(super) fn of(CommitList { records, fault }: CommitList, last: Option<u32>) -> Self {
        Self { commits: records.into_iter().take(most(last)).collect(), fault }
    }
}

impl fmt::Display for CommitReports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { commits, fault } = self;
        heading(f, "Number of commits", commits.len())?;
        if !commits.is_empty() {
            writeln!(f)?;
            let headings = ["ID", "Time", "By", "Lines", "Label", "Description"].map(str::to_owned);
            let row = |commit: &CommitRecord| {
                [
                    commit.id.to_string(),
                    to_the_second(&commit.time),
                    by_whom(commit),
                    format!("+{} -{}", commit.added, commit.removed),
                    or_dash(commit.label.as_ref()),
                    or_dash(commit.description.as_ref()),
                ]
            };
            table(f, std::iter::once(headings).chain(commits.iter().map(row)))?;
        }
        match fault {
            Some(fault) => writeln!(f, "Warning: {fault}."),
            None => Ok(()),
        }
    }
}

/// Returns the differences of commits, each below a line that says which it is.
pub(super) fn changes_text(commits: &[(CommitRecord, String)]) -> String {
    let mut text = String::new();
    for (commit, changes) in commits {
        let CommitRecord { id, time, label, description, .. } = commit;
        let (label, description) = (after(", label ", label.as_ref()), after(": ", description.as_ref()));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# Commit {id}, {}, {}{label}{description}", to_the_second(time), by_whom(commit));
        text += changes;
    }
    text
}

/// Returns `alice, bmpctl (4711)`, or where the configuration came from instead.
fn by_whom(commit: &CommitRecord) -> String {
    let CommitRecord { origin, user, uid, process, program, .. } = commit;
    match origin {
        CommitOrigin::File => return "the file".to_owned(),
        CommitOrigin::Unrecorded => return "not recorded".to_owned(),
        CommitOrigin::Commit | CommitOrigin::Rollback => {}
    }
    let user = user.clone().or(uid.map(|uid| format!("user {uid}"))).unwrap_or_else(|| "unknown".to_owned());
    let program = program.as_ref().map_or_else(|| "process".to_owned(), ToString::to_string);
    match process {
        Some(process) => format!("{user}, {program} ({process})"),
        None => user,
    }
}

/// Cuts the part of a second off a time of RFC 3339.
fn to_the_second(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.to_owned(),
    }
}
