//! One line of the stream as an [`Event`].
//!
//! The CLI adds event types and fields in every release, so decoding is lenient: what is not
//! known is [`Event::Other`], and a field of an unexpected type is as if it were absent. Only text
//! that is no JSON object is refused. What was denied is never as if it had not been.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::schedule::{Scheduling, scheduling};
use super::surrogates::{escape_length, from_json};
use super::wire::{
    self, Content, Raw, Wire, WireBlock, WireDecision, WireRequest, WireResultMeta, WireServer,
    WireStatus, WireTask, WireUsage, get, is_array, items, object, owned, string, text,
};
use crate::job::{ModelFamily, Timestamp};

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

/// Whether a line may be a subagent's. It is enough to look for the field: inside of a string its
/// quotes would be escaped.
fn names_parent(line: &[u8]) -> bool {
    const FIELD: &[u8] = b"\"parent_tool_use_id\"";
    static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(FIELD));
    FINDER.find(line).is_some_and(|at| !line[at + FIELD.len()..].starts_with(b":null"))
}

/// Decodes a line. `None`: the text is no JSON object.
///
/// Bytes that are no UTF-8 make a line undecodable; whoever wants to be lenient replaces them
/// first.
pub fn decode(line: &[u8]) -> Option<Event<'_>> {
    // By far the most frequent line where partial messages are on, and little in it matters.
    let is_partial = line.starts_with(b"{\"type\":\"stream_event\"") && line.ends_with(b"}");
    if is_partial && !names_parent(line) {
        return Some(Event::Partial { nested: false });
    }
    let (wire, message) = wire::line(str::from_utf8(line).ok()?)?;
    let nested = text(wire.parent_tool_use_id).is_some();
    let event = match text(wire.kind).as_deref() {
        Some("system") => system(&wire),
        Some("assistant") => Event::Assistant {
            blocks: blocks(message.content),
            message_id: text(message.id),
            error: string(wire.error),
            synthetic: text(message.model).as_deref() == Some("<synthetic>"),
            nested,
            command_outcome: object::<WireDecision<'_>>(wire.local_command_outcome)
                .and_then(|outcome| string(outcome.kind)),
        },
        Some("user") => {
            let replayed = get(wire.is_replay) == Some(true);
            let replayed = if replayed { string(wire.uuid) } else { None };
            Event::User {
                blocks: blocks(message.content),
                nested,
                replayed,
                scheduling: wire.tool_use_result.and_then(scheduling),
                denied: wire.tool_result_meta.map(rejected).unwrap_or_default(),
            }
        }
        Some("command_lifecycle") => match string(wire.command_uuid) {
            Some(uuid) => Event::Command {
                uuid,
                state: string(wire.state).unwrap_or_default(),
                wakeup_source: string(wire.wakeup_source),
            },
            None => Event::Other,
        },
        Some("rate_limit_event") => {
            let about: WireStatus<'_> = object(wire.rate_limit_info).unwrap_or_default();
            Event::RateLimit {
                status: string(about.status).unwrap_or_default(),
                // A float where another release writes one.
                resets_at: get::<f64>(about.resets_at).and_then(moment),
                model: string(about.limit_type).and_then(|word| ModelFamily::find_in(&word)),
            }
        }
        Some("control_request") => {
            let request: WireRequest<'_> = object(wire.request).unwrap_or_default();
            match (text(request.subtype).as_deref(), string(wire.request_id)) {
                (Some("can_use_tool"), Some(request_id)) => Event::Request {
                    request_id,
                    tool_name: string(request.tool_name).unwrap_or_default(),
                    tool_use_id: string(request.tool_use_id),
                    input: request.input.unwrap_or("null"),
                },
                _ => Event::Other,
            }
        }
        Some("control_cancel_request") => match string(wire.request_id) {
            Some(request_id) => Event::RequestCancelled { request_id },
            None => Event::Other,
        },
        Some("stream_event") => Event::Partial { nested },
        Some("result") => Event::Result(Box::new(TurnResult {
            subtype: string(wire.subtype).unwrap_or_default(),
            // A result that does not say that it is none counts as an error.
            is_error: get(wire.is_error).unwrap_or(true),
            api_error_status: get(wire.api_error_status),
            terminal_reason: string(wire.terminal_reason),
            result: string(wire.result),
            omitted: 0,
            errors: items(wire.errors)
                .into_iter()
                .filter_map(|error| string(Some(error)))
                .collect(),
            num_turns: get(wire.num_turns).unwrap_or_default(),
            duration_ms: get::<f64>(wire.duration_ms).unwrap_or_default() as u64,
            total_cost_usd: get(wire.total_cost_usd),
            session_id: string(wire.session_id),
            permission_denials: denials(wire.permission_denials),
            structured_output: owned::<Value>(wire.structured_output).filter(|v| !v.is_null()),
            usage: owned::<Value>(wire.usage).filter(|v| !v.is_null()),
            cost_since_last_usd: cost_since_last(wire.model_usage_since_last_result),
            used_no_tokens: used_no_tokens(wire.usage),
            origin: object::<WireDecision<'_>>(wire.origin).and_then(|origin| string(origin.kind)),
            local_command: string(wire.local_command),
        })),
        _ => Event::Other,
    };
    Some(event)
}

fn mcp_servers(servers: Raw<'_>) -> Vec<McpServer> {
    let server = |raw| {
        let wire: WireServer<'_> = object(Some(raw))?;
        let status = string(wire.status).unwrap_or_default();
        Some(McpServer { name: string(wire.name)?, status })
    };
    items(servers).into_iter().filter_map(server).collect()
}

/// The time so many seconds after 1970, or milliseconds if it cannot be seconds.
fn moment(since_1970: f64) -> Option<Timestamp> {
    let of_ms = |ms: f64| Timestamp::from_epoch_ms(ms as i64).filter(|_| ms >= 0.0);
    of_ms(since_1970 * 1_000.0).or_else(|| of_ms(since_1970))
}

fn system<'a>(wire: &Wire<'a>) -> Event<'a> {
    let task_id = string(wire.task_id);
    match (text(wire.subtype).as_deref(), task_id) {
        (Some("init"), _) => {
            let servers = wire.mcp_servers.filter(|servers| is_array(servers));
            Event::Init {
                session_id: string(wire.session_id),
                model: string(wire.model),
                mcp_servers: servers.map(|servers| mcp_servers(Some(servers))),
            }
        }
        (Some("api_retry"), _) => Event::ApiRetry {
            error: string(wire.error).unwrap_or_default(),
            status: get(wire.error_status),
            delay_ms: get(wire.retry_delay_ms).unwrap_or_default(),
            nested: text(wire.parent_tool_use_id).is_some(),
        },
        (Some("task_started"), Some(id)) => Event::TaskStarted {
            task: task(id, wire.task_type, wire.description),
            backgrounded: get(wire.is_backgrounded),
        },
        (Some("background_tasks_changed"), _) if wire.tasks.is_some_and(is_array) => {
            let tasks = items(wire.tasks).into_iter().filter_map(|raw| {
                let wire: WireTask<'_> = object(Some(raw))?;
                Some(task(string(wire.task_id)?, wire.task_type, wire.description))
            });
            Event::BackgroundTasks(tasks.collect())
        }
        (Some("permission_denied"), _) => match string(wire.tool_use_id) {
            Some(tool_use_id) => Event::PermissionDenied {
                tool_name: string(wire.tool_name).unwrap_or_default(),
                tool_use_id,
            },
            None => Event::Other,
        },
        (Some("informational"), _) if get(wire.prevent_continuation) == Some(true) => {
            Event::Prevented(string(wire.content).unwrap_or_default())
        }
        (Some("task_updated"), Some(task_id)) => {
            let patch: WireStatus<'_> = object(wire.patch).unwrap_or_default();
            Event::TaskUpdated { task_id, status: string(patch.status) }
        }
        (Some("task_notification"), Some(task_id)) => {
            Event::TaskEnded { task_id, status: string(wire.status).unwrap_or_default() }
        }
        _ => Event::Other,
    }
}

fn task(id: String, kind: Raw<'_>, description: Raw<'_>) -> Task {
    Task {
        id,
        asks_model: text(kind).as_deref() != Some("local_bash"),
        description: string(description).unwrap_or_default(),
    }
}

/// The sum of `costUSD` over all models.
fn cost_since_last(raw: Raw<'_>) -> Option<f64> {
    let models: std::collections::BTreeMap<Cow<'_, str>, &RawValue> = get(raw)?;
    let costs = models.values().map(|model| {
        let usage: WireUsage<'_> = object(Some(model.get())).unwrap_or_default();
        get::<f64>(usage.cost_usd).unwrap_or_default()
    });
    // From 0, because the sum of no floats is -0.
    Some(costs.fold(0.0, |sum, cost| sum + cost))
}

fn used_no_tokens(raw: Raw<'_>) -> bool {
    let Some(usage) = object::<WireUsage<'_>>(raw) else { return false };
    let is_zero = |tokens| get::<f64>(tokens) == Some(0.0);
    is_zero(usage.input_tokens) && is_zero(usage.output_tokens)
}

/// Ids of the tool calls that `tool_result_meta` calls rejected.
fn rejected(meta: &str) -> Vec<String> {
    let ids = items(Some(meta)).into_iter().filter_map(|raw| {
        let meta: WireResultMeta<'_> = object(Some(raw))?;
        let decision: WireDecision<'_> = object(meta.permission_decision)?;
        let is_rejected = text(decision.decision).as_deref() == Some("reject");
        if is_rejected { string(meta.id) } else { None }
    });
    ids.collect()
}

/// The denied tool calls, one by one: what cannot be decoded of one is left out, and it counts.
fn denials(raw: Raw<'_>) -> Vec<Value> {
    let whole = |call| owned::<Value>(Some(call)).filter(|call| !call.is_null());
    items(raw).into_iter().map(|call| whole(call).unwrap_or_else(|| tool_alone(call))).collect()
}

fn tool_alone(call: &str) -> Value {
    let call: WireRequest<'_> = object(Some(call)).unwrap_or_default();
    denied(text(call.tool_name).as_deref())
}

/// A denied call of which no more is kept than the tool, if that.
pub(super) fn denied(tool_name: Option<&str>) -> Value {
    json!({"tool_name": tool_name.unwrap_or(UNKNOWN_TOOL)})
}

fn blocks(content: Content<'_>) -> Vec<Block<'_>> {
    match content {
        Content::Other => Vec::new(),
        Content::Text(text) => vec![Block::Text(LazyText(Some(text)))],
        Content::Blocks(wires) => wires.into_iter().filter_map(|wire| block(&wire)).collect(),
    }
}

fn block<'a>(wire: &WireBlock<'a>) -> Option<Block<'a>> {
    match text(wire.kind)?.as_ref() {
        "text" => {
            wire.text.filter(|raw| raw.starts_with('"')).map(|raw| Block::Text(LazyText(Some(raw))))
        }
        "thinking" => Some(Block::Thinking),
        "tool_use" => Some(Block::ToolUse {
            id: text(wire.id)?,
            name: text(wire.name)?,
            input: wire.input.unwrap_or("null"),
        }),
        "tool_result" => Some(Block::ToolResult {
            id: text(wire.tool_use_id)?,
            is_error: get(wire.is_error).unwrap_or(false),
            text: LazyText(wire.content),
        }),
        _ => None,
    }
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
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_opening_is_the_beginning_of_the_whole() {
        for piece in [
            "a",
            "ä",
            "€",
            "😀",
            "\\n",
            "\\u00e4",
            "\\ud83d\\ude00",
            "a\\\\\\\"",
            "\\ud83d",
            "\\ud83d\\u00e4",
            "\\ude00\\ud83dud",
        ] {
            let line = format!(
                r#"{{"type":"user","message":{{"content":[{{"type":"text","text":"{}"}}]}}}}"#,
                piece.repeat(500)
            );
            let Some(Event::User { blocks, .. }) = decode(line.as_bytes()) else { panic!() };
            let [Block::Text(words)] = &blocks[..] else { panic!() };
            for most in 1..40 {
                let opening = words.prefix(most);
                assert!(words.whole().starts_with(opening.as_ref()), "{piece}");
                assert!(opening.chars().count() >= most, "{piece}");
            }
        }
    }

    #[test]
    fn a_message_of_another_shape_says_nothing() {
        for message in [
            "null",
            "7",
            "[1]",
            "\"x\"",
            "{\"content\":{\"a\":[1]}}",
            "{\"content\":[1,\"x\",[2],null]}",
        ] {
            let line = format!(r#"{{"type":"user","message":{message},"parent_tool_use_id":"p"}}"#);
            let Some(Event::User { blocks, nested: true, .. }) = decode(line.as_bytes()) else {
                panic!("{message}")
            };
            assert!(blocks.is_empty(), "{message}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for line in
            ["", "x", "1", "\"a\"", "[", "{", "{\"type\":", "npm notice", "{\"type\":\"result\""]
        {
            assert!(decode(line.as_bytes()).is_none(), "{line}");
        }
    }

    #[test]
    fn a_line_that_holds_a_field_twice_is_refused() {
        for line in [
            r#"{"type":"result","is_error":true,"is_error":false}"#,
            r#"{"type":"result","is_error":null,"is_error":false}"#,
            r#"{"type":"result","is_error":false,"is_error":null}"#,
            r#"{"type":null,"ty\u0070e":"result"}"#,
            r#"{"type":"user","message":null,"message":{}}"#,
            r#"{"type":"user","message":{"id":null,"id":"m"}}"#,
            r#"{"type":"user","message":{"content":null,"content":[]}}"#,
            r#"{"type":"user","message":{"content":[{"type":null,"type":"text"}]}}"#,
        ] {
            assert!(decode(line.as_bytes()).is_none(), "{line}");
        }
    }

    #[test]
    fn what_is_unknown_is_other() {
        for line in [
            "{}",
            "{\"type\":7}",
            "{\"type\":\"dream\",\"message\":[]}",
            "{\"type\":\"system\",\"subtype\":\"task_started\"}",
            "{\"type\":\"system\",\"subtype\":\"hook_response\"}",
            "{\"type\":\"control_request\",\"request_id\":\"r\",\"request\":{\"subtype\":\"new\"}}",
        ] {
            assert!(matches!(decode(line.as_bytes()), Some(Event::Other)), "{line}");
        }
    }

    #[test]
    fn a_field_of_another_type_is_as_if_absent() {
        let line = br#"{"type":"result","subtype":"success","is_error":"no","result":{"a":1},"num_turns":"x","errors":7}"#;
        let Some(Event::Result(result)) = decode(line) else { panic!("no result") };
        assert!(result.is_error, "what is not clearly a success is none");
        assert_eq!((result.result, result.num_turns), (None, 0));
    }

    #[test]
    fn pieces_of_a_subagents_message_are_told_apart() {
        let quoted = r#"{"delta":{"text":",\"parent_tool_use_id\":\"t\","}}"#;
        for (fields, expected) in [
            (r#""event":{}"#.to_owned(), false),
            (r#""event":{},"parent_tool_use_id":null,"uuid":"u""#.to_owned(), false),
            (r#""event":{},"parent_tool_use_id":"t","uuid":"u""#.to_owned(), true),
            (r#""parent_tool_use_id": "t" ,"event":{}"#.to_owned(), true),
            (r#""parent_tool_use_id" : "t""#.to_owned(), true),
            (format!(r#""event":{quoted},"parent_tool_use_id":null"#), false),
            (format!(r#""event":{quoted},"parent_tool_use_id":"t""#), true),
            (format!(r#""event":{quoted}"#), false),
        ] {
            for start in [r#"{"type":"stream_event","#, r#"{ "type":"stream_event","#] {
                let line = format!("{start}{fields}}}");
                let Some(Event::Partial { nested }) = decode(line.as_bytes()) else {
                    panic!("{line}")
                };
                assert_eq!(nested, expected, "{line}");
            }
        }
    }

    #[test]
    fn half_a_character_costs_no_field() {
        let line = br#"{"type":"result","is_error":true,"result":"a\ud83d","subtype":"\ude00","errors":["e\ud83d","f"],"structured_output":{"k\ud83d":"v"},"usage":["\ud83d"],"permission_denials":[{"tool_name":"A","tool_input":"\ud83d"},{"tool_name":"B"}]}"#;
        let Some(Event::Result(result)) = decode(line) else { panic!("no result") };
        assert_eq!(result.result.as_deref(), Some("a\u{fffd}"));
        assert_eq!(result.subtype, "\u{fffd}");
        assert_eq!(result.errors, ["e\u{fffd}", "f"]);
        assert_eq!(result.structured_output, Some(json!({"k\u{fffd}": "v"})));
        assert_eq!(result.usage, Some(json!(["\u{fffd}"])));
        let denials =
            [json!({"tool_name": "A", "tool_input": "\u{fffd}"}), json!({"tool_name": "B"})];
        assert_eq!(result.permission_denials, denials);

        let line = br#"{"type":"assistant","message":{"content":[{"type":"text","text":"so \ud83d"},{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"\ud83d"}]}]}}"#;
        let Some(Event::Assistant { blocks, .. }) = decode(line) else { panic!("no words") };
        let [Block::Text(words), Block::ToolResult { text, .. }] = &blocks[..] else { panic!() };
        assert_eq!((&*words.whole(), &*words.prefix(1)), ("so \u{fffd}", "so \u{fffd}"));
        assert_eq!(text.whole(), "\u{fffd}");
    }

    #[test]
    fn tool_results_are_strings_or_blocks() {
        let line = br#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"a","content":"one"},{"type":"tool_result","tool_use_id":"b","is_error":true,"content":[7,{"type":"text","text":"two"},null,{"type":"image"}]}]}}"#;
        let Some(Event::User { blocks, nested: false, .. }) = decode(line) else { panic!() };
        let seen: Vec<_> = blocks
            .iter()
            .map(|block| match block {
                Block::ToolResult { id, is_error, text } => (id.as_ref(), *is_error, text.whole()),
                _ => panic!("{block:?}"),
            })
            .collect();
        assert_eq!(seen, [("a", false, "one".into()), ("b", true, "two".into())]);
    }
}
