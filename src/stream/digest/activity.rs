//! What the agent does and says, kept as the stream holds it.

use std::collections::VecDeque;

use serde_json::json;

use super::{ACTIVITY_KEPT, CALL_INPUT_KEPT, NAME_KEPT, is_blank};
use crate::job::Activity;
use crate::stream::transcript::main_argument;
use crate::stream::{LazyText, from_json};
use crate::text::{clip, one_line};

/// What the agent does, kept as the stream holds it: most of it is never looked at.
#[derive(Clone, Debug)]
pub(super) enum RawActivity {
    Thinking,
    /// The beginning of the text, as JSON.
    Text(String),
    ToolCall(TrackedCall),
}

impl RawActivity {
    pub(super) fn decode(&self) -> Activity {
        match self {
            Self::Thinking => Activity { tool: None, text: "thinking".to_owned() },
            Self::Text(raw) => {
                let text: String = from_json(raw).unwrap_or_default();
                Activity { tool: None, text: one_line(&text, ACTIVITY_KEPT) }
            }
            Self::ToolCall(call) => {
                Activity { tool: Some(clip(&call.name, ACTIVITY_KEPT)), text: call.summary() }
            }
        }
    }
}

/// A call of a tool.
#[derive(Clone, Debug)]
pub(super) struct TrackedCall {
    pub(super) name: String,
    /// Its input as JSON; where that is long, another of the same summary.
    input: String,
}

impl TrackedCall {
    pub(super) fn of(name: &str, input: &str) -> Self {
        let input = if input.len() <= CALL_INPUT_KEPT {
            input.to_owned()
        } else {
            json!({"": one_line(&main_argument(input), ACTIVITY_KEPT)}).to_string()
        };
        Self { name: clip(name, NAME_KEPT), input }
    }

    pub(super) fn summary(&self) -> String {
        one_line(&main_argument(&self.input), ACTIVITY_KEPT)
    }
}

/// Text of the agent's, kept as the stream holds it: most of it is never looked at.
#[derive(Debug, Default)]
pub(super) struct SpokenText {
    pieces: VecDeque<String>,
    /// A tool was called after it: what is said next takes its place.
    pub(super) is_closed: bool,
}

impl SpokenText {
    /// Pieces of it that are kept.
    const PIECES: usize = 100;

    pub(super) fn push(&mut self, words: &LazyText<'_>) {
        if std::mem::take(&mut self.is_closed) {
            self.pieces.clear();
        }
        let piece = words.raw();
        // A request that is tried again gives the same text again.
        if self.pieces.back() == piece.as_ref() {
            return;
        }
        if self.pieces.len() == Self::PIECES {
            self.pieces.pop_front();
        }
        self.pieces.extend(piece);
    }

    pub(super) fn text(&self) -> Option<String> {
        let pieces = self.pieces.iter().filter_map(|raw| from_json::<String>(raw).ok());
        let pieces: Vec<String> = pieces.filter(|text| !is_blank(text)).collect();
        if pieces.is_empty() { None } else { Some(pieces.join("\n\n")) }
    }
}
