//! The Messages API on a loopback port, answering by a script: it drives the real CLI without a key
//! and without a network. Each request of the main loop, which is one with tools, takes one step;
//! the last step repeats. It stops when it is dropped.

#[path = "scripted_api/response.rs"]
mod response;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use response::{Stream, limits, refuse, reply};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use tiny_http::{Method, Request, Server};

const TIMEOUT: Duration = Duration::from_secs(60);
const FOREVER: Duration = Duration::from_secs(24 * 60 * 60);

/// The answer to a request of the main loop. In JSON it is `"hang"`, `{"text": "done"}` or
/// `{"write": {"path": "/a", "content": "b"}}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    Text(String),
    /// Uses of tools.
    Bash(String),
    BackgroundBash(String),
    Write {
        path: String,
        content: String,
    },
    Ask(String),
    /// A use of any tool.
    Tool {
        name: String,
        input: Value,
    },
    /// An answer in twenty parts, over this time; in JSON a number of seconds.
    #[serde(deserialize_with = "seconds")]
    Slow(Duration),
    /// An answer of this many characters.
    Big(usize),
    /// An answer with the headers of a subscription's limits: `allowed`, `allowed_warning`, or
    /// `rejected`, which is an error.
    Unified(String),
    /// A subscription's limit is reached, and ends this many seconds after the request.
    LimitedFor(u64),
    RateLimited {
        retry_after: u32,
    },
    Overloaded,
    ServerError,
    BadKey,
    /// The request is accepted and never answered.
    Hang,
    /// The answer ends after its first event.
    Cut,
    /// An answer without any content.
    Empty,
    /// An answer of one empty block of text.
    EmptyText,
    /// An answer that consists of thinking only.
    Thinking,
    /// Any error.
    Error {
        status: u16,
        kind: String,
        message: String,
    },
    /// The inner step, once the test has called `release`.
    Held(Box<Step>),
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

impl Step {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub(crate) fn bash(command: &str) -> Self {
        Self::Bash(command.to_owned())
    }

    pub(crate) fn held(self) -> Self {
        Self::Held(Box::new(self))
    }
}

/// A request of the main loop.
#[derive(Clone, Debug)]
pub(crate) struct SeenRequest {
    pub(crate) model: String,
    pub(crate) text: String,
    pub(crate) bytes: usize,
    /// The number of messages in the conversation.
    pub(crate) messages: usize,
    pub(crate) last: Value,
}

pub(crate) struct ScriptedApi {
    shared: Arc<Shared>,
    server: Arc<Server>,
    listener: Option<JoinHandle<()>>,
}

impl ScriptedApi {
    pub(crate) fn start(steps: impl IntoIterator<Item = Step>) -> Self {
        Self::start_at("127.0.0.1:0", steps)
    }

    /// Starts a server that listens at this address.
    pub(crate) fn start_at(address: &str, steps: impl IntoIterator<Item = Step>) -> Self {
        let server = Arc::new(Server::http(address).unwrap());
        let shared = Arc::new(Shared::new(steps.into_iter().collect()));
        let listener = thread::spawn({
            let (server, shared) = (Arc::clone(&server), Arc::clone(&shared));
            move || listen(&server, &shared)
        });
        Self { shared, server, listener: Some(listener) }
    }

    /// Adds a step that is known only when the sandbox exists.
    pub(crate) fn push(&self, step: Step) {
        self.shared.state().steps.push_back(step);
    }

    /// For `ANTHROPIC_BASE_URL`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.server_addr())
    }

    /// The number of requests of the main loop that have arrived.
    pub(crate) fn requests(&self) -> usize {
        self.shared.state().seen.len()
    }

    /// Waits until the request of this number, counted from 1, has arrived.
    #[track_caller]
    pub(crate) fn wait_for_request(&self, number: usize) -> SeenRequest {
        let state = self.shared.wait_while(TIMEOUT, |state| state.seen.len() < number);
        let arrived = state.seen.len();
        let seen = state.seen.get(number - 1).cloned();
        drop(state);
        seen.unwrap_or_else(|| panic!("only {arrived} of {number} requests arrived"))
    }

    /// Lets one held step continue, now or when it is reached.
    pub(crate) fn release(&self) {
        self.shared.state().released += 1;
        self.shared.changed.notify_all();
    }
}

impl Drop for ScriptedApi {
    fn drop(&mut self) {
        self.shared.state().over = true;
        self.shared.changed.notify_all();
        self.server.unblock();
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

/// The state that the threads share.
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    steps: VecDeque<Step>,
    seen: Vec<SeenRequest>,
    released: usize,
    over: bool,
}

impl Shared {
    fn new(steps: VecDeque<Step>) -> Self {
        let state = State { steps, seen: Vec::new(), released: 0, over: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked has left nothing half done here.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits for a change that ends the condition, for the end of the script, or for the timeout.
    fn wait_while(&self, time: Duration, wait: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let (state, _) = self
            .changed
            .wait_timeout_while(self.state(), time, |state| !state.over && wait(state))
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        state
    }

    fn next(&self, seen: SeenRequest) -> Step {
        let mut state = self.state();
        state.seen.push(seen);
        let step = match state.steps.len() {
            0 => Step::text("done"),
            1 => state.steps[0].clone(),
            _ => state.steps.pop_front().unwrap(),
        };
        self.changed.notify_all();
        step
    }

    /// Returns whether the test, rather than the end of the script, released the step.
    fn wait_for_release(&self) -> bool {
        let mut state = self.wait_while(TIMEOUT, |state| state.released == 0);
        let released = state.released > 0;
        state.released = state.released.saturating_sub(1);
        released
    }
}

fn listen(server: &Server, shared: &Arc<Shared>) {
    let mut handlers = Vec::new();
    while let Ok(request) = server.recv() {
        let shared = Arc::clone(shared);
        // The client may close the connection during an answer.
        handlers.push(thread::spawn(move || drop(receive(request, &shared))));
    }
    for handler in handlers {
        let _ = handler.join();
    }
}

fn receive(mut request: Request, shared: &Shared) -> io::Result<()> {
    let mut body = Vec::new();
    request.as_reader().read_to_end(&mut body)?;
    if *request.method() != Method::Post {
        return reply(request, 200, &json!({"data": []}), &[]);
    }
    if request.url().contains("count_tokens") {
        return reply(request, 200, &json!({"input_tokens": 10}), &[]);
    }
    if !request.url().starts_with("/v1/messages") {
        return reply(request, 200, &json!({}), &[]);
    }
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let model = asked["model"].as_str().unwrap_or_default().to_owned();
    if asked["tools"].as_array().is_none_or(Vec::is_empty) {
        return respond(request, &model, Step::text("ok"), shared);
    }
    let messages = asked["messages"].as_array().map_or(&[][..], Vec::as_slice);
    let seen = SeenRequest {
        model: model.clone(),
        text: String::from_utf8_lossy(&body).into_owned(),
        bytes: body.len(),
        messages: messages.len(),
        last: messages.last().cloned().unwrap_or_default(),
    };
    let step = shared.next(seen);
    respond(request, &model, step, shared)
}

fn respond(request: Request, model: &str, step: Step, shared: &Shared) -> io::Result<()> {
    match step {
        Step::Held(step) => {
            if shared.wait_for_release() {
                respond(request, model, *step, shared)
            } else {
                Ok(())
            }
        }
        Step::Hang => {
            // Held until the script is over, since a dropped request is answered.
            drop(shared.wait_while(FOREVER, |_| true));
            Ok(())
        }
        Step::RateLimited { retry_after } => refuse(
            request,
            429,
            "rate_limit_error",
            "This request would exceed your account's rate limit. Please try again later.",
            &[("retry-after".to_owned(), retry_after.to_string())],
        ),
        Step::Overloaded => refuse(request, 529, "overloaded_error", "Overloaded", &[]),
        Step::ServerError => refuse(request, 500, "api_error", "Internal server error", &[]),
        Step::BadKey => refuse(request, 401, "authentication_error", "invalid x-api-key", &[]),
        Step::Unified(status) if status == "rejected" => {
            let limits = limits(&status, 3_600);
            refuse(request, 429, "rate_limit_error", "usage limit reached", &limits)
        }
        Step::LimitedFor(seconds) => {
            let limits = limits("rejected", seconds);
            refuse(request, 429, "rate_limit_error", "usage limit reached", &limits)
        }
        Step::Unified(status) => {
            Stream::open(request, model, &limits(&status, 3_600))?.text("near the limit")
        }
        Step::Cut => Stream::open(request, model, &[])?.close(),
        Step::Empty => Stream::open(request, model, &[])?.finish("end_turn"),
        Step::EmptyText => Stream::open(request, model, &[])?
            .block(r#"{"type":"text","text":""}"#, &json!({"type": "text_delta", "text": ""})),
        Step::Thinking => Stream::open(request, model, &[])?.block(
            r#"{"type":"thinking","thinking":"","signature":""}"#,
            &json!({"type": "thinking_delta", "thinking": "hm"}),
        ),
        Step::Error { status, kind, message } => refuse(request, status, &kind, &message, &[]),
        Step::Text(text) => Stream::open(request, model, &[])?.text(&text),
        Step::Big(size) => Stream::open(request, model, &[])?.text(&"x".repeat(size)),
        Step::Slow(time) => Stream::open(request, model, &[])?.slowly(time, shared),
        Step::Bash(command) => {
            let input = json!({"command": command, "description": "run"});
            Stream::open(request, model, &[])?.tool("Bash", &input)
        }
        Step::BackgroundBash(command) => {
            let input =
                json!({"command": command, "description": "run", "run_in_background": true});
            Stream::open(request, model, &[])?.tool("Bash", &input)
        }
        Step::Write { path, content } => {
            let input = json!({"file_path": path, "content": content});
            Stream::open(request, model, &[])?.tool("Write", &input)
        }
        Step::Ask(question) => {
            let options = json!([
                {"label": "SQLite", "description": "embedded"},
                {"label": "Postgres", "description": "server"},
            ]);
            let questions = json!([{
                "question": question, "header": "Choice", "multiSelect": false, "options": options,
            }]);
            let input = json!({"questions": questions});
            Stream::open(request, model, &[])?.tool("AskUserQuestion", &input)
        }
        Step::Tool { name, input } => Stream::open(request, model, &[])?.tool(&name, &input),
    }
}
