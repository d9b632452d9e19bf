//! A tool call in a conversation, with its input and its outcome.

use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{MAX_TOOL_CHARS, MAX_TOOL_PARTS};
use crate::page::diff::Diff;
use crate::page::excerpt::Excerpt;
use crate::text::{format_number, from_json, harmless, one_line};

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
    pub(super) fn weight(&self) -> usize {
        let input = match &self.input {
            ToolInput::Edits { diffs, .. } => diffs.iter().map(Diff::weight).sum(),
            ToolInput::Arguments { named, .. } => {
                named.iter().map(|(name, value)| name.len() + value.text.len()).sum::<usize>()
            }
        };
        let outcome = self.outcome.as_ref().map_or(0, |outcome| outcome.text.text.len());
        self.name.len() + self.about.len() + input + outcome
    }
}

impl CallEntry {
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
        let edits = match name {
            "Edit" => parse_edit(Value::Object(fields.clone())).map(|edit| vec![edit]),
            "MultiEdit" => match fields.get("edits") {
                Some(Value::Array(edits)) => edits.iter().cloned().map(parse_edit).collect(),
                _ => None,
            },
            "Write" => match fields.get_mut("content") {
                Some(Value::String(content)) => {
                    let new_string = std::mem::take(content);
                    Some(vec![TextEdit { old_string: String::new(), new_string }])
                }
                _ => None,
            },
            _ => None,
        };
        if let Some(edits) = edits {
            let more = edits.len().saturating_sub(MAX_TOOL_PARTS);
            let shown = edits.iter().take(MAX_TOOL_PARTS);
            let diffs = shown.map(|edit| Diff::new(&edit.old_string, &edit.new_string)).collect();
            return Self::Edits { diffs, more };
        }
        let more = fields.len().saturating_sub(MAX_TOOL_PARTS);
        let named = fields.into_iter().take(MAX_TOOL_PARTS).map(|(name, value)| {
            let text = match value {
                Value::String(text) => text,
                value => serde_json::to_string_pretty(&value).unwrap_or_default(),
            };
            (harmless(&one_line(&name, 60)), Excerpt::sanitized(&text, MAX_TOOL_CHARS))
        });
        Self::Arguments { named: named.collect(), more }
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
#[derive(Default, Deserialize)]
#[serde(default)]
struct TextEdit {
    old_string: String,
    new_string: String,
}

/// Parses an edit; `None` if a field is missing.
fn parse_edit(value: Value) -> Option<TextEdit> {
    let is_edit = value.get("old_string").is_some() && value.get("new_string").is_some();
    is_edit.then(|| serde_json::from_value(value).ok()).flatten()
}
