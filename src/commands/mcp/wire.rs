//! The messages of the Model Context Protocol, of both generations: the older ones, which begin with
//! `initialize`, and that of [`MODERN`], whose requests each name the version and the abilities of
//! the client.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::json;
use crate::text::{clip, from_json};

/// The version without `initialize`.
pub(super) const MODERN: &str = "2026-07-28";
/// The versions with `initialize`, newest first.
pub(super) const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// The extension by which a client learns the end of a wait.
pub(super) const TASKS: &str = "io.modelcontextprotocol/tasks";

const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";
const SERVER_KEY: &str = "io.modelcontextprotocol/serverInfo";

pub(super) const PARSE_ERROR: i32 = -32_700;
pub(super) const INVALID_REQUEST: i32 = -32_600;
pub(super) const METHOD_NOT_FOUND: i32 = -32_601;
pub(super) const INVALID_PARAMS: i32 = -32_602;
pub(super) const INTERNAL_ERROR: i32 = -32_603;
const UNSUPPORTED_VERSION: i32 = -32_022;

/// Maximum length of the message of an error, which may quote an argument.
const MAX_ERROR_CHARS: usize = 500;

/// How long a client may keep the list of tools.
const CACHE_MS: u64 = 3_600_000;

const INSTRUCTIONS: &str = "claudejob runs coding tasks with Claude Code as detached jobs. A job \
works in the background, outlives this conversation and this server, and is named by its id. Use \
it for work that takes minutes or hours, for several tasks at once, or when the user wants to go \
on meanwhile: start_coding_job with a complete prompt (the job does not see this conversation), go \
on with other things, then job_result. job_status and job_logs show what a job is doing. A job \
that was started with ask may become `blocked`: show its question to the user and answer it with \
answer_job. Hints in answers are shell commands of the same program: `claudejob result ID` is \
job_result, `claudejob resume ID` is resume_job, and so on.";
const TASK_INSTRUCTIONS: &str = " To be notified of the end, use start_coding_job with wait, or \
wait_for_jobs: each returns at once with a task that completes when the jobs have ended.";
const WAIT_INSTRUCTIONS: &str = " wait_for_jobs waits for at most 4 minutes; if stillRunning is \
true, the jobs go on and you can wait again.";

/// What the client can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClientFeatures {
    /// It speaks [`MODERN`].
    pub is_modern: bool,
    /// It can show a form to its user.
    pub elicits: bool,
    /// It knows the extension [`TASKS`].
    pub has_tasks: bool,
}

impl ClientFeatures {
    pub(super) fn new(is_modern: bool, capabilities: &Value) -> Self {
        let elicitation = &capabilities["elicitation"];
        // Before there were other modes, an empty object meant forms.
        let elicits = match elicitation.as_object() {
            Some(modes) => modes.is_empty() || modes.contains_key("form"),
            None => false,
        };
        let has_tasks = is_modern && capabilities["extensions"][TASKS].is_object();
        Self { is_modern, elicits, has_tasks }
    }
}

/// A message of the client.
#[derive(Debug, PartialEq)]
pub(super) enum ClientMessage {
    Request {
        id: Value,
        method: String,
        params: Params,
    },
    Notification {
        method: String,
        params: Params,
    },
    /// The answer to a request of the server; `None` is an error.
    Response {
        id: Value,
        result: Option<Value>,
    },
}

/// The parameters of a message.
pub(super) type Params = Map<String, Value>;

/// An error of the protocol.
#[derive(Debug, PartialEq)]
pub(super) struct WireError {
    /// The id of the request, or null.
    pub id: Value,
    pub code: i32,
    pub message: String,
    pub data: Option<Value>,
}

impl WireError {
    pub(super) fn new(id: Value, code: i32, message: impl Into<String>) -> Self {
        let message = clip(&message.into(), MAX_ERROR_CHARS);
        Self { id, code, message, data: None }
    }
}

/// The id of a message whose other fields may be beyond what can be read, such as a deep tree.
#[derive(Deserialize)]
struct MessageId {
    id: Value,
}

/// Parses a text, which may have been cut inside a character.
fn parse_json(line: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(line).map_err(|error| error.to_string())?;
    from_json(text).map_err(|error| error.to_string())
}

impl ClientMessage {
    /// Parses a line.
    pub(super) fn parse(line: &[u8]) -> Result<Self, WireError> {
        let invalid = |id, why: &str| Err(WireError::new(id, INVALID_REQUEST, why));
        let mut fields = match parse_json(line) {
            Ok(Value::Object(fields)) => fields,
            Ok(Value::Array(_)) => return invalid(Value::Null, "batches are not supported"),
            Ok(_) => return invalid(Value::Null, "a message is an object"),
            Err(why) => {
                let id = match json::from_bytes(line) {
                    Ok(MessageId { id }) if id.is_string() || id.is_number() => id,
                    _ => Value::Null,
                };
                return Err(WireError::new(id, PARSE_ERROR, format!("invalid JSON: {why}")));
            }
        };
        let id = fields.remove("id");
        let is_valid_id = matches!(id, None | Some(Value::String(_) | Value::Number(_)));
        let known_id = if is_valid_id { id.clone().unwrap_or_default() } else { Value::Null };
        if fields.get("jsonrpc") != Some(&json!("2.0")) {
            return invalid(known_id, "jsonrpc is not \"2.0\"");
        }
        if !is_valid_id {
            return invalid(known_id, "the id is neither a string nor a number");
        }
        let method = match fields.remove("method") {
            Some(Value::String(method)) => method,
            Some(_) => return invalid(known_id, "the method is not a string"),
            None => match (id, fields.contains_key("error")) {
                (Some(id), has_error) if has_error || fields.contains_key("result") => {
                    let result = if has_error { None } else { fields.remove("result") };
                    return Ok(Self::Response { id, result });
                }
                _ => return invalid(known_id, "neither a method nor a result"),
            },
        };
        let params = match fields.remove("params") {
            None => Params::new(),
            Some(Value::Object(params)) => params,
            Some(_) if id.is_none() => Params::new(),
            Some(_) => {
                let why = "params is not an object";
                return Err(WireError::new(known_id, INVALID_PARAMS, why));
            }
        };
        Ok(match id {
            Some(id) => Self::Request { id, method, params },
            None => Self::Notification { method, params },
        })
    }
}

/// Returns the features of the client if the request names them, and an error if its version is
/// unknown.
pub(super) fn features_in(
    id: &Value,
    params: &Params,
) -> Result<Option<ClientFeatures>, WireError> {
    let Some(meta) = params.get("_meta") else { return Ok(None) };
    let Some(version) = meta.get(VERSION_KEY) else { return Ok(None) };
    let capabilities = meta.get(CAPABILITIES_KEY).unwrap_or(&Value::Null);
    match version.as_str() {
        Some(MODERN) => Ok(Some(ClientFeatures::new(true, capabilities))),
        Some(version) if LEGACY.contains(&version) => {
            Ok(Some(ClientFeatures::new(false, capabilities)))
        }
        _ => {
            let message = format!("unsupported protocol version {version}");
            let error = WireError::new(id.clone(), UNSUPPORTED_VERSION, message);
            let data = json!({ "supported": supported_versions(), "requested": version });
            Err(WireError { data: Some(data), ..error })
        }
    }
}

fn supported_versions() -> Vec<&'static str> {
    let mut versions = vec![MODERN];
    versions.extend(LEGACY);
    versions
}

/// Returns the answer to `initialize`, and the features of the client.
pub(super) fn initialize(params: &Params) -> (Value, ClientFeatures) {
    let requested = params.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
    let version = if LEGACY.contains(&requested) { requested } else { LEGACY[0] };
    let capabilities = params.get("capabilities").unwrap_or(&Value::Null);
    let features = ClientFeatures::new(false, capabilities);
    let result = json!({
        "protocolVersion": version,
        "capabilities": { "tools": {} },
        "serverInfo": server_info(),
        "instructions": instructions(features),
    });
    (result, features)
}

/// Returns the answer to `server/discover`.
pub(super) fn discover(features: ClientFeatures) -> Value {
    json!({
        "resultType": "complete",
        "supportedVersions": supported_versions(),
        "capabilities": { "tools": {}, "extensions": { TASKS: {} } },
        "instructions": instructions(features),
        "ttlMs": CACHE_MS,
        "cacheScope": "private",
        "_meta": { SERVER_KEY: server_info() },
    })
}

fn instructions(features: ClientFeatures) -> String {
    let waits = if features.has_tasks { TASK_INSTRUCTIONS } else { WAIT_INSTRUCTIONS };
    format!("{INSTRUCTIONS}{waits}")
}

fn server_info() -> Value {
    json!({ "name": "claudejob", "title": "claudejob", "version": env!("CARGO_PKG_VERSION") })
}

/// Returns the answer to `tools/list`.
pub(super) fn tool_list(tools: Vec<Value>, is_modern: bool) -> Value {
    let mut result = json!({});
    result["tools"] = Value::Array(tools);
    if is_modern {
        result["resultType"] = json!("complete");
        result["ttlMs"] = json!(CACHE_MS);
        result["cacheScope"] = json!("private");
    }
    result
}

/// Returns the answer to a request that has no data.
pub(super) fn empty_result(is_modern: bool) -> Value {
    if is_modern { json!({ "resultType": "complete" }) } else { json!({}) }
}

/// The result of a tool.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    result_type: Option<&'static str>,
    content: [TextContent; 1],
    /// The answer of the verb; absent for an error, which need not have the form of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    structured_content: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_error: bool,
}

#[derive(Debug, Serialize)]
struct TextContent {
    #[serde(rename = "type")]
    kind: &'static str,
    text: String,
}

impl ToolResult {
    /// Returns the result with this JSON object.
    pub(super) fn new(json: String, is_error: bool, is_modern: bool) -> Self {
        let json = if is_error { shorten_error(json) } else { json };
        let structured_content =
            if is_error { None } else { RawValue::from_string(json.clone()).ok() };
        Self {
            result_type: if is_modern { Some("complete") } else { None },
            content: [TextContent { kind: "text", text: json }],
            structured_content,
            is_error,
        }
    }
}

/// Shortens the sentence of an error, which may quote a long argument.
fn shorten_error(json: String) -> String {
    let Ok(mut error) = serde_json::from_str::<Value>(&json) else { return json };
    let Some(text) = error["error"].as_str() else { return json };
    let shortened = clip(text, MAX_ERROR_CHARS);
    if shortened == text {
        return json;
    }
    error["error"] = Value::String(shortened);
    error.to_string()
}

/// The answer to a request.
#[derive(Serialize)]
struct ServerResponse<'a, T> {
    jsonrpc: &'static str,
    id: &'a Value,
    result: T,
}

/// Returns the line with the result of a request.
pub(super) fn response(id: &Value, result: &impl Serialize) -> Vec<u8> {
    line(&ServerResponse { jsonrpc: "2.0", id, result })
}

/// Returns the line with an error.
pub(super) fn error_response(error: WireError) -> Vec<u8> {
    let mut body = json!({ "code": error.code, "message": error.message });
    if let Some(data) = error.data {
        body["data"] = data;
    }
    line(&json!({ "jsonrpc": "2.0", "id": error.id, "error": body }))
}

/// Returns the line of a request of the server.
pub(super) fn request(id: u64, method: &str, params: &Value) -> Vec<u8> {
    line(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
}

/// Returns the line of a notification.
pub(super) fn notification(method: &str, params: &Value) -> Vec<u8> {
    line(&json!({ "jsonrpc": "2.0", "method": method, "params": params }))
}

fn line(message: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}
