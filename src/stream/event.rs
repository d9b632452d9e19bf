//! One line of the stream as an [`Event`].
//!
//! The CLI adds event types and fields in every release, so decoding is lenient: an unknown event
//! is [`Event::Other`], and a field of an unexpected type counts as absent. Only text that is not a
//! JSON object is rejected. A denial is never lost.

mod decode;

use std::borrow::Cow;

use serde_json::{Value, json};

use super::schedule::Scheduling;
use super::wire::{Raw, WireBlock, is_array, items, object, text};
use crate::job::{ModelFamily, Timestamp};
use crate::text::{escape_length, from_json};

pub(crate) use decode::decode;

/// Name of the tool of a denied call if it is unknown.
const UNKNOWN_TOOL: &str = "(not kept)";

/// The parts of an event that this program uses. Names are those of the CLI.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// `system/init`: the head of each turn.
    Init {
        /// The session.
        session_id: Option<String>,
        model: Option<String>,
        /// `None` if the CLI does not list them.
        mcp_servers: Option<Vec<McpServer>>,
    },
    /// `system/api_retry`: a request failed and will be retried.
    ApiRetry {
        /// `rate_limit`, `overloaded`, `server_error`, `authentication_failed`, …
        error: String,
        /// HTTP status of the API; `None` if there was no answer.
        status: Option<u16>,
        /// Milliseconds until the retry.
        delay_ms: f64,
        /// Whether a subagent made the request.
        nested: bool,
    },
    /// `rate_limit_event`: the state of a limit of the subscription.
    RateLimit {
        /// `allowed`, `allowed_warning` or `rejected`.
        status: String,
        resets_at: Option<Timestamp>,
        /// The models to which it applies; `None` for all.
        model: Option<ModelFamily>,
    },
    Assistant(AssistantMessage<'a>),
    User(UserMessage<'a>),
    /// `system/task_started`: a task began, in the foreground or in the background.
    TaskStarted {
        task: Task,
        /// Whether it runs in the background; `None` if the CLI does not say.
        backgrounded: Option<bool>,
    },
    /// `system/background_tasks_changed`: the whole list of outstanding background tasks.
    BackgroundTasks(Vec<Task>),
    /// `system/task_updated` with a status.
    TaskUpdated {
        task_id: String,
        /// `completed`, `failed`, `killed`, …; `None` for other updates.
        status: Option<String>,
    },
    /// `system/task_notification`: background work ended.
    TaskEnded {
        task_id: String,
        /// `completed`, `failed` or `stopped`.
        status: String,
        /// False for a tool that the turn waited for: only background work has an output file. One
        /// that was stopped has none either.
        is_background: bool,
    },
    /// `command_lifecycle`: progress of a message or a scheduled prompt.
    Command {
        /// Its id; for a message the UUID with which it was sent.
        uuid: String,
        /// `queued`, `started`, `completed`, …
        state: String,
        /// `loop_wakeup` for a wake-up of `ScheduleWakeup`, another name for a cron task; `None`
        /// for a message.
        wakeup_source: Option<String>,
    },
    /// `system/permission_denied`: a tool call was denied.
    PermissionDenied {
        tool_name: String,
        tool_use_id: String,
    },
    /// `system/informational` with `prevent_continuation`: the reason why the CLI does not ask the
    /// model.
    Prevented(String),
    /// `control_request/can_use_tool`: a question or a permission request waits for an answer.
    Request {
        request_id: String,
        /// `AskUserQuestion` for a question.
        tool_name: String,
        tool_use_id: Option<String>,
        /// JSON text.
        input: &'a str,
    },
    /// `control_cancel_request`: the request was withdrawn.
    RequestCancelled {
        request_id: String,
    },
    /// `stream_event`: a piece of a message that will also arrive as a whole.
    Partial {
        /// Whether a subagent wrote it.
        nested: bool,
    },
    /// `result`: the end of a turn.
    Result(Box<TurnResult>),
    Other,
}

/// `assistant`: a message of the model, or of the CLI in its place.
#[derive(Debug)]
pub(crate) struct AssistantMessage<'a> {
    pub blocks: Vec<Block<'a>>,
    /// The API's message id; several events can belong to one message.
    pub message_id: Option<Cow<'a, str>>,
    /// Error of the API for which the CLI speaks in place of the model.
    pub error: Option<String>,
    /// Whether the CLI speaks in place of the model.
    pub synthetic: bool,
    /// Whether a subagent speaks.
    pub nested: bool,
    /// Outcome of a local command (`/compact`, a skill) that did not succeed: `failed`,
    /// `unavailable_headless`, …
    pub command_outcome: Option<String>,
}

/// `user`: tool results, or text that the CLI added.
#[derive(Debug)]
pub(crate) struct UserMessage<'a> {
    pub blocks: Vec<Block<'a>>,
    /// Whether it was said to a subagent.
    pub nested: bool,
    /// UUID of a message of this program that claude has just accepted
    /// (`--replay-user-messages`).
    pub replayed: Option<String>,
    /// What the tool result says about scheduled work.
    pub scheduling: Option<Scheduling>,
    /// Ids of the denied tool calls, by `tool_result_meta`.
    pub denied: Vec<String>,
}

/// A task of claude: a background command, a subagent, a monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    pub id: String,
    /// Whether it may ask the model. Only a shell command is known not to.
    pub asks_model: bool,
    pub description: String,
}

/// An MCP server and the state of the connection to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct McpServer {
    pub name: String,
    /// `connected`, `pending`, `failed`, `needs-auth`, `disabled`, …
    pub status: String,
}

impl McpServer {
    pub(crate) fn is_connected(&self) -> bool {
        self.status == "connected"
    }

    /// Whether the connection may still succeed.
    pub(crate) fn is_pending(&self) -> bool {
        self.status == "pending"
    }
}

/// Content block of a message.
#[derive(Debug)]
pub(crate) enum Block<'a> {
    Text(LazyText<'a>),
    /// Reasoning of the model.
    Thinking,
    /// A tool call.
    ToolUse {
        id: Cow<'a, str>,
        name: Cow<'a, str>,
        /// JSON text.
        input: &'a str,
    },
    /// Result of a tool call.
    ToolResult {
        /// Id of the call.
        id: Cow<'a, str>,
        /// Whether the call failed or was denied.
        is_error: bool,
        /// Its text; empty for an image and the like.
        text: LazyText<'a>,
    },
}

/// Text that is decoded only when and as far as it is read: most text of a stream is not.
#[derive(Debug)]
pub(crate) struct LazyText<'a>(Raw<'a>);

impl LazyText<'_> {
    /// Returns the text as JSON, copied and not decoded.
    pub(crate) fn raw(&self) -> Option<String> {
        self.0.map(str::to_owned)
    }

    pub(crate) fn whole(&self) -> Cow<'_, str> {
        result_text(self.0)
    }

    /// Returns at least the first `min_chars` characters, or the whole text if it is shorter.
    pub(crate) fn prefix(&self, min_chars: usize) -> Cow<'_, str> {
        match self.raw_prefix(min_chars) {
            Some(Cow::Owned(raw)) => Cow::Owned(from_json(&raw).unwrap_or_default()),
            _ => self.whole(),
        }
    }

    /// Returns the same as JSON; content that is not a string is returned whole.
    pub(crate) fn raw_prefix(&self, min_chars: usize) -> Option<Cow<'_, str>> {
        let raw = self.0?;
        // No character takes more bytes, including a check of what follows it.
        if !raw.starts_with('"') || raw.len() <= min_chars * 16 {
            return Some(Cow::Borrowed(raw));
        }
        let bytes = raw.as_bytes();
        let mut end = 1;
        for _ in 0..min_chars {
            end += if bytes[end] == b'\\' { escape_length(raw, end) } else { 1 };
            while bytes[end] & 0xc0 == 0x80 {
                end += 1;
            }
        }
        Some(Cow::Owned(format!("{}\"", &raw[..end])))
    }
}

/// A `result` event.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TurnResult {
    /// `success`, `error_max_turns`, …
    pub subtype: String,
    /// Whether the CLI calls it an error. `success` can be an error, too.
    pub is_error: bool,
    /// HTTP status of the API that caused the error.
    pub api_error_status: Option<u16>,
    /// `completed`, `aborted_tools`, …
    pub terminal_reason: Option<String>,
    pub result: Option<String>,
    /// Bytes that were left out of the line because it was too long.
    pub omitted: u64,
    /// Descriptions of what went wrong.
    pub errors: Vec<String>,
    pub num_turns: u64,
    pub duration_ms: u64,
    /// Cumulative over the process.
    pub total_cost_usd: Option<f64>,
    /// The session.
    pub session_id: Option<String>,
    /// Tool calls that were denied in this turn.
    pub permission_denials: Vec<Value>,
    /// Output for `--json-schema`.
    pub structured_output: Option<Value>,
    pub usage: Option<Value>,
    /// Cost since the last result of this process (`model_usage_since_last_result`); `None` if the
    /// CLI does not report it.
    pub cost_since_last_usd: Option<f64>,
    /// Whether `usage` reports no tokens.
    pub used_no_tokens: bool,
    /// Why the CLI began the turn itself (`origin.kind`), such as `task-notification`.
    pub origin: Option<String>,
    pub local_command: Option<String>,
}

impl TurnResult {
    /// Returns what the result says about an error: all `errors`, or else its text.
    pub(crate) fn sentence(&self) -> Option<String> {
        let mut errors: Vec<&str> = self.errors.iter().map(|text| text.trim()).collect();
        errors.retain(|text| !text.is_empty());
        if !errors.is_empty() {
            return Some(errors.join("; "));
        }
        let text = self.result.as_deref()?.trim();
        if text.is_empty() { None } else { Some(text.to_owned()) }
    }
}

/// Returns a denied call with only the name of its tool, if that is known.
pub(super) fn denied(tool_name: Option<&str>) -> Value {
    json!({"tool_name": tool_name.unwrap_or(UNKNOWN_TOOL)})
}

/// Returns the text of a tool result: its content is a string or blocks with text.
fn result_text<'a>(content: Raw<'a>) -> Cow<'a, str> {
    match content {
        Some(raw) if is_array(raw) => {
            let mut texts = Vec::new();
            for part in items(content) {
                let block: WireBlock<'_> = object(Some(part)).unwrap_or_default();
                texts.extend(text(block.text));
            }
            Cow::Owned(texts.join("\n"))
        }
        _ => text(content).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
