//! The stream as a readable conversation: text of the agent, and a line for each tool call.

mod pieces;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{AssistantMessage, Block, Event, LazyText, Line, TurnResult, UserMessage, decode};
use crate::job::{Question, Record, Status, parse_questions, truncate_all};
use crate::text::{clip, format_cost, format_duration, from_json, one_line, plural};

use pieces::Link;
pub(crate) use pieces::{Piece, resolve};

/// Characters of one message in a shortened transcript.
const MAX_SPEECH_CHARS: usize = 4_000;
const MAX_CALL_CHARS: usize = 160;
/// Characters of a question, of its options, and of an answer.
const MAX_QUESTION_CHARS: usize = 400;
/// Tool with which the agent asks a question.
const QUESTION_TOOL: &str = "AskUserQuestion";
/// Text for a tool call without a decision.
const WAITS_FOR_PERMISSION: &str = "waits for permission";
/// Beginning of the text for a question.
const ASKS: &str = "asks: ";
const MAX_ERROR_CHARS: usize = 500;
/// Text for an error without a message.
const NO_MESSAGE: &str = "claude ended its turn with an error and gave no message";
/// Text for a turn that ended with an answer.
const DONE: &str = "done";
const FAILED: &str = "failed: ";
/// Characters of a line that is not an event.
const MAX_STRAY_CHARS: usize = 400;

/// Speaker of a [`TranscriptLine`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaker {
    /// Text of the agent.
    Agent,
    /// A tool call of the agent.
    Tool,
    /// The error of a tool call.
    ToolError,
    /// The user or this program.
    User,
    /// The CLI or this program: sessions, limits, results.
    Note,
    /// The end of a turn.
    End,
    /// Claude's process, on stderr.
    Stderr,
}

/// One paragraph of the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TranscriptLine {
    pub speaker: Speaker,
    /// Text without the mark of the speaker.
    pub text: String,
}

impl TranscriptLine {
    /// Returns whether the line says that the agent waits for an answer.
    pub(crate) fn is_request(&self) -> bool {
        match self.speaker {
            Speaker::Tool => self.text.starts_with(ASKS),
            Speaker::Note => self.text.starts_with(WAITS_FOR_PERMISSION),
            _ => false,
        }
    }

    /// Shortens a very long message, with a note of the omitted length.
    pub(crate) fn shorten(&mut self) {
        let length = self.text.chars().count();
        if length > MAX_SPEECH_CHARS {
            let kept: String = self.text.chars().take(MAX_SPEECH_CHARS).collect();
            self.text = format!("{kept} […{} more characters]", length - MAX_SPEECH_CHARS);
        }
    }

    fn new(speaker: Speaker, text: impl Into<String>) -> Self {
        Self { speaker, text: text.into() }
    }
}

impl fmt::Display for TranscriptLine {
    /// Writes the text after the mark of the speaker: none for the agent, `→` for a tool, `✗` for
    /// its error, `>` for the user, `·` for a note, `=` for the end of a turn, `!` for stderr.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.speaker.mark(), self.text)
    }
}

impl Speaker {
    /// Returns the mark before the text.
    pub(crate) fn mark(self) -> &'static str {
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

/// Returns the transcript of one line of the stream by itself; empty if it is not worth reading.
pub(crate) fn transcript_lines(line: Line<'_>) -> Vec<TranscriptLine> {
    resolve(&[], &pieces(line)).into_iter().map(|(_, line)| line).collect()
}

/// Returns the pieces of one line of the stream.
pub(crate) fn pieces(line: Line<'_>) -> Vec<Piece> {
    let text = String::from_utf8_lossy(line.bytes);
    match decode(text.as_bytes()) {
        Some(event) => event_pieces(&event, &text),
        None if text.is_empty() => Vec::new(),
        None => vec![Piece::said(Speaker::Note, one_line(&text, MAX_STRAY_CHARS))],
    }
}

/// Returns the piece of a line of stderr; `None` if it is blank.
pub(crate) fn stderr_piece(line: Line<'_>) -> Option<Piece> {
    speech(Speaker::Stderr, &String::from_utf8_lossy(line.bytes))
}

fn event_pieces(event: &Event<'_>, line: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    match event {
        Event::Assistant(AssistantMessage { blocks, synthetic, .. }) => {
            let speaker = if *synthetic { Speaker::Note } else { Speaker::Agent };
            for block in blocks {
                pieces.extend(agent_pieces(block, speaker));
            }
        }
        Event::User(UserMessage { blocks, replayed: Some(_), .. }) => {
            for block in blocks {
                if let Block::Text(text) = block {
                    pieces.push(Piece::said(Speaker::User, short_line(text)));
                }
            }
        }
        Event::User(UserMessage { blocks, .. }) => {
            let answers = answer_text(line);
            for block in blocks {
                pieces.extend(user_piece(block, answers.as_deref()));
            }
        }
        Event::ApiRetry { error, delay_ms, .. } => {
            let delay = Duration::try_from_secs_f64(delay_ms / 1_000.0).unwrap_or_default();
            let (error, delay) = (one_line(error, 60), format_duration(delay));
            pieces.push(note(format!("{error} · retry in {delay}")));
        }
        Event::RateLimit { status, .. } if status == "rejected" => {
            pieces.push(note("usage limit reached"));
        }
        Event::Request { request_id, tool_name, tool_use_id, input } => {
            // A request without a tool call belongs to none that is shown.
            let id = tool_use_id.as_ref().unwrap_or(request_id);
            return request_pieces(request_id, id, tool_name, input);
        }
        Event::RequestCancelled { request_id } => {
            pieces.push(Piece::linked(Link::Cancelled { request_id: request_id.clone() }));
        }
        Event::Prevented(why) => pieces.push(note(one_line(why, MAX_CALL_CHARS))),
        Event::TaskEnded { task_id, status, is_background: true } => {
            let (task, status) = (one_line(task_id, 40), one_line(status, 40));
            pieces.push(note(format!("background task {task} {status}")));
        }
        Event::Result(result) => pieces.push(turn_end_piece(result)),
        Event::Init { .. }
        | Event::RateLimit { .. }
        | Event::TaskStarted { .. }
        | Event::TaskUpdated { .. }
        | Event::TaskEnded { .. }
        | Event::BackgroundTasks(_)
        | Event::Command { .. }
        | Event::PermissionDenied { .. }
        | Event::Partial { .. } => {}
        Event::Other => pieces.extend(response_piece(line)),
    }
    pieces
}

fn note(text: impl Into<String>) -> Piece {
    Piece::said(Speaker::Note, text)
}

fn short_line(text: &LazyText<'_>) -> String {
    one_line(&text.prefix(MAX_CALL_CHARS * 2), MAX_CALL_CHARS)
}

/// Returns the error of a tool without the tags that claude puts around it for the model.
fn error_line(text: &LazyText<'_>) -> String {
    let line = short_line(text);
    match line.strip_prefix("<tool_use_error>") {
        Some(error) => error.trim_end_matches("</tool_use_error>").to_owned(),
        None => line,
    }
}

fn agent_pieces(block: &Block<'_>, speaker: Speaker) -> Vec<Piece> {
    let mut pieces = Vec::new();
    match block {
        Block::Text(text) => pieces.extend(speech(speaker, &text.whole())),
        Block::ToolUse { id, name, input } => {
            let mut shown = question_lines(name, input);
            let question = !shown.is_empty();
            if !question {
                shown.push(call_line(name, input));
            }
            for text in shown {
                let line = Some(TranscriptLine::new(Speaker::Tool, text));
                let link = Some(Link::Call { id: id.to_string(), question });
                pieces.push(Piece { line, link });
            }
        }
        Block::Thinking | Block::ToolResult { .. } => {}
    }
    pieces
}

fn user_piece(block: &Block<'_>, answers: Option<&str>) -> Option<Piece> {
    match block {
        Block::Text(text) => speech(Speaker::User, &text.whole()),
        Block::ToolResult { id, is_error, text } => {
            let failed = if *is_error { Some(error_line(text)) } else { None };
            let line = match (&failed, answers) {
                (Some(why), _) => Some(TranscriptLine::new(Speaker::ToolError, why.clone())),
                (None, Some(answers)) => {
                    Some(TranscriptLine::new(Speaker::User, format!("answered: {answers}")))
                }
                (None, None) => None,
            };
            Some(Piece { line, link: Some(Link::Outcome { id: id.to_string(), failed }) })
        }
        _ => None,
    }
}

fn request_pieces(request_id: &str, id: &str, tool_name: &str, input: &str) -> Vec<Piece> {
    let call = call_line(tool_name, input);
    let mut shown = question_lines(tool_name, input);
    let question = !shown.is_empty();
    let speaker = if question { Speaker::Tool } else { Speaker::Note };
    if !question {
        shown.push(format!("{WAITS_FOR_PERMISSION}: {call}"));
    }
    let link =
        Link::Request { id: id.to_owned(), request_id: request_id.to_owned(), question, call };
    let mut pieces = Vec::new();
    for text in shown {
        let line = Some(TranscriptLine::new(speaker, text));
        pieces.push(Piece { line, link: Some(link.clone()) });
    }
    pieces
}

/// Returns a line for each question of an `AskUserQuestion`, with its options. Empty for the call
/// of another tool.
fn question_lines(tool_name: &str, input: &str) -> Vec<String> {
    let mut lines = Vec::new();
    if tool_name != QUESTION_TOOL {
        return lines;
    }
    for asked in truncate_all(&parse_questions(input)) {
        let labels: Vec<&str> = asked.options.iter().map(|option| option.label.as_str()).collect();
        let labels = one_line(&labels.join(", "), MAX_QUESTION_CHARS);
        let question = one_line(&asked.question, MAX_QUESTION_CHARS);
        lines.push(match labels.as_str() {
            "" => format!("{ASKS}{question}"),
            _ => format!("{ASKS}{question} ({labels})"),
        });
    }
    lines
}

/// Returns the answers in the result of an `AskUserQuestion`, in the order of the questions; each
/// after its question if there are several.
fn answer_text(line: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Outcome {
        tool_use_result: Answered,
    }
    #[derive(Deserialize)]
    struct Answered {
        questions: Vec<Question>,
        answers: BTreeMap<String, Value>,
    }
    memchr::memmem::find(line.as_bytes(), b"\"answers\"")?;
    let Answered { questions, mut answers } = from_json::<Outcome>(line).ok()?.tool_use_result;
    if questions.len() <= 1 && answers.len() == 1 {
        return answers.values().next().map(one_answer);
    }
    let mut given = Vec::new();
    for asked in &questions {
        if let Some(answer) = answers.remove(&asked.question) {
            let name = if asked.header.is_empty() { &asked.question } else { &asked.header };
            given.push(format!("{}: {}", one_line(name, 60), one_answer(&answer)));
        }
    }
    for (question, answer) in &answers {
        given.push(format!("{}: {}", one_line(question, 60), one_answer(answer)));
    }
    if given.is_empty() {
        return None;
    }
    Some(one_line(&given.join("; "), MAX_QUESTION_CHARS * 2))
}

fn one_answer(answer: &Value) -> String {
    match answer {
        Value::String(text) => one_line(text, MAX_QUESTION_CHARS),
        other => one_line(&other.to_string(), MAX_QUESTION_CHARS),
    }
}

/// Returns the answer to a request, if the line repeats one.
fn response_piece(line: &str) -> Option<Piece> {
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
    memchr::memmem::find(line.as_bytes(), b"\"control_response\"")?;
    let Inner { request_id, response } = from_json::<Outer>(line).ok()?.response;
    let decision = match response.behavior.as_str() {
        "allow" => Ok(()),
        _ => Err(one_line(&response.message, MAX_CALL_CHARS)),
    };
    Some(Piece::linked(Link::Response { request_id, decision }))
}

fn turn_end_piece(result: &TurnResult) -> Piece {
    let mut ids = Vec::new();
    for call in &result.permission_denials {
        ids.extend(call["tool_use_id"].as_str().map(str::to_owned));
    }
    let line = Some(TranscriptLine::new(Speaker::End, turn_end_text(result)));
    Piece { line, link: Some(Link::Denied { ids }) }
}

fn speech(speaker: Speaker, text: &str) -> Option<Piece> {
    if text.trim().is_empty() {
        return None;
    }
    Some(Piece::said(speaker, text.trim_end()))
}

fn call_line(name: &str, input: &str) -> String {
    let name = one_line(name, 60);
    let argument = one_line(&main_argument(input), MAX_CALL_CHARS);
    if argument.is_empty() { name } else { format!("{name}: {argument}") }
}

/// Returns how a turn ended. Neither `subtype` nor `is_error` alone means a success.
pub(crate) fn turn_end_text(result: &TurnResult) -> String {
    let why = result.terminal_reason.as_deref().unwrap_or_default();
    let how = if why.starts_with("aborted") {
        "interrupted".to_owned()
    } else if result.is_error || result.subtype != "success" {
        format!("{FAILED}{}", one_line(&error_of(result), MAX_ERROR_CHARS))
    } else {
        DONE.to_owned()
    };
    let usd = result.total_cost_usd.map(|usd| (usd, false));
    let duration = Duration::from_millis(result.duration_ms);
    format!("{how} · {}", format_totals(result.num_turns, Some(duration), usd))
}

/// Returns the error of a result: all its errors, or else its text, or else its subtype.
pub(crate) fn error_of(result: &TurnResult) -> String {
    if let Some(sentence) = result.sentence() {
        return sentence;
    }
    match result.subtype.as_str() {
        "" | "success" => NO_MESSAGE.to_owned(),
        subtype => format!("{NO_MESSAGE} ({})", one_line(subtype, 60)),
    }
}

/// Returns the last line of a job's transcript: the verdict, and why a job failed. `None` if the
/// job has not ended.
pub(crate) fn verdict_line(record: &Record) -> Option<TranscriptLine> {
    if record.status.is_live() {
        return None;
    }
    let mut text = record.status.to_string();
    if record.status == Status::Completed {
        let usd = record.cost.usd.map(|usd| (usd, record.cost.is_lower_bound));
        text += &format!(" · {}", format_totals(record.progress.num_turns, record.elapsed(), usd));
        return Some(TranscriptLine::new(Speaker::End, text));
    }
    if let Some(reason) = record.reason {
        text += &format!(" ({reason})");
    }
    let error = one_line(record.error.as_deref().unwrap_or_default(), MAX_ERROR_CHARS);
    if !error.is_empty() {
        text += &format!(": {error}");
    }
    Some(TranscriptLine::new(Speaker::End, text))
}

/// Appends the verdict to a transcript that was read to its end. The end of the last turn is then
/// marked as such, or removed if the verdict of a completed job says the same and more.
pub(crate) fn append_verdict(lines: &mut Vec<TranscriptLine>, verdict: TranscriptLine) {
    // Stderr after the end is not part of the conversation.
    let last = lines.iter().rposition(|line| line.speaker != Speaker::Stderr);
    if let Some(last) = last
        && lines[last].speaker == Speaker::End
        && let Some(text) = turn_before_verdict(&lines[last].text)
            .or_else(|| failed_turn_before(&lines[last].text, &verdict.text))
    {
        if verdict.text.starts_with(Status::Completed.as_str()) {
            lines.remove(last);
        } else {
            lines[last].text = text;
        }
    }
    lines.push(verdict);
}

/// Returns the text for a turn that ended with an answer, of a job whose verdict follows; `None`
/// for another turn, whose text remains.
pub(crate) fn turn_before_verdict(turn_end: &str) -> Option<String> {
    let figures = turn_end.strip_prefix(DONE)?;
    Some(format!("the turn ended{figures}"))
}

/// Returns the text for a failed turn without its error, which the verdict says, too.
fn failed_turn_before(turn_end: &str, verdict: &str) -> Option<String> {
    let (_, error) = verdict.split_once(": ")?;
    let figures = turn_end.strip_prefix(FAILED)?.strip_prefix(error)?;
    Some(format!("the turn ended{figures}"))
}

/// Returns whether a verdict may say the same as this end of a turn.
pub(crate) fn may_precede_verdict(turn_end: &str) -> bool {
    turn_end.starts_with(DONE) || turn_end.starts_with(FAILED)
}

/// Returns `3 turns · 4.2s · $0.02`, as far as known; the cost may be a lower bound.
fn format_totals(turns: u64, elapsed: Option<Duration>, usd: Option<(f64, bool)>) -> String {
    let mut parts = vec![plural(turns as usize, "turn")];
    parts.extend(elapsed.map(format_duration));
    if let Some((usd, is_lower_bound)) = usd {
        parts.push(format_cost(usd, is_lower_bound));
    }
    parts.join(" · ")
}

/// Arguments that describe a tool call, the most descriptive first.
const MAIN_ARGUMENTS: [&str; 11] = [
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

/// Returns the most descriptive argument of a tool's input: a known one, or else the first, or else
/// the whole input.
pub(crate) fn main_argument(input: &str) -> String {
    let Ok(fields) = serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(input) else {
        return clip(input, MAX_CALL_CHARS);
    };
    let known = MAIN_ARGUMENTS.iter().find_map(|name| fields.get(*name));
    let Some(value) = known.or(fields.values().next()) else { return String::new() };
    match from_json(value.get()) {
        Ok(text) => text,
        Err(_) => clip(value.get(), MAX_CALL_CHARS),
    }
}

#[cfg(test)]
mod tests;
