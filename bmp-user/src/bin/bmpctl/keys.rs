//! Bytes that a terminal sends, as keys.

use std::collections::VecDeque;

const ESCAPE: u8 = 0x1b;

/// What an operator has pressed, or pasted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    Enter,
    Tab,
    Backspace,
    Delete,
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    Up,
    Down,
    /// Ctrl and this small letter.
    Ctrl(char),
    /// The terminal begins to send what was pasted.
    PasteBegin,
    PasteEnd,
    /// A key without a meaning here.
    Other,
}

/// Bytes that were read and are not used yet.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    bytes: VecDeque<u8>,
}

impl Keys {
    /// Takes what was read.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Drops everything up to the last Ctrl-C, and returns it, if there is one.
    pub(crate) fn up_to_interrupt(&mut self) -> Option<Vec<u8>> {
        let at = self.bytes.iter().rposition(|byte| *byte == 0x03)?;
        let mut dropped: Vec<u8> = self.bytes.drain(..=at).collect();
        dropped.pop();
        Some(dropped)
    }

    /// Drops everything up to the last end of a line, and returns it.
    pub(crate) fn up_to_line_end(&mut self) -> Vec<u8> {
        let at = self.bytes.iter().rposition(|byte| matches!(byte, b'\r' | b'\n'));
        self.bytes.drain(..at.map_or(0, |at| at + 1)).collect()
    }

    /// The next key. `None` where its last bytes are still to come; with `all` none are, as a lone Escape key shows by silence.
    pub(crate) fn next(&mut self, all: bool) -> Option<Key> {
        let bytes: Vec<u8> = self.bytes.iter().take(16).copied().collect();
        let (key, length) = match *bytes.first()? {
            ESCAPE => match escape(&bytes) {
                Some(found) => found,
                None if all => (Key::Other, 1),
                None => return None,
            },
            b'\r' if bytes.get(1) == Some(&b'\n') => (Key::Enter, 2),
            b'\r' | b'\n' => (Key::Enter, 1),
            b'\t' => (Key::Tab, 1),
            0x08 | 0x7f => (Key::Backspace, 1),
            control @ 0x01..=0x1a => (Key::Ctrl(char::from(control - 1 + b'a')), 1),
            0x00..0x20 => (Key::Other, 1),
            first => {
                let length = match first {
                    0x00..=0x7f => 1,
                    0xc0..=0xdf => 2,
                    0xe0..=0xef => 3,
                    0xf0..=0xf7 => 4,
                    // The middle of a character without its beginning.
                    _ => 1,
                };
                match bytes.get(..length) {
                    Some(whole) => match std::str::from_utf8(whole).ok().and_then(|text| text.chars().next()) {
                        Some(c) if !c.is_control() => (Key::Char(c), length),
                        Some(_) => (Key::Other, length),
                        None => (Key::Other, 1),
                    },
                    None if all => (Key::Other, 1),
                    None => return None,
                }
            }
        };
        self.bytes.drain(..length);
        Some(key)
    }
}

/// A key that is sent as an escape sequence (ECMA-48 §5.4), and its length; `None` where it is not whole.
fn escape(bytes: &[u8]) -> Option<(Key, usize)> {
    let (kind, from) = match bytes.get(1)? {
        b'[' => ('[', 2),
        b'O' => ('O', 2),
        b'b' => return Some((Key::WordLeft, 2)),
        b'f' => return Some((Key::WordRight, 2)),
        _ => return Some((Key::Other, 2)),
    };
    let end = from + bytes.iter().skip(from).position(|byte| (0x40..=0x7e).contains(byte))?;
    let parameters = bytes.get(from..end).unwrap_or_default();
    let key = match (kind, parameters, bytes.get(end).copied().unwrap_or_default()) {
        (_, b"1;5" | b"1;3", b'D') => Key::WordLeft,
        (_, b"1;5" | b"1;3", b'C') => Key::WordRight,
        (_, _, b'A') => Key::Up,
        (_, _, b'B') => Key::Down,
        (_, _, b'C') => Key::Right,
        (_, _, b'D') => Key::Left,
        (_, _, b'H') | ('[', b"1" | b"7", b'~') => Key::Home,
        (_, _, b'F') | ('[', b"4" | b"8", b'~') => Key::End,
        ('[', b"3", b'~') => Key::Delete,
        ('[', b"200", b'~') => Key::PasteBegin,
        ('[', b"201", b'~') => Key::PasteEnd,
        _ => Key::Other,
    };
    Some((key, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::default();
        let mut found = Vec::new();
        // However the bytes are cut when they are read.
        for byte in bytes {
            keys.extend(&[*byte]);
            found.extend(std::iter::from_fn(|| keys.next(false)));
        }
        found.extend(std::iter::from_fn(|| keys.next(true)));
        found
    }

    #[test]
    fn keys_are_found_however_their_bytes_arrive() {
        assert_eq!(keys("aé路".as_bytes()), [Key::Char('a'), Key::Char('é'), Key::Char('路')]);
        assert_eq!(keys(b"\x1b[A\x1bOB\x1b[1;5D\x1bf"), [Key::Up, Key::Down, Key::WordLeft, Key::WordRight]);
        assert_eq!(keys(b"\x1b[200~x\x1b[201~"), [Key::PasteBegin, Key::Char('x'), Key::PasteEnd]);
        assert_eq!(keys(b"\x1b[3~\x1b[H\x1b[4~\x7f"), [Key::Delete, Key::Home, Key::End, Key::Backspace]);
        assert_eq!(keys(b"\x03\t\n"), [Key::Ctrl('c'), Key::Tab, Key::Enter]);
        assert_eq!(keys(b"\x1b"), [Key::Other]);
        assert_eq!(keys(b"\xffa\xc3"), [Key::Other, Key::Char('a'), Key::Other]);
    }

    #[test]
    fn a_line_end_of_two_characters_is_one_key() {
        let mut keys = Keys::default();
        keys.extend(b"\r\n\r");
        assert_eq!((keys.next(false), keys.next(false), keys.next(false)), (Some(Key::Enter), Some(Key::Enter), None));
    }

    #[test]
    fn what_is_dropped_is_handed_back() {
        let mut keys = Keys::default();
        keys.extend(b"one\rtwo\rthr");
        assert_eq!(keys.up_to_interrupt(), None);
        assert_eq!(keys.up_to_line_end(), b"one\rtwo\r");
        keys.extend(b"\x03ee");
        assert_eq!(keys.up_to_interrupt(), Some(b"thr".to_vec()));
        assert_eq!(keys.next(true), Some(Key::Char('e')));
    }
}
