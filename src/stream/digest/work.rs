//! Tool calls, requests and background tasks.

use std::collections::BTreeSet;

use serde_json::json;

use super::activity::{RawActivity, TrackedCall};
use super::{
    Digest, DigestChange, MAX_DESCRIPTION_CHARS, MAX_INPUT_CHARS, MAX_NAME_CHARS, MAX_TRACKED,
    TrackedTask,
};
use crate::job::{Blocked, Timestamp, parse_questions, truncate_all};
use crate::stream::event::{Task, denied};
use crate::text::{clip, fix_surrogates, one_line};

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

    /// Replaces the background tasks by those that claude listed.
    pub(super) fn background_tasks(&mut self, tasks: &[Task]) {
        let mut listed = BTreeSet::new();
        for task in tasks {
            listed.insert(clip(&task.id, MAX_NAME_CHARS));
        }
        self.tasks.retain(|id, task| task.backgrounded == Some(false) || listed.contains(id));
        for task in tasks {
            self.track_task(task, Some(true));
        }
    }

    /// Adds a request that waits for an answer, and returns it.
    pub(super) fn add_request(
        &mut self,
        request_id: &str,
        tool_name: &str,
        tool_use_id: Option<&str>,
        input: &str,
        now: Timestamp,
    ) -> Blocked {
        let mut blocked = Blocked {
            kind: "permission".to_owned(),
            request_id: clip(request_id, MAX_NAME_CHARS),
            tool_name: Some(clip(tool_name, MAX_NAME_CHARS)),
            input: String::new(),
            questions: Vec::new(),
            others: Vec::new(),
            since: now,
            released: false,
        };
        if tool_name == "AskUserQuestion" {
            blocked.kind = "question".to_owned();
            blocked.questions = truncate_all(&parse_questions(input));
        } else {
            blocked.input = clip(&fix_surrogates(input), MAX_INPUT_CHARS);
        }
        if self.requests.len() < MAX_TRACKED {
            let tool = tool_use_id.map(|id| clip(id, MAX_NAME_CHARS));
            self.requests.push((blocked.clone(), tool));
        }
        blocked
    }

    /// Records a denied tool call that may be in no result.
    pub(super) fn call_denied(&mut self, tool_use_id: &str, tool_name: &str) {
        let id = clip(tool_use_id, MAX_NAME_CHARS);
        if self.denied_calls.len() >= MAX_TRACKED || self.denied_calls.contains_key(&id) {
            return;
        }
        let mut call = match self.tools.get(&id) {
            Some(known) => denied(Some(&known.name)),
            None if tool_name.is_empty() => denied(None),
            None => denied(Some(tool_name)),
        };
        call["tool_use_id"] = id.clone().into();
        let summary = self.tools.get(&id).map(TrackedCall::summary).unwrap_or_default();
        if !summary.is_empty() {
            call["tool_input"] = json!({"summary": summary});
        }
        self.denied_calls.insert(id, call);
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
        if is_tracked && !self.is_turn_open() && self.results > 0 {
            if status == "stopped" {
                self.tasks_stopped += 1;
            } else {
                self.unreported_tasks += 1;
            }
        }
    }
}
