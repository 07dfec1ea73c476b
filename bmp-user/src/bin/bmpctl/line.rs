//! The line that is being typed, and its place on the screen.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar;

/// A line with a cursor.
#[derive(Debug, Default)]
pub(crate) struct TypedLine {
    text: String,
    /// Byte offset between two characters.
    cursor: usize,
}

impl TypedLine {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(crate) fn before(&self) -> &str {
        self.text.get(..self.cursor).unwrap_or_default()
    }

    pub(crate) fn after(&self) -> &str {
        self.text.get(self.cursor..).unwrap_or_default()
    }

    /// Sets another text, with the cursor at its end.
    pub(crate) fn set(&mut self, text: &str) {
        self.text = text.to_owned();
        self.cursor = text.len();
    }

    /// Takes the text, and leaves an empty line.
    pub(crate) fn take(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.text)
    }

    pub(crate) fn insert(&mut self, text: &str) {
        self.text.insert_str(self.cursor, text);
        self.cursor += text.len();
    }

    pub(crate) fn left(&mut self) {
        self.cursor -= self.before().chars().next_back().map_or(0, char::len_utf8);
    }

    pub(crate) fn right(&mut self) {
        self.cursor += self.after().chars().next().map_or(0, char::len_utf8);
    }

    pub(crate) fn home(&mut self) {
        self.cursor = 0;
    }

    pub(crate) fn end(&mut self) {
        self.cursor = self.text.len();
    }

    pub(crate) fn word_left(&mut self) {
        self.cursor = self.word_begin();
    }

    pub(crate) fn word_right(&mut self) {
        let after = self.after();
        let blanks = after.len() - after.trim_start().len();
        let word = after.trim_start().find(char::is_whitespace).unwrap_or(after.trim_start().len());
        self.cursor += blanks + word;
    }

    fn word_begin(&self) -> usize {
        self.before().trim_end().rfind(char::is_whitespace).map_or(0, |blank| blank + 1)
    }

    pub(crate) fn backspace(&mut self) {
        let end = self.cursor;
        self.left();
        self.text.drain(self.cursor..end);
    }

    pub(crate) fn delete(&mut self) {
        let length = self.after().chars().next().map_or(0, char::len_utf8);
        self.text.drain(self.cursor..self.cursor + length);
    }

    /// Deletes the text before the cursor and returns it.
    pub(crate) fn delete_before(&mut self) -> String {
        let removed = self.text.drain(..self.cursor).collect();
        self.cursor = 0;
        removed
    }

    /// Deletes the text behind the cursor and returns it.
    pub(crate) fn delete_after(&mut self) -> String {
        self.text.drain(self.cursor..).collect()
    }

    /// Deletes the word before the cursor and returns it.
    pub(crate) fn delete_word(&mut self) -> String {
        let begin = self.word_begin();
        let removed = self.text.drain(begin..self.cursor).collect();
        self.cursor = begin;
        removed
    }
}

/// A position on the screen, counted from the beginning of the prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ScreenPosition {
    row: usize,
    column: usize,
}

impl ScreenPosition {
    /// Returns the position behind the text on a terminal that continues in the next row.
    fn behind(self, text: &str, columns: usize) -> Self {
        text.chars().fold(self, |place, c| {
            let width = c.width().unwrap_or(1);
            let fits = place.column + width <= columns;
            let at = if fits { place } else { Self { row: place.row + 1, column: 0 } };
            Self { column: at.column + width, ..at }
        })
    }

    /// Returns where the next character will be. A terminal leaves the cursor in the last column
    /// until then.
    fn settled(self, columns: usize) -> Self {
        if self.column < columns { self } else { Self { row: self.row + 1, column: 0 } }
    }
}

/// The prompt and the line as they are on the screen.
#[derive(Debug, Default)]
pub(crate) struct DrawnLine {
    /// Text before the cursor.
    before: String,
    columns: usize,
    cursor: ScreenPosition,
    end: ScreenPosition,
}

impl DrawnLine {
    /// Returns the bytes that draw prompt and line again. Control characters are shown as blanks.
    pub(crate) fn draw(&mut self, prompt: &str, line: &TypedLine, columns: usize) -> String {
        let shown = |text: &str| -> String { text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect() };
        let (before, after) = (shown(line.before()), shown(line.after()));
        if columns != self.columns {
            self.resized(columns);
        }
        let mut bytes = self.erase();
        let drawn = format!("{prompt}{before}");
        let cursor = ScreenPosition::default().behind(prompt, columns).behind(&before, columns);
        let end = cursor.behind(&after, columns);
        let _ = write!(bytes, "{drawn}{after}");
        let (cursor, settled) = (cursor.settled(columns), end.settled(columns));
        if settled != end {
            bytes.push_str("\r\n");
        }
        *self = Self { before: drawn, columns, cursor, end: settled };
        bytes.push_str(&moved(settled, cursor));
        bytes
    }

    /// Notes that the terminal has another width. Some terminals then wrap the text anew, others do
    /// not. The higher of the two rows counts, so that nothing above the prompt is erased.
    fn resized(&mut self, columns: usize) {
        let wrapped_anew = ScreenPosition::default().behind(&self.before, columns).settled(columns);
        self.cursor.row = self.cursor.row.min(wrapped_anew.row);
    }

    /// Returns the bytes that move to the first column below the line.
    pub(crate) fn leave(&mut self) -> String {
        let mut bytes = moved(self.cursor, self.end);
        bytes.push_str("\r\n");
        *self = Self::default();
        bytes
    }

    /// Returns the bytes that take prompt and line off the screen.
    pub(crate) fn erase(&mut self) -> String {
        let bytes = format!("{}\x1b[J", moved(self.cursor, ScreenPosition::default()));
        *self = Self::default();
        bytes
    }
}

fn moved(from: ScreenPosition, to: ScreenPosition) -> String {
    let mut bytes = String::from("\r");
    if to.row < from.row {
        let _ = write!(bytes, "\x1b[{}A", from.row - to.row);
    } else if to.row > from.row {
        let _ = write!(bytes, "\x1b[{}B", to.row - from.row);
    }
    if to.column > 0 {
        let _ = write!(bytes, "\x1b[{}C", to.column);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_change_the_line_at_the_cursor() {
        let mut line = TypedLine::default();
        line.insert("tcp connect pört");
        line.left();
        line.left();
        line.backspace();
        line.backspace();
        line.insert("or");
        assert_eq!((line.before(), line.after()), ("tcp connect or", "rt"));
        line.word_left();
        line.delete();
        line.insert("p");
        line.word_right();
        assert_eq!(line.before(), "tcp connect prrt");
        assert_eq!(line.delete_word(), "prrt");
        line.home();
        line.delete();
        assert_eq!(line.delete_after(), "cp connect ");
        assert!(line.is_empty());
        line.set("é");
        line.left();
        line.left();
        line.right();
        line.right();
        assert_eq!(line.delete_before(), "é");
    }

    #[test]
    fn a_line_that_is_longer_than_the_terminal_takes_several_rows() {
        let mut line = TypedLine::default();
        line.set("abcdef");
        let mut drawn = DrawnLine::default();
        // Four columns: `> ab`, `cdef`, and the cursor at the beginning of the third row.
        assert_eq!(drawn.draw("> ", &line, 4), "\r\x1b[J> abcdef\r\n\r");
        assert_eq!(drawn.cursor, ScreenPosition { row: 2, column: 0 });
        line.home();
        assert_eq!(drawn.draw("> ", &line, 4), "\r\x1b[2A\x1b[J> abcdef\r\n\r\x1b[2A\x1b[2C");
        assert_eq!(drawn.leave(), "\r\x1b[2B\r\n");
        // On a wider terminal the prompt begins in the row of the cursor, or above.
        drawn.draw("> ", &line, 4);
        line.end();
        drawn.draw("> ", &line, 4);
        assert_eq!(drawn.draw("> ", &line, 10), "\r\x1b[J> abcdef\r\x1b[8C");
        // On a narrower terminal it does not begin above its old row.
        assert_eq!(drawn.draw("> ", &line, 4), "\r\x1b[J> abcdef\r\n\r");
        // A character of two columns does not stand in the last one.
        assert_eq!(ScreenPosition::default().behind("abc路", 4), ScreenPosition { row: 1, column: 2 });
    }
}
