//! Activity and text of the agent, kept as raw JSON.

use std::collections::VecDeque;

use serde_json::json;

use super::{MAX_ACTIVITY_CHARS, MAX_CALL_INPUT_BYTES, MAX_NAME_CHARS, is_blank};
use crate::job::Activity;
use crate::stream::LazyText;
use crate::stream::transcript::main_argument;
use crate::text::{clip, from_json, one_line};

/// The present activity of the agent, kept as raw JSON because it is rarely read.
#[derive(Clone, Debug)]
pub(super) enum RawActivity {
    Thinking,
    /// Beginning of the text as JSON.
    Text(String),
    ToolCall(TrackedCall),
}

impl RawActivity {
    pub(super) fn decode(&self) -> Activity {
        match self {
            Self::Thinking => Activity { tool: None, text: "thinking".to_owned() },
            Self::Text(raw) => {
                let text: String = from_json(raw).unwrap_or_default();
                Activity { tool: None, text: one_line(&text, MAX_ACTIVITY_CHARS) }
            }
            Self::ToolCall(call) => {
                Activity { tool: Some(clip(&call.name, MAX_ACTIVITY_CHARS)), text: call.summary() }
            }
        }
    }
}

/// A tool call.
#[derive(Clone, Debug)]
pub(super) struct TrackedCall {
    pub(super) name: String,
    /// Its input as JSON; a long one is replaced by a shorter one with the same summary.
    input: String,
}

impl TrackedCall {
    pub(super) fn from_block(name: &str, input: &str) -> Self {
        let input = if input.len() <= MAX_CALL_INPUT_BYTES {
            input.to_owned()
        } else {
            json!({"": one_line(&main_argument(input), MAX_ACTIVITY_CHARS)}).to_string()
        };
        Self { name: clip(name, MAX_NAME_CHARS), input }
    }

    pub(super) fn summary(&self) -> String {
        one_line(&main_argument(&self.input), MAX_ACTIVITY_CHARS)
    }
}

/// Text of the agent, kept as raw JSON because it is rarely read.
#[derive(Debug, Default)]
pub(super) struct SpokenText {
    pieces: VecDeque<String>,
    /// Whether a tool was called after it: the next text replaces it.
    pub(super) is_closed: bool,
}

impl SpokenText {
    const MAX_PIECES: usize = 100;

    pub(super) fn push(&mut self, text: &LazyText<'_>) {
        if std::mem::take(&mut self.is_closed) {
            self.pieces.clear();
        }
        let piece = text.raw();
        // A retried request repeats the text.
        if self.pieces.back() == piece.as_ref() {
            return;
        }
        if self.pieces.len() == Self::MAX_PIECES {
            self.pieces.pop_front();
        }
        self.pieces.extend(piece);
    }

    pub(super) fn text(&self) -> Option<String> {
        let mut texts = Vec::new();
        for raw in &self.pieces {
            let text: String = from_json(raw).unwrap_or_default();
            if !is_blank(&text) {
                texts.push(text);
            }
        }
        if texts.is_empty() { None } else { Some(texts.join("\n\n")) }
    }
}
