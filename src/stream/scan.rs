//! JSON text gone through once, from its beginning to its end: the values of an object as slices of
//! it, and nothing built. Text that is no JSON is refused, as `serde_json` refuses it.

use std::borrow::Cow;

/// Bytes of a string that are looked at one by one, before the rest is searched.
const SHORT: usize = 16;

pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// It holds control characters, which are white space outside of strings and refused inside.
    has_controls: bool,
    /// What closes the arrays and objects around the present place, within the present value.
    open: Vec<u8>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let has_controls = text.bytes().fold(false, |any, byte| any | (byte < b' '));
        Self { text, at: 0, has_controls, open: Vec::new() }
    }

    /// The next byte that is no white space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Whether nothing follows.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// Goes through an object: `member` is called with each name, and must go through the value.
    pub(super) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Option<()>,
    ) -> Option<()> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            return self.expect(b'}');
        }
        loop {
            let name = self.name()?;
            if name.contains('\\') {
                let name: Cow<'_, str> = serde_json::from_str(&format!("\"{name}\"")).ok()?;
                member(self, &name)?;
            } else {
                member(self, name)?;
            }
            if self.peek()? == b'}' {
                return self.expect(b'}');
            }
            self.expect(b',')?;
        }
    }

    /// Goes through an array: `element` is called for each element, and must go through it.
    pub(super) fn array(&mut self, mut element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.expect(b'[')?;
        if self.peek()? == b']' {
            return self.expect(b']');
        }
        loop {
            element(self)?;
            if self.peek()? == b']' {
                return self.expect(b']');
            }
            self.expect(b',')?;
        }
    }

    /// Goes through a value, and gives its text.
    pub(super) fn value(&mut self) -> Option<&'a str> {
        self.peek()?;
        let begin = self.at;
        self.open.clear();
        loop {
            match self.peek()? {
                b'"' => self.string()?,
                b'{' => {
                    self.at += 1;
                    if self.peek()? != b'}' {
                        self.open.push(b'}');
                        self.name()?;
                        continue;
                    }
                    self.at += 1;
                }
                b'[' => {
                    self.at += 1;
                    if self.peek()? != b']' {
                        self.open.push(b']');
                        continue;
                    }
                    self.at += 1;
                }
                b't' => self.word("true")?,
                b'f' => self.word("false")?,
                b'n' => self.word("null")?,
                _ => self.number()?,
            }
            // A value has ended, and whatever ends with it.
            loop {
                let Some(&close) = self.open.last() else {
                    return Some(&self.text[begin..self.at]);
                };
                let next = self.peek()?;
                self.at += 1;
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

    fn expect(&mut self, byte: u8) -> Option<()> {
        if self.peek()? != byte {
            return None;
        }
        self.at += 1;
        Some(())
    }

    /// Goes through a member's name and the colon behind it, and gives what stands in its quotes.
    fn name(&mut self) -> Option<&'a str> {
        if self.peek()? != b'"' {
            return None;
        }
        let begin = self.at + 1;
        self.string()?;
        let name = &self.text[begin..self.at - 1];
        self.expect(b':')?;
        Some(name)
    }

    fn string(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        let begin = self.at + 1;
        let mut at = begin;
        loop {
            at += special(&bytes[at..])?;
            if bytes[at] == b'"' {
                break;
            }
            at += match bytes.get(at + 1)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                b'u' if bytes.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => 6,
                _ => return None,
            };
        }
        if self.has_controls && bytes[begin..at].iter().any(|byte| *byte < b' ') {
            return None;
        }
        self.at = at + 1;
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

    /// At least one digit.
    fn digits(&mut self) -> Option<()> {
        let rest = &self.text.as_bytes()[self.at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        if digits > 0 { Some(()) } else { None }
    }
}

/// Where the next quote or backslash stands.
fn special(bytes: &[u8]) -> Option<usize> {
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\');
    let short = &bytes[..bytes.len().min(SHORT)];
    match short.iter().position(is_special) {
        None => Some(short.len() + memchr::memchr2(b'"', b'\\', &bytes[short.len()..])?),
        found => found,
    }
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
    fn it_accepts_what_serde_json_accepts() {
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

    proptest! {
        #[test]
        fn it_accepts_what_serde_json_accepts_of_anything(
            text in r#"([\[\]{}",:\\ \t]|[a-fu0-9.eE+-]|true|null|"a":|"[a-z\\n]{0,20}"|ä){0,24}"#
        ) {
            prop_assert_eq!(accepts(&text), is_json(&text), "{:?}", text);
        }
    }
}
