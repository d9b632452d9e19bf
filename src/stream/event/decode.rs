//! Decoding of a line.

use std::borrow::Cow;
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
        Some("rate_limit_event") => {
            let about: WireStatus<'_> = object(wire.rate_limit_info).unwrap_or_default();
            Event::RateLimit {
                status: string(about.status).unwrap_or_default(),
                // Some releases write a float.
                resets_at: get::<f64>(about.resets_at).and_then(timestamp),
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
            // A result that does not deny being an error counts as one.
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

/// Returns the time this many seconds after 1970, or milliseconds if seconds would be out of range.
fn timestamp(since_1970: f64) -> Option<Timestamp> {
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

/// Returns the sum of `costUSD` over all models.
fn cost_since_last(raw: Raw<'_>) -> Option<f64> {
    let models: std::collections::BTreeMap<Cow<'_, str>, &RawValue> = get(raw)?;
    let costs = models.values().map(|model| {
        let usage: WireUsage<'_> = object(Some(model.get())).unwrap_or_default();
        get::<f64>(usage.cost_usd).unwrap_or_default()
    });
    // Starts at 0, because the sum of no floats is -0.
    Some(costs.fold(0.0, |sum, cost| sum + cost))
}

fn used_no_tokens(raw: Raw<'_>) -> bool {
    let Some(usage) = object::<WireUsage<'_>>(raw) else { return false };
    let is_zero = |tokens| get::<f64>(tokens) == Some(0.0);
    is_zero(usage.input_tokens) && is_zero(usage.output_tokens)
}

/// Returns the ids of the tool calls that `tool_result_meta` calls rejected.
fn rejected_ids(meta: &str) -> Vec<String> {
    let ids = items(Some(meta)).into_iter().filter_map(|raw| {
        let meta: WireResultMeta<'_> = object(Some(raw))?;
        let decision: WireDecision<'_> = object(meta.permission_decision)?;
        let is_rejected = text(decision.decision).as_deref() == Some("reject");
        if is_rejected { string(meta.id) } else { None }
    });
    ids.collect()
}

/// Returns the denied tool calls. A call that cannot be decoded counts with its tool alone.
fn denials(raw: Raw<'_>) -> Vec<Value> {
    let whole = |call| owned::<Value>(Some(call)).filter(|call| !call.is_null());
    items(raw).into_iter().map(|call| whole(call).unwrap_or_else(|| tool_only(call))).collect()
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
