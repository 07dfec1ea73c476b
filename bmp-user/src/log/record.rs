//! A record: what an event says, as a sentence and as fields.
//!
//! The text of a record is the same in every format. The field `session` precedes the message as
//! `session ID: `, and the field `of` precedes it without its name. Fields that the message names
//! already ([`SAID_IN_MESSAGE`]) do not stand in the text again. All others follow the message.
//!
//! No text or value of a record has an unsafe character: they are escaped, because a line of any
//! format may end up on a terminal.

use std::{fmt, fmt::Write as _, net::SocketAddr};

use tracing::{
    Event, Level,
    field::{Field, Visit},
};

use super::limit::LineSubject;
use crate::escape::escaped;

/// The longest text or value of a record, in bytes. Longer ones are cut.
const LONGEST: usize = 8 * 1024;

/// The fields that are for programs alone, because the message says the same in words.
const SAID_IN_MESSAGE: [&str; 6] = ["cause", "interface", "old_source", "reason", "source", "station"];

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogRecord {
    pub(super) level: Level,
    /// The sentence with the fields that stand in it.
    pub(super) text: String,
    /// The fields by name, also those that stand in the text. `message` and `of` are no fields.
    pub(super) fields: Vec<(&'static str, String)>,
}

impl LogRecord {
    pub(super) fn from_event(event: &Event<'_>) -> Self {
        let mut text = EventText::default();
        event.record(&mut text);
        let EventText { before, message, after, fields } = text;
        Self { level: *event.metadata().level(), text: clean(&(before + &message + &after)), fields }
    }

    /// Returns a record without fields.
    pub(super) fn new(level: Level, text: &str) -> Self {
        Self { level, text: clean(text), fields: Vec::new() }
    }
}

/// Escapes a text, and cuts it where it is too long.
fn clean(text: &str) -> String {
    match text.char_indices().find(|(at, _)| *at >= LONGEST) {
        Some((at, _)) => format!("{} …", escaped(text.get(..at).unwrap_or_default())),
        None => escaped(text).to_string(),
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

/// The parts of a record's text, not yet escaped, and its fields.
#[derive(Default)]
struct EventText {
    before: String,
    message: String,
    after: String,
    fields: Vec<(&'static str, String)>,
}

impl EventText {
    /// Adds a field: `shown` is its value as the text has it.
    fn field(&mut self, field: &Field, value: &dyn fmt::Display, shown: &dyn fmt::Display) {
        let name = field.name();
        // Writing to a string cannot fail.
        let _ = match name {
            "message" => write!(self.message, "{value}"),
            "session" => write!(self.before, "session {value}: "),
            "of" => write!(self.before, "{value}: "),
            // Fields that the crate `log` adds to its events.
            _ if name.starts_with("log.") => return,
            _ if SAID_IN_MESSAGE.contains(&name) => Ok(()),
            _ => write!(self.after, " {name}={shown}"),
        };
        if !matches!(name, "message" | "of") {
            self.fields.push((name, clean(&value.to_string())));
        }
    }
}

impl Visit for EventText {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, &value, &format_args!("\"{value}\""));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, &Debugged(value), &Debugged(value));
    }
}
