//! What the parts of the server share: the client that asks, and the program that answers.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::{Value, json};

use super::tools::MAX_FULL_CHARS;
use super::wire::{self, ClientFeatures, INVALID_PARAMS, Params, ToolResult, WireError};
use super::{CallInMemory, MemoryAnswer};
use crate::commands::watch::Notice;
use crate::error::Error;
use crate::job::JobId;
use crate::store::Store;
use crate::text::clip;

/// Separates the ids of the jobs in the id of a task. It occurs in no job's id.
const SEPARATOR: &str = ",";

/// Returns the id of the task that waits for these jobs: for one job, its id.
pub(super) fn task_id_of(ids: &[JobId]) -> String {
    ids.iter().map(JobId::as_str).collect::<Vec<_>>().join(SEPARATOR)
}

/// Returns the jobs that a task waits for.
pub(super) fn ids_of_task(task_id: &str) -> Option<Vec<JobId>> {
    task_id.split(SEPARATOR).map(|id| JobId::parse(id).ok()).collect()
}

/// Wakes a wait.
#[derive(Default)]
pub(super) struct WaitSignal {
    state: Mutex<SignalState>,
}

#[derive(Default)]
struct SignalState {
    is_cancelled: bool,
    /// What the client answered, and to which form.
    response: Option<(u64, Value)>,
    wake: Option<Sender<Notice>>,
}

impl WaitSignal {
    pub(super) fn cancel(&self) {
        let mut state = lock(&self.state);
        state.is_cancelled = true;
        state.wake();
    }

    pub(super) fn respond(&self, form: u64, response: Value) {
        let mut state = lock(&self.state);
        state.response = Some((form, response));
        state.wake();
    }

    pub(super) fn is_cancelled(&self) -> bool {
        lock(&self.state).is_cancelled
    }

    /// Returns what the client answered to this form. An answer to an earlier one came too late.
    pub(super) fn take_response(&self, form: u64) -> Option<Value> {
        match lock(&self.state).response.take() {
            Some((answered, response)) if answered == form => Some(response),
            _ => None,
        }
    }

    pub(super) fn set_waker(&self, wake: Sender<Notice>) {
        lock(&self.state).wake = Some(wake);
    }
}

impl SignalState {
    fn wake(&self) {
        if let Some(wake) = &self.wake {
            let _ = wake.send(Notice::Root);
        }
    }
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
pub(super) enum ServerReply {
    Tool(ToolResult),
    Other(Value),
    /// The client has cancelled the request.
    Nothing,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shortens the texts of an answer that is too long for any client, because the verb shows all.
fn shorten(json: String) -> String {
    let is_short = |json: &str| json.chars().count() <= MAX_FULL_CHARS;
    let mut max_chars = MAX_FULL_CHARS / 2;
    let mut shortened = json;
    while !is_short(&shortened) && max_chars > 0 {
        let Ok(mut answer) = serde_json::from_str(&shortened) else { break };
        clip_texts(&mut answer, max_chars);
        answer["truncated"] = Value::Bool(true);
        shortened = answer.to_string();
        max_chars /= 2;
    }
    shortened
}

fn clip_texts(value: &mut Value, max_chars: usize) {
    match value {
        Value::String(text) => *text = clip(text, max_chars),
        Value::Array(values) => values.iter_mut().for_each(|value| clip_texts(value, max_chars)),
        Value::Object(fields) => {
            fields.values_mut().for_each(|value| clip_texts(value, max_chars));
        }
        _ => {}
    }
}

/// The connection to the client.
pub(super) struct McpConnection {
    jobs_dir: PathBuf,
    /// Arguments of every call of the program.
    common: Vec<String>,
    call_in_memory: CallInMemory,
    /// Waits whose form is shown, by the ids of the requests to the client.
    pub forms: Mutex<HashMap<u64, Arc<WaitSignal>>>,
    next_form: AtomicU64,
    /// Tasks that were cancelled.
    pub cancelled: Mutex<HashSet<String>>,
    /// Forms that the client's user did not fill.
    pub declined: Mutex<HashSet<String>>,
}

impl McpConnection {
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
            forms: Mutex::default(),
            next_form: AtomicU64::new(1),
            cancelled: Mutex::default(),
            declined: Mutex::default(),
        }
    }

    /// Returns the answer of a verb as the result of a tool, which is an object.
    pub(super) fn tool_reply(&self, request: &ClientRequest, answer: MemoryAnswer) -> ServerReply {
        let MemoryAnswer { json, is_error, .. } = answer;
        let json = if json.starts_with('[') { format!("{{\"jobs\":{json}}}") } else { json };
        let json = shorten(json);
        ServerReply::Tool(ToolResult::new(json, is_error, request.features.is_modern))
    }

    /// Returns the result of a tool whose operation failed.
    pub(super) fn failed(&self, request: &ClientRequest, error: &Error) -> ServerReply {
        // The help of the command line does not describe the arguments of a tool.
        let json = json!({ "error": error.to_string(), "code": error.code(), "hint": null });
        ServerReply::Tool(ToolResult::new(json.to_string(), true, request.features.is_modern))
    }

    /// Makes a call of the program.
    pub(super) fn call(&self, verb: &str, options: &[String]) -> MemoryAnswer {
        let mut args: Vec<OsString> = vec!["claudejob".into(), verb.into()];
        let mut jobs_dir = OsString::from("--jobs-dir=");
        jobs_dir.push(&self.jobs_dir);
        args.push(jobs_dir);
        args.extend(self.common.iter().chain(options).map(OsString::from));
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

    pub(super) fn send_error(&self, error: WireError) {
        self.send(&wire::error_response(error));
    }

    /// Writes a line. If stdout has no reader, the loop that reads stdin ends the server.
    pub(super) fn send(&self, line: &[u8]) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(line).and_then(|()| out.flush());
    }
}
