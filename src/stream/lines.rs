//! Splits a byte stream into lines, with bounded memory for lines of any length.
//!
//! Most lines are passed on unchanged. A line longer than [`MAX_LINE_BYTES`] is shortened while it
//! arrives: it remains valid JSON, but long strings are truncated, a long member of the outermost
//! object becomes `null`, and of a long array the rest does, so that the omission shows. A `result`
//! event with a huge answer therefore still has its verdict.

/// Bytes of a line up to which it is passed on unchanged.
const MAX_LINE_BYTES: usize = 1 << 20;
/// Bytes of a string that is a direct member of the outermost object (such as `result`).
const MAX_OUTER_STRING_BYTES: usize = 1 << 20;
/// Bytes of any string further inside.
const MAX_INNER_STRING_BYTES: usize = 64 << 10;
/// Bytes of a member of the outermost object that is not a string.
const MAX_MEMBER_BYTES: usize = 1 << 20;
/// Bytes of a shortened line. A line that needs more is truncated and so no longer JSON.
const MAX_SHORTENED_BYTES: usize = 4 << 20;
/// Capacity that the buffer keeps between lines, so that a long line does not increase the memory
/// of the process permanently.
const MAX_IDLE_CAPACITY: usize = 64 << 10;

/// A line without its line feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// The bytes of the line, or of its shortened form if they are fewer than `length`.
    pub bytes: &'a [u8],
    /// Number of bytes in the stream, without the line feed.
    pub length: u64,
}

impl Line<'_> {
    /// Returns the number of bytes that were left out.
    pub(crate) fn omitted(&self) -> u64 {
        self.length.saturating_sub(self.bytes.len() as u64)
    }
}

/// Splits a stream that arrives in pieces into [`Line`]s.
#[derive(Debug, Default)]
pub(crate) struct LineSplitter {
    held: Vec<u8>,
    length: u64,
    shortener: Option<LineShortener>,
}

impl LineSplitter {
    /// Adds the next piece and passes each completed line to `each`.
    pub(crate) fn push(&mut self, mut piece: &[u8], mut each: impl FnMut(Line<'_>)) {
        while let Some(end) = memchr::memchr(b'\n', piece) {
            let (line, rest) = (&piece[..end], &piece[end + 1..]);
            if self.length == 0 && line.len() <= MAX_LINE_BYTES {
                each(Line { bytes: line, length: line.len() as u64 });
            } else {
                self.hold(line);
                self.release(&mut each);
            }
            piece = rest;
        }
        self.hold(piece);
    }

    /// Ends the stream and passes on the text after the last line feed, if any.
    pub(crate) fn finish(&mut self, mut each: impl FnMut(Line<'_>)) {
        if self.length > 0 {
            self.release(&mut each);
        }
    }

    fn hold(&mut self, piece: &[u8]) {
        self.length += piece.len() as u64;
        if let Some(shortener) = &mut self.shortener {
            shortener.push(piece);
        } else if self.held.len() + piece.len() <= MAX_LINE_BYTES {
            self.held.extend_from_slice(piece);
        } else {
            let mut shortener = LineShortener::default();
            shortener.push(&std::mem::take(&mut self.held));
            shortener.push(piece);
            self.shortener = Some(shortener);
        }
    }

    fn release(&mut self, each: &mut impl FnMut(Line<'_>)) {
        let length = std::mem::take(&mut self.length);
        if let Some(shortener) = self.shortener.take() {
            each(Line { bytes: &shortener.out, length });
        } else {
            each(Line { bytes: &self.held, length });
            self.held.clear();
            self.held.shrink_to(MAX_IDLE_CAPACITY);
        }
    }
}

/// Lexical state of the shortener.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum LexState {
    #[default]
    Outside,
    String,
    Backslash,
    Hex {
        left: u8,
        value: u16,
    },
}

/// Copies JSON text without its overlong parts. It does not validate: text that is not JSON remains
/// so.
#[derive(Debug, Default)]
struct LineShortener {
    out: Vec<u8>,
    state: LexState,
    depth: usize,
    /// Copied bytes of the present string.
    string: usize,
    /// Whether the rest of the present string is left out.
    is_truncated: bool,
    /// Whether the last escape was the first half of a surrogate pair: the string is not truncated
    /// between the halves.
    half_pair: bool,
    /// Offset of the present member's value in `out`.
    member: usize,
    /// Offset of the present element if the member is an array.
    element: Option<usize>,
    /// Whether the rest of the present member is left out.
    is_skipped: bool,
}

impl LineShortener {
    fn push(&mut self, mut piece: &[u8]) {
        while let Some((&byte, rest)) = piece.split_first() {
            match self.state {
                LexState::Outside => {
                    self.outside(byte);
                    piece = rest;
                }
                LexState::String => {
                    let run = memchr::memchr2(b'"', b'\\', piece).unwrap_or(piece.len());
                    if run == 0 {
                        self.truncate_here(byte);
                        if byte == b'"' {
                            self.state = LexState::Outside;
                            // The closing quote is copied even if the string was truncated.
                            self.copy(&[byte]);
                        } else {
                            self.state = LexState::Backslash;
                            self.string_bytes(&[byte]);
                        }
                        piece = rest;
                    } else {
                        self.plain(&piece[..run]);
                        piece = &piece[run..];
                    }
                }
                LexState::Backslash => {
                    self.string_bytes(&[byte]);
                    self.half_pair = false;
                    self.state = if byte == b'u' {
                        LexState::Hex { left: 4, value: 0 }
                    } else {
                        LexState::String
                    };
                    piece = rest;
                }
                LexState::Hex { left, value } => {
                    self.string_bytes(&[byte]);
                    let digit = char::from(byte).to_digit(16).unwrap_or(0) as u16;
                    let value = value << 4 | digit;
                    self.state = if left > 1 {
                        LexState::Hex { left: left - 1, value }
                    } else {
                        self.half_pair = (0xd800..0xdc00).contains(&value);
                        LexState::String
                    };
                    piece = rest;
                }
            }
        }
    }

    fn outside(&mut self, byte: u8) {
        if self.is_skipped && self.depth == 1 && matches!(byte, b',' | b'}') {
            self.is_skipped = false;
        }
        self.copy(&[byte]);
        match byte {
            b'"' => {
                self.state = LexState::String;
                self.string = 0;
                self.is_truncated = false;
                self.half_pair = false;
            }
            b'{' | b'[' => {
                self.depth += 1;
                if byte == b'[' && self.depth == 2 {
                    self.element = Some(self.out.len());
                }
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b':' if self.depth == 1 => {
                self.member = self.out.len();
                self.element = None;
            }
            b',' if self.depth == 2 && !self.is_skipped && self.element.is_some() => {
                self.element = Some(self.out.len());
            }
            _ => {}
        }
        if self.depth > 1 && !self.is_skipped && self.out.len() - self.member > MAX_MEMBER_BYTES {
            self.out.truncate(self.element.unwrap_or(self.member));
            self.out.extend_from_slice(if self.element.is_some() { b"null]" } else { b"null" });
            self.is_skipped = true;
        }
    }

    /// Copies a run of string bytes without quotes and backslashes.
    fn plain(&mut self, run: &[u8]) {
        if self.is_truncated || self.is_skipped {
            return;
        }
        let left = self.max_string_bytes().saturating_sub(self.string);
        if run.len() <= left {
            self.string_bytes(run);
            self.half_pair = false;
            return;
        }
        // Not inside a character: continue to the next byte that begins one.
        let end = (left..run.len()).find(|&at| run[at] & 0xc0 != 0x80).unwrap_or(run.len());
        self.string_bytes(&run[..end]);
        if end < run.len() {
            self.truncate_here(run[end]);
        }
    }

    /// Truncates a string of full length, unless `next` belongs to what was copied last.
    fn truncate_here(&mut self, next: u8) {
        if self.string >= self.max_string_bytes() && !self.half_pair && next & 0xc0 != 0x80 {
            self.is_truncated = true;
        }
    }

    fn max_string_bytes(&self) -> usize {
        if self.depth <= 1 { MAX_OUTER_STRING_BYTES } else { MAX_INNER_STRING_BYTES }
    }

    fn string_bytes(&mut self, bytes: &[u8]) {
        if !self.is_truncated {
            self.string += bytes.len();
            self.copy(bytes);
        }
    }

    fn copy(&mut self, bytes: &[u8]) {
        if !self.is_skipped && self.out.len() + bytes.len() <= MAX_SHORTENED_BYTES {
            self.out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<(Vec<u8>, u64)> {
        let mut lines = Vec::new();
        let mut splitter = LineSplitter::default();
        for piece in pieces {
            splitter.push(piece, |line| lines.push((line.bytes.to_vec(), line.length)));
        }
        splitter.finish(|line| lines.push((line.bytes.to_vec(), line.length)));
        lines
    }

    #[test]
    fn splits_lines_however_the_stream_arrives() {
        let stream = b"one\n\ntwo \xff\n{\"a\":1}\nrest";
        let whole = split(&[stream]);
        assert_eq!(whole.len(), 5);
        for size in 1..stream.len() {
            assert_eq!(split(&stream.chunks(size).collect::<Vec<_>>()), whole, "pieces of {size}");
        }
    }

    #[test]
    fn truncates_huge_strings_and_keeps_the_event() {
        for filler in ["x", "ä", "\\n", "\\ud83d\\ude00", "\\u00e4", "€"] {
            let text = filler.repeat((5 << 20) / filler.len());
            let line = format!(
                "{{\"is_error\":true,\"result\":\"{text}\",\"deep\":{{\"text\":\"{text}\"}},\"num_turns\":7}}\n"
            );
            for size in [1 << 16, 70_001, line.len()] {
                let lines = split(&line.as_bytes().chunks(size).collect::<Vec<_>>());
                assert_eq!(lines.len(), 1);
                assert_eq!(lines[0].1, line.len() as u64 - 1);
                assert!(lines[0].0.len() < MAX_SHORTENED_BYTES);
                let value: serde_json::Value = serde_json::from_slice(&lines[0].0).unwrap();
                assert_eq!(value["is_error"], true);
                assert_eq!(value["num_turns"], 7);
                let kept = value["result"].as_str().unwrap().len();
                assert!(kept > 0 && kept <= MAX_OUTER_STRING_BYTES + 16, "{filler}: {kept}");
                assert!(
                    value["deep"]["text"].as_str().unwrap().len() <= MAX_INNER_STRING_BYTES + 16
                );
            }
        }
    }

    #[test]
    fn replaces_huge_members_and_truncates_huge_arrays() {
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let many = "1,{\"a\":[7,\"}],\"]},".repeat(1 << 18);
        let strings = format!("{{\"b\":[{}0]}}", "\"ab\",".repeat(1 << 18));
        for (member, beginning) in [
            (format!("{{\"a\":[{many}0]}}"), "null"),
            (format!("[{strings}]"), "[null]"),
            (format!("[[{many}0],1]"), "[null]"),
            (format!("[7,{strings},8,9]"), "[7,null]"),
            (format!(" [ 7 , 8\t,{strings} , 9 ]"), "[7,8,null]"),
        ] {
            let line = format!("{{\"before\":[1],\"many\":{member},\"after\":[\"x\"]}}\n");
            let lines = split(&line.as_bytes().chunks(1 << 16).collect::<Vec<_>>());
            let value: serde_json::Value = serde_json::from_slice(&lines[0].0).unwrap();
            let expected = format!("{{\"before\":[1],\"many\":{beginning},\"after\":[\"x\"]}}");
            assert_eq!(value, json(&expected));
        }
        let line = format!("{{\"before\":1,\"many\":[{many}0],\"after\":\"x\"}}\n");
        let lines = split(&line.as_bytes().chunks(1 << 16).collect::<Vec<_>>());
        let value: serde_json::Value = serde_json::from_slice(&lines[0].0).unwrap();
        let kept = value["many"].as_array().unwrap();
        let (last, rest) = kept.split_last().unwrap();
        assert!(last.is_null() && rest.len() > 1_000, "{}", rest.len());
        assert!(rest.iter().enumerate().all(|(n, item)| item.is_object() == (n % 2 == 1)));
        assert_eq!(value["after"], "x");
    }

    #[test]
    fn bounds_memory_for_endless_garbage() {
        let mut splitter = LineSplitter::default();
        for _ in 0..256 {
            splitter.push(&[b'['; 1 << 16], |_| panic!("no line feed came"));
        }
        splitter.finish(|line| {
            assert_eq!(line.length, 256 << 16);
            assert!(line.bytes.len() <= MAX_SHORTENED_BYTES);
        });
    }

    #[test]
    fn passes_on_the_line_after_a_huge_one() {
        let huge = vec![b'x'; 3 << 20];
        let lines = split(&[&huge, b"\n{\"a\":1}\n"]);
        assert_eq!(lines[1], (b"{\"a\":1}".to_vec(), 7));
    }
}
