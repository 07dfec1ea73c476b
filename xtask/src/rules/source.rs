//! A Rust file cut into words and comments: enough of the language for the rules, without a parser.

use std::path::{Path, PathBuf};

/// A Rust file.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// Below the repository's root.
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) words: Vec<Word>,
    /// The lines that a comment ends or goes on in.
    pub(super) comments: Vec<CommentLine>,
}

/// A word of the language: a name, a literal or a character of punctuation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// Counted from 1.
    pub(super) line: usize,
}

/// A line with a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CommentLine {
    /// Counted from 1.
    pub(super) line: usize,
    /// The characters of the line, up to the end of the comment.
    pub(super) columns: usize,
}

impl Word {
    /// Whether the word is a name or a keyword.
    pub(super) fn is_name(&self) -> bool {
        self.text.starts_with(|first: char| first == '_' || first.is_alphabetic()) && !self.text.ends_with(['"', '#'])
    }

    /// Whether the word is this text.
    pub(super) fn is(&self, text: &str) -> bool {
        self.text == text
    }
}

impl SourceFile {
    /// Cuts `text`, the content of the file `path`.
    pub(super) fn new(path: &Path, text: String) -> Self {
        let mut scanner = Scanner { rest: &text, line: 1, column: 0, words: Vec::new(), comments: Vec::new() };
        while scanner.step() {}
        let Scanner { words, comments, .. } = scanner;
        Self { path: path.to_owned(), words, comments, text }
    }
}

/// Reads a text from its beginning to its end.
struct Scanner<'a> {
    rest: &'a str,
    line: usize,
    column: usize,
    words: Vec<Word>,
    comments: Vec<CommentLine>,
}

impl<'a> Scanner<'a> {
    /// Takes the next word, comment or space; returns false at the end of the text.
    fn step(&mut self) -> bool {
        let rest = self.rest;
        let Some(first) = rest.chars().next() else { return false };
        if rest.starts_with("//") {
            self.comment(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            self.comment(block_comment(rest));
        } else if let Some(length) = literal(rest) {
            self.word(length);
        } else if first == '_' || first.is_alphanumeric() {
            self.word(rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len()));
        } else if first.is_whitespace() {
            self.take(first.len_utf8());
        } else {
            self.word(first.len_utf8());
        }
        true
    }

    fn word(&mut self, length: usize) {
        let line = self.line;
        let text = self.take(length).to_owned();
        self.words.push(Word { text, line });
    }

    fn comment(&mut self, length: usize) {
        let (line, column) = (self.line, self.column);
        for (number, text) in self.take(length).lines().enumerate() {
            let before = if number == 0 { column } else { 0 };
            self.comments.push(CommentLine { line: line + number, columns: before + text.chars().count() });
        }
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        self.line += taken.matches('\n').count();
        self.column = match taken.rsplit_once('\n') {
            Some((_, last)) => last.chars().count(),
            None => self.column + taken.chars().count(),
        };
        taken
    }
}

/// The length of the block comment at the beginning of `rest`; comments nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(tail) = rest.get(at..) {
        match (tail.find("/*"), tail.find("*/")) {
            (Some(open), Some(close)) if open < close => (depth, at) = (depth + 1, at + open + 2),
            (_, Some(close)) => (depth, at) = (depth.saturating_sub(1), at + close + 2),
            (_, None) => break,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// The length of the string, character or lifetime at the beginning of `rest`.
fn literal(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r"].into_iter().find(|prefix| {
        rest.strip_prefix(prefix).is_some_and(|tail| {
            tail.starts_with('"') || prefix.ends_with('r') && tail.trim_start_matches('#').starts_with('"')
        })
    });
    let begin = prefix.map_or(0, str::len);
    let tail = rest.get(begin..)?;
    if prefix.is_some_and(|prefix| prefix.ends_with('r')) {
        let hashes = tail.len() - tail.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let length = tail.get(hashes + 1..)?.find(&end).map(|at| hashes + 1 + at + end.len());
        return Some(begin + length.unwrap_or(tail.len()));
    }
    match tail.chars().next()? {
        '"' => Some(begin + quoted(tail, '"')),
        '\'' => {
            let mut letters = tail.chars().skip(1);
            let (second, third) = (letters.next()?, letters.next());
            if second == '\\' || third == Some('\'') {
                return Some(begin + quoted(tail, '\''));
            }
            // A lifetime.
            let end = tail[1..].find(|c: char| c != '_' && !c.is_alphanumeric());
            Some(end.map_or(tail.len(), |end| 1 + end))
        }
        _ => None,
    }
}

/// The length of the literal between two `quote`s, with the quotes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if letter == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let file = SourceFile::new(Path::new("x.rs"), text.to_owned());
        file.words.into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn strings_characters_and_lifetimes_are_one_word_each() {
        assert_eq!(words(r##"f(r#"a "b" // c"#, '"', '\'', b"\"x", 'a')"##).len(), 12);
        assert_eq!(words("&'static str"), ["&", "'static", "str"]);
        assert_eq!(words("'x': loop"), ["'x'", ":", "loop"]);
        assert_eq!(words("r#type rx"), ["r", "#", "type", "rx"]);
    }

    #[test]
    fn a_comment_is_no_word_and_its_line_has_a_width() {
        let text = "let é = 1; // sum\n/* a /* b */\n struct X; */ fn f() {}\n";
        let file = SourceFile::new(Path::new("x.rs"), text.to_owned());
        let columns = |line, columns| CommentLine { line, columns };
        assert_eq!(file.comments, [columns(1, 17), columns(2, 12), columns(3, 13)]);
        assert_eq!(file.words.last().unwrap().line, 3);
        assert!(!file.words.iter().any(|word| word.is("struct")));
    }
}
