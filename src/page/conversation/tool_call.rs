//! A tool call in a conversation, with its input and its outcome.

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::{MAX_TOOL_CHARS, MAX_TOOL_PARTS};
use crate::job::parse_questions;
use crate::page::diff::Diff;
use crate::page::excerpt::Excerpt;
use crate::stream::transcript::main_argument;
use crate::text::{format_number, from_json, harmless, one_line};

/// Characters of a tool call in its summary.
const MAX_SUMMARY_CHARS: usize = 140;

#[derive(Debug)]
pub(super) struct CallEntry {
    pub(super) id: String,
    pub(super) nested: bool,
    pub(super) name: String,
    pub(super) about: String,
    pub(super) input: ToolInput,
    /// The call waited for an answer or a permission.
    pub(super) needed_decision: bool,
    pub(super) outcome: Option<ToolOutcome>,
}

#[derive(Debug)]
pub(super) enum ToolInput {
    Edits { diffs: Vec<Diff>, more: usize },
    Arguments { named: Vec<(String, Excerpt)>, more: usize },
}

#[derive(Debug)]
pub(super) struct ToolOutcome {
    pub(super) is_error: bool,
    pub(super) text: Excerpt,
}

impl CallEntry {
    pub(super) fn new(id: &str, name: &str, input: &str, nested: bool) -> Self {
        let questions = if name == "AskUserQuestion" { parse_questions(input) } else { Vec::new() };
        let about = match questions.into_iter().next() {
            Some(question) => question.question,
            None => main_argument(input),
        };
        Self {
            id: id.to_owned(),
            nested,
            name: harmless(&one_line(name, 60)),
            about: harmless(&one_line(&about, MAX_SUMMARY_CHARS)),
            input: ToolInput::from_json(name, input),
            needed_decision: false,
            outcome: None,
        }
    }

    pub(super) fn weight(&self) -> usize {
        let mut weight = self.name.len() + self.about.len();
        match &self.input {
            ToolInput::Edits { diffs, .. } => {
                weight += diffs.iter().map(Diff::weight).sum::<usize>();
            }
            ToolInput::Arguments { named, .. } => {
                for (name, value) in named {
                    weight += name.len() + value.text.len();
                }
            }
        }
        if let Some(outcome) = &self.outcome {
            weight += outcome.text.text.len();
        }
        weight
    }

    pub(super) fn markup(&self) -> Markup {
        let failed = self.outcome.as_ref().is_some_and(|outcome| outcome.is_error);
        let is_question = self.name == "AskUserQuestion";
        let heading = match (is_question, failed) {
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
                    None if self.needed_decision && is_question => { p.dim { "No answer." } }
                    None if self.needed_decision => { p.dim { "No permission." } }
                    None => { p.dim { "No result." } }
                    Some(outcome) => {
                        @if self.needed_decision && !is_question && !failed { p.dim { "Allowed." } }
                        @if outcome.text.text.is_empty() {
                            p.dim { @if failed { "Failed without output." } @else { "Done without output." } }
                        } @else {
                            p.what { (heading) }
                            div.result.failed[failed] { (outcome.text.preformatted()) }
                        }
                    }
                }
            }
        }
    }
}

impl ToolInput {
    /// Parses a tool's input. An edit without the expected fields is shown as arguments.
    pub(super) fn from_json(name: &str, input: &str) -> Self {
        let Ok(mut fields) = from_json::<Map<String, Value>>(input) else {
            let named = vec![(String::new(), Excerpt::sanitized(input, MAX_TOOL_CHARS))];
            return Self::Arguments { named, more: 0 };
        };
        if let Some(edits) = edits(name, &mut fields) {
            let more = edits.len().saturating_sub(MAX_TOOL_PARTS);
            let shown = edits.iter().take(MAX_TOOL_PARTS);
            let diffs = shown.map(|edit| Diff::new(&edit.old_string, &edit.new_string)).collect();
            return Self::Edits { diffs, more };
        }
        let more = fields.len().saturating_sub(MAX_TOOL_PARTS);
        let mut named = Vec::new();
        for (name, value) in fields.into_iter().take(MAX_TOOL_PARTS) {
            let text = match value {
                Value::String(text) => text,
                value => format!("{value:#}"),
            };
            let name = harmless(&one_line(&name, 60));
            named.push((name, Excerpt::sanitized(&text, MAX_TOOL_CHARS)));
        }
        Self::Arguments { named, more }
    }

    pub(super) fn markup(&self) -> Markup {
        html! {
            @match self {
                Self::Edits { diffs, more } => {
                    @for diff in diffs { (diff.markup()) }
                    @if *more > 0 { p.more { "… " (format_number(*more as u64)) " more edits in output.log" } }
                }
                Self::Arguments { named, more } => {
                    @for (name, value) in named {
                        @if !name.is_empty() { p.what { (name) } }
                        (value.preformatted())
                    }
                    @if *more > 0 { p.more { "… " (format_number(*more as u64)) " more arguments in output.log" } }
                }
            }
        }
    }
}

/// The text before and after an edit.
struct TextEdit {
    old_string: String,
    new_string: String,
}

/// Returns the edits that a tool makes; `None` for another tool, and if a field is missing.
fn edits(tool: &str, fields: &mut Map<String, Value>) -> Option<Vec<TextEdit>> {
    match tool {
        "Edit" => Some(vec![parse_edit(fields)?]),
        "MultiEdit" => {
            let mut edits = Vec::new();
            for edit in fields.get("edits")?.as_array()? {
                edits.push(parse_edit(edit.as_object()?)?);
            }
            Some(edits)
        }
        "Write" => match fields.get_mut("content")? {
            Value::String(content) => {
                let new_string = std::mem::take(content);
                Some(vec![TextEdit { old_string: String::new(), new_string }])
            }
            _ => None,
        },
        _ => None,
    }
}

fn parse_edit(fields: &Map<String, Value>) -> Option<TextEdit> {
    Some(TextEdit {
        old_string: fields.get("old_string")?.as_str()?.to_owned(),
        new_string: fields.get("new_string")?.as_str()?.to_owned(),
    })
}
