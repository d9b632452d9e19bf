//! Reads the messages of the client, and answers each. Tool calls run in threads of their own.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::connection::{ClientRequest, McpConnection, ServerReply, WaitSignal, lock};
use super::tools::{TOOLS, ToolDefinition};
use super::wire::{
    self, ClientFeatures, ClientMessage, INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND,
    PARSE_ERROR, Params, WireError,
};
use crate::commands::stdin_lines::{StdinLines, StdinRead};
use crate::error::Error;
use crate::process;

/// Maximum length of a message in bytes: more than the longest prompt needs as JSON.
const MAX_LINE_BYTES: usize = 16 << 20;
/// Time limit for calls that are under way when the input ends: a kill takes 8 s.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// The server of one client.
pub(super) struct McpService {
    connection: McpConnection,
    /// What the client named in `initialize`.
    features: Mutex<ClientFeatures>,
    /// Requests under way, which the client can cancel, by their ids.
    waits: Mutex<HashMap<String, Arc<WaitSignal>>>,
    /// Number of requests under way.
    calls: Mutex<usize>,
    calls_changed: Condvar,
}

impl McpService {
    pub(super) fn new(connection: McpConnection) -> Self {
        Self {
            connection,
            features: Mutex::default(),
            waits: Mutex::default(),
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
                    server.connection.send_error(WireError::new(Value::Null, PARSE_ERROR, why));
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
            Err(error) => self.connection.send_error(error),
            Ok(ClientMessage::Notification { method, params }) => self.notified(&method, &params),
            Ok(ClientMessage::Response { id, result }) => {
                let Some(form) = id.as_u64() else { return };
                let wait = lock(&self.connection.forms).remove(&form);
                if let Some(wait) = wait {
                    wait.respond(form, result.unwrap_or_default());
                }
            }
            Ok(ClientMessage::Request { id, method, params }) => {
                if let Err(error) = self.handle_request(id, &method, params) {
                    self.connection.send_error(error);
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
                wire::tool_list(TOOLS.iter().map(ToolDefinition::to_json).collect(), is_modern)
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
        self.connection.send(&wire::response(&id, &result));
        Ok(())
    }

    /// Answers a request in a thread of its own.
    fn begin(self: &Arc<Self>, method: String, request: ClientRequest) {
        *lock(&self.calls) += 1;
        // Registered before the next line is read, which may cancel the wait.
        let wait = Arc::new(WaitSignal::default());
        lock(&self.waits).insert(request.id.to_string(), wait.clone());
        let (server, id) = (self.clone(), request.id.clone());
        let run = move || {
            server.run(&method, &request, &wait);
            server.ended(&request.id);
        };
        if std::thread::Builder::new().spawn(run).is_err() {
            self.ended(&id);
            self.connection.send_error(WireError::new(id, INTERNAL_ERROR, "too many requests"));
        }
    }

    fn run(&self, method: &str, request: &ClientRequest, wait: &Arc<WaitSignal>) {
        let connection = &self.connection;
        match self.answer(method, request, wait) {
            Ok(ServerReply::Tool(result)) => connection.send(&wire::response(&request.id, &result)),
            Ok(ServerReply::Other(result)) => {
                connection.send(&wire::response(&request.id, &result));
            }
            Ok(ServerReply::Nothing) => {}
            Err(error) => connection.send_error(error),
        }
    }

    /// Notes that a request is answered.
    fn ended(&self, id: &Value) {
        lock(&self.waits).remove(&id.to_string());
        *lock(&self.calls) -= 1;
        self.calls_changed.notify_all();
    }

    fn answer(
        &self,
        method: &str,
        request: &ClientRequest,
        wait: &Arc<WaitSignal>,
    ) -> Result<ServerReply, WireError> {
        match method {
            "tasks/get" => self.connection.get_task(request),
            "tasks/update" => self.connection.update_task(request),
            "tasks/cancel" => self.connection.cancel_task(request),
            _ => self.call_tool(request, wait),
        }
    }

    fn call_tool(
        &self,
        request: &ClientRequest,
        wait: &Arc<WaitSignal>,
    ) -> Result<ServerReply, WireError> {
        let connection = &self.connection;
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
            Err(why) => return Ok(connection.failed(request, &Error::Usage(why))),
        };
        if tool.verb == "wait" {
            return connection.wait(request, wait, &options);
        }
        let waits = arguments.get("wait") == Some(&Value::Bool(true));
        if waits && let Some(ids) = connection.resumed_wait(request)? {
            return Ok(connection.wait_or_task(request, wait, &ids));
        }
        let answer = connection.call(tool.verb, &options);
        if waits && !answer.is_error {
            let started: Value = serde_json::from_str(&answer.json).unwrap_or_default();
            let id = started["jobId"].as_str().unwrap_or_default();
            return connection.wait(request, wait, &[format!("--job-id={id}")]);
        }
        Ok(connection.tool_reply(request, answer))
    }
}
