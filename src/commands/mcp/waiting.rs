//! Waits for jobs, on behalf of a request that the client can cancel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::MemoryAnswer;
use super::connection::{ClientRequest, McpConnection, ServerReply, WaitSignal, ids_of_task, lock};
use super::elicitation::OpenForm;
use super::tools::MAX_CHARS;
use super::wire::{INVALID_PARAMS, ToolResult, WireError};
use crate::commands::watch::Watch;
use crate::error::ExitStatus;
use crate::job::JobId;
use crate::store::RECORD;
use crate::text::{harmless, one_line, plural};

/// Time limit of a wait: clients give a call up after 5 minutes or more.
const WAIT_TIMEOUT: Duration = Duration::from_secs(240);
/// Interval of progress notifications.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);
/// Interval in which the jobs are checked without a change of their files: a worker that was killed
/// writes nothing.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Characters of the answer for what is around the jobs.
const WRAPPER_CHARS: usize = 40;
/// Maximum length of a message about the progress.
const MAX_MESSAGE_CHARS: usize = 200;

/// The jobs of a wait, at one time.
pub(super) struct WaitState {
    pub answer: MemoryAnswer,
    /// The jobs as JSON.
    pub jobs: Vec<Value>,
}

impl WaitState {
    /// Whether the wait is over.
    pub(super) fn is_over(&self) -> bool {
        self.answer.is_error || self.answer.status != ExitStatus::TimedOut
    }

    /// Returns the ids of the jobs.
    pub(super) fn ids(&self) -> Vec<JobId> {
        let mut ids = Vec::new();
        for job in &self.jobs {
            if let Some(id) = job["jobId"].as_str()
                && let Ok(id) = JobId::parse(id)
            {
                ids.push(id);
            }
        }
        ids
    }

    /// Returns the first job that waits for an answer.
    pub(super) fn blocked(&self) -> Option<JobId> {
        for job in &self.jobs {
            if job["status"] == "blocked" {
                return JobId::parse(job["jobId"].as_str()?).ok();
            }
        }
        None
    }

    /// Returns what the jobs are doing.
    pub(super) fn message(&self) -> String {
        let text = match self.jobs.as_slice() {
            [job] => {
                let status = job["status"].as_str().unwrap_or_default();
                let tool = job["activity"]["tool"].as_str();
                let text = job["activity"]["text"].as_str().unwrap_or_default();
                let question = job["blocked"]["questions"][0]["question"].as_str();
                match (question, tool) {
                    (Some(question), _) => format!("{status}: {question}"),
                    (None, Some(tool)) => format!("{status}: {tool} {text}"),
                    (None, None) if text.is_empty() => status.to_owned(),
                    (None, None) => format!("{status}: {text}"),
                }
            }
            jobs => {
                let is_ended = |job: &&Value| {
                    matches!(job["status"].as_str(), Some("completed" | "failed" | "killed"))
                };
                let ended = jobs.iter().filter(is_ended).count();
                format!("{ended} of {} ended", plural(jobs.len(), "job"))
            }
        };
        harmless(&one_line(&text, MAX_MESSAGE_CHARS))
    }

    /// Returns the result of the tool.
    pub(super) fn into_result(self, is_modern: bool) -> ToolResult {
        if self.answer.is_error {
            return ToolResult::new(self.answer.json, true, is_modern);
        }
        let is_running = !self.is_over() || self.jobs.iter().any(is_running);
        let json = self.answer.json;
        let jobs = if json.starts_with('[') { json } else { format!("[{json}]") };
        let json = format!("{{\"jobs\":{jobs},\"stillRunning\":{is_running}}}");
        ToolResult::new(json, false, is_modern)
    }
}

/// Whether a job has not ended and waits for no answer.
fn is_running(job: &Value) -> bool {
    matches!(job["status"].as_str(), Some("queued" | "starting" | "running" | "idle"))
}

/// How a form has ended.
enum FormEnd {
    /// The job was answered, or asks no more.
    Answered,
    /// The user gave no answer.
    LeftOpen,
    Cancelled,
}

impl McpConnection {
    /// Returns the states of the jobs that these options of `wait` select.
    pub(super) fn state_of(&self, options: &[String], max_chars: usize) -> WaitState {
        let mut options = options.to_vec();
        options.retain(|option| !option.starts_with("--max-chars"));
        options.push(format!("--max-chars={max_chars}"));
        options.push("--timeout=0s".to_owned());
        let answer = self.call("wait", &options);
        let jobs = match serde_json::from_str(&answer.json) {
            _ if answer.is_error => Vec::new(),
            Ok(Value::Array(jobs)) => jobs,
            Ok(job) => vec![job],
            Err(_) => Vec::new(),
        };
        WaitState { answer, jobs }
    }

    /// Returns the states of these jobs.
    pub(super) fn states(&self, ids: &[JobId]) -> WaitState {
        let options: Vec<String> = ids.iter().map(|id| format!("--job-id={id}")).collect();
        self.state_of(&options, MAX_CHARS - WRAPPER_CHARS)
    }

    /// Waits until all jobs have ended, one asks something and gets no answer, the time is over, or
    /// the client cancels the request.
    pub(super) fn wait_for(
        &self,
        request: &ClientRequest,
        signal: &Arc<WaitSignal>,
        ids: &[JobId],
    ) -> ServerReply {
        let mut watch = Watch::new();
        signal.set_waker(watch.waker());
        if let Ok(store) = self.store() {
            for (index, id) in ids.iter().enumerate() {
                watch.add_files(index, &store.job(id), &[RECORD]);
            }
        }
        let mut progress = WaitingRequest::new(request);
        let mut deadline = Instant::now() + WAIT_TIMEOUT;
        loop {
            let state = self.states(ids);
            if signal.is_cancelled() {
                return ServerReply::Nothing;
            }
            let form = match state.blocked() {
                Some(id) if request.features.elicits => OpenForm::of(self, &id),
                _ => None,
            };
            if let Some(form) = form {
                if request.features.is_modern {
                    return ServerReply::Other(form.input_required(ids));
                }
                match self.ask(&form, signal, &mut watch, &mut progress) {
                    FormEnd::Answered => {
                        deadline = Instant::now() + WAIT_TIMEOUT;
                        continue;
                    }
                    FormEnd::LeftOpen => {
                        return ServerReply::Tool(self.states(ids).into_result(false));
                    }
                    FormEnd::Cancelled => return ServerReply::Nothing,
                }
            }
            if state.is_over() || Instant::now() >= deadline {
                return ServerReply::Tool(state.into_result(request.features.is_modern));
            }
            progress.report_if_due(self, &state);
            watch.next_until(Some((Instant::now() + CHECK_INTERVAL).min(deadline)));
        }
    }

    /// Shows the form, and waits for its end. A form whose question was answered elsewhere is
    /// withdrawn.
    fn ask(
        &self,
        form: &OpenForm,
        signal: &Arc<WaitSignal>,
        watch: &mut Watch,
        progress: &mut WaitingRequest,
    ) -> FormEnd {
        let shown = self.show_form(&form.params(), signal);
        let end = loop {
            if signal.is_cancelled() {
                break FormEnd::Cancelled;
            }
            if let Some(response) = signal.take_response(shown) {
                return if form.respond(self, &response) {
                    FormEnd::Answered
                } else {
                    FormEnd::LeftOpen
                };
            }
            let state = self.states(std::slice::from_ref(&form.job_id));
            let open = OpenForm::of(self, &form.job_id).map(|open| open.key());
            if open != Some(form.key()) {
                break FormEnd::Answered;
            }
            progress.report_if_due(self, &state);
            watch.next_until(Some(Instant::now() + CHECK_INTERVAL));
        };
        lock(&self.forms).remove(&shown);
        let why = "the question was answered elsewhere, or the wait has ended";
        self.notify("notifications/cancelled", &json!({ "requestId": shown, "reason": why }));
        end
    }

    /// Returns the jobs of a wait that the client continues after it asked its user, and applies the
    /// answers; `None` if the request begins a wait.
    pub(super) fn resumed_wait(
        &self,
        request: &ClientRequest,
    ) -> Result<Option<Vec<JobId>>, WireError> {
        let Some(state) = request.params.get("requestState") else { return Ok(None) };
        let ids = state.as_str().and_then(ids_of_task);
        let Some(ids) = ids else {
            return Err(request.error(INVALID_PARAMS, "invalid requestState"));
        };
        self.apply_responses(request, &ids);
        Ok(Some(ids))
    }
}

/// A request whose client gets notifications of the progress.
struct WaitingRequest {
    token: Option<Value>,
    began: Instant,
    next: Instant,
}

impl WaitingRequest {
    fn new(request: &ClientRequest) -> Self {
        let token = request.params.get("_meta").and_then(|meta| meta.get("progressToken")).cloned();
        let began = Instant::now();
        Self { token, began, next: began }
    }

    fn report_if_due(&mut self, connection: &McpConnection, state: &WaitState) {
        let now = Instant::now();
        let Some(token) = &self.token else { return };
        if now < self.next {
            return;
        }
        self.next = now + PROGRESS_INTERVAL;
        let progress = self.began.elapsed().as_secs();
        let params =
            json!({ "progressToken": token, "progress": progress, "message": state.message() });
        connection.notify("notifications/progress", &params);
    }
}
