//! Decoding of a line.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{
    AssistantMessage, Block, Event, LazyText, McpServer, Task, TurnResult, UserMessage, denied,
};
use crate::job::{ModelFamily, Timestamp};
use crate::stream::schedule::scheduling;
use crate::stream::wire::{
    self, Content, Raw, Wire, WireBlock, WireDecision, WireRequest, WireResultMeta, WireServer,
    WireStatus, WireTask, WireUsage, get, is_array, items, object, owned, string, text,
};

/// Whether a line may come from a subagent. Searching for the field is enough: inside a string its
/// quotes would be escaped.
fn names_parent(line: &[u8]) -> bool {
    const FIELD: &[u8] = b"\"parent_tool_use_id\"";
    static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(FIELD));
    FINDER.find(line).is_some_and(|at| !line[at + FIELD.len()..].starts_with(b":null"))
}

/// Decodes a line; `None` if it is not a JSON object.
///
/// A line that is not UTF-8 cannot be decoded; [`String::from_utf8_lossy`] makes it so.
pub(crate) fn decode(line: &[u8]) -> Option<Event<'_>> {
    // By far the most frequent line with partial messages, and only one field of it matters.
    let is_partial = line.starts_with(b"{\"type\":\"stream_event\"") && line.ends_with(b"}");
    if is_partial && !names_parent(line) {
        return Some(Event::Partial { nested: false });
    }
    let (wire, message) = wire::line(str::from_utf8(line).ok()?)?;
    let nested = text(wire.parent_tool_use_id).is_some();
    let event = match text(wire.kind).as_deref() {
        Some("system") => system(&wire),
        Some("assistant") => {
            let outcome: WireDecision<'_> = object(wire.local_command_outcome).unwrap_or_default();
            Event::Assistant(AssistantMessage {
                blocks: blocks(message.content),
                message_id: text(message.id),
                error: string(wire.error),
                synthetic: text(message.model).as_deref() == Some("<synthetic>"),
                nested,
                command_outcome: string(outcome.kind),
            })
        }
        Some("user") => {
            let replayed = get(wire.is_replay) == Some(true);
            let replayed = if replayed { string(wire.uuid) } else { None };
            Event::User(UserMessage {
                blocks: blocks(message.content),
                nested,
                replayed,
                scheduling: wire.tool_use_result.and_then(scheduling),
                denied: wire.tool_result_meta.map(rejected_ids).unwrap_or_default(),
            })
        }
        Some("command_lifecycle") => match string(wire.command_uuid) {
            Some(uuid) => Event::Command {
                uuid,
                state: string(wire.state).unwrap_or_default(),
                wakeup_source: string(wire.wakeup_source),
            },
            None => Event::Other,
        },
        Some("rate_limit_event") => rate_limit(wire.rate_limit_info),
        Some("control_request") => control_request(&wire),
        Some("control_cancel_request") => match string(wire.request_id) {
            Some(request_id) => Event::RequestCancelled { request_id },
            None => Event::Other,
        },
        Some("stream_event") => Event::Partial { nested },
        Some("result") => Event::Result(Box::new(result(&wire))),
        _ => Event::Other,
    };
    Some(event)
}

fn rate_limit(info: Raw<'_>) -> Event<'static> {
    let info: WireStatus<'_> = object(info).unwrap_or_default();
    Event::RateLimit {
        status: string(info.status).unwrap_or_default(),
        // Some releases write a float.
        resets_at: get(info.resets_at).and_then(timestamp),
        model: text(info.limit_type).and_then(|word| ModelFamily::find_in(&word)),
    }
}

fn control_request<'a>(wire: &Wire<'a>) -> Event<'a> {
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

fn result(wire: &Wire<'_>) -> TurnResult {
    let origin: WireDecision<'_> = object(wire.origin).unwrap_or_default();
    TurnResult {
        subtype: string(wire.subtype).unwrap_or_default(),
        // A result that does not deny being an error counts as one.
        is_error: get(wire.is_error).unwrap_or(true),
        api_error_status: get(wire.api_error_status),
        terminal_reason: string(wire.terminal_reason),
        result: string(wire.result),
        omitted: 0,
        errors: strings(wire.errors),
        num_turns: get(wire.num_turns).unwrap_or_default(),
        duration_ms: get::<f64>(wire.duration_ms).unwrap_or_default() as u64,
        total_cost_usd: get(wire.total_cost_usd),
        session_id: string(wire.session_id),
        permission_denials: denials(wire.permission_denials),
        structured_output: value(wire.structured_output),
        usage: value(wire.usage),
        cost_since_last_usd: cost_since_last(wire.model_usage_since_last_result),
        used_no_tokens: used_no_tokens(wire.usage),
        origin: string(origin.kind),
        local_command: string(wire.local_command),
    }
}

fn strings(array: Raw<'_>) -> Vec<String> {
    let mut strings = Vec::new();
    for element in items(array) {
        strings.extend(string(Some(element)));
    }
    strings
}

/// Returns a value that is not null.
fn value(raw: Raw<'_>) -> Option<Value> {
    match owned(raw) {
        Some(Value::Null) => None,
        value => value,
    }
}

fn mcp_servers(array: &str) -> Vec<McpServer> {
    let mut servers = Vec::new();
    for server in items(Some(array)) {
        let wire: WireServer<'_> = object(Some(server)).unwrap_or_default();
        if let Some(name) = string(wire.name) {
            servers.push(McpServer { name, status: string(wire.status).unwrap_or_default() });
        }
    }
    servers
}

/// Returns the time this many seconds after 1970, or milliseconds if seconds would be out of range.
fn timestamp(since_1970: f64) -> Option<Timestamp> {
    if since_1970 < 0.0 {
        return None;
    }
    let seconds = Timestamp::from_epoch_ms((since_1970 * 1_000.0) as i64);
    seconds.or(Timestamp::from_epoch_ms(since_1970 as i64))
}

fn system<'a>(wire: &Wire<'a>) -> Event<'a> {
    let task_id = string(wire.task_id);
    match (text(wire.subtype).as_deref(), task_id) {
        (Some("init"), _) => {
            let mcp_servers = match wire.mcp_servers {
                Some(servers) if is_array(servers) => Some(mcp_servers(servers)),
                _ => None,
            };
            Event::Init {
                session_id: string(wire.session_id),
                model: string(wire.model),
                mcp_servers,
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
            let mut tasks = Vec::new();
            for item in items(wire.tasks) {
                let wire: WireTask<'_> = object(Some(item)).unwrap_or_default();
                if let Some(id) = string(wire.task_id) {
                    tasks.push(task(id, wire.task_type, wire.description));
                }
            }
            Event::BackgroundTasks(tasks)
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
            let status = string(wire.status).unwrap_or_default();
            let has_no_file = string(wire.output_file).is_some_and(|path| path.is_empty());
            Event::TaskEnded { task_id, is_background: status == "stopped" || !has_no_file, status }
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

/// Returns the sum of `costUSD` over all models.
fn cost_since_last(raw: Raw<'_>) -> Option<f64> {
    let models: BTreeMap<Cow<'_, str>, &RawValue> = get(raw)?;
    let mut cost = 0.0;
    for model in models.values() {
        let usage: WireUsage<'_> = object(Some(model.get())).unwrap_or_default();
        cost += get::<f64>(usage.cost_usd).unwrap_or_default();
    }
    Some(cost)
}

fn used_no_tokens(raw: Raw<'_>) -> bool {
    let usage: WireUsage<'_> = object(raw).unwrap_or_default();
    get(usage.input_tokens) == Some(0.0) && get(usage.output_tokens) == Some(0.0)
}

/// Returns the ids of the tool calls that `tool_result_meta` calls rejected.
fn rejected_ids(meta: &str) -> Vec<String> {
    let mut ids = Vec::new();
    for item in items(Some(meta)) {
        let meta: WireResultMeta<'_> = object(Some(item)).unwrap_or_default();
        let decision: WireDecision<'_> = object(meta.permission_decision).unwrap_or_default();
        if text(decision.decision).as_deref() == Some("reject") {
            ids.extend(string(meta.id));
        }
    }
    ids
}

/// Returns the denied tool calls. A call that cannot be decoded counts with its tool alone.
fn denials(array: Raw<'_>) -> Vec<Value> {
    let mut denials = Vec::new();
    for call in items(array) {
        denials.push(match value(Some(call)) {
            Some(call) => call,
            None => tool_only(call),
        });
    }
    denials
}

fn tool_only(call: &str) -> Value {
    let call: WireRequest<'_> = object(Some(call)).unwrap_or_default();
    denied(text(call.tool_name).as_deref())
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
        "text" if wire.text?.starts_with('"') => Some(Block::Text(LazyText(wire.text))),
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
