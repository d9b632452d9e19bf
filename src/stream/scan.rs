//! Scanner of JSON text in one pass: it returns the values of an object as slices and builds
//! nothing. It rejects invalid JSON like `serde_json`.

use crate::text::from_json;

/// Bytes of a string that are examined in one step.
const BLOCK: usize = 8;

pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Closing brackets of the arrays and objects around the position, within the present value.
    open: Vec<u8>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, open: Vec::new() }
    }

    /// Returns the next byte that is not white space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Whether only white space follows.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// Scans an object. `member` is called with each name and must scan the value.
    pub(super) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Option<()>,
    ) -> Option<()> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            return self.expect(b'}');
        }
        loop {
            self.peek()?;
            let begin = self.at + 1;
            let has_escapes = self.string()?;
            let name = &self.text[begin..self.at - 1];
            self.expect(b':')?;
            if has_escapes {
                let name: String = from_json(&format!("\"{name}\"")).ok()?;
                member(self, &name)?;
            } else {
                member(self, name)?;
            }
            match self.next()? {
                b',' => {}
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    /// Scans an array. `element` is called for each element and must scan it.
    pub(super) fn array(&mut self, mut element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.expect(b'[')?;
        if self.peek()? == b']' {
            return self.expect(b']');
        }
        loop {
            element(self)?;
            match self.next()? {
                b',' => {}
                b']' => return Some(()),
                _ => return None,
            }
        }
    }

    /// Scans a value and returns its text.
    pub(super) fn value(&mut self) -> Option<&'a str> {
        let first = self.peek()?;
        let begin = self.at;
        if matches!(first, b'{' | b'[') {
            self.nested()?;
        } else {
            self.scalar(first)?;
        }
        Some(&self.text[begin..self.at])
    }

    /// Scans an array or object with its content.
    fn nested(&mut self) -> Option<()> {
        self.open.clear();
        loop {
            // A value begins.
            match self.peek()? {
                open @ (b'{' | b'[') => {
                    self.at += 1;
                    // The brackets are two apart in ASCII.
                    let close = open + 2;
                    if self.peek()? != close {
                        self.open.push(close);
                        if close == b'}' {
                            self.name()?;
                        }
                        continue;
                    }
                    self.at += 1;
                }
                first => self.scalar(first)?,
            }
            // The value has ended, and so may the values around it.
            loop {
                let Some(&close) = self.open.last() else { return Some(()) };
                let next = self.next()?;
                if next == close {
                    self.open.pop();
                } else if next != b',' {
                    return None;
                } else {
                    if close == b'}' {
                        self.name()?;
                    }
                    break;
                }
            }
        }
    }

    /// Scans a value that begins with this byte and is neither an array nor an object.
    fn scalar(&mut self, first: u8) -> Option<()> {
        match first {
            b'"' => self.string().map(drop),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.number(),
        }
    }

    /// Consumes the next byte that is not white space and returns it.
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        if self.next()? == byte { Some(()) } else { None }
    }

    /// Scans a member's name and the colon after it.
    fn name(&mut self) -> Option<()> {
        self.peek()?;
        self.string()?;
        self.expect(b':')
    }

    /// Scans the string at the position. Returns whether it contains escapes.
    fn string(&mut self) -> Option<bool> {
        let bytes = self.text.as_bytes();
        if bytes.get(self.at) != Some(&b'"') {
            return None;
        }
        self.at += 1;
        let mut has_escapes = false;
        loop {
            self.at = next_special(bytes, self.at)?;
            if bytes[self.at] == b'"' {
                self.at += 1;
                return Some(has_escapes);
            }
            self.escape()?;
            has_escapes = true;
        }
    }

    /// Scans an escape. A control character is not an escape.
    fn escape(&mut self) -> Option<()> {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += match rest {
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [b'\\', b'u', digits @ ..] if digits.get(..4)?.iter().all(u8::is_ascii_hexdigit) => 6,
            _ => return None,
        };
        Some(())
    }

    fn word(&mut self, word: &str) -> Option<()> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return None;
        }
        self.at += word.len();
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        self.skip_if(b"-");
        if !self.skip_if(b"0") {
            self.digits()?;
        }
        if self.skip_if(b".") {
            self.digits()?;
        }
        if self.skip_if(b"eE") {
            self.skip_if(b"+-");
            self.digits()?;
        }
        Some(())
    }

    fn skip_if(&mut self, one_of: &[u8]) -> bool {
        let is_there = self.text.as_bytes().get(self.at).is_some_and(|byte| one_of.contains(byte));
        self.at += usize::from(is_there);
        is_there
    }

    /// Scans at least one digit.
    fn digits(&mut self) -> Option<()> {
        let rest = &self.text.as_bytes()[self.at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        if digits > 0 { Some(()) } else { None }
    }
}

/// Returns the position of the next quote, backslash or control character at or after `at`.
fn next_special(bytes: &[u8], mut at: usize) -> Option<usize> {
    while let Some(block) = bytes.get(at..)?.first_chunk() {
        let specials = specials(*block);
        if specials != 0 {
            return Some(at + specials.trailing_zeros() as usize / 8);
        }
        at += BLOCK;
    }
    let rest = bytes[at..].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..b' '))?;
    Some(at + rest)
}

/// Returns a word in which the highest bit is set for each quote, backslash or control character.
/// Bits above the first of them may also be set.
fn specials(block: [u8; BLOCK]) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; BLOCK]);
    let each = |byte: u8| ONES * u64::from(byte);
    let block = u64::from_le_bytes(block);
    // A subtraction below zero sets the highest bit if it was not set before.
    let control = block.wrapping_sub(each(b' '));
    let quote = (block ^ each(b'"')).wrapping_sub(ONES);
    let backslash = (block ^ each(b'\\')).wrapping_sub(ONES);
    (control | quote | backslash) & !block & each(0x80)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accepts(text: &str) -> bool {
        let mut scanner = Scanner::new(text);
        scanner.value().is_some() && scanner.is_at_end()
    }

    fn is_json(text: &str) -> bool {
        serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
    }

    #[test]
    fn accepts_what_serde_json_accepts() {
        for text in [
            "",
            " ",
            "1",
            "-",
            "-1",
            "01",
            "0",
            "0.",
            "0.5",
            "1e",
            "1e5",
            "1E+5",
            "1e-",
            "-0.0e0",
            ".5",
            "+1",
            "tru",
            "true",
            "truex",
            "null ",
            " false",
            "\"",
            "\"a",
            "\"a\"",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\u12aF\"",
            "\"\\ud83d\"",
            "\"\t\"",
            "\"\u{7f}\"",
            "[",
            "]",
            "[]",
            "[ ]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1, 2]",
            "{",
            "{}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1}",
            "{ \"a\" : 1 , \"b\" : [ { } ] }",
            "{a:1}",
            "{\"a\":1]",
            "[1}",
            "{}{}",
            "{} x",
            "[[[[]]]]",
            "\u{b}1",
            "\"long enough to be searched \\n\"",
        ] {
            assert_eq!(accepts(text), is_json(text), "{text:?}");
        }
    }

    #[test]
    fn scans_strings_in_whole_and_partial_blocks() {
        for length in 0..3 * BLOCK {
            for at in 0..=length {
                for special in ["", "\"", "\\n", "\\", "\\u00e4", "\u{1f}", "\u{7f}", "ä"] {
                    let (before, after) = ("x".repeat(at), "y".repeat(length - at));
                    for rest in ["", ",\"a string that follows\"]"] {
                        let text = format!("[\"{before}{special}{after}\"{rest}");
                        assert_eq!(accepts(&text), is_json(&text), "{text:?}");
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn accepts_what_serde_json_accepts_of_anything(
            text in r#"([\[\]{}",:\\ \t]|[a-fu0-9.eE+-]|true|null|"a":|"[a-z\\n]{0,40}"|ä){0,24}"#
        ) {
            prop_assert_eq!(accepts(&text), is_json(&text), "{:?}", text);
        }
    }
}
