//! A line cut into words, and the error that points at a word.

use std::{fmt, ops::Range, sync::Arc};

use zeroize::Zeroizing;

use super::secret::{MASK, after_password, mask};

use crate::escape::is_unsafe;

/// The longest part of a line that an error shows, in characters.
const EXCERPT: usize = 160;
/// How much of it comes before the word that the error points at, where the line is longer.
const EXCERPT_BEFORE: usize = 60;

/// Where a word is in its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct Span {
    /// 1-based, in characters.
    pub(in crate::config) column: usize,
    /// In characters.
    pub(in crate::config) length: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct LineWord {
    span: Span,
    start: usize,
    end: usize,
}

/// One line of input, cut into words at spaces and tabs.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::config) struct Line {
    number: usize,
    /// Overwritten in memory at the end, because it may have a secret.
    text: Arc<Zeroizing<String>>,
    words: Vec<LineWord>,
    /// The numbers of the words that are not to be shown.
    secrets: Vec<usize>,
}

/// With secrets masked.
impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.number, mask(&self.text, &self.hidden()))
    }
}

impl Line {
    /// Cuts a line into words. `number` is 1-based; `text` is without its line end. Comments may
    /// hold any character.
    ///
    /// # Errors
    ///
    /// A command has a control character, or white space other than space and tab. Such a character
    /// would hide in a name and come out again on an operator's terminal.
    pub(in crate::config) fn new(number: usize, text: &str) -> Result<Self, CommandError> {
        let mut words = Vec::new();
        let mut open: Option<(usize, usize)> = None;
        let mut count = 0;
        let mut odd = None;
        for (at, c) in text.char_indices() {
            count += 1;
            let blank = matches!(c, ' ' | '\t');
            if odd.is_none() && !blank && (is_unsafe(c) || c.is_whitespace()) {
                odd = Some((count, c));
            }
            match (blank, open) {
                (true, Some((start, column))) => {
                    words.push(LineWord { span: Span { column, length: count - column }, start, end: at });
                    open = None;
                }
                (false, None) => open = Some((at, count)),
                _ => {}
            }
        }
        if let Some((start, column)) = open {
            words.push(LineWord { span: Span { column, length: count + 1 - column }, start, end: text.len() });
        }
        let line = Self { number, text: Arc::new(Zeroizing::new(text.to_owned())), words, secrets: Vec::new() };
        match odd {
            Some((column, c)) if !line.is_empty() => {
                let message = format!("the character U+{:04X} has no place in a command", u32::from(c));
                Err(line.error_at(Span { column, length: 1 }, message))
            }
            _ => Ok(line),
        }
    }

    /// The same with the words of these numbers as secrets.
    pub(in crate::config) fn with_secrets(mut self, secrets: impl FnOnce(&Self) -> Vec<usize>) -> Self {
        self.secrets = secrets(&self);
        self
    }

    /// 1-based.
    pub(in crate::config) fn number(&self) -> usize {
        self.number
    }

    /// Decides whether a part of the text is secret.
    pub(in crate::config) fn has_secrets(&self) -> bool {
        !self.hidden().is_empty()
    }

    /// Returns the secret parts of the text, in order.
    fn hidden(&self) -> Vec<Range<usize>> {
        let known = self.secrets.iter().filter_map(|number| self.words.get(*number));
        let mut hidden: Vec<_> = known.map(|word| word.start..word.end).chain(after_password(&self.text)).collect();
        hidden.sort_by_key(|part| part.start);
        hidden.dedup();
        hidden
    }

    /// Holds no command: it is blank or begins with `#`.
    pub(in crate::config) fn is_empty(&self) -> bool {
        self.words().next().is_none_or(|word| word.starts_with('#'))
    }

    /// The words in order.
    pub(in crate::config) fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(|word| self.text.get(word.start..word.end).unwrap_or_default())
    }

    /// The text from the word of this number (from 0) to the end of the last word.
    pub(in crate::config) fn rest_from(&self, index: usize) -> &str {
        match (self.words.get(index), self.words.last()) {
            (Some(first), Some(last)) => self.text.get(first.start..last.end).unwrap_or_default(),
            _ => "",
        }
    }

    /// The same text without the double quotes around it, if it has them.
    pub(in crate::config) fn text_from(&self, index: usize) -> &str {
        let text = self.rest_from(index);
        text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
    }

    /// Returns the place of the word of this number (from 0). Past the last word, returns the place
    /// of the next one.
    pub(in crate::config) fn span(&self, index: usize) -> Span {
        match (self.words.get(index), self.words.last()) {
            (Some(word), _) => word.span,
            (None, Some(last)) => Span { column: last.span.column + last.span.length, length: 1 },
            (None, None) => Span { column: 1, length: 1 },
        }
    }

    /// Decides whether the text ends in a word, and not in a blank.
    pub(in crate::config) fn ends_in_word(&self) -> bool {
        self.words.last().is_some_and(|word| word.end == self.text.len())
    }

    /// Characters before the first word.
    pub(in crate::config) fn indent(&self) -> usize {
        self.span(0).column - 1
    }

    pub(in crate::config) fn error_at(&self, span: Span, message: impl Into<String>) -> CommandError {
        let mut message = message.into();
        let hidden = self.hidden();
        for secret in hidden.iter().filter_map(|part| self.text.get(part.clone())) {
            message = message.replace(&quoted(secret), &format!("`{MASK}`"));
        }
        CommandError {
            file: None,
            line: self.number,
            column: span.column,
            length: span.length,
            message,
            line_text: Zeroizing::clone(&self.text),
            hidden,
        }
    }
}

/// The fault of a command, and the word that has it.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub struct CommandError {
    /// The file that the line comes from; `None` where an operator typed it.
    pub file: Option<Arc<str>>,
    /// 1-based.
    pub line: usize,
    /// Where the word begins: 1-based, in characters.
    pub column: usize,
    /// How long the word is, in characters; at least 1.
    pub length: usize,
    /// The fault in words, without a full stop.
    pub message: String,
    /// The whole line as it came, without its line end.
    pub(in crate::config) line_text: Zeroizing<String>,
    /// The secret parts of the line, in order.
    hidden: Vec<Range<usize>>,
}

/// The printed form in one line.
impl fmt::Debug for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

/// For a file `FILE:LINE:COLUMN: error: MESSAGE`, then the line and carets under the word. For a
/// typed line the line and the carets, then `Error: MESSAGE.`, as carrier routers answer. No line
/// end after the last line.
impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(file) = &self.file else {
            return write!(f, "{}\nError: {}", self.marked_line(), sentence(&self.message));
        };
        write!(f, "{file}:{}:{}: error: {}\n{}", self.line, self.column, self.message, self.marked_line())
    }
}

impl CommandError {
    /// The same error, said of a line of this file.
    pub(in crate::config) fn in_file(self, file: &Arc<str>) -> Self {
        Self { file: Some(Arc::clone(file)), ..self }
    }

    /// The same error, said of this line (1-based) of a file of commands.
    #[must_use]
    pub fn at_line(self, file: &str, line: usize) -> Self {
        Self { line, ..self.in_file(&file.into()) }
    }

    /// Returns the line and, below it, carets under the word, without a line end at the end. Tabs
    /// stay tabs in both lines, so that the carets stand right for any tab width. Other control
    /// characters are replaced. A long line is cut.
    pub fn marked_line(&self) -> String {
        let shown = mask(&self.line_text, &self.hidden);
        let before = self.shown_column(self.column.saturating_sub(1));
        let length =
            self.shown_column(self.column.saturating_sub(1) + self.length.max(1)).saturating_sub(before).max(1);
        let count = shown.chars().count();
        let first = if count > EXCERPT { before.saturating_sub(EXCERPT_BEFORE) } else { 0 };
        let mut line = String::new();
        let mut carets = String::new();
        if first > 0 {
            line.push('…');
            carets.push(' ');
        }
        for (at, c) in shown.chars().enumerate().skip(first).take(EXCERPT) {
            let c = if is_unsafe(c) && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
            line.push(c);
            if at < before && c == '\t' {
                carets.push('\t');
            } else if at < before + length {
                let mark = if at < before { ' ' } else { '^' };
                carets.extend(std::iter::repeat_n(mark, columns(c)));
            }
        }
        if count > first + EXCERPT {
            line.push('…');
        }
        // The word is behind the end of the line, or takes no room because it combines with the
        // character before it.
        if before >= count || !carets.contains('^') {
            carets.push('^');
        }
        format!("{line}\n{carets}")
    }
}

impl CommandError {
    /// Where a character of the line is once secrets are masked; both from 0.
    fn shown_column(&self, column: usize) -> usize {
        let mask = MASK.chars().count();
        let at = |byte: usize| self.line_text.get(..byte).unwrap_or_default().chars().count();
        let mut shown = column;
        for part in &self.hidden {
            let (begin, end) = (at(part.start), at(part.end));
            if column >= end {
                shown = shown + mask - (end - begin);
            } else if column > begin {
                shown = shown - (column - begin) + (column - begin).min(mask);
            }
        }
        shown
    }
}

/// Returns the columns that a terminal gives a character: two in the ranges of Unicode's
/// EastAsianWidth.txt that are Wide or Fullwidth, none for the common combining marks.
fn columns(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f | 0x200b..=0x200f | 0x20d0..=0x20ff | 0xfe00..=0xfe0f | 0xfe20..=0xfe2f => 0,
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xa960..=0xa97f
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f680..=0x1f6ff
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// With a full stop where nothing ends it, unless lines of a configuration follow.
pub(crate) fn sentence(text: &str) -> String {
    let text = text.trim_end();
    let end = if text.contains('\n') || text.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{text}{end}")
}

/// A word in a message: between backquotes, cut where it is long.
pub(in crate::config) fn quoted(word: &str) -> String {
    const LONGEST: usize = 40;
    match word.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("`{}…`", word.get(..cut).unwrap_or_default()),
        None => format!("`{word}`"),
    }
}
