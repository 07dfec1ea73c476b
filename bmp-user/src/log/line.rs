//! The layout of a log line: time, level, message, fields.
//!
//! The field `session` precedes the message as `session ID: `, and the field `of` precedes it
//! without its name. All other fields follow the message.

use std::{
    fmt::{self, Write as _},
    net::SocketAddr,
};

use tracing::{
    Event, Level,
    field::{Field, Visit},
};
use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime as _, SystemTime},
};

use super::limit::LineSubject;
use crate::escape::escaped;

/// The longest text of a line, in bytes. Longer texts are cut.
const LONGEST: usize = 8 * 1024;

/// How lines are formatted.
#[derive(Clone, Copy, Debug)]
pub(super) struct LineStyle {
    pub(super) colours: bool,
}

impl LineStyle {
    /// Formats a line with its line end. Unsafe characters of `text` are escaped.
    pub(super) fn line(self, level: Level, text: &str) -> Vec<u8> {
        let mut line = String::new();
        let (dim, colour, plain) = match (self.colours, level) {
            (false, _) => ("", "", ""),
            (true, Level::ERROR) => ("\x1b[2m", "\x1b[31m", "\x1b[0m"),
            (true, Level::WARN) => ("\x1b[2m", "\x1b[33m", "\x1b[0m"),
            (true, Level::INFO) => ("\x1b[2m", "\x1b[32m", "\x1b[0m"),
            (true, _) => ("\x1b[2m", "\x1b[34m", "\x1b[0m"),
        };
        // Writing to a string cannot fail. A clock before 1970 only costs the time.
        line.push_str(dim);
        let _ = SystemTime.format_time(&mut Writer::new(&mut line));
        let text = match text.char_indices().find(|(at, _)| *at >= LONGEST) {
            Some((at, _)) => format!("{} …", escaped(text.get(..at).unwrap_or_default())),
            None => escaped(text).to_string(),
        };
        let _ = writeln!(line, "{plain} {colour}{level:>5}{plain} {text}");
        line.into_bytes()
    }
}

/// Returns the subject of an event, as its fields name it.
pub(super) fn subject(event: &Event<'_>) -> LineSubject {
    let mut subject = LineSubject::default();
    event.record(&mut SubjectVisitor(&mut subject));
    subject
}

struct SubjectVisitor<'a>(&'a mut LineSubject);

impl SubjectVisitor<'_> {
    fn name(&mut self, field: &Field, value: &dyn fmt::Display) {
        let LineSubject { name, outsider } = &mut *self.0;
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "client" => {
                *outsider = true;
                let value = value.to_string();
                // Without the port, because a client uses another port for each connection.
                match value.parse::<SocketAddr>() {
                    Ok(address) => write!(name, "{} ", address.ip()),
                    Err(_) => write!(name, "{value} "),
                }
            }
            "session" | "of" | "relay" | "replay" | "peer" => write!(name, "{value} "),
            _ => Ok(()),
        };
    }
}

impl Visit for SubjectVisitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.name(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() != "message" {
            self.name(field, &Debugged(value));
        }
    }
}

/// Displays a value by its `Debug`.
struct Debugged<'a>(&'a dyn fmt::Debug);

impl fmt::Display for Debugged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text of an event, not yet escaped.
#[derive(Default)]
pub(super) struct EventText {
    before: String,
    message: String,
    fields: String,
}

impl EventText {
    pub(super) fn from_event(event: &Event<'_>) -> Self {
        let mut text = Self::default();
        event.record(&mut text);
        text
    }

    pub(super) fn message(self) -> String {
        let Self { before, message, fields } = self;
        before + &message + &fields
    }

    fn field(&mut self, field: &Field, value: &dyn fmt::Display) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value}"),
            "session" => write!(self.before, "session {value}: "),
            "of" => write!(self.before, "{value}: "),
            // Fields that the crate `log` adds to its events.
            name if name.starts_with("log.") => Ok(()),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}

impl Visit for EventText {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" | "session" | "of" => self.field(field, &value),
            _ => self.field(field, &format_args!("\"{value}\"")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, &Debugged(value));
    }
}
