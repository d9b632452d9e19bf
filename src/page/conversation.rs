//! A job's conversation as markup of bounded size, from claude's stream of any length.

mod tool_call;

use std::collections::VecDeque;

use maud::{Markup, html};

use super::excerpt::Excerpt;
use crate::job::{Record, Status};
use crate::stream::transcript::{
    transcript_lines, turn_before_verdict, turn_end_text, verdict_line,
};
use crate::stream::{AssistantMessage, Block, Event, Line, UserMessage, decode};
use crate::text::{format_number, harmless, plural};
use tool_call::{CallEntry, ToolOutcome};

/// Characters shown of one message.
const MAX_MESSAGE_CHARS: usize = 20_000;
/// Characters shown of an argument of a tool, and of its result.
const MAX_TOOL_CHARS: usize = 6_000;
/// Arguments shown of a tool call, and edits of a call that makes several.
const MAX_TOOL_PARTS: usize = 20;
/// Weight of an entry without its text, in characters.
const ENTRY_WEIGHT: usize = 300;

/// The attempts in a job's log, as far as its files record them.
#[derive(Debug, Default)]
pub(crate) struct AttemptBoundaries {
    /// Number of the last attempt.
    pub last: u32,
    /// Offset in bytes at which the last attempt begins in the log.
    pub log_start: u64,
    /// For each turn, in order, the attempt in which it ended.
    pub turns: Vec<u32>,
}

/// A job's conversation.
///
/// If it is longer than `max_chars` characters, its middle is omitted, with a note: readers look
/// first at how a job began and how it ended.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    max_chars: usize,
    head: Vec<TranscriptEntry>,
    head_weight: usize,
    tail: VecDeque<TranscriptEntry>,
    tail_weight: usize,
    /// Number of entries omitted between head and tail.
    dropped: usize,
    /// Number of characters of the omitted entries.
    dropped_weight: u64,
    prompt: String,
    attempts: AttemptBoundaries,
    attempt: u32,
    results: usize,
    turn_open: bool,
}

#[derive(Debug)]
enum TranscriptEntry {
    Attempt(u32),
    Message { by: Author, nested: bool, text: Excerpt },
    Call(Box<CallEntry>),
    End { text: String, failed: bool, output: Option<Excerpt> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Author {
    Agent,
    User,
    Note,
}

impl TranscriptEntry {
    fn weight(&self) -> usize {
        let text = match self {
            Self::Attempt(_) => 0,
            Self::Message { text, .. } => text.text.len(),
            Self::End { text, output: None, .. } => text.len(),
            Self::End { text, output: Some(output), .. } => text.len() + output.text.len(),
            Self::Call(call) => call.weight(),
        };
        ENTRY_WEIGHT + text
    }
}

impl Conversation {
    /// Returns an empty conversation. Messages that repeat the job's `prompt` are not shown.
    pub(crate) fn new(max_chars: usize, prompt: &str, attempts: AttemptBoundaries) -> Self {
        let prompt = prompt.trim().to_owned();
        let mut conversation = Self { max_chars, prompt, attempt: 1, attempts, ..Self::default() };
        if conversation.attempts.last > 1 {
            conversation.add_entry(TranscriptEntry::Attempt(1));
        }
        conversation
    }

    /// Adds the next line of the log, which begins at this byte.
    pub(crate) fn add_line(&mut self, line: Line<'_>, offset: u64) {
        let omitted = line.omitted() > 0;
        let in_last = offset >= self.attempts.log_start;
        if in_last && self.attempt < self.attempts.last {
            self.begin_attempt(self.attempts.last);
        }
        let text = String::from_utf8_lossy(line.bytes);
        let event = decode(text.as_bytes());
        match &event {
            Some(Event::Assistant(AssistantMessage { blocks, synthetic, nested, .. })) => {
                let by = if *synthetic { Author::Note } else { Author::Agent };
                self.add_blocks(blocks, by, *nested);
            }
            Some(Event::User(UserMessage { blocks, nested, .. })) => {
                self.add_blocks(blocks, Author::User, *nested);
            }
            Some(Event::Init { .. }) => {
                if !in_last {
                    self.begin_turn();
                }
                self.turn_open = true;
            }
            Some(Event::Result(result)) => {
                self.turn_open = false;
                self.results += 1;
                let text = harmless(&turn_end_text(result));
                let output = result.structured_output.as_ref();
                let output =
                    output.map(|value| Excerpt::sanitized(&format!("{value:#}"), MAX_TOOL_CHARS));
                self.add_entry(TranscriptEntry::End { text, failed: result.is_error, output });
            }
            // The call that is already shown contains the question.
            Some(Event::Request { tool_use_id: Some(id), .. })
                if self.pending_call(id).is_some() =>
            {
                if let Some((call, _)) = self.pending_call(id) {
                    call.needed_decision = true;
                }
            }
            _ => {
                for passage in transcript_lines(line) {
                    self.add_message(Author::Note, false, &passage.text);
                }
            }
        }
        if omitted {
            let size = format_number(line.length);
            let what =
                format!("a line of {size} bytes is truncated here: output.log contains all of it");
            self.add_message(Author::Note, false, &what);
        }
    }

    /// Appends the verdict of a job that has not completed. For a completed job, the end of its last
    /// turn and the head of its section show it.
    pub(crate) fn conclude(&mut self, record: &Record) {
        if record.status == Status::Completed {
            return;
        }
        let Some(verdict) = verdict_line(record) else { return };
        let text = harmless(&verdict.text);
        let last = self.tail.back_mut().or(self.head.last_mut());
        if let Some(TranscriptEntry::End { text: turn, .. }) = last
            && let Some(ended) = turn_before_verdict(turn)
        {
            *turn = ended;
        }
        self.add_entry(TranscriptEntry::End { text, failed: true, output: None });
    }

    /// Adds a note that the rest of the log cannot be read.
    pub(crate) fn add_read_error(&mut self, why: &str) {
        let text = format!("the rest of output.log cannot be read: {why}");
        self.add_message(Author::Note, false, &text);
    }

    /// Begins a turn in an attempt that is not the last. The offset at which an attempt begins is
    /// known only for the last one. For the others, a turn that never ended shows that its attempt
    /// was interrupted, and the attempt of each turn that ended is recorded.
    fn begin_turn(&mut self) {
        let recorded = self.attempts.turns.get(self.results).copied().unwrap_or(0);
        let next = if self.turn_open { self.attempt + 1 } else { recorded };
        if next > self.attempt && next < self.attempts.last {
            self.begin_attempt(next);
        }
    }

    fn begin_attempt(&mut self, attempt: u32) {
        self.attempt = attempt;
        self.turn_open = false;
        self.add_entry(TranscriptEntry::Attempt(attempt));
    }

    fn add_blocks(&mut self, blocks: &[Block<'_>], by: Author, nested: bool) {
        for block in blocks {
            match block {
                Block::Text(text) => {
                    let text = text.whole();
                    let repeats_prompt =
                        by == Author::User && !nested && text.trim() == self.prompt;
                    if !repeats_prompt {
                        self.add_message(by, nested, &text);
                    }
                }
                Block::ToolUse { id, name, input } => {
                    let call = CallEntry::new(id, name, input, nested);
                    self.add_entry(TranscriptEntry::Call(Box::new(call)));
                }
                Block::ToolResult { id, is_error, text } => {
                    let text = Excerpt::sanitized(&text.whole(), MAX_TOOL_CHARS);
                    self.add_outcome(id, ToolOutcome { is_error: *is_error, text });
                }
                Block::Thinking => {}
            }
        }
    }

    fn add_message(&mut self, by: Author, nested: bool, text: &str) {
        if !text.trim().is_empty() {
            self.add_entry(TranscriptEntry::Message {
                by,
                nested,
                text: Excerpt::sanitized(text, MAX_MESSAGE_CHARS),
            });
        }
    }

    fn add_outcome(&mut self, id: &str, outcome: ToolOutcome) {
        let weight = outcome.text.text.len();
        let Some((call, part_weight)) = self.pending_call(id) else {
            // Its call was omitted, or the log does not contain it.
            self.dropped_weight += weight as u64 + outcome.text.omitted_chars;
            return;
        };
        call.outcome = Some(outcome);
        *part_weight += weight;
        self.drop_middle();
    }

    /// Returns the last call with this id that has no result yet, and the weight of the part of the
    /// conversation that it is in.
    fn pending_call(&mut self, id: &str) -> Option<(&mut CallEntry, &mut usize)> {
        for entry in self.tail.iter_mut().rev() {
            if let Some(call) = entry.pending_call(id) {
                return Some((call, &mut self.tail_weight));
            }
        }
        for entry in self.head.iter_mut().rev() {
            if let Some(call) = entry.pending_call(id) {
                return Some((call, &mut self.head_weight));
            }
        }
        None
    }

    fn add_entry(&mut self, entry: TranscriptEntry) {
        let weight = entry.weight();
        if self.tail.is_empty()
            && self.dropped == 0
            && self.head_weight + weight <= self.max_chars / 2
        {
            self.head_weight += weight;
            self.head.push(entry);
            return;
        }
        self.tail_weight += weight;
        self.tail.push_back(entry);
        self.drop_middle();
    }

    fn drop_middle(&mut self) {
        while self.tail_weight > self.max_chars / 2 && self.tail.len() > 1 {
            let Some(entry) = self.tail.pop_front() else { return };
            self.tail_weight = self.tail_weight.saturating_sub(entry.weight());
            self.dropped += 1;
            self.dropped_weight += (entry.weight() - ENTRY_WEIGHT) as u64;
        }
    }

    /// Renders the conversation.
    pub(crate) fn markup(&self) -> Markup {
        html! {
            div.talk {
                @for entry in &self.head { (entry.markup()) }
                @if self.dropped > 0 {
                    p.left-out {
                        "… " (plural(self.dropped, "step")) " omitted here, with "
                        (format_number(self.dropped_weight)) " more characters in output.log"
                    }
                }
                @for entry in &self.tail { (entry.markup()) }
                @if self.head.is_empty() && self.tail.is_empty() {
                    p.dim { "There is no message." }
                }
            }
        }
    }
}

impl TranscriptEntry {
    fn pending_call(&mut self, id: &str) -> Option<&mut CallEntry> {
        match self {
            Self::Call(call) if call.id == id && call.outcome.is_none() => Some(call),
            _ => None,
        }
    }

    fn markup(&self) -> Markup {
        match self {
            Self::Attempt(attempt) => html! { h4.attempt { "Attempt " (attempt) } },
            Self::Message { by, nested, text } => {
                let class = match by {
                    Author::Agent => "agent",
                    Author::User => "user",
                    Author::Note => "note",
                };
                html! {
                    div.said.(class).nested[*nested] dir="auto" { (text.text) (text.omitted_note()) }
                }
            }
            Self::Call(call) => call.markup(),
            Self::End { text, failed, output } => html! {
                @if let Some(output) = output {
                    details.call { summary { b { "Structured output" } } (output.preformatted()) }
                }
                p.end.bad[*failed] { (text) }
            },
        }
    }
}

#[cfg(test)]
mod tests;
