//! Valid stream-json lines in any quantity, determined by a seed alone, so that a test can compute
//! every byte that the fake claude wrote without keeping a copy of it. Shared by the fake, which
//! writes the lines, and by the tests, which compare them.

use std::io::{self, Write};

/// Bytes of the text that the lines are cut from. Each is a slice of this block, because copying
/// keeps an unoptimised build fast enough to fill a pipe.
const BLOCK: usize = 64 * 1024;
const LONGEST_TEXT: u64 = 8 * 1024;

/// Words of one to four bytes a character, one that JSON must escape, and one that only looks like
/// the end of a line.
const WORDS: [&str; 12] = [
    "the",
    "test",
    "passes",
    "größer",
    "naïve",
    "日本語",
    "🦀",
    r#"\"quoted\""#,
    r"\\n",
    "of",
    "a",
    "parser",
];

/// Writes the `assistant` lines of a seed until at least `bytes` are written, and returns the
/// number of bytes written, always up to the end of a line.
pub(crate) fn fill(bytes: u64, seed: u64, out: &mut impl Write) -> io::Result<u64> {
    let mut numbers = Numbers::new(seed);
    let block = block(&mut numbers);
    let mut line = String::new();
    let mut written = 0;
    let mut count = 0_u64;
    while written < bytes {
        line.clear();
        line.push_str(r#"{"type":"assistant","message":{"id":"msg_"#);
        line.push_str(&format!("{seed:016x}{count:08x}"));
        line.push_str(HEAD);
        line.push_str(slice(&block, &mut numbers));
        line.push_str(TAIL);
        line.push('\n');
        out.write_all(line.as_bytes())?;
        written += line.len() as u64;
        count += 1;
    }
    Ok(written)
}

const HEAD: &str = concat!(
    r#"","type":"message","role":"assistant","model":"claude-opus-4-8","#,
    r#""content":[{"type":"text","text":""#
);
const TAIL: &str = concat!(
    r#""}],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1200,"#,
    r#""output_tokens":1,"cache_creation_input_tokens":0,"cache_read_input_tokens":0},"#,
    r#""context_management":null},"parent_tool_use_id":null,"#,
    r#""session_id":"00000000-0000-4000-8000-000000000000","#,
    r#""uuid":"00000000-0000-4000-8000-000000000001","request_id":"req_00"}"#
);

/// JSON-escaped text in words. Words are separated by a space each, so that a slice from space to
/// space never cuts an escape sequence or a character.
fn block(numbers: &mut Numbers) -> String {
    let mut text = String::with_capacity(BLOCK + 32);
    text.push(' ');
    while text.len() < BLOCK {
        text.push_str(WORDS[numbers.below(WORDS.len() as u64) as usize]);
        text.push(' ');
    }
    text
}

fn slice<'a>(block: &'a str, numbers: &mut Numbers) -> &'a str {
    let length = 1 + numbers.below(LONGEST_TEXT) as usize;
    let start = numbers.below((block.len() - length) as u64) as usize;
    let bytes = &block.as_bytes()[start..start + length];
    // A space is one byte in UTF-8 and part of no escape, so cutting at spaces is always safe.
    let first = bytes.iter().position(|&byte| byte == b' ');
    let last = bytes.iter().rposition(|&byte| byte == b' ');
    match (first, last) {
        (Some(first), Some(last)) => &block[start + first..start + last],
        _ => "",
    }
}

/// SplitMix64: small, and good for every seed including zero.
struct Numbers(u64);

impl Numbers {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
