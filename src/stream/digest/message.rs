//! Messages of the agent and the results of its tool calls.

use super::activity::{RawActivity, SpokenText, TrackedCall};
use super::{Digest, DigestChange, MAX_ACTIVITY_CHARS, MAX_NAME_CHARS, MAX_TRACKED};
use crate::stream::{AssistantMessage, Block, LazyText, UserMessage};
use crate::text::clip;

impl Digest {
    pub(super) fn assistant(&mut self, message: &AssistantMessage<'_>, change: &mut DigestChange) {
        let AssistantMessage { synthetic, nested, .. } = *message;
        if !nested {
            self.begin_turn();
        }
        if let Some(turn) = &mut self.turn {
            if message.command_outcome.is_some() {
                turn.command_outcome.clone_from(&message.command_outcome);
            }
            // Text outside a turn does not belong to one.
            if !nested && !synthetic {
                self.cli_error = None;
                turn.model_spoke = true;
            } else if !nested && message.error.is_some() {
                self.cli_error.clone_from(&message.error);
            }
        }
        if !synthetic {
            self.answered = true;
            self.auth_failures = 0;
            self.end_limit(change);
            let message_id = message.message_id.as_deref();
            if !nested && (message_id.is_none() || message_id != self.message_id.as_deref()) {
                self.open_turns += 1;
                self.message_id = message_id.map(str::to_owned);
            }
        }
        for block in &message.blocks {
            self.add_block(block, nested, synthetic);
        }
    }

    fn add_block(&mut self, block: &Block<'_>, nested: bool, synthetic: bool) {
        match block {
            Block::Text(text) => {
                if !nested {
                    self.begin_turn().said.push(text);
                    if !synthetic {
                        self.said.push(text);
                    }
                }
                let beginning = text.raw_prefix(MAX_ACTIVITY_CHARS * 2).unwrap_or_default();
                self.activity = Some(RawActivity::Text(beginning.into_owned()));
            }
            Block::ToolUse { id, name, input } => {
                if !nested {
                    self.begin_turn().said = SpokenText::default();
                    self.said.is_closed = true;
                }
                let call = TrackedCall::from_block(name, input);
                if self.tools.len() < MAX_TRACKED {
                    self.tools.insert(clip(id, MAX_NAME_CHARS), call.clone());
                }
                self.activity = Some(RawActivity::ToolCall(call));
            }
            Block::Thinking => {
                self.activity = Some(RawActivity::Thinking);
            }
            Block::ToolResult { .. } => {}
        }
    }

    pub(super) fn user(&mut self, message: &UserMessage<'_>, change: &mut DigestChange) {
        if !message.nested {
            self.begin_turn();
        }
        if message.replayed.is_some() {
            change.accepted_message.clone_from(&message.replayed);
            self.message_taken(&message.blocks);
        }
        for block in &message.blocks {
            if let Block::ToolResult { id, is_error, text } = block {
                self.tool_result(message, id, *is_error, text);
                self.tool_ended(id, change);
            }
        }
    }

    fn tool_result(
        &mut self,
        message: &UserMessage<'_>,
        id: &str,
        is_error: bool,
        text: &LazyText<'_>,
    ) {
        let tool = self.tools.get(&clip(id, MAX_NAME_CHARS));
        let name = tool.map(|tool| tool.name.as_str());
        if let Some(scheduling) = &message.scheduling {
            self.schedule.apply(scheduling, name);
        }
        if let Some(tool) = tool
            && tool.name == "CronDelete"
            && !is_error
        {
            self.schedule.delete(&tool.summary());
        }
        let is_denied = message.denied.iter().any(|denied| denied == id);
        if is_denied || (is_error && reports_denial(text)) {
            self.call_denied(id, "");
        }
    }
}

/// Whether the result of a failed tool call reports a denial. 2.1.197 reports some denials only
/// there. The result of a tool that ran and failed begins differently.
fn reports_denial(text: &LazyText<'_>) -> bool {
    /// Beginning of a denial, and text that follows in it.
    const DENIALS: [(&str, &str); 5] = [
        ("Permission to use ", "denied"),
        ("Permission for this", "denied"),
        ("File is ", "your permission settings"),
        ("Claude requested permission", "granted it yet"),
        ("", " was blocked. For security, Claude Code may only "),
    ];
    let beginning = text.prefix(400);
    let text = beginning.trim_start().trim_start_matches("<tool_use_error>");
    DENIALS.iter().any(|(begins, holds)| text.starts_with(begins) && text.contains(holds))
}
