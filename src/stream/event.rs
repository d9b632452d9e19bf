//! One line of the stream as an [`Event`].
//!
//! The CLI adds event types and fields in every release, so decoding is lenient: what is not
//! known is [`Event::Other`], and a field of an unexpected type is as if it were absent. Only text
//! that is no JSON object is refused. What was denied is never as if it had not been.

mod decode;

use std::borrow::Cow;

use serde_json::{Value, json};

use super::schedule::Scheduling;
use super::surrogates::{escape_length, from_json};
use super::wire::{Raw, WireBlock, is_array, items, object, text};
use crate::job::{ModelFamily, Timestamp};

pub use decode::decode;

/// What stands for the tool of a denied call that cannot be told.
const UNKNOWN_TOOL: &str = "(not kept)";

/// What a line says, as far as anybody here wants to know. Names are the CLI's.
#[derive(Debug)]
pub enum Event<'a> {
    /// `system/init`: the head of each turn.
    Init {
        /// Claude's conversation.
        session_id: Option<String>,
        /// The model in use.
        model: Option<String>,
        /// The MCP servers; `None` where the CLI does not list them.
        mcp_servers: Option<Vec<McpServer>>,
    },
    /// `system/api_retry`: a request failed and will be tried again.
    ApiRetry {
        /// `rate_limit`, `overloaded`, `server_error`, `authentication_failed`, …
        error: String,
        /// The API's HTTP status; `None` where there was no answer.
        status: Option<u16>,
        /// Milliseconds until the next try.
        delay_ms: f64,
        /// It was a subagent's.
        nested: bool,
    },
    /// `rate_limit_event`: how a subscription's limit stands.
    RateLimit {
        /// `allowed`, `allowed_warning` or `rejected`.
        status: String,
        /// When the limit is lifted.
        resets_at: Option<Timestamp>,
        /// The models that it is for; `None`: all.
        model: Option<ModelFamily>,
    },
    /// `assistant`: the model, or the CLI in its place, said something.
    Assistant {
        /// What was said.
        blocks: Vec<Block<'a>>,
        /// The API's message id; several events can belong to one message.
        message_id: Option<Cow<'a, str>>,
        /// The CLI speaks itself, because the API failed in this way.
        error: Option<String>,
        /// The CLI speaks itself.
        synthetic: bool,
        /// A subagent speaks.
        nested: bool,
        /// How a local command (`/compact`, a skill) ended that did not succeed: `failed`,
        /// `unavailable_headless`, …
        command_outcome: Option<String>,
    },
    /// `user`: tool results, or text that the CLI put in.
    User {
        /// What was said.
        blocks: Vec<Block<'a>>,
        /// It was said to a subagent.
        nested: bool,
        /// A message of ours, of this UUID, that claude has just taken in
        /// (`--replay-user-messages`).
        replayed: Option<String>,
        /// What the tool result says of scheduled work.
        scheduling: Option<Scheduling>,
        /// Ids of the tool calls that were denied, by `tool_result_meta`.
        denied: Vec<String>,
    },
    /// `system/task_started`: a task began, in the foreground or in the background.
    TaskStarted {
        /// The task.
        task: Task,
        /// Whether it runs in the background; `None` where the CLI does not say it.
        backgrounded: Option<bool>,
    },
    /// `system/background_tasks_changed`: the whole list of outstanding background tasks.
    BackgroundTasks(Vec<Task>),
    /// `system/task_updated` with a status.
    TaskUpdated {
        /// Its id.
        task_id: String,
        /// `completed`, `failed`, `killed`, …; `None` for another kind of update.
        status: Option<String>,
    },
    /// `system/task_notification`: work in the background ended.
    TaskEnded {
        /// Its id.
        task_id: String,
        /// `completed`, `failed` or `stopped`.
        status: String,
    },
    /// `command_lifecycle`: how far a message or a scheduled prompt has come.
    Command {
        /// Its id; of a message the one that it was sent with.
        uuid: String,
        /// `queued`, `started`, `completed`, …
        state: String,
        /// `loop_wakeup` for a wake-up of `ScheduleWakeup`, another word for a cron task; `None`
        /// for a message.
        wakeup_source: Option<String>,
    },
    /// `system/permission_denied`: a tool call was denied.
    PermissionDenied {
        /// The tool.
        tool_name: String,
        /// The tool call.
        tool_use_id: String,
    },
    /// `system/informational` with `prevent_continuation`: the CLI does not ask the model, and
    /// says why.
    Prevented(String),
    /// `control_request/can_use_tool`: a question or a permission request waits for an answer.
    Request {
        /// Its id.
        request_id: String,
        /// The tool; `AskUserQuestion` for a question.
        tool_name: String,
        /// The tool call that it is about.
        tool_use_id: Option<String>,
        /// The tool's input as JSON text.
        input: &'a str,
    },
    /// `control_cancel_request`: the request waits no more.
    RequestCancelled {
        /// Its id.
        request_id: String,
    },
    /// `stream_event`: a piece of a message that will come whole.
    Partial {
        /// A subagent's.
        nested: bool,
    },
    /// `result`: the end of a turn.
    Result(Box<TurnResult>),
    /// Anything else.
    Other,
}

/// A task of claude's: a command in the background, a subagent, a monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// Whether it may ask the model itself. Only a shell command is known not to.
    pub asks_model: bool,
    /// What it is, in a few words.
    pub description: String,
}

/// An MCP server and the state of the connection to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct McpServer {
    /// Its name.
    pub name: String,
    /// `connected`, `pending`, `failed`, `needs-auth`, `disabled`, …
    pub status: String,
}

impl McpServer {
    /// Whether claude can use it.
    pub fn is_connected(&self) -> bool {
        self.status == "connected"
    }

    /// Whether claude may still come to use it.
    pub fn is_pending(&self) -> bool {
        self.status == "pending"
    }
}

/// A piece of a message.
#[derive(Debug)]
pub enum Block<'a> {
    /// Words.
    Text(LazyText<'a>),
    /// The model's reasoning, where it is shown.
    Thinking,
    /// A tool call.
    ToolUse {
        /// Its id.
        id: Cow<'a, str>,
        /// The tool's name.
        name: Cow<'a, str>,
        /// Its input as JSON text.
        input: &'a str,
    },
    /// What a tool gave back.
    ToolResult {
        /// The call's id.
        id: Cow<'a, str>,
        /// It failed or was refused.
        is_error: bool,
        /// The text of it; empty for an image and the like.
        text: LazyText<'a>,
    },
}

/// Text that is decoded when somebody reads it, and as far as they do: most of a stream is text
/// that nobody reads on the way.
#[derive(Debug)]
pub struct LazyText<'a>(Raw<'a>);

impl LazyText<'_> {
    /// The text as the stream holds it, as JSON: copied, not decoded.
    pub fn raw(&self) -> Option<String> {
        self.0.map(str::to_owned)
    }

    /// All of it.
    pub fn whole(&self) -> Cow<'_, str> {
        result_text(self.0)
    }

    /// Its beginning: at least `most` characters, if it has so many.
    pub fn prefix(&self, most: usize) -> Cow<'_, str> {
        match self.raw_opening(most) {
            Some(Cow::Owned(raw)) => Cow::Owned(from_json(&raw).unwrap_or_default()),
            _ => self.whole(),
        }
    }

    /// The same as JSON; of text that is no string, all of it.
    pub fn raw_opening(&self, most: usize) -> Option<Cow<'_, str>> {
        let raw = self.0?;
        // No character takes more bytes than that, whatever stands behind it.
        if !raw.starts_with('"') || raw.len() <= most * 16 {
            return Some(Cow::Borrowed(raw));
        }
        let bytes = raw.as_bytes();
        let mut end = 1;
        for _ in 0..most {
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
pub struct TurnResult {
    /// `success`, `error_max_turns`, …
    pub subtype: String,
    /// Whether the CLI calls it an error; `success` can be one.
    pub is_error: bool,
    /// The API's HTTP status behind the error.
    pub api_error_status: Option<u16>,
    /// `completed`, `aborted_tools`, …
    pub terminal_reason: Option<String>,
    /// The answer.
    pub result: Option<String>,
    /// Bytes of the line that were left out of it because it was too long.
    pub omitted: u64,
    /// Sentences on what went wrong.
    pub errors: Vec<String>,
    /// Turns of this one result.
    pub num_turns: u64,
    /// Milliseconds of this one result.
    pub duration_ms: u64,
    /// US dollars, cumulative over the process.
    pub total_cost_usd: Option<f64>,
    /// Claude's conversation.
    pub session_id: Option<String>,
    /// Tool calls that were denied in this turn.
    pub permission_denials: Vec<Value>,
    /// What `--json-schema` asked for.
    pub structured_output: Option<Value>,
    /// Tokens.
    pub usage: Option<Value>,
    /// US dollars since the last result of this process (`model_usage_since_last_result`); `None`
    /// where the CLI does not say it.
    pub cost_since_last_usd: Option<f64>,
    /// `usage` says that no tokens were used.
    pub used_no_tokens: bool,
    /// Why the CLI began the turn itself (`origin.kind`), such as `task-notification`.
    pub origin: Option<String>,
    /// The local command that the turn consisted of.
    pub local_command: Option<String>,
}

impl TurnResult {
    /// Everything that the result says about what went wrong: all of `errors`, or else its text.
    pub fn sentence(&self) -> Option<String> {
        let errors: Vec<&str> =
            self.errors.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect();
        if !errors.is_empty() {
            return Some(errors.join("; "));
        }
        self.result.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
    }
}

/// A denied call of which no more is kept than the tool, if that.
pub(super) fn denied(tool_name: Option<&str>) -> Value {
    json!({"tool_name": tool_name.unwrap_or(UNKNOWN_TOOL)})
}

/// A tool result's content is a string, or blocks of which the text is wanted.
fn result_text<'a>(content: Raw<'a>) -> Cow<'a, str> {
    match content {
        Some(raw) if is_array(raw) => {
            let parts = items(content).into_iter();
            let texts: Vec<_> =
                parts.filter_map(|part| text(object::<WireBlock<'_>>(Some(part))?.text)).collect();
            Cow::Owned(texts.join("\n"))
        }
        _ => text(content).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
