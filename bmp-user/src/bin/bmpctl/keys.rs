//! From the bytes that a terminal sends to keys.

use std::collections::VecDeque;

const ESCAPE: u8 = 0x1b;

/// A key that was pressed, or a character that was pasted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PressedKey {
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
    /// Ctrl with this lower-case letter.
    Ctrl(char),
    /// Pasted text begins.
    PasteBegin,
    /// Pasted text ends.
    PasteEnd,
    /// A key without a function.
    Other,
}

/// Bytes that were read and are not taken for keys yet.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    bytes: VecDeque<u8>,
}

impl Keys {
    /// Adds bytes that were read.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Returns true if no byte is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes the bytes up to the last Ctrl-C, without it. Returns `None` where there is no Ctrl-C.
    pub(crate) fn up_to_interrupt(&mut self) -> Option<Vec<u8>> {
        let at = self.bytes.iter().rposition(|byte| *byte == 0x03)?;
        let mut dropped: Vec<u8> = self.bytes.drain(..=at).collect();
        dropped.pop();
        Some(dropped)
    }

    /// Takes the bytes up to the last end of a line.
    pub(crate) fn up_to_line_end(&mut self) -> Vec<u8> {
        let at = self.bytes.iter().rposition(|byte| matches!(byte, b'\r' | b'\n'));
        self.bytes.drain(..at.map_or(0, |at| at + 1)).collect()
    }

    /// Takes the next key. Returns `None` while its last bytes are still to come. `all` says that
    /// no more bytes come, as after a lone Escape key.
    pub(crate) fn next(&mut self, all: bool) -> Option<PressedKey> {
        let bytes: Vec<u8> = self.bytes.iter().take(16).copied().collect();
        let (key, length) = match *bytes.first()? {
            ESCAPE => match escape(&bytes) {
                Some(found) => found,
                None if all => (PressedKey::Other, 1),
                None => return None,
            },
            b'\r' if bytes.get(1) == Some(&b'\n') => (PressedKey::Enter, 2),
            b'\r' | b'\n' => (PressedKey::Enter, 1),
            b'\t' => (PressedKey::Tab, 1),
            0x08 | 0x7f => (PressedKey::Backspace, 1),
            control @ 0x01..=0x1a => (PressedKey::Ctrl(char::from(control - 1 + b'a')), 1),
            0x00..0x20 => (PressedKey::Other, 1),
            first => {
                let length = match first {
                    0x00..=0x7f => 1,
                    0xc0..=0xdf => 2,
                    0xe0..=0xef => 3,
                    0xf0..=0xf7 => 4,
                    // A continuation byte without the beginning of its character.
                    _ => 1,
                };
                match bytes.get(..length) {
                    Some(whole) => match std::str::from_utf8(whole).ok().and_then(|text| text.chars().next()) {
                        Some(c) if !c.is_control() => (PressedKey::Char(c), length),
                        Some(_) => (PressedKey::Other, length),
                        None => (PressedKey::Other, 1),
                    },
                    None if all => (PressedKey::Other, 1),
                    None => return None,
                }
            }
        };
        self.bytes.drain(..length);
        Some(key)
    }
}

/// Reads a key that is sent as an escape sequence (ECMA-48 §5.4), and its length in bytes. Returns
/// `None` for the beginning of a sequence.
fn escape(bytes: &[u8]) -> Option<(PressedKey, usize)> {
    let (kind, from) = match bytes.get(1)? {
        b'[' => ('[', 2),
        b'O' => ('O', 2),
        b'b' => return Some((PressedKey::WordLeft, 2)),
        b'f' => return Some((PressedKey::WordRight, 2)),
        _ => return Some((PressedKey::Other, 2)),
    };
    let end = from + bytes.iter().skip(from).position(|byte| (0x40..=0x7e).contains(byte))?;
    let parameters = bytes.get(from..end).unwrap_or_default();
    let key = match (kind, parameters, bytes.get(end).copied().unwrap_or_default()) {
        (_, b"1;5" | b"1;3", b'D') => PressedKey::WordLeft,
        (_, b"1;5" | b"1;3", b'C') => PressedKey::WordRight,
        (_, _, b'A') => PressedKey::Up,
        (_, _, b'B') => PressedKey::Down,
        (_, _, b'C') => PressedKey::Right,
        (_, _, b'D') => PressedKey::Left,
        (_, _, b'H') | ('[', b"1" | b"7", b'~') => PressedKey::Home,
        (_, _, b'F') | ('[', b"4" | b"8", b'~') => PressedKey::End,
        ('[', b"3", b'~') => PressedKey::Delete,
        ('[', b"200", b'~') => PressedKey::PasteBegin,
        ('[', b"201", b'~') => PressedKey::PasteEnd,
        _ => PressedKey::Other,
    };
    Some((key, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<PressedKey> {
        let mut keys = Keys::default();
        let mut found = Vec::new();
        // One byte at a time, the worst way to cut a sequence.
        for byte in bytes {
            keys.extend(&[*byte]);
            found.extend(std::iter::from_fn(|| keys.next(false)));
        }
        found.extend(std::iter::from_fn(|| keys.next(true)));
        found
    }

    #[test]
    fn keys_are_found_however_their_bytes_arrive() {
        assert_eq!(keys("aé路".as_bytes()), [PressedKey::Char('a'), PressedKey::Char('é'), PressedKey::Char('路')]);
        assert_eq!(
            keys(b"\x1b[A\x1bOB\x1b[1;5D\x1bf"),
            [PressedKey::Up, PressedKey::Down, PressedKey::WordLeft, PressedKey::WordRight]
        );
        assert_eq!(keys(b"\x1b[200~x\x1b[201~"), [PressedKey::PasteBegin, PressedKey::Char('x'), PressedKey::PasteEnd]);
        assert_eq!(
            keys(b"\x1b[3~\x1b[H\x1b[4~\x7f"),
            [PressedKey::Delete, PressedKey::Home, PressedKey::End, PressedKey::Backspace]
        );
        assert_eq!(keys(b"\x03\t\n"), [PressedKey::Ctrl('c'), PressedKey::Tab, PressedKey::Enter]);
        assert_eq!(keys(b"\x1b"), [PressedKey::Other]);
        assert_eq!(keys(b"\xffa\xc3"), [PressedKey::Other, PressedKey::Char('a'), PressedKey::Other]);
    }

    #[test]
    fn a_line_end_of_two_characters_is_one_key() {
        let mut keys = Keys::default();
        keys.extend(b"\r\n\r");
        assert_eq!(
            (keys.next(false), keys.next(false), keys.next(false)),
            (Some(PressedKey::Enter), Some(PressedKey::Enter), None)
        );
    }

    #[test]
    fn dropped_bytes_are_handed_back() {
        let mut keys = Keys::default();
        keys.extend(b"one\rtwo\rthr");
        assert_eq!(keys.up_to_interrupt(), None);
        assert_eq!(keys.up_to_line_end(), b"one\rtwo\r");
        keys.extend(b"\x03ee");
        assert_eq!(keys.up_to_interrupt(), Some(b"thr".to_vec()));
        assert_eq!(keys.next(true), Some(PressedKey::Char('e')));
    }
}
