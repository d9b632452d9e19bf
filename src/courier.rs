//! The courier: delivers what others are to be told of a job, apart from its worker, so that a
//! command that hangs holds up no verdict.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::checkpoint::checkpoint;
use crate::clock;
use crate::job::{Errand, Milestone, Outcome, Record, Standing, Wake};
use crate::process::{self, Mark, Orphans};
use crate::store::{JobDir, LOCK_BOUND, LoadError, Lock, addressed, is_independent};
use crate::text::one_line;

/// How long a command may take where nothing else is said.
const COMMAND_TAKES: Duration = Duration::from_secs(30);
/// How long the processes that such a command has left get to end.
const SWEEP_TAKES: Duration = Duration::from_secs(1);
/// How long a request may take.
const REQUEST_TAKES: Duration = Duration::from_secs(10);
/// The pauses before it is tried again.
const PAUSES: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// Bytes of what a command says that are kept, if it fails.
const SAID_KEPT: usize = 2_000;
/// Characters of the answer that are told with an end.
const ANSWER_TOLD: usize = 300;

/// Why something could not be delivered, and whether it is worth another try.
struct Failure {
    why: String,
    may_pass: bool,
}

/// Delivers what is to be told of the job in this directory: the hidden program that
/// [`crate::launch`] starts. `locked` says that it was handed the lock.
pub fn run(job_dir: PathBuf, locked: bool) -> io::Result<()> {
    let job = JobDir::at(job_dir);
    let lock = match locked {
        true => Lock::handed(process::take_handed_lock()?),
        // If the other notifier is stopped, the next command that looks at the job starts another.
        false => job.lock_news(longest_try(&job)).map_err(io::Error::other)?,
    };
    deliver(&job, &lock, false).map(drop).map_err(io::Error::other)
}

/// The longest time between two lines that a notifier writes to its journal.
fn longest_try(job: &JobDir) -> Duration {
    let takes = job.load().ok().and_then(|record| record.spec.on_event_timeout_ms);
    let command = takes.map_or(COMMAND_TAKES, Duration::from_millis) + SWEEP_TAKES;
    let [.., pause] = PAUSES;
    command.max(REQUEST_TAKES) + pause + LOCK_BOUND
}

/// Delivers also what was given up. Gives what is left.
pub fn redeliver(job: &JobDir) -> Result<Vec<Errand>, LoadError> {
    let lock = job.lock_news(LOCK_BOUND)?;
    deliver(job, &lock, true)
}

fn deliver(job: &JobDir, lock: &Lock, again: bool) -> Result<Vec<Errand>, LoadError> {
    lock.note_holder();
    checkpoint("notifier:locked");
    // What a command starts stays in the family, also when the command itself has been killed.
    let _ = process::adopt_orphans();
    let record = job.load()?;
    job.announce_end(&record, clock::now())?;
    // Whoever tried it before was killed at it, and a command of his may go on.
    let broken_off = |errand: &Errand| errand.error.is_none() && errand.tries > 0;
    if job.errands(&record).iter().any(broken_off) {
        sweep(job);
    }
    let mut tried = Vec::new();
    loop {
        let left = job.errands(&record);
        let next = left.iter().find(|errand| {
            let fresh = errand.error.is_none() || again;
            fresh && !tried.contains(&(errand.number, errand.to.clone()))
        });
        let Some(mut errand) = next.cloned() else { return Ok(left) };
        tried.push((errand.number, errand.to.clone()));
        // Whoever asks for it waits for it, and can ask again. A try that was broken off is one of
        // the tries.
        let pauses = if again { Some(&[][..]) } else { PAUSES.get(errand.tries as usize..) };
        errand.error = try_often(job, &mut errand, pauses);
        // If it cannot be noted it is told again some time: better twice than never.
        let _ = job.note_delivery(&errand, clock::now());
    }
}

/// Runs an errand, and again after each of these pauses; gives why it failed. Without any the last
/// try has been made.
fn try_often(job: &JobDir, errand: &mut Errand, pauses: Option<&[Duration]>) -> Option<String> {
    let Some(pauses) = pauses else {
        return Some("whoever was to tell it was killed at each try".to_owned());
    };
    let mut pauses = pauses.iter();
    loop {
        errand.tries += 1;
        // If it cannot be noted it is tried all the same.
        let _ = job.note_try(errand, clock::now());
        let record = match job.load() {
            Ok(record) => record,
            Err(error) => return Some(error.to_string()),
        };
        let done = match (errand.to.strip_prefix("command "), &record.spec.wake) {
            (Some(place), _) => {
                let place: usize = place.parse().unwrap_or(0);
                let command = record.spec.on_event.get(place.wrapping_sub(1)).cloned();
                tell_command(job, &record, errand, &command.unwrap_or_default())
            }
            (None, Some(wake)) => tell_agent(job, &record, errand, wake),
            (None, None) => Ok(()),
        };
        let Err(failure) = done else { return None };
        match pauses.next() {
            Some(pause) if failure.may_pass => std::thread::sleep(*pause),
            _ => return Some(failure.why),
        }
    }
}

/// Runs a command with the job's status on its stdin.
fn tell_command(
    job: &JobDir,
    record: &Record,
    errand: &Errand,
    command: &str,
) -> Result<(), Failure> {
    let failed = |why: String| Failure { why, may_pass: true };
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]);
    process::mark(&mut shell, job.news_dir().path());
    shell.env("CLAUDEJOB_ID", record.job_id.as_str());
    shell.env("CLAUDEJOB_EVENT", errand.event.as_str());
    shell.env("CLAUDEJOB_STATUS", record.status.as_str());
    if Path::new(&record.spec.cwd).is_dir() {
        shell.current_dir(&record.spec.cwd);
    }
    let mut status = Standing::of(record);
    status.map_hints(|hint| addressed(job.root(), hint));
    let status = serde_json::to_vec(&status).unwrap_or_default();
    let takes = record.spec.on_event_timeout_ms.map_or(COMMAND_TAKES, Duration::from_millis);
    let (said, exit) = process::ask(shell, Some(status), takes, SAID_KEPT)
        .map_err(|error| failed(error.to_string()))?;
    let said = one_line(&String::from_utf8_lossy(&said), 200);
    let said = if said.is_empty() { said } else { format!(": {said}") };
    match exit {
        Some(exit) if exit.code == Some(0) => Ok(()),
        Some(exit) => {
            let how = match (exit.code, exit.signal) {
                (Some(code), _) => format!("exit code {code}"),
                (None, signal) => format!("signal {}", signal.unwrap_or_default()),
            };
            Err(failed(format!("{how}{said}")))
        }
        None => {
            sweep(job);
            let most = humantime::format_duration(takes);
            Err(failed(format!("it took longer than {most} and was ended{said}")))
        }
    }
}

/// Ends what commands have left that told of the job, and whatever that started. Only whoever holds
/// the lock may do so: another courier that waits for it bears the mark, too, and what it was sent
/// for is noted.
fn sweep(job: &JobDir) {
    let news = job.news_dir();
    // Others of the same marker are what is to be ended.
    let is_other =
        |marker: &Path, process| marker != news.path() && is_independent(marker, process);
    let mark = Mark::new(news.path());
    // The lock that is held is that of the notifications.
    let orphans =
        Orphans { mark: &mark, worker_start: None, is_locked: true, is_independent: &is_other };
    orphans.end(Instant::now() + SWEEP_TAKES);
}

/// Wakes up an agent: `POST {text, mode, sessionKey}`, as OpenClaw's gateway takes it.
fn tell_agent(job: &JobDir, record: &Record, errand: &Errand, wake: &Wake) -> Result<(), Failure> {
    let value = wake.token_env.as_ref().and_then(std::env::var_os);
    let token = wake.token_env.as_ref().map(|name| token(name, value.as_deref())).transpose();
    let token = token.map_err(|why| Failure { why, may_pass: false })?;
    let outcome = job.outcome().filter(|outcome| outcome.attempt == record.attempt);
    let text = words(record, errand, outcome.as_ref());
    let mut body = json!({"text": text, "mode": "now"});
    if let Some(session) = &wake.session {
        body["sessionKey"] = json!(session);
    }
    let agent = ureq::Agent::new_with_config(
        ureq::Agent::config_builder()
            .timeout_global(Some(REQUEST_TAKES))
            .max_redirects(0)
            .http_status_as_error(false)
            .proxy(None)
            .build(),
    );
    let mut request = agent.post(&wake.url).content_type("application/json");
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let answer = request.send(body.to_string());
    let mut answer = answer.map_err(|error| Failure { why: error.to_string(), may_pass: true })?;
    match answer.status().as_u16() {
        200..300 => Ok(()),
        status => {
            // What is refused is refused the next time, too.
            let may_pass = status >= 500 || matches!(status, 408 | 425 | 429);
            let body = answer.body_mut().with_config().limit(SAID_KEPT as u64).read_to_vec();
            let said = one_line(&String::from_utf8_lossy(&body.unwrap_or_default()), 200);
            let said = if said.is_empty() { said } else { format!(": {said}") };
            Err(Failure { why: format!("the gateway answered {status}{said}"), may_pass })
        }
    }
}

/// The token that a variable of this value holds, if it can stand in a request; else why not.
pub fn token<'a>(name: &str, value: Option<&'a OsStr>) -> Result<&'a str, String> {
    let value = value.filter(|value| !value.is_empty()).ok_or(format!("{name} is not set"))?;
    let token = value.to_str().ok_or(format!("{name} is not UTF-8"))?;
    if token.contains(char::is_control) {
        return Err(format!("{name} holds a control character, such as a line's end"));
    }
    Ok(token)
}

/// What an agent is told.
fn words(record: &Record, errand: &Errand, outcome: Option<&Outcome>) -> String {
    let id = &record.job_id;
    let told = match (errand.event, &record.error) {
        (Milestone::Blocked, _) => {
            format!("claudejob: job {id} waits for an answer. Run: claudejob status {id}")
        }
        (event, Some(error)) => {
            let reason = record.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            format!("claudejob: job {id} {event}{reason}: {error}. Run: claudejob result {id}")
        }
        (event, None) => format!("claudejob: job {id} {event}. Run: claudejob result {id}"),
    };
    let answer = outcome.and_then(|outcome| outcome.result.as_deref()).unwrap_or_default();
    let answer = one_line(answer, ANSWER_TOLD);
    let with_answer = errand.event == Milestone::Completed && !answer.is_empty();
    let told = if with_answer { format!("{told}\nIts answer: {answer}") } else { told };
    crate::text::harmless(&told)
}
