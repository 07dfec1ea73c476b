//! `display logbuffer`: the last lines of the log.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::Serialize;

use super::layout::heading;
use crate::log::{self, BUFFER_LINES, BufferedLine, BufferedLog};

/// The kept lines of the log. Field names are those of the JSON and are stable.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct LogReport {
    /// How many lines are kept at most.
    pub(super) limit: usize,
    /// Older lines that are kept no more.
    pub(super) dropped: u64,
    /// Oldest first.
    pub(super) lines: Vec<LogLineReport>,
}

/// One line.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub(super) struct LogLineReport {
    /// RFC 3339, in UTC.
    pub(super) time: String,
    pub(super) level: String,
    pub(super) message: String,
    pub(super) fields: BTreeMap<&'static str, String>,
}

impl LogReport {
    /// Reports on the newest lines, `last` of them.
    pub(super) fn of(last: Option<u32>) -> Self {
        let BufferedLog { lines, dropped } = log::buffered();
        let shown = last.and_then(|last| usize::try_from(last).ok()).unwrap_or(BUFFER_LINES);
        let line = |line: &BufferedLine| {
            let BufferedLine { time, level, text, fields } = line.clone();
            LogLineReport { time, level, message: text, fields }
        };
        let first = lines.len().saturating_sub(shown);
        Self { limit: BUFFER_LINES, dropped, lines: lines.iter().skip(first).map(|kept| line(kept)).collect() }
    }
}

impl fmt::Display for LogReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, dropped, lines } = self;
        heading(
            f,
            "Lines of the log",
            format_args!("{} of at most {limit}, {dropped} older ones dropped", lines.len()),
        )?;
        writeln!(f)?;
        for LogLineReport { time, level, message, .. } in lines {
            writeln!(f, "  {time}  {:5}  {message}", level.to_uppercase())?;
        }
        Ok(())
    }
}
