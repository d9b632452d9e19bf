//! One attempt to deliver a notification to its recipient.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::message::message;
use crate::job::{Notification, Record, StatusView, WakeTarget};
use crate::openclaw::{self, OpenClawCall};
use crate::process::{self, JobMarker, Orphans};
use crate::store::{JobDir, addressed, is_independent};
use crate::text::one_line;

/// Default time limit of a command of `--on-event`.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit of the `openclaw` command, which itself waits 30 s for its gateway.
const OPENCLAW_TIMEOUT: Duration = Duration::from_secs(60);
/// Time limit for ending the processes that a command has left.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(1);
/// Time limit of an HTTP request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes read of a failed command's output or of an HTTP response.
const MAX_OUTPUT_BYTES: usize = 2_000;
/// Characters of that output in the error.
const MAX_OUTPUT_CHARS: usize = 200;

/// Why a delivery failed, and whether it can be retried.
pub(super) struct DeliveryError {
    pub why: String,
    pub is_retryable: bool,
}

impl DeliveryError {
    fn retryable(why: String) -> Self {
        Self { why, is_retryable: true }
    }
}

/// Returns the longest time that an attempt for this job takes.
pub(super) fn max_duration(job: &JobDir) -> Duration {
    let notify = job.load().map(|record| record.spec.notify).unwrap_or_default();
    let mut longest = command_timeout(notify.on_event_timeout_ms).max(REQUEST_TIMEOUT);
    if notify.openclaw.is_some() {
        longest = longest.max(OPENCLAW_TIMEOUT);
    }
    longest + SWEEP_TIMEOUT
}

fn command_timeout(timeout_ms: Option<u64>) -> Duration {
    timeout_ms.map_or(COMMAND_TIMEOUT, Duration::from_millis)
}

/// Delivers a notification.
pub(super) fn send(
    job: &JobDir,
    record: &Record,
    notification: &Notification,
) -> Result<(), DeliveryError> {
    let notify = &record.spec.notify;
    // The number of a recipient begins with 1.
    let (kind, number) = notification.to.split_once(' ').unwrap_or((&notification.to, ""));
    let index = number.parse::<usize>().unwrap_or(0).wrapping_sub(1);
    if kind == "command" {
        let command = notify.on_event.get(index).map(String::as_str).unwrap_or_default();
        return run_command(job, record, notification, command);
    }
    let text = message(job, record, notification);
    if kind == "wake"
        && let Some(wake) = &notify.wake
    {
        return wake_agent(&text, wake);
    }
    // A recipient that a later version has added is unknown.
    let Some(openclaw) = &notify.openclaw else { return Ok(()) };
    let call = match (&openclaw.wake, openclaw.chats.get(index)) {
        (Some(agent), _) if kind == "wake" => OpenClawCall::Wake(agent),
        (_, Some(chat)) if kind == "notify" => OpenClawCall::Send(chat),
        _ => return Ok(()),
    };
    match openclaw::command(&openclaw.command, call, &text) {
        Ok(command) => run_openclaw(job, command),
        Err(why) => Err(DeliveryError::retryable(format!("no openclaw command: {why}"))),
    }
}

/// Runs a command of `--on-event` with the job's status on its stdin.
fn run_command(
    job: &JobDir,
    record: &Record,
    notification: &Notification,
    command: &str,
) -> Result<(), DeliveryError> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]);
    shell.env("CLAUDEJOB_ID", record.job_id.as_str());
    shell.env("CLAUDEJOB_EVENT", notification.event.as_str());
    shell.env("CLAUDEJOB_STATUS", record.status.as_str());
    if Path::new(&record.spec.cwd).is_dir() {
        shell.current_dir(&record.spec.cwd);
    }
    let mut status = StatusView::from_record(record);
    status.map_hints(|hint| addressed(job.root(), hint));
    let status = serde_json::to_vec(&status).unwrap_or_default();
    let timeout = command_timeout(record.spec.notify.on_event_timeout_ms);
    match run_until(job, shell, Some(status), timeout)? {
        None => Ok(()),
        Some(failure) => Err(DeliveryError::retryable(failure)),
    }
}

/// Runs the `openclaw` command.
fn run_openclaw(job: &JobDir, command: Command) -> Result<(), DeliveryError> {
    match run_until(job, command, None, OPENCLAW_TIMEOUT)? {
        None => Ok(()),
        Some(why) => Err(DeliveryError { is_retryable: !openclaw::is_final(&why), why }),
    }
}

/// Runs a program with this input and time limit. Returns how it failed, if it did.
fn run_until(
    job: &JobDir,
    mut program: Command,
    input: Option<Vec<u8>>,
    timeout: Duration,
) -> Result<Option<String>, DeliveryError> {
    process::set_marker(&mut program, &job.notifications_dir());
    let ended = process::run_with_timeout(program, input, timeout, MAX_OUTPUT_BYTES);
    let (output, exit) = ended.map_err(|error| DeliveryError::retryable(error.to_string()))?;
    let output = one_line(&String::from_utf8_lossy(&output), MAX_OUTPUT_CHARS);
    let output = if output.is_empty() { output } else { format!(": {output}") };
    let how = match exit {
        Some(exit) if exit.code == Some(0) => return Ok(None),
        Some(exit) => match exit.code {
            Some(code) => format!("exit code {code}"),
            None => format!("signal {}", exit.signal.unwrap_or_default()),
        },
        None => {
            sweep(job);
            let limit = humantime::format_duration(timeout);
            format!("it took longer than {limit} and was ended")
        }
    };
    Ok(Some(format!("{how}{output}")))
}

/// Ends the processes that notification commands of the job have left, and their descendants. The
/// caller must hold the lock: another notifier that waits for it has the marker, too, but may be
/// ended because its notifications are recorded.
pub(super) fn sweep(job: &JobDir) {
    let dir = &job.notifications_dir();
    // Processes with this very marker are the ones to end.
    let is_other = |found: &Path, process| found != dir && is_independent(found, process);
    let markers = [JobMarker::new(dir)];
    // The notification lock is held.
    let orphans = Orphans {
        markers: &markers,
        worker_start: None,
        is_locked: true,
        is_independent: &is_other,
    };
    orphans.end(Instant::now() + SWEEP_TIMEOUT);
}

/// Wakes an agent with `POST {text, mode, sessionKey}`, the format of OpenClaw's gateway.
fn wake_agent(text: &str, wake: &WakeTarget) -> Result<(), DeliveryError> {
    let mut body = json!({"text": text, "mode": "now"});
    if let Some(session) = &wake.session {
        body["sessionKey"] = json!(session);
    }
    let agent = ureq::Agent::new_with_config(
        ureq::Agent::config_builder()
            .timeout_global(Some(REQUEST_TIMEOUT))
            .max_redirects(0)
            .http_status_as_error(false)
            .proxy(None)
            .build(),
    );
    let mut request = agent.post(&wake.url).content_type("application/json");
    if let Some(name) = &wake.token_env {
        let value = std::env::var_os(name);
        let token = check_token(name, value.as_deref())
            .map_err(|why| DeliveryError { why, is_retryable: false })?;
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let response = request.send(body.to_string());
    let mut response =
        response.map_err(|error| DeliveryError { why: error.to_string(), is_retryable: true })?;
    match response.status().as_u16() {
        200..300 => Ok(()),
        status => {
            // A retry of a request that was refused would be refused, too.
            let is_retryable = status >= 500 || matches!(status, 408 | 425 | 429);
            let body =
                response.body_mut().with_config().limit(MAX_OUTPUT_BYTES as u64).read_to_vec();
            let output =
                one_line(&String::from_utf8_lossy(&body.unwrap_or_default()), MAX_OUTPUT_CHARS);
            let output = if output.is_empty() { output } else { format!(": {output}") };
            Err(DeliveryError {
                why: format!("the gateway answered {status}{output}"),
                is_retryable,
            })
        }
    }
}

/// Returns the token in the value of variable `name`.
///
/// # Errors
/// A sentence that says why the value cannot be sent in a request header.
pub(crate) fn check_token<'a>(name: &str, value: Option<&'a OsStr>) -> Result<&'a str, String> {
    let value = value.unwrap_or_default();
    if value.is_empty() {
        return Err(format!("{name} is not set"));
    }
    let Some(token) = value.to_str() else { return Err(format!("{name} is not UTF-8")) };
    if token.contains(char::is_control) {
        return Err(format!("{name} contains a control character, such as a line feed"));
    }
    Ok(token)
}
