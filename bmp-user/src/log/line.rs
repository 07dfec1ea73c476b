//! What an event looks like in the log: time, level, message, fields.
//!
//! The field `session` stands before the message, as `session ID: `, and `of` likewise without the word. All others follow it.

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

use super::limit::Subject;
use crate::escape::escaped;

/// Longer lines are cut, in bytes.
const LONGEST: usize = 8 * 1024;

/// How lines are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) colours: bool,
}

impl Style {
    /// One line, with its line end. Nothing unsafe is left of `text`.
    pub(super) fn line(self, level: Level, text: &str) -> Vec<u8> {
        let mut line = String::new();
        let (dim, colour, plain) = match (self.colours, level) {
            (false, _) => ("", "", ""),
            (true, Level::ERROR) => ("\x1b[2m", "\x1b[31m", "\x1b[0m"),
            (true, Level::WARN) => ("\x1b[2m", "\x1b[33m", "\x1b[0m"),
            (true, Level::INFO) => ("\x1b[2m", "\x1b[32m", "\x1b[0m"),
            (true, _) => ("\x1b[2m", "\x1b[34m", "\x1b[0m"),
        };
        // Writing to a string cannot fail; a clock that is before 1970 costs the time alone.
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

/// Whom an event is about, as its fields say.
pub(super) fn subject(event: &Event<'_>) -> Subject {
    let mut subject = Subject::default();
    event.record(&mut SubjectVisitor(&mut subject));
    subject
}

struct SubjectVisitor<'a>(&'a mut Subject);

impl SubjectVisitor<'_> {
    fn name(&mut self, field: &Field, value: &dyn fmt::Display) {
        let Subject { name, outsider } = &mut *self.0;
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "client" => {
                *outsider = true;
                let value = value.to_string();
                // A client has another port each time.
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

/// Displays as it debugs.
struct Debugged<'a>(&'a dyn fmt::Debug);

impl fmt::Display for Debugged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an event says. Not yet escaped.
#[derive(Default)]
pub(super) struct Text {
    before: String,
    message: String,
    fields: String,
}

impl Text {
    pub(super) fn of(event: &Event<'_>) -> Self {
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
            // What crate `log` says of its line.
            name if name.starts_with("log.") => Ok(()),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}

impl Visit for Text {
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
