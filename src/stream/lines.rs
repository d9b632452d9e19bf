//! A byte stream cut into lines, with bounded memory whatever a line's length.
//!
//! Most lines are passed on as they are. One longer than [`LINE_KEPT`] is *squeezed* while it
//! arrives: it stays valid JSON, but long strings are cut short and an over-long member of the
//! outermost object becomes `null`, or of an array the rest does: that there was something is not
//! lost. A `result` event with a gigantic answer therefore still tells its verdict.

/// Bytes of a line up to which it is passed on whole.
const MAX_LINE_BYTES: usize = 1 << 20;
/// Bytes kept of a string that is a direct member of the outermost object (such as `result`).
const MAX_OUTER_STRING_BYTES: usize = 1 << 20;
/// Bytes kept of any string further in.
const MAX_INNER_STRING_BYTES: usize = 64 << 10;
/// Bytes kept of one member of the outermost object that is no string.
const MAX_MEMBER_BYTES: usize = 1 << 20;
/// Bytes kept of a squeezed line in all; a line that needs more is passed on cut, as no JSON.
const MAX_SHORTENED_BYTES: usize = 4 << 20;
/// Capacity that the buffer keeps between lines, so that one long line does not swell the
/// process for good.
const CAPACITY_KEPT: usize = 64 << 10;

/// One line, without its line feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its bytes, or, where they are fewer than `length`, its squeezed form.
    pub bytes: &'a [u8],
    /// How many bytes it had in the stream, without the line feed.
    pub length: u64,
}

impl Line<'_> {
    /// How many bytes were left out of `bytes`.
    pub fn omitted(&self) -> u64 {
        self.length.saturating_sub(self.bytes.len() as u64)
    }
}

/// Cuts a stream that arrives in pieces into [`Line`]s.
#[derive(Debug, Default)]
pub struct LineSplitter {
    held: Vec<u8>,
    length: u64,
    squeezer: Option<LineShortener>,
}

impl LineSplitter {
    /// Takes the next piece and gives each line that it completes to `each`.
    pub fn push(&mut self, mut piece: &[u8], mut each: impl FnMut(Line<'_>)) {
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

    /// The stream is over: gives what stands after the last line feed, if anything does.
    pub fn finish(&mut self, mut each: impl FnMut(Line<'_>)) {
        if self.length > 0 {
            self.release(&mut each);
        }
    }

    fn hold(&mut self, piece: &[u8]) {
        self.length += piece.len() as u64;
        if let Some(squeezer) = &mut self.squeezer {
            squeezer.push(piece);
        } else if self.held.len() + piece.len() <= MAX_LINE_BYTES {
            self.held.extend_from_slice(piece);
        } else {
            let mut squeezer = LineShortener::default();
            squeezer.push(&std::mem::take(&mut self.held));
            squeezer.push(piece);
            self.squeezer = Some(squeezer);
        }
    }

    fn release(&mut self, each: &mut impl FnMut(Line<'_>)) {
        let length = std::mem::take(&mut self.length);
        if let Some(squeezer) = self.squeezer.take() {
            each(Line { bytes: &squeezer.out, length });
        } else {
            each(Line { bytes: &self.held, length });
            self.held.clear();
            self.held.shrink_to(CAPACITY_KEPT);
        }
    }
}

/// Where in the JSON text the squeezer stands.
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

/// Copies JSON text, leaving out what is too long. It checks nothing: text that is no JSON comes
/// out as other text that is none.
#[derive(Debug, Default)]
struct LineShortener {
    out: Vec<u8>,
    place: LexState,
    depth: usize,
    /// Bytes of the present string that were copied.
    string: usize,
    /// The rest of the present string is left out.
    cut: bool,
    /// The last escape was the first half of a surrogate pair: no cut between the halves.
    half_pair: bool,
    /// Where the present member's value begins in `out`.
    member: usize,
    /// Where the present element begins, if the member is an array.
    element: Option<usize>,
    /// The rest of the present member is left out.
    skip: bool,
}

impl LineShortener {
    fn push(&mut self, mut piece: &[u8]) {
        while let Some((&byte, rest)) = piece.split_first() {
            match self.place {
                LexState::Outside => {
                    self.outside(byte);
                    piece = rest;
                }
                LexState::String => {
                    let run = memchr::memchr2(b'"', b'\\', piece).unwrap_or(piece.len());
                    if run == 0 {
                        self.cut_here(byte);
                        if byte == b'"' {
                            self.place = LexState::Outside;
                            // The closing quote is copied also where the string was cut.
                            self.copy(&[byte]);
                        } else {
                            self.place = LexState::Backslash;
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
                    self.place = if byte == b'u' {
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
                    self.place = if left > 1 {
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
        if self.skip && self.depth == 1 && matches!(byte, b',' | b'}') {
            self.skip = false;
        }
        self.copy(&[byte]);
        match byte {
            b'"' => {
                self.place = LexState::String;
                self.string = 0;
                self.cut = false;
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
            b',' if self.depth == 2 && !self.skip && self.element.is_some() => {
                self.element = Some(self.out.len());
            }
            _ => {}
        }
        if self.depth > 1 && !self.skip && self.out.len() - self.member > MAX_MEMBER_BYTES {
            self.out.truncate(self.element.unwrap_or(self.member));
            self.out.extend_from_slice(if self.element.is_some() { b"null]" } else { b"null" });
            self.skip = true;
        }
    }

    /// A run inside a string without quotes and backslashes.
    fn plain(&mut self, run: &[u8]) {
        if self.cut || self.skip {
            return;
        }
        let room = self.string_kept().saturating_sub(self.string);
        if run.len() <= room {
            self.string_bytes(run);
            self.half_pair = false;
            return;
        }
        // Not in the middle of a character: forward to the next byte that begins one.
        let end = (room..run.len()).find(|&at| run[at] & 0xc0 != 0x80).unwrap_or(run.len());
        self.string_bytes(&run[..end]);
        if end < run.len() {
            self.cut_here(run[end]);
        }
    }

    /// Ends the copying of a string that has its length, if `next` does not belong to what was
    /// copied last.
    fn cut_here(&mut self, next: u8) {
        if self.string >= self.string_kept() && !self.half_pair && next & 0xc0 != 0x80 {
            self.cut = true;
        }
    }

    fn string_kept(&self) -> usize {
        if self.depth <= 1 { MAX_OUTER_STRING_BYTES } else { MAX_INNER_STRING_BYTES }
    }

    fn string_bytes(&mut self, bytes: &[u8]) {
        if !self.cut {
            self.string += bytes.len();
            self.copy(bytes);
        }
    }

    fn copy(&mut self, bytes: &[u8]) {
        if !self.skip && self.out.len() + bytes.len() <= MAX_SHORTENED_BYTES {
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
    fn lines_are_the_same_however_the_stream_is_cut() {
        let stream = b"one\n\ntwo \xff\n{\"a\":1}\nrest";
        let whole = split(&[stream]);
        assert_eq!(whole.len(), 5);
        for size in 1..stream.len() {
            assert_eq!(split(&stream.chunks(size).collect::<Vec<_>>()), whole, "pieces of {size}");
        }
    }

    #[test]
    fn a_huge_string_is_cut_and_the_rest_of_the_event_survives() {
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
    fn a_huge_member_becomes_null_and_a_huge_array_keeps_its_beginning() {
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
    fn endless_garbage_takes_bounded_memory() {
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
    fn the_line_after_a_huge_one_is_whole() {
        let huge = vec![b'x'; 3 << 20];
        let lines = split(&[&huge, b"\n{\"a\":1}\n"]);
        assert_eq!(lines[1], (b"{\"a\":1}".to_vec(), 7));
    }
}
