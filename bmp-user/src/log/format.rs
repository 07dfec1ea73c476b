//! The formats of the log: text for people, JSON for programs, entries for the journal.

use std::{
    fmt::{self, Write as _},
    io,
};

use serde::ser::SerializeMap as _;
use tracing::Level;

use super::{journal, record::LogRecord};
use crate::sys;

/// The formats that an operator can name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// `journal` where standard error is the journal of systemd, and `text` elsewhere.
    #[default]
    Auto,
    /// A line of text for each event, on standard error.
    Text,
    /// A JSON object for each event, on standard error, one a line.
    Json,
    /// Entries of the journal of systemd, with fields.
    Journal,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
            Self::Journal => "journal",
        })
    }
}

/// How records become bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogEncoding {
    Text { colours: bool },
    Json,
    Journal,
}

impl LogEncoding {
    /// Encodes a record: a line with its end, or an entry of the journal.
    pub(super) fn encode(self, record: &LogRecord) -> Vec<u8> {
        match self {
            Self::Text { colours } => text(record, colours),
            Self::Json => json(record),
            Self::Journal => journal::entry(record),
        }
    }
}

fn text(record: &LogRecord, colours: bool) -> Vec<u8> {
    let (dim, colour, plain) = match (colours, record.level) {
        (false, _) => ("", "", ""),
        (true, Level::ERROR) => ("\x1b[2m", "\x1b[31m", "\x1b[0m"),
        (true, Level::WARN) => ("\x1b[2m", "\x1b[33m", "\x1b[0m"),
        (true, Level::INFO) => ("\x1b[2m", "\x1b[32m", "\x1b[0m"),
        (true, _) => ("\x1b[2m", "\x1b[34m", "\x1b[0m"),
    };
    let mut line = String::from(dim);
    line.push_str(&sys::time_in_utc());
    // Writing to a string cannot fail.
    let _ = writeln!(line, "{plain} {colour}{:>5}{plain} {}", record.level.as_str(), record.text);
    line.into_bytes()
}

fn json(record: &LogRecord) -> Vec<u8> {
    let mut line = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut line);
    let written = serde::Serializer::serialize_map(&mut serializer, None).and_then(|mut map| {
        map.serialize_entry("time", &sys::time_in_utc())?;
        map.serialize_entry("level", &record.level.as_str().to_ascii_lowercase())?;
        map.serialize_entry("message", &record.text)?;
        for (name, value) in &record.fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    });
    debug_assert!(written.is_ok(), "texts and a vector cannot fail");
    line.push(b'\n');
    line
}

/// Returns how to encode the records of this process.
///
/// # Errors
///
/// Fails if the journal is named and none listens.
pub(super) fn choose(format: LogFormat, colours: bool) -> io::Result<(LogEncoding, Option<journal::JournalSink>)> {
    let text = LogEncoding::Text { colours };
    Ok(match format {
        LogFormat::Text => (text, None),
        LogFormat::Json => (LogEncoding::Json, None),
        LogFormat::Journal => (LogEncoding::Journal, Some(journal::JournalSink::open()?)),
        // A journal that does not listen still reads standard error.
        LogFormat::Auto if journal::is_stderr() => match journal::JournalSink::open() {
            Ok(sink) => (LogEncoding::Journal, Some(sink)),
            Err(_) => (text, None),
        },
        LogFormat::Auto => (text, None),
    })
}
