//! The Messages API on a loopback port, answering by a script: it drives the real CLI without a
//! key and without a network. One step is taken for each request of the main loop, which is one
//! that carries tools; the last step repeats. It stops when it is dropped.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use tiny_http::{Method, Request, Server};

const PATIENCE: Duration = Duration::from_secs(60);
const FOR_EVER: Duration = Duration::from_secs(24 * 60 * 60);

/// What a request of the main loop is answered with. In JSON it is `"hang"`, `{"text": "done"}` or
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
    /// An answer in twenty parts, over the time given; in JSON a number of seconds.
    #[serde(deserialize_with = "seconds")]
    Slow(Duration),
    /// An answer of so many characters.
    Big(usize),
    /// An answer with the headers of a subscription's limits: `allowed`, `allowed_warning`, or
    /// `rejected`, which is an error.
    Unified(String),
    /// A subscription's limit is reached, and ends so many seconds after the request.
    LimitedFor(u64),
    RateLimited {
        retry_after: u32,
    },
    Overloaded,
    ServerError,
    BadKey,
    /// The request is taken and never answered.
    Hang,
    /// The answer ends after its first event.
    Cut,
    /// An answer without any content.
    Empty,
    /// An answer of one empty block of text.
    EmptyText,
    /// An answer of thinking alone.
    Thinking,
    /// Any error.
    Error {
        status: u16,
        kind: String,
        message: String,
    },
    /// The step inside, once the test has called `release`.
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
pub(crate) struct Seen {
    pub(crate) model: String,
    /// The whole request, as text.
    pub(crate) text: String,
    /// The size of the whole request.
    pub(crate) bytes: usize,
    /// How many messages the conversation has, and the last of them.
    pub(crate) messages: usize,
    pub(crate) last: Value,
}

pub(crate) struct ScriptedApi {
    stage: Arc<Stage>,
    server: Arc<Server>,
    listener: Option<JoinHandle<()>>,
}

impl ScriptedApi {
    pub(crate) fn start(steps: impl IntoIterator<Item = Step>) -> Self {
        Self::start_at("127.0.0.1:0", steps)
    }

    /// One that listens at this address.
    pub(crate) fn start_at(address: &str, steps: impl IntoIterator<Item = Step>) -> Self {
        let server = Arc::new(Server::http(address).unwrap());
        let stage = Arc::new(Stage::new(steps.into_iter().collect()));
        let listener = thread::spawn({
            let (server, stage) = (Arc::clone(&server), Arc::clone(&stage));
            move || listen(&server, &stage)
        });
        Self { stage, server, listener: Some(listener) }
    }

    /// Adds a step, for one that is known only when the sandbox stands.
    pub(crate) fn push(&self, step: Step) {
        self.stage.play().steps.push_back(step);
    }

    /// For `ANTHROPIC_BASE_URL`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.server_addr())
    }

    /// How many requests of the main loop have arrived.
    pub(crate) fn requests(&self) -> usize {
        self.stage.play().seen.len()
    }

    /// Waits until the request of this number, counted from 1, has arrived.
    #[track_caller]
    pub(crate) fn wait_for_request(&self, number: usize) -> Seen {
        let play = self.stage.wait_while(PATIENCE, |play| play.seen.len() < number);
        let arrived = play.seen.len();
        let seen = play.seen.get(number - 1).cloned();
        drop(play);
        seen.unwrap_or_else(|| panic!("only {arrived} of {number} requests arrived"))
    }

    /// Lets one held step go on, now or when it is reached.
    pub(crate) fn release(&self) {
        self.stage.play().released += 1;
        self.stage.changed.notify_all();
    }
}

impl Drop for ScriptedApi {
    fn drop(&mut self) {
        self.stage.play().over = true;
        self.stage.changed.notify_all();
        self.server.unblock();
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

/// What the threads share.
struct Stage {
    play: Mutex<Play>,
    changed: Condvar,
}

struct Play {
    steps: VecDeque<Step>,
    seen: Vec<Seen>,
    released: usize,
    over: bool,
}

impl Stage {
    fn new(steps: VecDeque<Step>) -> Self {
        let play = Play { steps, seen: Vec::new(), released: 0, over: false };
        Self { play: Mutex::new(play), changed: Condvar::new() }
    }

    fn play(&self) -> MutexGuard<'_, Play> {
        // A thread that panicked has left nothing half done here.
        self.play.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits for a change that ends the condition, for the end of the play, or for the time.
    fn wait_while(&self, time: Duration, wait: impl Fn(&Play) -> bool) -> MutexGuard<'_, Play> {
        let (play, _) = self
            .changed
            .wait_timeout_while(self.play(), time, |play| !play.over && wait(play))
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        play
    }

    fn next(&self, seen: Seen) -> Step {
        let mut play = self.play();
        play.seen.push(seen);
        let step = match play.steps.len() {
            0 => Step::text("done"),
            1 => play.steps[0].clone(),
            _ => play.steps.pop_front().unwrap(),
        };
        self.changed.notify_all();
        step
    }

    /// Gives whether the test, rather than the end of the play, let the step go on.
    fn wait_for_release(&self) -> bool {
        let mut play = self.wait_while(PATIENCE, |play| play.released == 0);
        let released = play.released > 0;
        play.released = play.released.saturating_sub(1);
        released
    }
}

fn listen(server: &Server, stage: &Arc<Stage>) {
    let mut players = Vec::new();
    while let Ok(request) = server.recv() {
        let stage = Arc::clone(stage);
        // The client may leave in the middle of an answer: that is its right.
        players.push(thread::spawn(move || drop(receive(request, &stage))));
    }
    for player in players {
        let _ = player.join();
    }
}

fn receive(mut request: Request, stage: &Stage) -> io::Result<()> {
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
        return perform(request, &model, Step::text("ok"), stage);
    }
    let messages = asked["messages"].as_array().map_or(&[][..], Vec::as_slice);
    let seen = Seen {
        model: model.clone(),
        text: String::from_utf8_lossy(&body).into_owned(),
        bytes: body.len(),
        messages: messages.len(),
        last: messages.last().cloned().unwrap_or_default(),
    };
    let step = stage.next(seen);
    perform(request, &model, step, stage)
}

fn perform(request: Request, model: &str, step: Step, stage: &Stage) -> io::Result<()> {
    match step {
        Step::Held(step) => {
            if stage.wait_for_release() {
                perform(request, model, *step, stage)
            } else {
                Ok(())
            }
        }
        Step::Hang => {
            // Held until the play is over, since a request that is dropped is answered.
            drop(stage.wait_while(FOR_EVER, |_| true));
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
        Step::Slow(time) => Stream::open(request, model, &[])?.slowly(time, stage),
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

type Headers = [(String, String)];

fn refuse(
    request: Request,
    status: u16,
    kind: &str,
    message: &str,
    headers: &Headers,
) -> io::Result<()> {
    let body = json!({"type": "error", "error": {"type": kind, "message": message}});
    reply(request, status, &body, headers)
}

/// Written by hand: the server's own response cannot close the connection. A burst of requests,
/// such as those in which the CLI counts tokens, can otherwise hang, because the server lets new
/// connections wait for threads that are held by idle ones.
fn reply(request: Request, status: u16, body: &Value, headers: &Headers) -> io::Result<()> {
    let body = body.to_string();
    let mut answer = format!(
        "HTTP/1.1 {status} scripted\r\ncontent-type: application/json\r\nrequest-id: {}\r\n\
         connection: close\r\ncontent-length: {}\r\n",
        unique("req"),
        body.len()
    );
    for (name, value) in headers {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    answer.push_str("\r\n");
    if *request.method() != Method::Head {
        answer.push_str(&body);
    }
    let mut writer = request.into_writer();
    writer.write_all(answer.as_bytes())?;
    writer.flush()
}

fn limits(status: &str, seconds: u64) -> Vec<(String, String)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let reset = (now + seconds).to_string();
    [
        ("status", status),
        ("reset", &reset),
        ("representative-claim", "five_hour"),
        ("fallback-percentage", "0.5"),
        ("5h-status", status),
        ("5h-reset", &reset),
        ("5h-utilization", "0.93"),
    ]
    .iter()
    .map(|(name, value)| (format!("anthropic-ratelimit-unified-{name}"), (*value).to_owned()))
    .collect()
}

/// An answer in server-sent events. It is written by hand in chunks, each sent at once, where the
/// server's own response would gather them until a buffer is full.
struct Stream(Box<dyn Write + Send>);

const USAGE: &str = concat!(
    r#"{"input_tokens":1200,"output_tokens":1,"cache_creation_input_tokens":0,"#,
    r#""cache_read_input_tokens":0}"#
);

impl Stream {
    fn open(request: Request, model: &str, headers: &Headers) -> io::Result<Self> {
        let mut stream = Self(request.into_writer());
        write!(
            stream.0,
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: {}\r\n\
             transfer-encoding: chunked\r\n",
            unique("req")
        )?;
        for (name, value) in headers {
            write!(stream.0, "{name}: {value}\r\n")?;
        }
        stream.0.write_all(b"\r\n")?;
        // Written as text: the CLI passes these fields on in the order in which they come.
        stream.event(
            "message_start",
            &format!(
                concat!(
                    r#""message":{{"id":"{}","type":"message","role":"assistant","model":{},"#,
                    r#""content":[],"stop_reason":null,"stop_sequence":null,"usage":{}}}"#
                ),
                unique("msg"),
                json!(model),
                USAGE,
            ),
        )?;
        Ok(stream)
    }

    /// An answer of one block.
    fn block(mut self, block: &str, delta: &Value) -> io::Result<()> {
        self.begin(block)?;
        self.delta(delta)?;
        self.end("end_turn")
    }

    fn text(mut self, text: &str) -> io::Result<()> {
        self.begin(r#"{"type":"text","text":""}"#)?;
        self.delta(&json!({"type": "text_delta", "text": text}))?;
        self.end("end_turn")
    }

    fn slowly(mut self, time: Duration, stage: &Stage) -> io::Result<()> {
        const PARTS: u32 = 20;
        let start = Instant::now();
        self.begin(r#"{"type":"text","text":""}"#)?;
        for part in 0..PARTS {
            self.delta(&json!({"type": "text_delta", "text": format!("part{part} ")}))?;
            let due = time * (part + 1) / PARTS;
            drop(stage.wait_while(due.saturating_sub(start.elapsed()), |_| true));
        }
        self.end("end_turn")
    }

    fn tool(mut self, name: &str, input: &Value) -> io::Result<()> {
        let id = unique("toolu");
        self.begin(&format!(r#"{{"type":"tool_use","id":"{id}","name":"{name}","input":{{}}}}"#))?;
        self.delta(&json!({"type": "input_json_delta", "partial_json": input.to_string()}))?;
        self.end("tool_use")
    }

    fn begin(&mut self, block: &str) -> io::Result<()> {
        self.event("content_block_start", &format!(r#""index":0,"content_block":{block}"#))
    }

    fn delta(&mut self, delta: &Value) -> io::Result<()> {
        self.event("content_block_delta", &format!(r#""index":0,"delta":{delta}"#))
    }

    fn end(mut self, stop_reason: &str) -> io::Result<()> {
        self.event("content_block_stop", r#""index":0"#)?;
        self.finish(stop_reason)
    }

    fn finish(mut self, stop_reason: &str) -> io::Result<()> {
        self.event(
            "message_delta",
            &format!(
                concat!(
                    r#""delta":{{"stop_reason":"{}","stop_sequence":null}},"#,
                    r#""usage":{{"output_tokens":50}}"#
                ),
                stop_reason
            ),
        )?;
        self.send("message_stop", r#"{"type":"message_stop"}"#)?;
        self.close()
    }

    /// An event of this kind with these fields.
    fn event(&mut self, kind: &str, fields: &str) -> io::Result<()> {
        self.send(kind, &format!(r#"{{"type":"{kind}",{fields}}}"#))
    }

    fn send(&mut self, kind: &str, event: &str) -> io::Result<()> {
        let text = format!("event: {kind}\ndata: {event}\n\n");
        write!(self.0, "{:x}\r\n{text}\r\n", text.len())?;
        self.0.flush()
    }

    fn close(mut self) -> io::Result<()> {
        self.0.write_all(b"0\r\n\r\n")?;
        self.0.flush()
    }
}

fn unique(prefix: &str) -> String {
    format!("{prefix}_{}", &uuid::Uuid::new_v4().simple().to_string()[..24])
}
