//! Text from outside: process names, descriptions of routers and daemons, file names.
//!
//! Such text may hold escape sequences, line ends or bidirectional controls. [`Untrusted`] and the
//! functions of this module write them as `\u{1b}`, `\n` and so on, so that logs and terminals
//! never receive them. JSON keeps the original text, escaped as JSON requires.

use std::fmt::{self, Display, Write as _};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A text chosen outside of bmpd. `Display` escapes it; JSON holds the original.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Untrusted(String);

impl Untrusted {
    /// Wraps a text as received.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text as received. Do not print it.
    pub fn raw(&self) -> &str {
        &self.0
    }
}

impl Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escaped(&self.0).fmt(f)
    }
}

impl fmt::Debug for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl PartialEq<str> for Untrusted {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

/// Returns true for a character that changes how a terminal or a log displays other text.
///
/// These are controls (C0, C1, DEL), line and paragraph separators, bidirectional and other
/// invisible formatting characters, tags and noncharacters.
pub fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Displays the text on one line. Every unsafe character is escaped.
pub fn escaped(text: &str) -> impl Display + '_ {
    Escaped { text, lines: false }
}

/// Displays the text with its line ends. Every other unsafe character is escaped.
pub fn escaped_lines(text: &str) -> impl Display + '_ {
    Escaped { text, lines: true }
}

struct Escaped<'a> {
    text: &'a str,
    lines: bool,
}

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.text;
        while let Some(at) = rest.find(|c| is_unsafe(c) && !(self.lines && c == '\n')) {
            let (safe, unsafe_on) = rest.split_at(at);
            f.write_str(safe)?;
            let mut characters = unsafe_on.chars();
            if let Some(character) = characters.next() {
                match character {
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\t' => f.write_str("\\t")?,
                    other => write!(f, "\\u{{{:x}}}", u32::from(other))?,
                }
            }
            rest = characters.as_str();
        }
        f.write_str(rest)
    }
}

/// Escapes the unsafe characters of a JSON text as `\uXXXX`, for a terminal. The result means the
/// same JSON.
pub fn json_for_terminal(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        // JSON uses these three between its values. Inside a string JSON has already escaped them.
        if matches!(character, '\n' | '\r' | '\t') || !is_unsafe(character) {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_line_ends_and_bidirectional_controls_are_written_out() {
        let name = Untrusted::new("\u{1b}]0;owned\u{7}a\nb\u{202e}c\u{9b}2J");
        assert_eq!(name.to_string(), r"\u{1b}]0;owned\u{7}a\nb\u{202e}c\u{9b}2J");
        assert_eq!(format!("{name:?}"), format!("\"{name}\""));
    }

    #[test]
    fn ordinary_text_of_any_language_is_displayed_unchanged() {
        for text in ["bgpd", "Zürich edge-1", "路由器", r"C:\tmp", "a \"b\""] {
            assert_eq!(escaped(text).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn no_unsafe_character_remains_in_any_text(text in any::<String>(), odd in prop::collection::vec(any::<char>(), 0..20)) {
            let text = text + &odd.into_iter().collect::<String>() + "\u{1b}\u{85}\u{2066}\n";
            prop_assert!(!escaped(&text).to_string().contains(is_unsafe));
            prop_assert!(!Untrusted::new(text.as_str()).to_string().contains(is_unsafe));
            prop_assert!(!escaped_lines(&text).to_string().contains(|c| c != '\n' && is_unsafe(c)));
        }

        #[test]
        fn json_for_a_terminal_is_the_same_json(text in any::<String>(), odd in prop::collection::vec(any::<char>(), 0..20)) {
            let text = text + &odd.into_iter().collect::<String>() + "\u{9b}\u{7f}\u{e0041}";
            let json = serde_json::to_string_pretty(&[&Untrusted::new(text.as_str())]).unwrap();
            let shown = json_for_terminal(&json);
            prop_assert!(!shown.contains(|c| c != '\n' && is_unsafe(c)));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), [text]);
        }
    }
}
