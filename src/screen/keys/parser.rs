//! Bytes from a terminal as keys. Pure.

use super::Key;

const ESCAPE: u8 = 0x1b;
/// Begins a pasted text, after ESC and `[`.
const PASTE_BEGIN: &[u8] = b"200~";
const PASTE_END: &[u8] = b"\x1b[201~";
/// Longest sequence without an end: what follows is not one.
const MAX_SEQUENCE: usize = 32;
/// Longest pasted text.
const MAX_PASTE: usize = 1 << 20;

/// Collects bytes until they are keys.
#[derive(Debug, Default)]
pub(super) struct KeyParser {
    bytes: Vec<u8>,
    keys: Vec<Key>,
    /// The bytes are those of a pasted text that has not ended.
    is_paste: bool,
}

/// The first of the bytes, as a key.
enum Parsed {
    /// A key, or none that is known, and its number of bytes.
    Key(Option<Key>, usize),
    /// More bytes are needed.
    Incomplete,
    /// A pasted text begins after this number of bytes.
    Paste(usize),
}

impl KeyParser {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        while !self.bytes.is_empty() && self.parse_next() {}
    }

    /// Returns the keys that are complete.
    pub(super) fn take_keys(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.keys)
    }

    /// Whether the last byte is an escape character, which may begin a sequence.
    pub(super) fn is_in_escape(&self) -> bool {
        !self.is_paste && self.bytes == [ESCAPE]
    }

    /// Takes the escape character as a key by itself.
    pub(super) fn end_escape(&mut self) {
        if self.is_in_escape() {
            self.bytes.clear();
            self.keys.push(Key::Escape);
        }
    }

    /// Returns false if more bytes are needed.
    fn parse_next(&mut self) -> bool {
        if self.is_paste {
            return self.parse_paste();
        }
        match first_key(&self.bytes) {
            Parsed::Key(key, length) => {
                self.bytes.drain(..length);
                self.keys.extend(key);
                true
            }
            Parsed::Paste(length) => {
                self.bytes.drain(..length);
                self.is_paste = true;
                true
            }
            Parsed::Incomplete => false,
        }
    }

    fn parse_paste(&mut self) -> bool {
        let end = memchr::memmem::find(&self.bytes, PASTE_END);
        if end.is_none() && self.bytes.len() < MAX_PASTE {
            return false;
        }
        let length = end.unwrap_or(self.bytes.len());
        let text = String::from_utf8_lossy(&self.bytes[..length]);
        self.keys.push(Key::Paste(text.replace("\r\n", "\n").replace('\r', "\n")));
        self.bytes.drain(..end.map_or(length, |end| end + PASTE_END.len()));
        self.is_paste = end.is_none();
        true
    }
}

fn first_key(bytes: &[u8]) -> Parsed {
    let one = |key| Parsed::Key(Some(key), 1);
    match bytes[0] {
        ESCAPE => after_escape(bytes),
        b'\r' => one(Key::Enter),
        b'\n' => one(Key::NewLine),
        b'\t' => one(Key::Tab),
        0x7f | 0x08 => one(Key::Backspace),
        byte @ 1..=26 => one(Key::Ctrl(char::from(byte + b'a' - 1))),
        0..0x20 => Parsed::Key(None, 1),
        _ => character(bytes),
    }
}

/// Returns the character in UTF-8 at the beginning.
fn character(bytes: &[u8]) -> Parsed {
    let length = match bytes[0] {
        0..0x80 => 1,
        0xc2..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf5 => 4,
        _ => return Parsed::Key(None, 1),
    };
    if bytes.len() < length {
        return Parsed::Incomplete;
    }
    match std::str::from_utf8(&bytes[..length]) {
        Ok(text) => Parsed::Key(text.chars().next().map(Key::Char), length),
        Err(_) => Parsed::Key(None, 1),
    }
}

fn after_escape(bytes: &[u8]) -> Parsed {
    let two = |key| Parsed::Key(Some(key), 2);
    match bytes.get(1) {
        None => Parsed::Incomplete,
        Some(b'[') => sequence(bytes),
        Some(b'O') => match bytes.get(2) {
            None => Parsed::Incomplete,
            Some(b'M') => Parsed::Key(Some(Key::Enter), 3),
            Some(letter) => Parsed::Key(of_letter(*letter, false), 3),
        },
        // With Alt.
        Some(b'\r' | b'\n') => two(Key::NewLine),
        Some(0x7f | 0x08) => two(Key::DeleteWord),
        Some(b'b') => two(Key::WordLeft),
        Some(b'f') => two(Key::WordRight),
        Some(&ESCAPE) => Parsed::Key(Some(Key::Escape), 1),
        Some(_) => Parsed::Key(None, 2),
    }
}

/// Parses a sequence that begins with ESC and `[`.
fn sequence(bytes: &[u8]) -> Parsed {
    let body = &bytes[2..];
    let Some(end) = body.iter().position(|byte| (0x40..=0x7e).contains(byte)) else {
        let is_over = body.len() > MAX_SEQUENCE;
        return if is_over { Parsed::Key(None, bytes.len()) } else { Parsed::Incomplete };
    };
    let length = 2 + end + 1;
    if body.starts_with(PASTE_BEGIN) {
        return Parsed::Paste(length);
    }
    let text = String::from_utf8_lossy(&body[..end]);
    let numbers: Vec<u32> = text.split(';').map(|number| number.parse().unwrap_or(0)).collect();
    let number = |at: usize| numbers.get(at).copied().unwrap_or(0);
    let is_modified = number(1) > 1;
    let key = match body[end] {
        b'~' => match number(0) {
            1 | 7 => Some(Key::Home),
            4 | 8 => Some(Key::End),
            3 => Some(Key::Delete),
            5 => Some(Key::PageUp),
            6 => Some(Key::PageDown),
            // xterm's form of a modified key.
            27 if number(2) == 13 => Some(Key::NewLine),
            _ => None,
        },
        // The form of other terminals.
        b'u' => match number(0) {
            13 if is_modified => Some(Key::NewLine),
            13 => Some(Key::Enter),
            27 => Some(Key::Escape),
            _ => None,
        },
        letter => of_letter(letter, is_modified),
    };
    Parsed::Key(key, length)
}

/// Returns the key of a sequence that ends with this letter.
fn of_letter(letter: u8, is_modified: bool) -> Option<Key> {
    Some(match letter {
        b'A' => Key::Up,
        b'B' => Key::Down,
        b'C' if is_modified => Key::WordRight,
        b'C' => Key::Right,
        b'D' if is_modified => Key::WordLeft,
        b'D' => Key::Left,
        b'F' => Key::End,
        b'H' => Key::Home,
        b'Z' => Key::BackTab,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(parts: &[&[u8]]) -> Vec<Key> {
        let mut parser = KeyParser::default();
        for part in parts {
            parser.push(part);
        }
        parser.end_escape();
        parser.take_keys()
    }

    #[test]
    fn parses_keys_of_terminals() {
        for (bytes, expected) in [
            (
                &b"aZ \xc3\xa4\xe6\x97\xa5"[..],
                &[Key::Char('a'), Key::Char('Z'), Key::Char(' '), Key::Char('ä'), Key::Char('日')]
                    [..],
            ),
            (
                b"\r\n\t\x7f\x08",
                &[Key::Enter, Key::NewLine, Key::Tab, Key::Backspace, Key::Backspace],
            ),
            (
                b"\x01\x03\x04\x1a",
                &[Key::Ctrl('a'), Key::Ctrl('c'), Key::Ctrl('d'), Key::Ctrl('z')],
            ),
            (b"\x1b[A\x1b[B\x1bOC\x1b[D", &[Key::Up, Key::Down, Key::Right, Key::Left]),
            (
                b"\x1b[1;5C\x1b[1;3D\x1bf\x1bb",
                &[Key::WordRight, Key::WordLeft, Key::WordRight, Key::WordLeft],
            ),
            (
                b"\x1b[H\x1b[4~\x1b[3~\x1b[5~\x1b[6~\x1b[Z",
                &[Key::Home, Key::End, Key::Delete, Key::PageUp, Key::PageDown, Key::BackTab],
            ),
            (
                b"\x1b\r\x1b[27;2;13~\x1b[13;2u\x1bOM",
                &[Key::NewLine, Key::NewLine, Key::NewLine, Key::Enter],
            ),
            (b"\x1b", &[Key::Escape]),
            (b"\x1b\x1b[A", &[Key::Escape, Key::Up]),
            (b"\x1b\x7f", &[Key::DeleteWord]),
            // Unknown keys, answers of the terminal and invalid bytes.
            (b"\x1b[99~\x1b[?62;c\x1b[<0;1;1Mx\xff\xc3(\x00", &[Key::Char('x'), Key::Char('(')]),
        ] {
            assert_eq!(keys(&[bytes]), expected, "{:?}", String::from_utf8_lossy(bytes));
            // The same if they arrive one by one.
            let parts: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(keys(&parts), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_pasted_text_is_one_key() {
        let paste = |text: &str| Key::Paste(text.to_owned());
        let bytes = b"a\x1b[200~one\r\ntwo\x03\x1b[A\rthree\x1b[201~b";
        let expected = [Key::Char('a'), paste("one\ntwo\x03\x1b[A\nthree"), Key::Char('b')];
        assert_eq!(keys(&[bytes]), expected);
        for at in 0..bytes.len() {
            assert_eq!(keys(&[&bytes[..at], &bytes[at..]]), expected, "{at}");
        }
    }

    #[test]
    fn an_endless_sequence_is_given_up() {
        let mut parser = KeyParser::default();
        parser.push(b"\x1b[");
        parser.push(&[b'1'; 40]);
        parser.push(b"x");
        assert_eq!(parser.take_keys(), [Key::Char('x')]);
        parser.push(b"\x1b[200~");
        parser.push(&vec![b'x'; MAX_PASTE + 1]);
        assert_eq!(parser.take_keys().len(), 1);
    }
}
