//! Reads the messages of the client, and answers each. Tool calls run in threads of their own.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::tools::{TOOLS, ToolDefinition};
use super::waiting::WaitSignal;
use super::wire::{
    self, ClientFeatures, ClientMessage, INVALID_PARAMS, METHOD_NOT_FOUND, PARSE_ERROR, Params,
    ToolResult, WireError,
};
use super::{CallInMemory, MemoryAnswer};
use crate::commands::stdin_lines::{StdinLines, StdinRead};
use crate::error::Error;
use crate::process;
use crate::store::Store;

/// Maximum length of a message in bytes: more than the longest prompt needs as JSON.
const MAX_LINE_BYTES: usize = 16 << 20;
/// Time limit for calls that are under way when the input ends: a kill takes 8 s.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// The server of one client.
pub(super) struct McpServer {
    jobs_dir: PathBuf,
    /// Arguments of every call of the program.
    common: Vec<String>,
    call_in_memory: CallInMemory,
    /// What the client named in `initialize`.
    features: Mutex<ClientFeatures>,
    /// Waits that the client can cancel, by the ids of their requests.
    waits: Mutex<HashMap<String, Arc<WaitSignal>>>,
    /// Waits whose form is shown, by the ids of the requests to the client.
    pub(super) forms: Mutex<HashMap<u64, Arc<WaitSignal>>>,
    next_form: AtomicU64,
    /// Tasks that were cancelled.
    pub(super) cancelled: Mutex<HashSet<String>>,
    /// Requests of jobs that the client's user did not answer.
    pub(super) declined: Mutex<HashSet<String>>,
    /// Number of tool calls under way.
    calls: Mutex<usize>,
    calls_changed: Condvar,
}

/// A request of the client.
pub(super) struct ClientRequest {
    pub id: Value,
    pub params: Params,
    pub features: ClientFeatures,
}

impl ClientRequest {
    pub(super) fn error(&self, code: i32, message: impl Into<String>) -> WireError {
        WireError::new(self.id.clone(), code, message)
    }

    /// Returns a parameter that is a text.
    pub(super) fn text(&self, name: &str) -> Result<&str, WireError> {
        match self.params.get(name).and_then(Value::as_str) {
            Some(text) => Ok(text),
            None => Err(self.error(INVALID_PARAMS, format!("the parameter '{name}' is missing"))),
        }
    }
}

/// The result of a request.
pub(super) enum Reply {
    Tool(ToolResult),
    Other(Value),
    /// The client has cancelled the request.
    Nothing,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl McpServer {
    pub(super) fn new(
        jobs_dir: PathBuf,
        ignores_config: bool,
        call_in_memory: CallInMemory,
    ) -> Self {
        let mut common = vec!["--json".to_owned()];
        if ignores_config {
            common.push("--no-config".to_owned());
        }
        Self {
            jobs_dir,
            common,
            call_in_memory,
            features: Mutex::default(),
            waits: Mutex::default(),
            forms: Mutex::default(),
            next_form: AtomicU64::new(1),
            cancelled: Mutex::default(),
            declined: Mutex::default(),
            calls: Mutex::default(),
            calls_changed: Condvar::new(),
        }
    }

    /// Serves until the input has ended, or stdout has no reader. Jobs continue.
    pub(super) fn serve(self) {
        process::reap_in_background();
        let server = Arc::new(self);
        let mut lines = StdinLines::new(MAX_LINE_BYTES);
        loop {
            match lines.next() {
                StdinRead::Line(line) if line.trim_ascii().is_empty() => {}
                StdinRead::Line(line) => server.handle_line(&line),
                StdinRead::TooLong => {
                    let why = format!("the message is longer than {MAX_LINE_BYTES} bytes");
                    server.send_error(WireError::new(Value::Null, PARSE_ERROR, why));
                }
                StdinRead::End => break,
            }
        }
        server.finish();
    }

    /// Ends all waits, and lets other calls finish: a job is not started by half.
    fn finish(&self) {
        for wait in lock(&self.waits).values() {
            wait.cancel();
        }
        let calls = lock(&self.calls);
        let _ = self.calls_changed.wait_timeout_while(calls, END_TIMEOUT, |calls| *calls > 0);
    }

    fn handle_line(self: &Arc<Self>, line: &[u8]) {
        match ClientMessage::parse(line) {
            Err(error) => self.send_error(error),
            Ok(ClientMessage::Notification { method, params }) => self.notified(&method, &params),
            Ok(ClientMessage::Response { id, result }) => {
                let form = id.as_u64().and_then(|id| lock(&self.forms).remove(&id));
                if let Some(wait) = form {
                    wait.respond(result.unwrap_or_default());
                }
            }
            Ok(ClientMessage::Request { id, method, params }) => {
                if let Err(error) = self.handle_request(id, &method, params) {
                    self.send_error(error);
                }
            }
        }
    }

    fn notified(&self, method: &str, params: &Params) {
        if method == "notifications/cancelled"
            && let Some(id) = params.get("requestId")
            && let Some(wait) = lock(&self.waits).get(&id.to_string())
        {
            wait.cancel();
        }
    }

    fn handle_request(
        self: &Arc<Self>,
        id: Value,
        method: &str,
        params: Params,
    ) -> Result<(), WireError> {
        let named = wire::features_in(&id, &params)?;
        let features = named.unwrap_or_else(|| *lock(&self.features));
        let is_modern = features.is_modern;
        let result = match method {
            "initialize" => {
                let (result, features) = wire::initialize(&params);
                *lock(&self.features) = features;
                result
            }
            "server/discover" => wire::discover(features),
            "ping" => wire::empty_result(is_modern),
            "tools/list" => {
                let tools = TOOLS.iter().map(ToolDefinition::to_json).collect();
                wire::tool_list(tools, is_modern)
            }
            "tools/call" | "tasks/get" | "tasks/update" | "tasks/cancel" => {
                let request = ClientRequest { id, params, features };
                self.begin(method.to_owned(), request);
                return Ok(());
            }
            _ => {
                let message = format!("unknown method '{method}'");
                return Err(WireError::new(id, METHOD_NOT_FOUND, message));
            }
        };
        self.send(&wire::response(&id, &result));
        Ok(())
    }

    /// Answers a request in a thread of its own.
    fn begin(self: &Arc<Self>, method: String, request: ClientRequest) {
        *lock(&self.calls) += 1;
        // Registered before the next line is read, which may cancel the wait.
        let wait = Arc::new(WaitSignal::default());
        let key = request.id.to_string();
        lock(&self.waits).insert(key.clone(), wait.clone());
        let server = self.clone();
        let run = move || {
            match server.answer(&method, &request, &wait) {
                Ok(Reply::Tool(result)) => server.send(&wire::response(&request.id, &result)),
                Ok(Reply::Other(result)) => server.send(&wire::response(&request.id, &result)),
                Ok(Reply::Nothing) => {}
                Err(error) => server.send_error(error),
            }
            lock(&server.waits).remove(&key);
            *lock(&server.calls) -= 1;
            server.calls_changed.notify_all();
        };
        std::thread::spawn(run);
    }

    fn answer(
        &self,
        method: &str,
        request: &ClientRequest,
        wait: &Arc<WaitSignal>,
    ) -> Result<Reply, WireError> {
        match method {
            "tasks/get" => self.get_task(request),
            "tasks/update" => self.update_task(request),
            "tasks/cancel" => self.cancel_task(request),
            _ => self.call_tool(request, wait),
        }
    }

    fn call_tool(
        &self,
        request: &ClientRequest,
        wait: &Arc<WaitSignal>,
    ) -> Result<Reply, WireError> {
        let name = request.text("name")?;
        let Some(tool) = ToolDefinition::find(name) else {
            return Err(request.error(INVALID_PARAMS, format!("unknown tool '{name}'")));
        };
        let no_arguments = Params::new();
        let arguments = match request.params.get("arguments") {
            None | Some(Value::Null) => &no_arguments,
            Some(Value::Object(arguments)) => arguments,
            Some(_) => {
                return Err(request.error(INVALID_PARAMS, "the arguments are not an object"));
            }
        };
        let options = match tool.options(arguments) {
            Ok(options) => options,
            Err(why) => return Ok(self.failed(request, &Error::Usage(why))),
        };
        if tool.verb == "wait" {
            return self.wait(request, wait, &options);
        }
        let waits = arguments.get("wait") == Some(&Value::Bool(true));
        if waits && let Some(ids) = self.resumed_wait(request)? {
            return Ok(self.wait_or_task(request, wait, &ids));
        }
        let answer = self.call(tool.verb, options);
        if waits && !answer.is_error {
            let started: Value = serde_json::from_str(&answer.json).unwrap_or_default();
            let id = started["jobId"].as_str().unwrap_or_default();
            return self.wait(request, wait, &[format!("--job-id={id}")]);
        }
        Ok(self.tool_reply(request, answer))
    }

    /// Returns the answer of a verb as the result of a tool, which is an object.
    pub(super) fn tool_reply(&self, request: &ClientRequest, answer: MemoryAnswer) -> Reply {
        let MemoryAnswer { json, is_error, .. } = answer;
        let json = if json.starts_with('[') { format!("{{\"jobs\":{json}}}") } else { json };
        Reply::Tool(ToolResult::new(json, is_error, request.features.is_modern))
    }

    /// Returns the result of a tool whose operation failed.
    pub(super) fn failed(&self, request: &ClientRequest, error: &Error) -> Reply {
        // The help of the command line does not describe the arguments of a tool.
        let json = json!({ "error": error.to_string(), "code": error.code(), "hint": null });
        Reply::Tool(ToolResult::new(json.to_string(), true, request.features.is_modern))
    }

    /// Makes a call of the program.
    pub(super) fn call(&self, verb: &str, options: Vec<String>) -> MemoryAnswer {
        let mut args: Vec<OsString> = vec!["claudejob".into(), verb.into()];
        let mut jobs_dir = OsString::from("--jobs-dir=");
        jobs_dir.push(&self.jobs_dir);
        args.push(jobs_dir);
        args.extend(self.common.iter().chain(&options).map(OsString::from));
        (self.call_in_memory)(args)
    }

    pub(super) fn store(&self) -> Result<Store, Error> {
        Ok(Store::open(&self.jobs_dir)?)
    }

    /// Sends a request to the client, and returns its id.
    pub(super) fn show_form(&self, params: &Value, wait: &Arc<WaitSignal>) -> u64 {
        let id = self.next_form.fetch_add(1, Ordering::Relaxed);
        lock(&self.forms).insert(id, wait.clone());
        self.send(&wire::request(id, "elicitation/create", params));
        id
    }

    pub(super) fn notify(&self, method: &str, params: &impl Serialize) {
        let params = serde_json::to_value(params).unwrap_or_default();
        self.send(&wire::notification(method, &params));
    }

    fn send_error(&self, error: WireError) {
        self.send(&wire::error_response(error));
    }

    /// Writes a line. If stdout has no reader, the loop that reads stdin ends the server.
    fn send(&self, line: &[u8]) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(line).and_then(|()| out.flush());
    }
}
