//! `sidecar`: runs jobs for an embedding program, with JSON lines over stdin and stdout.
//!
//! Each query is an ordinary job whose id is derived from the session's id. It continues when the
//! sidecar exits, and another sidecar can attach to it at the offset that the first one reached.

mod messages;
mod reporter;

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Deserialize;

use super::observe::{Observed, observe};
use super::start::{self, default_spec, start};
use super::stdin_lines::{StdinLines, StdinRead};
use super::watch::{Notice, Watch};
use super::{Call, answer, kill, resume, send};
use crate::arguments::check_message;
use crate::claude::Env;
use crate::error::{Error, ExitStatus};
use crate::job::{
    AskOptions, ClaudeOptions, JobId, KeepAliveOptions, Limits, SessionOptions, Spec, SpecChange,
    Status,
};
use crate::json;
use crate::launch::DetachMode;
use crate::output::Printer;
use crate::process;
use crate::store::{OUTPUT, RECORD, STDERR, Store};
use crate::text::one_line;
use messages::{SessionQuery, SessionReply, SidecarRequest};
use reporter::SessionReporter;

pub(crate) use messages::SidecarEvent;

/// Time limit for the record of a kept-alive job to become idle after the result of a turn.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);
/// Label with the session id, for a job whose id differs from it.
const SESSION_LABEL: &str = "session";
/// Maximum number of bytes of a label's value, as in `--label`.
const MAX_LABEL_BYTES: usize = 256;

/// Writes an event; returns false if stdout has no reader any more.
pub(crate) type EventSink = Arc<dyn Fn(&SidecarEvent) -> bool + Send + Sync>;

struct Sidecar {
    store: Store,
    env: Env,
    /// Options of a job that a query does not set.
    default_spec: Spec,
    send_event: EventSink,
    /// The input has ended: sessions get no more messages or answers.
    input_ended: Arc<AtomicBool>,
    /// Threads that report sessions, by session id.
    reporters: HashMap<String, ReporterThread>,
    /// Threads that stop sessions.
    stops: Vec<JoinHandle<()>>,
}

const HELP: &str = "In: {\"type\":\"ping\"}, query {sessionId, prompt, cwd?, maxTurns?, \
maxBudgetUsd?, resumeSessionId?, permissionMode?, ask?, keepAlive?}, attach {sessionId, sinceOffset?, sinceLogOffset?}, \
stop {sessionId}, message {sessionId, text}, answer {sessionId, choices? | text? | allow? | deny?, \
message?, requestId?, release?}\n\
Out: ready, pong, agent_started, agent_event {event, offset}, agent_log {line, offset}, agent_stopped, agent_error, error\n\
A query for a session that has ended or is idle continues it.\n\
After the end of its input, the sidecar reports its sessions until each has ended or waits for its caller.";

/// Arguments of `sidecar`: none.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct SidecarArgs {}

impl SidecarArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let write = Arc::new(|event: &_| Printer::for_json().print_json(event).is_ok());
        serve(&call.store()?, call.env.clone(), default_spec(&call.config)?, write);
        Ok(ExitStatus::Done)
    }
}

/// A thread that reports a session.
struct ReporterThread {
    thread: JoinHandle<()>,
    /// Makes the thread check its job again.
    wake: Sender<Notice>,
}

/// Serves until stdin has ended and all sessions are reported to their end, or until stdout has no
/// reader. The jobs continue. `default_spec`: options of a job that a query does not set.
fn serve(store: &Store, env: Env, default_spec: Spec, send_event: EventSink) {
    process::reap_in_background();
    send_event(&SidecarEvent::Ready { version: env!("CARGO_PKG_VERSION") });
    let mut sidecar = Sidecar {
        store: store.clone(),
        env,
        default_spec,
        send_event,
        input_ended: Arc::default(),
        reporters: HashMap::new(),
        stops: Vec::new(),
    };
    let mut input = StdinLines::new(usize::MAX);
    while let StdinRead::Line(line) = input.next() {
        if !line.trim_ascii().is_empty() {
            sidecar.handle_line(&line);
        }
    }
    sidecar.finish();
}

impl Sidecar {
    fn handle_line(&mut self, line: &[u8]) {
        let request: SidecarRequest = match json::from_bytes(line) {
            Ok(request) => request,
            Err(error) => {
                (self.send_event)(&invalid_line(line, &error));
                return;
            }
        };
        let (session_id, handled) = match request {
            SidecarRequest::Ping => {
                (self.send_event)(&SidecarEvent::Pong);
                return;
            }
            SidecarRequest::Stop { session_id } => return self.stop(session_id),
            SidecarRequest::Query(query) => return self.handle_query(*query),
            SidecarRequest::Attach { session_id, since_offset, since_log_offset } => {
                let handled = self.attach(&session_id, since_offset, since_log_offset);
                (session_id, handled)
            }
            SidecarRequest::Message { session_id, text } => {
                let handled = self.send_message(&session_id, text);
                (session_id, handled)
            }
            SidecarRequest::Answer(mut reply) => {
                let session_id = std::mem::take(&mut reply.session_id);
                let handled = self.answer(&session_id, *reply);
                (session_id, handled)
            }
        };
        if let Err(error) = handled {
            send_error(&self.send_event, session_id, &error);
        }
    }

    fn handle_query(&mut self, query: SessionQuery) {
        let session_id = query.session_id.clone();
        match self.query(query) {
            Ok(()) => {}
            Err(error @ (Error::Launch { .. } | Error::NoSpace(_) | Error::Store(_))) => {
                let (error, code) = (error.to_string(), error.code());
                (self.send_event)(&SidecarEvent::AgentError { session_id, error, code });
            }
            Err(error) => send_error(&self.send_event, session_id, &error),
        }
    }

    fn send_message(&self, session_id: &str, text: String) -> Result<(), Error> {
        let id = job_of(session_id)?;
        send::send(&self.store, &id, check_message(text.into_bytes())?, None)?;
        Ok(())
    }

    fn answer(&self, session_id: &str, reply: SessionReply) -> Result<(), Error> {
        let reply = answer::Reply {
            request_id: reply.request_id,
            choices: reply.choices,
            text: reply.text,
            allow: reply.allow,
            deny: reply.deny,
            message: reply.message,
            release: reply.release,
        };
        answer::answer(&self.store, &job_of(session_id)?, &reply)?;
        Ok(())
    }

    /// Starts the session's job with the prompt, sends the prompt to an idle job, or resumes an ended
    /// job with it.
    fn query(&mut self, query: SessionQuery) -> Result<(), Error> {
        let id = job_of(&query.session_id)?;
        if query.prompt.trim().is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let session_id = query.session_id.clone();
        let observed = self.observe_idle(&id);
        // Earlier output of the job is not reported again.
        let dir = self.store.job(&id);
        let (output, errors) = (dir.length(OUTPUT), dir.length(STDERR));
        let pid = match observed {
            Err(Error::NotFound(_)) => self.start(id.clone(), query)?,
            Err(error) => return Err(error),
            Ok(observed) => {
                check_query(&observed, query.resume_session_id.as_deref())?;
                if observed.live {
                    // `agent_started` must come before the events of the turn.
                    self.report(session_id, id.clone(), observed.record.worker.pid, output, errors);
                    let message = check_message(query.prompt.into_bytes())?;
                    send::send(&self.store, &id, message, None)?;
                    return Ok(());
                }
                // The end of the last attempt must be reported before the next one starts.
                self.await_reporter(&session_id);
                self.resume(id.clone(), query)?
            }
        };
        self.report(session_id, id, pid, output, errors);
        Ok(())
    }

    /// Observes a session's job. Waits for a kept-alive job to become idle: a caller may receive the
    /// result of a turn before the record changes.
    fn observe_idle(&self, id: &JobId) -> Result<Observed, Error> {
        let mut watch = Watch::for_files(&self.store.job(id), &[RECORD]);
        let until = Instant::now() + IDLE_TIMEOUT;
        loop {
            let observed = observe(&self.store, id)?;
            let record = &observed.record;
            let is_working =
                observed.live && record.spec.keep_alive.enabled && record.status == Status::Running;
            let remaining = until.saturating_duration_since(Instant::now());
            if !is_working || remaining.is_zero() {
                return Ok(observed);
            }
            watch.next_until(Some(until));
        }
    }

    fn resume(&self, id: JobId, query: SessionQuery) -> Result<Option<i32>, Error> {
        let change = SpecChange {
            permission_mode: query.permission_mode,
            max_turns: query.max_turns,
            max_budget_usd: query.max_budget_usd,
            ..SpecChange::default()
        };
        let message = Some(check_message(query.prompt.into_bytes())?);
        let request = resume::ResumeRequest { id, message, change, detach: DetachMode::Auto };
        Ok(resume::resume(&self.store, request, &self.env)?.pid)
    }

    fn start(&self, id: JobId, query: SessionQuery) -> Result<Option<i32>, Error> {
        let mut labels = self.default_spec.labels.clone();
        if id.as_str() != query.session_id {
            labels.insert(SESSION_LABEL.to_owned(), label_value(&query.session_id).to_owned());
        }
        let cwd = match query.cwd {
            Some(cwd) => cwd,
            None => std::env::current_dir().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let defaults = self.default_spec.clone();
        let spec = Spec {
            cwd,
            claude: std::env::var("CLAUDE_SKILL_CLAUDE").unwrap_or_default(),
            labels,
            options: ClaudeOptions {
                permission_mode: query.permission_mode.unwrap_or("bypassPermissions".to_owned()),
                ..defaults.options
            },
            limits: Limits {
                max_turns: query.max_turns,
                max_budget_usd: query.max_budget_usd,
                ..defaults.limits
            },
            session: SessionOptions { resume: query.resume_session_id, ..defaults.session },
            ask: AskOptions { enabled: query.ask, ..defaults.ask },
            keep_alive: KeepAliveOptions {
                enabled: query.keep_alive,
                idle_timeout_ms: 3_600_000,
                restart: true,
                max_restarts: 5,
            },
            ..defaults
        };
        let request = start::StartRequest {
            id: Some(id),
            prompt: query.prompt.into_bytes(),
            spec,
            ..start::StartRequest::default()
        };
        Ok(start(&self.store, request, &self.env)?.pid)
    }

    fn attach(
        &mut self,
        session_id: &str,
        since: u64,
        since_log: Option<u64>,
    ) -> Result<(), Error> {
        let id = job_of(session_id)?;
        let observed = observe(&self.store, &id)?;
        let length = observed.dir.length(OUTPUT);
        if since > length {
            return Err(Error::BadOffset { offset: since, length });
        }
        if !observed.live {
            self.await_reporter(session_id);
        }
        // An attach at a later offset does not repeat earlier stderr.
        let log_offset = if since > 0 { observed.dir.length(STDERR) } else { 0 };
        let (name, pid) = (session_id.to_owned(), observed.record.worker.pid);
        self.report(name, id, pid, since, since_log.unwrap_or(log_offset));
        Ok(())
    }

    /// Stops a session in a thread of its own: claude may take time to exit, and other requests must
    /// not wait.
    fn stop(&mut self, session_id: String) {
        self.stops.retain(|stop| !stop.is_finished());
        let (store, send_event) = (self.store.clone(), self.send_event.clone());
        self.stops.push(std::thread::spawn(move || {
            let killed = match job_of(&session_id) {
                Ok(id) => kill::kill(&store, &id).map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = killed {
                send_error(&send_event, session_id, &error);
            }
        }));
    }

    /// Sends `agent_started` and reports the session's job from these offsets on, in a thread of its
    /// own. A session has one such thread, even after several requests.
    fn report(
        &mut self,
        session_id: String,
        id: JobId,
        pid: Option<i32>,
        output: u64,
        errors: u64,
    ) {
        let (name, job_id) = (session_id.clone(), id.clone());
        (self.send_event)(&SidecarEvent::AgentStarted { session_id: name, job_id, pid });
        self.reporters.retain(|_, reporter| !reporter.thread.is_finished());
        if self.reporters.contains_key(&session_id) {
            return;
        }
        let watch = Watch::new();
        let wake = watch.waker();
        let mut stream = SessionReporter {
            session_id: session_id.clone(),
            dir: self.store.job(&id),
            id,
            send_event: self.send_event.clone(),
            input_ended: self.input_ended.clone(),
            output,
            errors,
        };
        let store = self.store.clone();
        let thread = std::thread::spawn(move || stream.run(&store, watch));
        self.reporters.insert(session_id, ReporterThread { thread, wake });
    }

    /// Waits until the end of an ended job is reported.
    fn await_reporter(&mut self, session_id: &str) {
        if let Some(reporter) = self.reporters.remove(session_id) {
            let _ = reporter.thread.join();
        }
    }

    /// Completes the requests after the end of the input: stops sessions, and reports the others until
    /// each has ended or waits for its caller, as long as stdout has a reader.
    fn finish(self) {
        for stop in self.stops {
            let _ = stop.join();
        }
        self.input_ended.store(true, Ordering::SeqCst);
        let (done, all_done) = channel();
        let no_reader = done.clone();
        std::thread::spawn(move || {
            if process::wait_reader_closed(std::io::stdout().as_fd(), None) {
                let _ = no_reader.send(());
            }
        });
        let reporters = self.reporters;
        std::thread::spawn(move || {
            for reporter in reporters.values() {
                let _ = reporter.wake.send(Notice::Changed(0));
            }
            for reporter in reporters.into_values() {
                let _ = reporter.thread.join();
            }
            let _ = done.send(());
        });
        let _ = all_done.recv();
    }
}

/// The fields of a line that name its type and its session.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    #[serde(rename = "type")]
    kind: Option<String>,
    session_id: Option<String>,
}

/// Returns the error about a line that is not a request.
fn invalid_line(line: &[u8], error: &serde_json::Error) -> SidecarEvent {
    let error = one_line(&error.to_string(), 300);
    let Ok(header) = json::from_bytes::<Header>(line) else {
        return SidecarEvent::Error { session_id: None, error, code: "invalid_json" };
    };
    let code = match header.kind.as_deref() {
        Some("ping" | "query" | "attach" | "stop" | "message" | "answer") => "invalid_message",
        _ => "unknown_type",
    };
    SidecarEvent::Error { session_id: header.session_id, error, code }
}

fn send_error(send_event: &EventSink, session_id: String, error: &Error) {
    let (error, code) = (error.to_string(), error.code());
    send_event(&SidecarEvent::Error { session_id: Some(session_id), error, code });
}

/// Returns the id of a session's job.
fn job_of(session_id: &str) -> Result<JobId, Error> {
    JobId::for_session(session_id).map_err(|_| Error::EmptySessionId)
}

/// Refuses a query for a job that is working, or whose conversation is not the caller's.
fn check_query(observed: &Observed, expected_session: Option<&str>) -> Result<(), Error> {
    let record = &observed.record;
    let id = record.job_id.to_string();
    if observed.live && record.status != Status::Idle {
        return Err(Error::SessionActive(id, record.status));
    }
    match expected_session {
        Some(expected) if record.session.id.as_deref() != Some(expected) => {
            Err(Error::SessionMismatch(id, expected.to_owned()))
        }
        _ => Ok(()),
    }
}

/// Returns the text, truncated to the maximum length of a label.
fn label_value(text: &str) -> &str {
    let mut end = text.len().min(MAX_LABEL_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
