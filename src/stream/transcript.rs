//! The stream as a conversation for reading: what the agent said, a line for each tool call.

mod pieces;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::surrogates::{from_json, repair};
use super::{Block, Event, Line, TurnResult, decode};
use crate::job::{Question, Record, Status, milliseconds, parse_questions, truncate_all};
use crate::text::{clip, one_line};

use pieces::Link;
pub use pieces::{Piece, resolve};

/// Characters shown of one thing that was said.
pub const SAID_SHOWN: usize = 4_000;
/// Characters shown of a tool call.
const CALL_SHOWN: usize = 160;
/// Characters shown of a question, of what can be chosen, and of an answer.
const ASKED_SHOWN: usize = 400;
/// The tool by which the agent asks.
const QUESTION: &str = "AskUserQuestion";
/// What is said of a tool call while nobody has decided on it.
const WAITS: &str = "waits for permission";
/// Characters shown of an error.
const ERROR_SHOWN: usize = 500;
/// What is said of an error that says nothing.
const NO_MESSAGE: &str = "claude ended its turn with an error and gave no message";
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
    /// Claude's process, on stderr.
    Stderr,
}

/// One thing to read: a paragraph of the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TranscriptLine {
    /// Who speaks.
    pub speaker: Speaker,
    /// The words, without any mark of the speaker.
    pub text: String,
}

impl TranscriptLine {
    fn new(speaker: Speaker, text: impl Into<String>) -> Self {
        Self { speaker, text: text.into() }
    }
}

impl fmt::Display for TranscriptLine {
    /// The words behind a mark of who speaks: none for the agent, `→` for a tool, `✗` for one that
    /// went wrong, `>` for the user, `·` for a note, `=` for the end of a turn, `!` for stderr.
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
            Self::Stderr => "! ",
        }
    }
}

/// What one line of the stream says by itself: nothing where it is not worth reading.
pub fn transcript_lines(line: Line<'_>) -> Vec<TranscriptLine> {
    resolve(&[], &pieces(line)).into_iter().map(|(_, passage)| passage).collect()
}

/// The pieces of one line of the stream.
pub fn pieces(line: Line<'_>) -> Vec<Piece> {
    if let Some(event) = decode(line.bytes) {
        return of_event(&event, line.bytes);
    }
    let repaired = repair(line.bytes);
    let bytes = repaired.as_ref().map_or(line.bytes, String::as_bytes);
    match decode(bytes) {
        Some(event) => of_event(&event, bytes),
        None if line.bytes.is_empty() => Vec::new(),
        None => {
            let shown = &line.bytes[..line.bytes.len().min(STRAY_SHOWN * 4)];
            let text = one_line(&String::from_utf8_lossy(shown), STRAY_SHOWN);
            vec![Piece::said(Speaker::Note, text)]
        }
    }
}

/// What a line of claude's stderr says; `None` of a blank one.
pub fn complaint(line: Line<'_>) -> Option<Piece> {
    spoken(Speaker::Stderr, &String::from_utf8_lossy(line.bytes))
}

fn of_event(event: &Event<'_>, line: &[u8]) -> Vec<Piece> {
    let note = |text: String| vec![Piece::said(Speaker::Note, text)];
    match event {
        Event::Assistant { blocks, synthetic, .. } => {
            let speaker = if *synthetic { Speaker::Note } else { Speaker::Agent };
            blocks.iter().flat_map(|block| of_agent(block, speaker)).collect()
        }
        Event::User { blocks, replayed: Some(_), .. } => {
            let words = blocks.iter().filter_map(|block| match block {
                Block::Text(text) => Some(one_line(&text.prefix(CALL_SHOWN * 2), CALL_SHOWN)),
                _ => None,
            });
            words.map(|words| Piece::said(Speaker::User, words)).collect()
        }
        Event::User { blocks, .. } => {
            let answers = answers(line);
            blocks.iter().filter_map(|block| of_user(block, answers.as_deref())).collect()
        }
        Event::ApiRetry { error, delay_ms, .. } => {
            note(format!("{} · retry in {:.0} s", one_line(error, 60), delay_ms / 1_000.0))
        }
        Event::RateLimit { status, .. } if status == "rejected" => {
            note("usage limit reached".to_owned())
        }
        Event::Request { request_id, tool_name, tool_use_id, input } => {
            // A request that names no call is about none that was shown.
            let id = tool_use_id.as_ref().unwrap_or(request_id);
            of_request(request_id, id, tool_name, input)
        }
        Event::RequestCancelled { request_id } => {
            vec![Piece::linked(Link::Cancelled { request_id: request_id.clone() })]
        }
        Event::Prevented(why) => note(one_line(why, CALL_SHOWN)),
        Event::TaskEnded { task_id, status } => {
            note(format!("background task {} {}", one_line(task_id, 40), one_line(status, 40)))
        }
        Event::Result(result) => {
            let denied = result.permission_denials.iter();
            let ids = denied.filter_map(|call| call.get("tool_use_id")?.as_str());
            let ids = ids.map(str::to_owned).collect();
            let mut end = Piece::said(Speaker::End, ending(result));
            end.link = Some(Link::Denied { ids });
            vec![end]
        }
        Event::Init { .. }
        | Event::RateLimit { .. }
        | Event::TaskStarted { .. }
        | Event::TaskUpdated { .. }
        | Event::BackgroundTasks(_)
        | Event::Command { .. }
        | Event::PermissionDenied { .. }
        | Event::Partial { .. } => Vec::new(),
        Event::Other => response(line).into_iter().collect(),
    }
}

fn of_agent(block: &Block<'_>, speaker: Speaker) -> Vec<Piece> {
    match block {
        Block::Text(text) => spoken(speaker, &text.whole()).into_iter().collect(),
        Block::ToolUse { id, name, input } => {
            let asked = if name == QUESTION { asked(input) } else { Vec::new() };
            let question = !asked.is_empty();
            let shown = if question { asked } else { vec![call(name, input)] };
            let piece = |text| Piece {
                passage: Some(TranscriptLine::new(Speaker::Tool, text)),
                link: Some(Link::Call { id: id.to_string(), question }),
            };
            shown.into_iter().map(piece).collect()
        }
        Block::Thinking | Block::ToolResult { .. } => Vec::new(),
    }
}

fn of_user(block: &Block<'_>, answers: Option<&str>) -> Option<Piece> {
    match block {
        Block::Text(text) => spoken(Speaker::User, &text.whole()),
        Block::ToolResult { id, is_error, text } => {
            let failed = is_error.then(|| one_line(&text.prefix(CALL_SHOWN * 2), CALL_SHOWN));
            let passage = match (&failed, answers) {
                (Some(why), _) => Some(TranscriptLine::new(Speaker::ToolError, why.clone())),
                (None, Some(answers)) => {
                    Some(TranscriptLine::new(Speaker::User, format!("answered: {answers}")))
                }
                (None, None) => None,
            };
            Some(Piece { passage, link: Some(Link::Outcome { id: id.to_string(), failed }) })
        }
        _ => None,
    }
}

fn of_request(request_id: &str, id: &str, tool_name: &str, input: &str) -> Vec<Piece> {
    let asked = if tool_name == QUESTION { asked(input) } else { Vec::new() };
    let question = !asked.is_empty();
    let call = call(tool_name, input);
    let link = Link::Request {
        id: id.to_owned(),
        request_id: request_id.to_owned(),
        question,
        call: call.clone(),
    };
    let (speaker, shown) = match question {
        true => (Speaker::Tool, asked),
        false => (Speaker::Note, vec![format!("{WAITS}: {call}")]),
    };
    let piece = |text| Piece {
        passage: Some(TranscriptLine::new(speaker, text)),
        link: Some(link.clone()),
    };
    shown.into_iter().map(piece).collect()
}

/// A line for each question of an `AskUserQuestion`, with what can be chosen.
fn asked(input: &str) -> Vec<String> {
    let line = |asked: &Question| {
        let labels: Vec<&str> = asked.options.iter().map(|option| option.label.as_str()).collect();
        let labels = one_line(&labels.join(", "), ASKED_SHOWN);
        let question = one_line(&asked.question, ASKED_SHOWN);
        if labels.is_empty() {
            format!("asks: {question}")
        } else {
            format!("asks: {question} ({labels})")
        }
    };
    truncate_all(&parse_questions(input)).iter().map(line).collect()
}

/// The answers in the result of an `AskUserQuestion`, in the order of the questions: each by
/// itself, or behind its question where there are several.
fn answers(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Outcome {
        tool_use_result: Given,
    }
    #[derive(Deserialize)]
    struct Given {
        questions: Vec<Question>,
        answers: BTreeMap<String, Value>,
    }
    memchr::memmem::find(line, b"\"answers\"")?;
    let text = std::str::from_utf8(line).ok()?;
    let Given { questions, answers } = from_json::<Outcome>(text).ok()?.tool_use_result;
    let said = |answer: &Value| match answer {
        Value::String(text) => one_line(text, ASKED_SHOWN),
        other => one_line(&other.to_string(), ASKED_SHOWN),
    };
    if let ([_] | [], 1) = (questions.as_slice(), answers.len()) {
        return answers.values().next().map(said);
    }
    let order = |question: &&String| questions.iter().position(|q| q.question == **question);
    let mut given: Vec<&String> = answers.keys().collect();
    given.sort_by_key(|question| order(question).unwrap_or(usize::MAX));
    let named = |question: &&String| {
        let header = questions.iter().find(|q| q.question == **question).map(|q| &q.header);
        let name = header.filter(|header| !header.is_empty()).unwrap_or(question);
        format!("{}: {}", one_line(name, 60), said(&answers[*question]))
    };
    let all: Vec<String> = given.iter().map(named).collect();
    (!all.is_empty()).then(|| one_line(&all.join("; "), ASKED_SHOWN * 2))
}

/// The answer to a request, where the line repeats one.
fn response(line: &[u8]) -> Option<Piece> {
    #[derive(Deserialize)]
    struct Outer {
        response: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        request_id: String,
        response: Decision,
    }
    #[derive(Deserialize)]
    struct Decision {
        behavior: String,
        #[serde(default)]
        message: String,
    }
    memchr::memmem::find(line, b"\"control_response\"")?;
    let text = std::str::from_utf8(line).ok()?;
    let Inner { request_id, response } = from_json::<Outer>(text).ok()?.response;
    let decision = match response.behavior.as_str() {
        "allow" => Ok(()),
        _ => Err(one_line(&response.message, CALL_SHOWN)),
    };
    Some(Piece::linked(Link::Response { request_id, decision }))
}

fn spoken(speaker: Speaker, text: &str) -> Option<Piece> {
    (!text.trim().is_empty()).then(|| Piece::said(speaker, said(text)))
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
    let telling = one_line(&main_argument(input), CALL_SHOWN);
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
    let usd = result.total_cost_usd.map(|usd| (usd, false));
    format!("{how} · {}", figures(result.num_turns, Some(result.duration_ms), usd))
}

/// What a result that is an error says went wrong: all its errors, or else its text, or else how
/// the CLI calls it.
pub fn error_of(result: &TurnResult) -> String {
    if let Some(sentence) = result.sentence() {
        return sentence;
    }
    match result.subtype.as_str() {
        "" | "success" => NO_MESSAGE.to_owned(),
        subtype => format!("{NO_MESSAGE} ({})", one_line(subtype, 60)),
    }
}

/// The last line of a job's log: the verdict, and why a job failed. `None` of a job that has not
/// ended.
pub fn verdict(record: &Record) -> Option<TranscriptLine> {
    let reason = record.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let error = record.error.as_deref().map(|error| one_line(error, ERROR_SHOWN));
    let error = error.filter(|error| !error.is_empty());
    let text = match (record.status, error) {
        (status, _) if status.is_live() => return None,
        (Status::Completed, _) => {
            let between = || Some(milliseconds(record.ended_at?.since(record.started_at?)));
            let usd = record.cost_usd.map(|usd| (usd, record.cost_is_lower_bound));
            let figures = figures(record.num_turns, record.elapsed_ms.or_else(between), usd);
            format!("{} · {figures}", record.status)
        }
        (status, Some(error)) => format!("{status}{reason}: {error}"),
        (status, None) => format!("{status}{reason}"),
    };
    Some(TranscriptLine::new(Speaker::End, text))
}

/// Puts the verdict behind the passages of a log that was read to its end. The end of the last turn
/// stands for the turn alone then, and the verdict of a completed job says the same and more.
pub fn conclude(passages: &mut Vec<TranscriptLine>, verdict: TranscriptLine) {
    // What claude's process wrote to stderr after that is no part of the conversation.
    let last = passages.iter().rposition(|passage| passage.speaker != Speaker::Stderr);
    if let Some(last) = last
        && passages[last].speaker == Speaker::End
        && let Some(figures) = passages[last].text.strip_prefix(DONE)
    {
        if verdict.text.starts_with(Status::Completed.as_str()) {
            passages.remove(last);
        } else {
            passages[last].text = format!("the turn ended{figures}");
        }
    }
    passages.push(verdict);
}

/// `3 turns · 4.2 s · $0.02`, as far as it is known; the cost may be a lower bound.
fn figures(turns: u64, ms: Option<u64>, usd: Option<(f64, bool)>) -> String {
    let mut parts = vec![format!("{turns} {}", if turns == 1 { "turn" } else { "turns" })];
    parts.extend(ms.map(|ms| format!("{:.1} s", ms as f64 / 1_000.0)));
    parts.extend(usd.map(|(usd, is_lower_bound)| {
        let least = if is_lower_bound { "at least " } else { "" };
        format!("{least}${usd:.2}")
    }));
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
pub fn main_argument(input: &str) -> String {
    let Ok(fields) = serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(input) else {
        return clip(input, CALL_SHOWN);
    };
    let known = KNOWN.iter().find_map(|name| fields.get(*name));
    let Some(value) = known.or_else(|| fields.values().next()) else { return String::new() };
    from_json::<String>(value.get()).unwrap_or_else(|_| clip(value.get(), CALL_SHOWN))
}

#[cfg(test)]
mod tests;
