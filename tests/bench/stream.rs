//! A realistic stream: the real CLI's first and last line, and between them assistant and user
//! events of 200 bytes to 20 kB, short ones more often than long ones, the same in every run.

use std::io::{self, Write};

/// The id of the recorded session; other sessions have an id of the same length.
pub(crate) const SESSION: &str = "7d1d62c2-9142-438d-933b-3e14ae9b87f5";

const RECORDED: &str = include_str!("../fixtures/transcripts/2.1.197/tool_use.ndjson");
const PARTIAL: &str = include_str!("../fixtures/transcripts/2.1.197/partial_messages.ndjson");
const SHORT: &str = include_str!("../fixtures/transcripts/2.1.197/success.ndjson");

/// Events as the real CLI wrote them, which are printed repeatedly.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recorded {
    ToolUse,
    ShortTexts,
    PartialMessages,
}

impl Recorded {
    pub(crate) const ALL: [(Recorded, &str); 3] = [
        (Recorded::ToolUse, "tools"),
        (Recorded::ShortTexts, "texts"),
        (Recorded::PartialMessages, "partial"),
    ];

    /// The recording's lines of this kind between the first and the last.
    fn events(self, session: &str) -> String {
        let (recording, kind) = match self {
            Recorded::ToolUse => (RECORDED, ""),
            Recorded::ShortTexts => (SHORT, r#""type":"assistant""#),
            Recorded::PartialMessages => (PARTIAL, r#""type":"stream_event""#),
        };
        let whole: Vec<&str> = recording.lines().collect();
        let between = &whole[1..whole.len() - 1];
        let chosen = between.iter().filter(|line| line.contains(kind));
        chosen.map(|line| line_of_record(Some(line), session)).collect()
    }
}

/// Writes complete recorded events, at least this many bytes of them; `begin` is called once they
/// are built.
pub(crate) fn replay(
    out: &mut impl Write,
    session: &str,
    recorded: Recorded,
    bytes: u64,
    begin: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let events = recorded.events(session);
    let block = events.repeat(BLOCK / events.len());
    begin()?;
    let mut left = bytes as usize;
    while left > block.len() {
        out.write_all(block.as_bytes())?;
        left -= block.len();
    }
    out.write_all(events.repeat(left.div_ceil(events.len())).as_bytes())
}

/// An event that the worker does not report, with its line end.
pub(crate) fn unnoticed(session: &str) -> String {
    let events = Recorded::PartialMessages.events(session);
    line_of_record(events.lines().next(), session)
}

/// What the agent reads and writes in this stream: source text, with everything that JSON has to
/// escape.
const TEXT: &str = include_str!("stream.rs");

/// Events are built once for this many bytes and then written repeatedly: building them is not
/// measured.
const BLOCK: usize = 4 << 20;

/// The `system/init` event, with its line end.
pub(crate) fn init(session: &str) -> String {
    line_of_record(RECORDED.lines().next(), session)
}

/// The `result` event, with its line end.
pub(crate) fn result(session: &str) -> String {
    line_of_record(RECORDED.lines().last(), session)
}

fn line_of_record(line: Option<&str>, session: &str) -> String {
    format!("{}\n", line.unwrap_or_default().replace(SESSION, session))
}

/// Writes complete events, at least this many bytes of them; `begin` is called once they are built.
pub(crate) fn flood(
    out: &mut impl Write,
    session: &str,
    bytes: u64,
    begin: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let mut block = String::with_capacity(BLOCK);
    let mut random = Random(1);
    while block.len() < BLOCK.min(bytes as usize) {
        event(&mut block, session, &mut random);
    }
    let block = block.as_bytes();
    begin()?;
    let mut left = bytes as usize;
    while left > 0 {
        // The last part extends to the end of its line.
        let over = block.iter().skip(left).position(|byte| *byte == b'\n');
        let part = &block[..over.map_or(block.len(), |at| left + at + 1)];
        out.write_all(part)?;
        left = left.saturating_sub(part.len());
    }
    Ok(())
}

/// Writes a single tool result of this many bytes.
pub(crate) fn long_line(out: &mut impl Write, session: &str, bytes: u64) -> io::Result<()> {
    let quoted = quoted(TEXT);
    let text = &quoted[1..quoted.len() - 1];
    let line = user("toolu_long", "\u{1}", session);
    let (before, after) = line.split_once("\u{1}").unwrap_or_default();
    out.write_all(before.as_bytes())?;
    let mut left = bytes;
    while left > 0 {
        out.write_all(text.as_bytes())?;
        left = left.saturating_sub(text.len() as u64);
    }
    out.write_all(after.as_bytes())
}

fn event(block: &mut String, session: &str, random: &mut Random) {
    // Evenly distributed over the orders of magnitude; the frame of an event takes its share.
    let size = (200.0 * 100f64.powf(random.share())) as usize;
    let id = format!("toolu_{:022x}", random.next());
    let text = excerpt(size.saturating_sub(500), random);
    let line = match random.next() % 10 {
        0..4 => user(&id, &text, session),
        4..7 => assistant(&format!(r#"{{"type":"text","text":"{text}"}}"#), session, random),
        7 => system(session, random),
        _ => {
            let input =
                format!(r#"{{"file_path":"src/lib.rs","old_string":"","new_string":"{text}"}}"#);
            let call =
                format!(r#"{{"type":"tool_use","id":"{id}","name":"Edit","input":{input}}}"#);
            assistant(&call, session, random)
        }
    };
    block.push_str(&line);
}

fn assistant(content: &str, session: &str, random: &mut Random) -> String {
    let (id, tokens) = (random.next(), random.next() % 5_000);
    format!(
        r#"{{"type":"assistant","message":{{"id":"msg_{id:024x}","type":"message","role":"assistant","model":"claude-opus-4-8","content":[{content}],"stop_reason":null,"stop_sequence":null,"usage":{{"input_tokens":1200,"output_tokens":{tokens},"cache_creation_input_tokens":0,"cache_read_input_tokens":0}},"context_management":null}},"parent_tool_use_id":null,"session_id":"{session}","request_id":"req_{id:024x}"}}"#
    ) + "\n"
}

fn user(id: &str, text: &str, session: &str) -> String {
    format!(
        r#"{{"type":"user","message":{{"role":"user","content":[{{"tool_use_id":"{id}","type":"tool_result","content":"{text}","is_error":false}}]}},"parent_tool_use_id":null,"session_id":"{session}","timestamp":"2026-11-20T19:46:08.828Z","tool_use_result":{{"interrupted":false,"isImage":false,"noOutputExpected":false}}}}"#
    ) + "\n"
}

fn system(session: &str, random: &mut Random) -> String {
    let id = random.next();
    format!(
        r#"{{"type":"system","subtype":"status","status":"requesting","permissionMode":"bypassPermissions","session_id":"{session}","uuid":"{id:032x}"}}"#
    ) + "\n"
}

/// About this many bytes from the middle of a text file, as the inside of a JSON string.
fn excerpt(bytes: usize, random: &mut Random) -> String {
    let mut text = String::from("… ");
    while text.len() < bytes {
        let from = random.next() as usize % TEXT.len();
        let before = &TEXT.as_bytes()[..from];
        let line = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let chunk = TEXT[line..].chars().take((bytes - text.len()).min(2_000));
        text.extend(chunk);
    }
    let quoted = quoted(&text);
    quoted[1..quoted.len() - 1].to_owned()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A small generator of pseudo-random numbers (xorshift): the same ones in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
