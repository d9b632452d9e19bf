//! The stream as a conversation for reading: what the agent said, a line for each tool call.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::value::RawValue;

use super::mend::{from_json, repaired};
use super::{Block, Event, Line, TurnResult, decode};
use crate::text::{clip, one_line};

/// Characters shown of one thing that was said.
pub const SAID_SHOWN: usize = 4_000;
/// Characters shown of a tool call.
const CALL_SHOWN: usize = 160;
/// Characters shown of an error.
const ERROR_SHOWN: usize = 500;
/// How a turn ended that has its answer.
const DONE: &str = "done";
/// Characters shown of a line that is no event.
const STRAY_SHOWN: usize = 400;

/// Who speaks in a [`Passage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// The agent, in words.
    Agent,
    /// The agent, calling a tool.
    Tool,
    /// The outcome of a tool call that went wrong.
    ToolError,
    /// Whoever talks to the agent.
    User,
    /// The CLI or this program: sessions, limits, results.
    Note,
    /// The end of a turn.
    End,
}

/// One thing to read: a paragraph of the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Who speaks.
    pub speaker: Speaker,
    /// The words, without any mark of the speaker.
    pub text: String,
}

impl Passage {
    fn new(speaker: Speaker, text: impl Into<String>) -> Self {
        Self { speaker, text: text.into() }
    }
}

impl fmt::Display for Passage {
    /// The words behind a mark of who speaks: none for the agent, `→` for a tool, `✗` for one that
    /// went wrong, `>` for the user, `·` for a note, `=` for the end of a turn.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.speaker.mark(), self.text)
    }
}

impl Speaker {
    /// What stands before the words.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Agent => "",
            Self::Tool => "→ ",
            Self::ToolError => "✗ ",
            Self::User => "> ",
            Self::Note => "· ",
            Self::End => "= ",
        }
    }
}

/// The passages of one line of the stream: none for what is not worth reading.
pub fn passages(line: Line<'_>) -> Vec<Passage> {
    match decode(line.bytes) {
        Some(event) => of_event(&event),
        None => match repaired(line.bytes).as_ref().and_then(|line| decode(line.as_bytes())) {
            Some(event) => of_event(&event),
            None if line.bytes.is_empty() => Vec::new(),
            None => {
                let shown = &line.bytes[..line.bytes.len().min(STRAY_SHOWN * 4)];
                let text = one_line(&String::from_utf8_lossy(shown), STRAY_SHOWN);
                vec![Passage::new(Speaker::Note, text)]
            }
        },
    }
}

fn of_event(event: &Event<'_>) -> Vec<Passage> {
    let note = |text: String| vec![Passage::new(Speaker::Note, text)];
    match event {
        Event::Assistant { blocks, synthetic, .. } => {
            let speaker = if *synthetic { Speaker::Note } else { Speaker::Agent };
            blocks.iter().filter_map(|block| of_agent(block, speaker)).collect()
        }
        Event::User { blocks, replayed: Some(_), .. } => {
            let words = blocks.iter().filter_map(|block| match block {
                Block::Text(text) => Some(one_line(&text.opening(CALL_SHOWN * 2), CALL_SHOWN)),
                _ => None,
            });
            words.map(|words| Passage::new(Speaker::User, words)).collect()
        }
        Event::User { blocks, .. } => blocks.iter().filter_map(of_user).collect(),
        Event::ApiRetry { error, delay_ms, .. } => {
            note(format!("{} · retry in {:.0} s", one_line(error, 60), delay_ms / 1_000.0))
        }
        Event::RateLimit { status, .. } if status == "rejected" => {
            note("usage limit reached".to_owned())
        }
        Event::Request { tool_name, input, .. } => {
            note(format!("waits for an answer: {}", call(tool_name, input)))
        }
        Event::Prevented(why) => note(one_line(why, CALL_SHOWN)),
        Event::TaskEnded { task_id, status } => {
            note(format!("background task {} {}", one_line(task_id, 40), one_line(status, 40)))
        }
        Event::Result(result) => vec![Passage::new(Speaker::End, ending(result))],
        Event::Init { .. }
        | Event::RateLimit { .. }
        | Event::TaskStarted { .. }
        | Event::TaskUpdated { .. }
        | Event::BackgroundTasks(_)
        | Event::Command { .. }
        | Event::PermissionDenied { .. }
        | Event::RequestCancelled { .. }
        | Event::Partial { .. }
        | Event::Other => Vec::new(),
    }
}

fn of_agent(block: &Block<'_>, speaker: Speaker) -> Option<Passage> {
    match block {
        Block::Text(text) => spoken(speaker, &text.whole()),
        Block::ToolUse { name, input, .. } => Some(Passage::new(Speaker::Tool, call(name, input))),
        Block::Thinking | Block::ToolResult { .. } => None,
    }
}

fn of_user(block: &Block<'_>) -> Option<Passage> {
    match block {
        Block::Text(text) => spoken(Speaker::User, &text.whole()),
        Block::ToolResult { is_error: true, text, .. } => Some(Passage::new(
            Speaker::ToolError,
            one_line(&text.opening(CALL_SHOWN * 2), CALL_SHOWN),
        )),
        _ => None,
    }
}

fn spoken(speaker: Speaker, text: &str) -> Option<Passage> {
    (!text.trim().is_empty()).then(|| Passage::new(speaker, said(text)))
}

/// What was said, cut if it is very long; how much is missing is said.
fn said(text: &str) -> String {
    let text = text.trim_end();
    let length = text.chars().count();
    if length <= SAID_SHOWN {
        return text.to_owned();
    }
    let kept: String = text.chars().take(SAID_SHOWN).collect();
    format!("{kept} […{} more characters]", length - SAID_SHOWN)
}

fn call(name: &str, input: &str) -> String {
    let name = one_line(name, 60);
    let telling = one_line(&telling(input), CALL_SHOWN);
    if telling.is_empty() { name } else { format!("{name}: {telling}") }
}

/// How a result ends its turn. Neither `subtype` nor `is_error` alone calls it a success.
fn ending(result: &TurnResult) -> String {
    let aborted = |why: &String| why.starts_with("aborted");
    let how = if result.terminal_reason.as_ref().is_some_and(aborted) {
        "interrupted".to_owned()
    } else if result.is_error || result.subtype != "success" {
        format!("failed: {}", one_line(&error_of(result), ERROR_SHOWN))
    } else {
        DONE.to_owned()
    };
    let ms = Some(result.duration_ms);
    format!("{how} · {}", figures(result.num_turns, ms, result.total_cost_usd))
}

/// What a result that is an error says went wrong: all its errors, or else its text, or else how
/// the CLI calls it.
pub fn error_of(result: &TurnResult) -> String {
    if let Some(sentence) = result.sentence() {
        return sentence;
    }
    match result.subtype.as_str() {
        "" | "success" => "claude reported an error without a message".to_owned(),
        subtype => format!("claude reported {}", one_line(subtype, 60)),
    }
}

/// `3 turns · 4.2 s · $0.02`, as far as it is known.
fn figures(turns: u64, ms: Option<u64>, usd: Option<f64>) -> String {
    let mut parts = vec![format!("{turns} {}", if turns == 1 { "turn" } else { "turns" })];
    parts.extend(ms.map(|ms| format!("{:.1} s", ms as f64 / 1_000.0)));
    parts.extend(usd.map(|usd| format!("${usd:.2}")));
    parts.join(" · ")
}

/// The arguments by which tools are known, most telling first.
const KNOWN: [&str; 11] = [
    "command",
    "file_path",
    "notebook_path",
    "pattern",
    "path",
    "url",
    "query",
    "questions",
    "description",
    "prompt",
    "skill",
];

/// The most telling part of a tool's input: the argument that the tool is known by, or else its
/// first, or else all of it.
pub fn telling(input: &str) -> String {
    let Ok(fields) = serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(input) else {
        return clip(input, CALL_SHOWN);
    };
    let known = KNOWN.iter().find_map(|name| fields.get(*name));
    let Some(value) = known.or_else(|| fields.values().next()) else { return String::new() };
    from_json::<String>(value.get()).unwrap_or_else(|_| clip(value.get(), CALL_SHOWN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Vec<(Speaker, String)> {
        passages(Line { bytes: line.as_bytes(), length: line.len() as u64 })
            .into_iter()
            .map(|passage| (passage.speaker, passage.text))
            .collect()
    }

    #[test]
    fn a_tool_call_is_one_telling_line() {
        for (input, shown) in [
            (r#"{"description":"run","command":"cargo test\n  --all"}"#, "Bash: cargo test --all"),
            (r#"{"content":"long","file_path":"/a/b"}"#, "Bash: /a/b"),
            (r#"{"content":"\ud83d","command":"echo \ud83d"}"#, "Bash: echo \u{fffd}"),
            (r#"{"x":{"y":1}}"#, r#"Bash: {"y":1}"#),
            ("{}", "Bash"),
        ] {
            let line = format!(
                r#"{{"type":"assistant","message":{{"content":[{{"type":"tool_use","id":"t","name":"Bash","input":{input}}}]}}}}"#
            );
            assert_eq!(read(&line), [(Speaker::Tool, shown.to_owned())]);
        }
    }

    #[test]
    fn the_end_of_a_turn_says_how_it_went() {
        let end = |fields: &str| {
            let line = format!(r#"{{"type":"result","num_turns":1,"duration_ms":90,{fields}}}"#);
            read(&line).remove(0).1
        };
        assert_eq!(end(r#""subtype":"success","is_error":false"#), "done · 1 turn · 0.1 s");
        let aborted = r#""is_error":true,"terminal_reason":"aborted_tools","errors":["[ede]"]"#;
        assert_eq!(end(aborted), "interrupted · 1 turn · 0.1 s");
        for (fields, why) in [
            (r#""is_error":true,"errors":["no more turns"]"#, "no more turns"),
            (r#""is_error":true,"errors":["one"," ","two\n"],"result":"x""#, "one; two"),
            (r#""subtype":"success","is_error":true,"result":"API Error: 401""#, "API Error: 401"),
            (
                r#""subtype":"success","is_error":true,"result":" ""#,
                "claude reported an error without a message",
            ),
            (
                r#""subtype":"error_during_execution","is_error":false,"errors":[]"#,
                "claude reported error_during_execution",
            ),
        ] {
            assert_eq!(end(fields), format!("failed: {why} · 1 turn · 0.1 s"));
        }
    }

    #[test]
    fn what_is_not_worth_reading_is_left_out() {
        for line in [
            "",
            r#"{"type":"system","subtype":"init"}"#,
            r#"{"type":"stream_event","event":{}}"#,
            r#"{"type":"assistant","message":{"content":[{"type":"text","text":" \n"}]}}"#,
            r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"t","content":"fine"}]}}"#,
        ] {
            assert_eq!(read(line), [], "{line}");
        }
    }

    #[test]
    fn a_stray_line_is_shown_as_it_is() {
        assert_eq!(read("npm  notice\tx"), [(Speaker::Note, "npm notice x".to_owned())]);
        let garbage = passages(Line { bytes: &[0xff; 10_000], length: 10_000 });
        assert_eq!(garbage[0].text.chars().count(), STRAY_SHOWN);
    }

    #[test]
    fn a_long_speech_is_cut_and_says_so() {
        let line = format!(
            r#"{{"type":"assistant","message":{{"content":[{{"type":"text","text":"{}"}}]}}}}"#,
            "ä".repeat(SAID_SHOWN + 7)
        );
        assert!(read(&line)[0].1.ends_with("ä […7 more characters]"));
    }
}
