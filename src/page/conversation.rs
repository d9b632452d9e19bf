//! What was said in a job, from claude's stream, of a bounded size however long that is.

use std::collections::{HashMap, VecDeque};

use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::diff::Diff;
use crate::job::{Record, Status, questions};
use crate::stream::transcript::{Passage, Speaker, conclude, passages, telling, verdict};
use crate::stream::{Block, Event, Line, decode, repaired};
use crate::text::{count, grouped, harmless, one_line};

/// Characters shown of what was said at once.
const SAID_SHOWN: usize = 20_000;
/// Characters shown of an argument of a tool, and of what the tool gave back.
const TOOL_SHOWN: usize = 6_000;
/// Arguments shown of a tool call, and edits of one that makes several.
const PARTS_SHOWN: usize = 20;
/// Characters of a tool call in its summary.
const CALL_SHOWN: usize = 140;
/// What an entry weighs beside its text.
const ENTRY_WEIGHT: usize = 300;

/// The beginning of a text, and how many characters are missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) text: String,
    pub(super) more: u64,
}

impl Cut {
    /// As it is.
    pub(super) fn raw(text: &str, most: usize) -> Self {
        match text.char_indices().nth(most) {
            None => Self { text: text.to_owned(), more: 0 },
            Some((at, _)) => {
                Self { text: text[..at].to_owned(), more: text[at..].chars().count() as u64 }
            }
        }
    }

    /// Without what could mislead a reader's eye.
    pub(super) fn of(text: &str, most: usize) -> Self {
        let cut = Self::raw(text.trim_end(), most);
        Self { text: harmless(&cut.text), ..cut }
    }

    fn more(&self) -> Markup {
        html! {
            @if self.more > 0 {
                p.more { "… " (grouped(self.more)) " more characters in output.log" }
            }
        }
    }

    /// Preformatted.
    fn pre(&self) -> Markup {
        html! { pre { (self.text) } (self.more()) }
    }
}

/// Which attempts of a job are in its log, as far as its files tell.
#[derive(Debug, Default)]
pub struct Attempts {
    /// The last one.
    pub last: u32,
    /// Where its part of the log begins, in bytes.
    pub log_start: u64,
    /// In which attempt each turn ended, in order.
    pub turns: Vec<u32>,
}

/// A job's conversation.
///
/// Where it has more than `room` characters its middle is left out, and says so: how a job began
/// and how it ended is what is read first.
#[derive(Debug)]
pub struct Conversation {
    room: usize,
    head: Vec<Entry>,
    head_weight: usize,
    tail: VecDeque<Entry>,
    tail_weight: usize,
    /// How many entries were dropped between the two, and how many characters of them.
    dropped: usize,
    dropped_weight: u64,
    /// Where the calls are that wait for their result, counted from the first entry.
    calls: HashMap<String, usize>,
    prompt: String,
    attempts: Attempts,
    attempt: u32,
    results: usize,
    turn_open: bool,
}

#[derive(Debug)]
enum Entry {
    Attempt(u32),
    Said { by: By, nested: bool, text: Cut },
    Call(Box<Call>),
    End { text: String, failed: bool, output: Option<Cut> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Agent,
    User,
    Note,
}

#[derive(Debug)]
struct Call {
    id: String,
    nested: bool,
    name: String,
    about: String,
    input: Input,
    /// It waited for a decision: an answer, or a permission.
    asked: bool,
    outcome: Option<Outcome>,
}

#[derive(Debug)]
enum Input {
    Edits { diffs: Vec<Diff>, more: usize },
    Arguments { named: Vec<(String, Cut)>, more: usize },
}

#[derive(Debug)]
struct Outcome {
    is_error: bool,
    text: Cut,
}

impl Entry {
    fn weight(&self) -> usize {
        let text = match self {
            Self::Attempt(_) => 0,
            Self::Said { text, .. } => text.text.len(),
            Self::End { text, output, .. } => {
                text.len() + output.as_ref().map_or(0, |cut| cut.text.len())
            }
            Self::Call(call) => call.weight(),
        };
        ENTRY_WEIGHT + text
    }
}

impl Call {
    fn weight(&self) -> usize {
        let input = match &self.input {
            Input::Edits { diffs, .. } => diffs.iter().map(Diff::weight).sum(),
            Input::Arguments { named, .. } => {
                named.iter().map(|(name, value)| name.len() + value.text.len()).sum::<usize>()
            }
        };
        let outcome = self.outcome.as_ref().map_or(0, |outcome| outcome.text.text.len());
        self.name.len() + self.about.len() + input + outcome
    }
}

impl Conversation {
    /// An empty one. What repeats the job's `prompt` is not shown again.
    pub fn new(room: usize, prompt: &str, attempts: Attempts) -> Self {
        let mut conversation = Self {
            room,
            head: Vec::new(),
            head_weight: 0,
            tail: VecDeque::new(),
            tail_weight: 0,
            dropped: 0,
            dropped_weight: 0,
            calls: HashMap::new(),
            prompt: prompt.trim().to_owned(),
            attempt: 1,
            attempts,
            results: 0,
            turn_open: false,
        };
        if conversation.attempts.last > 1 {
            conversation.put(Entry::Attempt(1));
        }
        conversation
    }

    /// Takes the next line of the log, which begins at this byte.
    pub fn line(&mut self, line: Line<'_>, offset: u64) {
        let omitted = line.omitted() > 0;
        let in_last = offset >= self.attempts.log_start;
        if in_last && self.attempt < self.attempts.last {
            self.attempt_begins(self.attempts.last);
        }
        let repaired = repaired(line.bytes);
        let bytes = repaired.as_ref().map_or(line.bytes, String::as_bytes);
        let line = Line { bytes, length: line.length };
        let event = decode(bytes);
        match &event {
            Some(Event::Assistant { blocks, synthetic, nested, .. }) => {
                let by = if *synthetic { By::Note } else { By::Agent };
                self.blocks(blocks, by, *nested);
            }
            Some(Event::User { blocks, nested, .. }) => self.blocks(blocks, By::User, *nested),
            Some(Event::Init { .. }) => {
                if !in_last {
                    self.turn_begins();
                }
                self.turn_open = true;
            }
            Some(Event::Result(result)) => {
                self.turn_open = false;
                self.results += 1;
                let text = passages(line).into_iter().next().map(|passage| passage.text);
                let output = result.structured_output.as_ref().map(|value| {
                    Cut::of(&serde_json::to_string_pretty(value).unwrap_or_default(), TOOL_SHOWN)
                });
                let text = harmless(&text.unwrap_or_default());
                self.put(Entry::End { text, failed: result.is_error, output });
            }
            // What is asked is in the call that is shown already.
            Some(Event::Request { tool_use_id: Some(id), .. }) if self.calls.contains_key(id) => {
                if let Some(call) = self.call(id) {
                    call.asked = true;
                }
            }
            _ => {
                for passage in passages(line) {
                    self.say(By::Note, false, &passage.text);
                }
            }
        }
        if omitted {
            let size = grouped(line.length);
            let what = format!("a line of {size} bytes is shortened here: output.log has it whole");
            self.say(By::Note, false, &what);
        }
    }

    /// Puts the verdict of a job that has not completed behind what was said. That of one that has
    /// is told by the end of its last turn and the head of its section.
    pub fn conclude(&mut self, record: &Record) {
        let Some(verdict) = verdict(record).filter(|_| record.status != Status::Completed) else {
            return;
        };
        let text = harmless(&verdict.text);
        let last = self.tail.back_mut().or(self.head.last_mut());
        if let Some(Entry::End { text: turn, .. }) = last {
            let mut passages = vec![Passage { speaker: Speaker::End, text: std::mem::take(turn) }];
            conclude(&mut passages, verdict);
            *turn = passages.swap_remove(0).text;
        }
        self.put(Entry::End { text, failed: true, output: None });
    }

    /// The rest of the log cannot be read.
    pub fn unreadable(&mut self, why: &str) {
        self.say(By::Note, false, &format!("the rest of output.log cannot be read: {why}"));
    }

    /// The head of a turn, in an attempt that is not the last. Where attempts begin is known for
    /// the last one only; of the others, a turn that never ended was in one that was cut off, and
    /// each turn that did end tells its attempt.
    fn turn_begins(&mut self) {
        let told = self.attempts.turns.get(self.results).copied().unwrap_or(0);
        let next = if self.turn_open { self.attempt + 1 } else { told };
        if next > self.attempt && next < self.attempts.last {
            self.attempt_begins(next);
        }
    }

    fn attempt_begins(&mut self, attempt: u32) {
        self.attempt = attempt;
        self.turn_open = false;
        self.put(Entry::Attempt(attempt));
    }

    fn blocks(&mut self, blocks: &[Block<'_>], by: By, nested: bool) {
        for block in blocks {
            match block {
                Block::Text(words) => {
                    let text = words.whole();
                    let again = by == By::User && !nested && text.trim() == self.prompt;
                    if !again {
                        self.say(by, nested, &text);
                    }
                }
                Block::ToolUse { id, name, input } => {
                    let asked = match name.as_ref() {
                        "AskUserQuestion" => questions(input).into_iter().next(),
                        _ => None,
                    };
                    let about = asked.map_or_else(|| telling(input), |asked| asked.question);
                    let call = Call {
                        id: id.to_string(),
                        nested,
                        name: harmless(&one_line(name, 60)),
                        about: harmless(&one_line(&about, CALL_SHOWN)),
                        input: Input::of(name, input),
                        asked: false,
                        outcome: None,
                    };
                    self.calls
                        .insert(id.to_string(), self.dropped + self.head.len() + self.tail.len());
                    self.put(Entry::Call(Box::new(call)));
                }
                Block::ToolResult { id, is_error, text } => {
                    let text = Cut::of(&text.whole(), TOOL_SHOWN);
                    self.outcome(id, Outcome { is_error: *is_error, text });
                }
                Block::Thinking => {}
            }
        }
    }

    fn say(&mut self, by: By, nested: bool, text: &str) {
        if !text.trim().is_empty() {
            self.put(Entry::Said { by, nested, text: Cut::of(text, SAID_SHOWN) });
        }
    }

    fn outcome(&mut self, id: &str, outcome: Outcome) {
        let weight = outcome.text.text.len();
        let more = outcome.text.more;
        match self.call(id) {
            Some(call) => call.outcome = Some(outcome),
            None => {
                // Its call was left out, or never was.
                self.dropped_weight += weight as u64 + more;
                return;
            }
        }
        if self.calls.remove(id).is_some_and(|at| at < self.head.len()) {
            self.head_weight += weight;
        } else {
            self.tail_weight += weight;
        }
        self.drop_middle();
    }

    /// The call of this id that has no result yet.
    fn call(&mut self, id: &str) -> Option<&mut Call> {
        let at = *self.calls.get(id)?;
        let entry = if at < self.head.len() {
            self.head.get_mut(at)
        } else {
            let at = at.checked_sub(self.head.len() + self.dropped)?;
            self.tail.get_mut(at)
        };
        match entry? {
            Entry::Call(call) => Some(call),
            _ => None,
        }
    }

    fn put(&mut self, entry: Entry) {
        let weight = entry.weight();
        if self.tail.is_empty() && self.dropped == 0 && self.head_weight + weight <= self.room / 2 {
            self.head_weight += weight;
            self.head.push(entry);
            return;
        }
        self.tail_weight += weight;
        self.tail.push_back(entry);
        self.drop_middle();
    }

    fn drop_middle(&mut self) {
        while self.tail_weight > self.room / 2 && self.tail.len() > 1 {
            let Some(entry) = self.tail.pop_front() else { return };
            if let Entry::Call(call) = &entry {
                self.calls.remove(&call.id);
            }
            self.tail_weight = self.tail_weight.saturating_sub(entry.weight());
            self.dropped += 1;
            self.dropped_weight += (entry.weight() - ENTRY_WEIGHT) as u64;
        }
    }

    /// As it is shown.
    pub fn markup(&self) -> Markup {
        html! {
            div.talk {
                @for entry in &self.head { (entry.markup()) }
                @if self.dropped > 0 {
                    p.left-out {
                        "… " (count(self.dropped, "step")) " left out here, with "
                        (grouped(self.dropped_weight)) " more characters in output.log"
                    }
                }
                @for entry in &self.tail { (entry.markup()) }
                @if self.head.is_empty() && self.tail.is_empty() {
                    p.dim { "Claude said nothing." }
                }
            }
        }
    }
}

impl Entry {
    fn markup(&self) -> Markup {
        match self {
            Self::Attempt(attempt) => html! { h4.attempt { "Attempt " (attempt) } },
            Self::Said { by, nested, text } => {
                let class = match by {
                    By::Agent => "agent",
                    By::User => "user",
                    By::Note => "note",
                };
                html! {
                    div.said.(class).nested[*nested] dir="auto" { (text.text) (text.more()) }
                }
            }
            Self::Call(call) => call.markup(),
            Self::End { text, failed, output } => html! {
                @if let Some(output) = output {
                    details.call { summary { b { "Structured output" } } (output.pre()) }
                }
                p.end.bad[*failed] { (text) }
            },
        }
    }
}

impl Call {
    fn markup(&self) -> Markup {
        let failed = self.outcome.as_ref().is_some_and(|outcome| outcome.is_error);
        let question = self.name == "AskUserQuestion";
        let gave = match (question, failed) {
            (true, false) => "Answer",
            (false, false) => "Result",
            (_, true) => "Error",
        };
        html! {
            details.call.failed[failed].nested[self.nested] {
                summary {
                    @if failed { b.bad { "✗ " } }
                    b { (self.name) }
                    @if !self.about.is_empty() { " " code { (self.about) } }
                }
                (self.input.markup())
                @match &self.outcome {
                    None if self.asked && question => { p.dim { "It has no answer." } }
                    None if self.asked => { p.dim { "It has no permission." } }
                    None => { p.dim { "No result." } }
                    Some(outcome) => {
                        @if self.asked && !question && !failed { p.dim { "Allowed." } }
                        @if outcome.text.text.is_empty() {
                            p.dim { @if failed { "It failed." } @else { "Done, without text." } }
                        } @else {
                            p.what { (gave) }
                            div.result.failed[failed] { (outcome.text.pre()) }
                        }
                    }
                }
            }
        }
    }
}

/// An edit's two sides.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Edit {
    old_string: String,
    new_string: String,
}

impl Input {
    /// What a tool was called with. An edit that is not as expected is shown as any other input.
    fn of(name: &str, input: &str) -> Self {
        let Ok(mut fields) = serde_json::from_str::<Map<String, Value>>(input) else {
            let named = vec![(String::new(), Cut::of(input, TOOL_SHOWN))];
            return Self::Arguments { named, more: 0 };
        };
        let edits = match name {
            "Edit" => edit(Value::Object(fields.clone())).map(|edit| vec![edit]),
            "MultiEdit" => match fields.get("edits") {
                Some(Value::Array(edits)) => edits.iter().cloned().map(edit).collect(),
                _ => None,
            },
            "Write" => match fields.get_mut("content") {
                Some(Value::String(content)) => {
                    let new_string = std::mem::take(content);
                    Some(vec![Edit { old_string: String::new(), new_string }])
                }
                _ => None,
            },
            _ => None,
        };
        if let Some(edits) = edits {
            let more = edits.len().saturating_sub(PARTS_SHOWN);
            let shown = edits.iter().take(PARTS_SHOWN);
            let diffs = shown.map(|edit| Diff::of(&edit.old_string, &edit.new_string)).collect();
            return Self::Edits { diffs, more };
        }
        let more = fields.len().saturating_sub(PARTS_SHOWN);
        let named = fields.into_iter().take(PARTS_SHOWN).map(|(name, value)| {
            let text = match value {
                Value::String(text) => text,
                value => serde_json::to_string_pretty(&value).unwrap_or_default(),
            };
            (harmless(&one_line(&name, 60)), Cut::of(&text, TOOL_SHOWN))
        });
        Self::Arguments { named: named.collect(), more }
    }

    fn markup(&self) -> Markup {
        html! {
            @match self {
                Self::Edits { diffs, more } => {
                    @for diff in diffs { (diff.markup()) }
                    @if *more > 0 { p.more { "… " (grouped(*more as u64)) " more edits in output.log" } }
                }
                Self::Arguments { named, more } => {
                    @for (name, value) in named {
                        @if !name.is_empty() { p.what { (name) } }
                        (value.pre())
                    }
                    @if *more > 0 { p.more { "… " (grouped(*more as u64)) " more arguments in output.log" } }
                }
            }
        }
    }
}

/// An edit; `None` of anything that does not say what it changes.
fn edit(value: Value) -> Option<Edit> {
    let is_one = value.get("old_string").is_some() && value.get("new_string").is_some();
    is_one.then(|| serde_json::from_value(value).ok()).flatten()
}

#[cfg(test)]
mod tests;
