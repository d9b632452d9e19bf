//! Tool calls, requests and background tasks.

use serde_json::json;

use super::activity::{RawActivity, SpokenText, TrackedCall};
use super::{
    Digest, DigestChange, MAX_ACTIVITY_CHARS, MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS, MAX_TRACKED,
    TrackedTask,
};
use crate::job::Blocked;
use crate::stream::event::{Task, denied};
use crate::stream::{Block, LazyText};
use crate::text::{clip, one_line};

impl Digest {
    pub(super) fn track_task(&mut self, task: &Task, backgrounded: Option<bool>) {
        let id = clip(&task.id, MAX_NAME_CHARS);
        if let Some(known) = self.tasks.get_mut(&id) {
            known.backgrounded = backgrounded.or(known.backgrounded);
        } else if self.tasks.len() < MAX_TRACKED {
            let description = one_line(&task.description, MAX_DESCRIPTION_CHARS);
            let asks_model = task.asks_model;
            self.tasks.insert(id, TrackedTask { asks_model, backgrounded, description });
        }
    }

    /// Records a denied tool call that may be in no result.
    pub(super) fn call_denied(&mut self, tool_use_id: &str, tool_name: &str) {
        let id = clip(tool_use_id, MAX_NAME_CHARS);
        if self.denied_calls.len() >= MAX_TRACKED || self.denied_calls.contains_key(&id) {
            return;
        }
        let known = self.tools.get(&id);
        let name = known.map(|tool| tool.name.clone());
        let name = name.or_else(|| Some(tool_name.to_owned()).filter(|name| !name.is_empty()));
        let mut call = denied(name.as_deref());
        call["tool_use_id"] = id.clone().into();
        let summary = known.map(TrackedCall::summary).unwrap_or_default();
        if !summary.is_empty() {
            call["tool_input"] = json!({"summary": summary});
        }
        self.denied_calls.insert(id, call);
    }

    pub(super) fn add_block(&mut self, block: &Block<'_>, nested: bool, synthetic: bool) {
        match block {
            Block::Text(text) => {
                if !nested {
                    self.turn.said.push(text);
                    if !synthetic {
                        self.said.push(text);
                    }
                }
                let beginning = text.raw_prefix(MAX_ACTIVITY_CHARS * 2).unwrap_or_default();
                self.activity = Some(RawActivity::Text(beginning.into_owned()));
            }
            Block::ToolUse { id, name, input } => {
                if !nested {
                    self.turn.said = SpokenText::default();
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

    pub(super) fn tool_ended(&mut self, id: &str, change: &mut DigestChange) {
        let id = &*clip(id, MAX_NAME_CHARS);
        // Of parallel tools, show one that is still running.
        if self.tools.remove(id).is_some()
            && let Some(other) = self.tools.values().next()
        {
            self.activity = Some(RawActivity::ToolCall(other.clone()));
        }
        self.close_requests(|_, tool| tool.as_deref() == Some(id), change);
    }

    pub(super) fn close_requests(
        &mut self,
        closed: impl Fn(&Blocked, &Option<String>) -> bool,
        change: &mut DigestChange,
    ) {
        self.requests.retain(|(blocked, tool)| {
            let closes = closed(blocked, tool);
            if closes {
                change.unblocked.push(blocked.request_id.clone());
            }
            !closes
        });
    }

    pub(super) fn task_ended(&mut self, task_id: &str, status: &str) {
        let is_tracked = self.tasks.remove(&clip(task_id, MAX_NAME_CHARS)).is_some();
        if is_tracked && !self.turn_open && self.results > 0 {
            if status == "stopped" {
                self.tasks_stopped += 1;
            } else {
                self.follow_up_due = true;
            }
        }
    }
}

/// Whether the result of a failed tool call reports a denial. 2.1.197 reports some denials only
/// there. The result of a tool that ran and failed begins differently.
pub(super) fn reports_denial(text: &LazyText<'_>) -> bool {
    let beginning = text.prefix(400);
    let text = beginning.trim_start().trim_start_matches("<tool_use_error>");
    let begins_and_holds =
        |begins: &str, holds: &str| text.starts_with(begins) && text.contains(holds);
    begins_and_holds("Permission to use ", "denied")
        || begins_and_holds("Permission for this", "denied")
        || begins_and_holds("File is ", "your permission settings")
        || begins_and_holds("Claude requested permission", "granted it yet")
        || text.contains(" was blocked. For security, Claude Code may only ")
}
