//! The notifier: delivers a job's notifications in a process of its own, so that a command that
//! hangs does not delay the verdict.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::clock;
use crate::fault_point::fault_point;
use crate::job::{Notification, NotifyEvent, Outcome, Record, StatusView, WakeTarget};
use crate::process::{self, JobMarker, Orphans};
use crate::store::{JobDir, LOCK_BOUND, LoadError, Lock, addressed, is_independent};
use crate::text::one_line;

/// Default time limit of a command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit for ending the processes that a command has left.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(1);
/// Time limit of an HTTP request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses before each retry.
const RETRY_PAUSES: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// Bytes read of a failed command's output or of an HTTP response.
const MAX_OUTPUT_BYTES: usize = 2_000;
/// Characters of the job's answer in a notification of its completion.
const MAX_ANSWER_CHARS: usize = 300;

/// Why a delivery failed, and whether it can be retried.
struct DeliveryError {
    why: String,
    is_retryable: bool,
}

/// Delivers the notifications of the job in this directory. This is the hidden command that
/// [`crate::launch`] starts. `locked`: the starter passed the lock to this process.
pub(crate) fn run(job_dir: PathBuf, locked: bool) -> io::Result<()> {
    let job = JobDir::at(job_dir).ok_or(io::ErrorKind::InvalidInput)?;
    let lock = match locked {
        true => Lock::inherited(process::take_inherited_lock()?),
        // If the other notifier is stopped, the next command that reads the job starts another one.
        false => job.lock_notifications(max_attempt_duration(&job)).map_err(io::Error::other)?,
    };
    deliver(&job, &lock, false).map(drop).map_err(io::Error::other)
}

/// Returns the longest time between two lines that a notifier writes to its log.
fn max_attempt_duration(job: &JobDir) -> Duration {
    let timeout_ms = job.load().ok().and_then(|record| record.spec.notify.on_event_timeout_ms);
    let command = timeout_ms.map_or(COMMAND_TIMEOUT, Duration::from_millis) + SWEEP_TIMEOUT;
    let [.., pause] = RETRY_PAUSES;
    command.max(REQUEST_TIMEOUT) + pause + LOCK_BOUND
}

/// Delivers all notifications again, including those that had failed. Returns those that failed.
pub(crate) fn redeliver(job: &JobDir) -> Result<Vec<Notification>, LoadError> {
    let lock = job.lock_notifications(LOCK_BOUND)?;
    deliver(job, &lock, true)
}

fn deliver(job: &JobDir, lock: &Lock, retry_failed: bool) -> Result<Vec<Notification>, LoadError> {
    lock.record_holder();
    fault_point("notifier:locked");
    // Processes that a command starts become children of this one when the command is killed.
    let _ = process::adopt_orphans();
    let record = job.load()?;
    job.record_end_due(&record, clock::now())?;
    // An earlier notifier was killed during this attempt, and its command may still run.
    if job.notifications(&record).iter().any(|it| it.error.is_none() && it.tries > 0) {
        sweep(job);
    }
    let mut tried = Vec::new();
    loop {
        let left = job.notifications(&record);
        let next = left.iter().find(|notification| {
            let is_pending = notification.error.is_none() || retry_failed;
            is_pending && !tried.contains(&(notification.number, notification.to.clone()))
        });
        let Some(mut notification) = next.cloned() else { return Ok(left) };
        tried.push((notification.number, notification.to.clone()));
        // `redeliver` does not retry: its caller waits, and can repeat the call. An interrupted
        // attempt counts as one.
        let pauses = if retry_failed {
            Some(&[][..])
        } else {
            RETRY_PAUSES.get(notification.tries as usize..)
        };
        notification.error = deliver_with_retries(job, &mut notification, pauses);
        // If the result cannot be recorded, the notification is sent again later: twice is better
        // than never.
        let _ = job.record_delivery(&notification, clock::now());
    }
}

/// Sends a notification, and retries after each of these pauses; returns why it failed. `None` for
/// `pauses`: all attempts have been made.
fn deliver_with_retries(
    job: &JobDir,
    notification: &mut Notification,
    pauses: Option<&[Duration]>,
) -> Option<String> {
    let Some(pauses) = pauses else {
        return Some("the notifier was killed at each attempt".to_owned());
    };
    let mut pauses = pauses.iter();
    loop {
        notification.tries += 1;
        // If the attempt cannot be recorded, it is made all the same.
        let _ = job.record_try(notification, clock::now());
        let record = match job.load() {
            Ok(record) => record,
            Err(error) => return Some(error.to_string()),
        };
        let result = match (notification.to.strip_prefix("command "), &record.spec.notify.wake) {
            (Some(index), _) => {
                let index: usize = index.parse().unwrap_or(0);
                let command = record.spec.notify.on_event.get(index.wrapping_sub(1)).cloned();
                run_command(job, &record, notification, &command.unwrap_or_default())
            }
            (None, Some(wake)) => wake_agent(job, &record, notification, wake),
            (None, None) => Ok(()),
        };
        let Err(failure) = result else { return None };
        match pauses.next() {
            Some(pause) if failure.is_retryable => std::thread::sleep(*pause),
            _ => return Some(failure.why),
        }
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
    process::set_marker(&mut shell, &job.notifications_dir());
    shell.env("CLAUDEJOB_ID", record.job_id.as_str());
    shell.env("CLAUDEJOB_EVENT", notification.event.as_str());
    shell.env("CLAUDEJOB_STATUS", record.status.as_str());
    if Path::new(&record.spec.cwd).is_dir() {
        shell.current_dir(&record.spec.cwd);
    }
    let mut status = StatusView::from_record(record);
    status.map_hints(|hint| addressed(job.root(), hint));
    let status = serde_json::to_vec(&status).unwrap_or_default();
    let timeout =
        record.spec.notify.on_event_timeout_ms.map_or(COMMAND_TIMEOUT, Duration::from_millis);
    let ended = process::run_with_timeout(shell, Some(status), timeout, MAX_OUTPUT_BYTES);
    let (output, exit) =
        ended.map_err(|error| DeliveryError { why: error.to_string(), is_retryable: true })?;
    let output = one_line(&String::from_utf8_lossy(&output), 200);
    let output = if output.is_empty() { output } else { format!(": {output}") };
    let how = match exit {
        Some(exit) if exit.code == Some(0) => return Ok(()),
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
    Err(DeliveryError { why: format!("{how}{output}"), is_retryable: true })
}

/// Ends the processes that notification commands of the job have left, and their descendants. The
/// caller must hold the lock: another notifier that waits for it has the marker, too, but may be
/// ended because its notifications are recorded.
fn sweep(job: &JobDir) {
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
fn wake_agent(
    job: &JobDir,
    record: &Record,
    notification: &Notification,
    wake: &WakeTarget,
) -> Result<(), DeliveryError> {
    let text = message(record, notification, job.outcome());
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
            let output = one_line(&String::from_utf8_lossy(&body.unwrap_or_default()), 200);
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

/// Returns the text for an agent.
fn message(record: &Record, notification: &Notification, outcome: Option<Outcome>) -> String {
    let id = &record.job_id;
    let text = match (notification.event, &record.error) {
        (NotifyEvent::Blocked, _) => {
            format!("claudejob: job {id} waits for an answer. Run: claudejob status {id}")
        }
        (event, Some(error)) => {
            let reason = record.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            format!("claudejob: job {id} {event}{reason}: {error}. Run: claudejob result {id}")
        }
        (event, None) => format!("claudejob: job {id} {event}. Run: claudejob result {id}"),
    };
    let mut text = text;
    if notification.event == NotifyEvent::Completed
        && let Some(outcome) = outcome
        && outcome.attempt == record.attempt.number
    {
        let answer = one_line(&outcome.result.unwrap_or_default(), MAX_ANSWER_CHARS);
        if !answer.is_empty() {
            text += &format!("\nIts answer: {answer}");
        }
    }
    crate::text::harmless(&text)
}
