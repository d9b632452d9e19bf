//! `send`, `interrupt` and `finish`: messages for a running job.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::host_takeover::refuse_other_host;
use super::logs::{self, LogFormat, LogsAnswer};
use super::observe::{Observed, observe};
use super::turns::ended_turns;
use super::watch::{Watch, await_end};
use crate::error::Error;
use crate::fault_point::fault_point;
use crate::job::{InboxMessage, JobId, Record, Status, TurnEnd, WaitKind, WaitingFor};
use crate::store::{DirIdentity, JobDir, OUTPUT, Store, TURNS, addressed};
use crate::text::clip;

/// Maximum size of a message in bytes, far above the limit of the API.
pub(crate) const MAX_MESSAGE_BYTES: usize = 10_000_000;
/// Maximum number of characters of a turn's answer in the output.
const MAX_RESULT_CHARS: usize = 6_000;
/// Time limit for an idle claude to exit.
const FINISH_TIMEOUT: Duration = Duration::from_secs(8);
/// Time limit for an interrupted turn to end.
const INTERRUPT_TIMEOUT: Duration = Duration::from_secs(8);

/// A message for a job.
#[derive(Debug)]
pub(crate) struct SendRequest {
    pub id: JobId,
    pub message: Vec<u8>,
    /// Wait for the end of the turn that receives the message, up to this time limit.
    pub wait: Option<Option<Duration>>,
}

/// The result of a message.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct SendAnswer {
    /// The job's id.
    pub job_id: JobId,
    /// Number of the message in the order of arrival.
    pub message: u64,
    /// The job's status.
    pub status: Status,
    /// The end of the turn that received the message; null without `--wait` and after the time
    /// limit.
    pub turn: Option<Option<TurnEnd>>,
    /// The command to run next, as `sh` takes it; null for a completed job.
    pub hint: Option<String>,
}

/// The result of a `finish`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct FinishAnswer {
    /// The job's id.
    pub job_id: JobId,
    /// The job has ended; otherwise it ends when `waitingFor` is over.
    pub finished: bool,
    /// The job's status.
    pub status: Status,
    /// What delays the end; null if the job has ended.
    pub waiting_for: Option<WaitingFor>,
    /// The command to run next, as `sh` takes it; null for a completed job.
    pub hint: Option<String>,
}

/// The result of an interrupt.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct InterruptAnswer {
    /// The job's id.
    pub job_id: JobId,
    /// A turn was interrupted and has ended.
    pub interrupted: bool,
    /// The job's status.
    pub status: Status,
    /// Reason why no turn was interrupted.
    pub error: Option<String>,
    /// The command to run next, as `sh` takes it; null for a completed job.
    pub hint: Option<String>,
}

/// Sends a message to a running job. The message is durable when this returns.
pub(crate) fn send(store: &Store, request: SendRequest) -> Result<SendAnswer, Error> {
    let text = check_message(request.message)?;
    let recipient = Recipient::find(store, &request.id)?;
    send_to(store, &recipient, text, request.wait)
}

fn send_to(
    store: &Store,
    recipient: &Recipient,
    text: String,
    wait: Option<Option<Duration>>,
) -> Result<SendAnswer, Error> {
    let (id, dir) = (&recipient.id, &recipient.dir);
    let watch = wait.map(|_| Watch::for_files(dir, &[TURNS]));
    let uuid = uuid::Uuid::new_v4().to_string();
    let number = recipient.post(store, &InboxMessage::Message { uuid, text })?;
    let turn = watch.map(|mut watch| {
        let until = wait.flatten().and_then(|timeout| Instant::now().checked_add(timeout));
        await_turn(store, id, dir, number, until, &mut watch)
    });
    let observed = observe(store, id)?;
    let (status, hint) = (observed.record.status, observed.hint());
    Ok(SendAnswer { job_id: id.clone(), message: number, status, turn, hint })
}

/// Like [`send`], and calls `give` with new parts of the log until the turn that received the
/// message has ended. The answer contains the result of the turn.
pub(crate) fn send_and_follow(
    store: &Store,
    request: SendRequest,
    give: impl FnMut(&LogsAnswer) -> bool,
) -> Result<SendAnswer, Error> {
    let text = check_message(request.message)?;
    let recipient = Recipient::find(store, &request.id)?;
    let dir = &recipient.dir;
    let log = logs::LogsRequest {
        id: request.id,
        tail: 0,
        since: Some(dir.length(OUTPUT)),
        max_bytes: None,
        format: LogFormat::Readable,
        merged: false,
    };
    let mut answer = send_to(store, &recipient, text, None)?;
    let number = answer.message;
    let has_ended = || ended_turns(dir).iter().any(|turn| turn.messages.contains(&number));
    logs::follow_until(store, &log, give, &[OUTPUT, TURNS], has_ended)?;
    answer.turn = Some(turn_of(dir, number));
    let observed = observe(store, &answer.job_id)?;
    (answer.status, answer.hint) = (observed.record.status, observed.hint());
    Ok(answer)
}

/// Interrupts the turn of a running job.
pub(crate) fn interrupt(store: &Store, id: &JobId) -> Result<InterruptAnswer, Error> {
    let recipient = Recipient::find(store, id)?;
    let dir = &recipient.dir;
    let observed = observe(store, id)?;
    if let Some(why) = reason_without_turn(&observed.record) {
        let (status, hint) = (observed.record.status, observed.hint());
        let (job_id, error) = (id.clone(), Some(why.to_owned()));
        return Ok(InterruptAnswer { job_id, interrupted: false, status, error, hint });
    }
    let mut watch = Watch::for_files(dir, &[TURNS]);
    let before = ended_turns(dir).len();
    recipient.post(store, &InboxMessage::Interrupt)?;
    let until = Instant::now() + INTERRUPT_TIMEOUT;
    let interrupted = loop {
        if ended_turns(dir).iter().skip(before).any(|turn| turn.interrupted) {
            break true;
        }
        if !dir.is_held().unwrap_or(false) || Instant::now() >= until {
            break ended_turns(dir).iter().skip(before).any(|turn| turn.interrupted);
        }
        watch.add_end(0, dir);
        watch.next_until(Some(until));
    };
    let observed = observe(store, id)?;
    let (status, hint) = (observed.record.status, observed.hint());
    let error = (!interrupted).then(|| match status {
        Status::Idle => "it is idle: no turn is running".to_owned(),
        Status::Queued | Status::Starting => "it has not started".to_owned(),
        status if status.is_live() => "its turn is still running".to_owned(),
        _ => "it ended before the interrupt".to_owned(),
    });
    Ok(InterruptAnswer { job_id: id.clone(), interrupted, status, error, hint })
}

/// Returns why the job has no turn to interrupt, if its record shows that.
fn reason_without_turn(record: &Record) -> Option<&'static str> {
    if record.released_question().is_some() {
        return Some("no turn is running: its question waits for an answer");
    }
    let kind = record.waiting_for.as_ref().map(|waiting| waiting.kind);
    match (record.status, kind) {
        (Status::Idle, _) => Some("it is idle: no turn is running"),
        (Status::Queued, _) => Some("it has not started"),
        (_, Some(WaitKind::Background | WaitKind::Wakeup)) => {
            Some("no turn is running: it waits for background work")
        }
        _ => None,
    }
}

/// Ends a kept-alive job after its current turn.
pub(crate) fn finish(store: &Store, id: &JobId) -> Result<FinishAnswer, Error> {
    let recipient = Recipient::find(store, id)?;
    let dir = &recipient.dir;
    let is_kept_alive = dir.load().is_ok_and(|record| record.spec.keep_alive);
    if !is_kept_alive {
        let why = "it was started without --keep-alive and ends by itself".to_owned();
        return Err(Error::NotKeptAlive(id.to_string(), why));
    }
    recipient.post(store, &InboxMessage::Finish)?;
    await_end(dir, FINISH_TIMEOUT);
    let observed = observe(store, id)?;
    let (status, hint) = (observed.record.status, observed.hint());
    let finished = !status.is_live();
    let in_turn = || WaitingFor::new(WaitKind::Turn, None, "the current turn");
    let waiting_for = (!finished).then(|| observed.record.waiting_for().unwrap_or_else(in_turn));
    let waiting_for = waiting_for.map(|wait| wait.map_hint(|hint| addressed(store.root(), hint)));
    Ok(FinishAnswer { job_id: id.clone(), finished, status, waiting_for, hint })
}

/// Checks a message and returns its text.
pub(super) fn check_message(message: Vec<u8>) -> Result<String, Error> {
    if message.len() > MAX_MESSAGE_BYTES {
        return Err(Error::MessageTooLong(MAX_MESSAGE_BYTES));
    }
    let text = String::from_utf8(message)
        .map_err(|error| Error::PromptNotUtf8(error.utf8_error().valid_up_to()))?;
    if text.trim().is_empty() { Err(Error::EmptyMessage) } else { Ok(text) }
}

/// A live job that accepts messages.
#[derive(Debug)]
pub(super) struct Recipient {
    id: JobId,
    pub dir: JobDir,
    /// Distinguishes the job from a later one with the same id, in case this process is stopped
    /// for a while.
    identity: DirIdentity,
}

impl Recipient {
    /// Finds the job with this id. Refuses a job of another machine, whose worker cannot be woken
    /// from here.
    pub(super) fn find(store: &Store, id: &JobId) -> Result<Self, Error> {
        // Read first, so that everything read later is from this job or a later one.
        let identity = store.job(id).identity();
        let dir = live_job_dir(store, id)?;
        let record = dir.load().map_err(|error| Error::from_load_error(id.as_str(), error))?;
        refuse_other_host(&dir, &record)?;
        let identity = identity.ok_or_else(|| Error::NotFound(id.to_string()))?;
        Ok(Self { id: id.clone(), dir, identity })
    }

    /// Puts a message into the job's inbox, and returns its number. The worker reads an accepted
    /// message or reports it when the job ends; if the worker has died, the next command that
    /// reads the job reports it.
    pub(super) fn post(&self, store: &Store, message: &InboxMessage) -> Result<u64, Error> {
        let Some(number) = self.dir.post(message, &self.identity)? else {
            return Err(self.refusal_error(store));
        };
        fault_point("send:accepted");
        if self.is_gone() {
            return Err(Error::NotFound(self.id.to_string()));
        }
        let has_ended = self.dir.load().is_ok_and(|record| !record.status.is_live());
        if has_ended && self.dir.withdraw(number)? {
            return Err(self.refusal_error(store));
        }
        Ok(number)
    }

    fn refusal_error(&self, store: &Store) -> Error {
        if self.is_gone() {
            return Error::JobRemoved(self.id.to_string());
        }
        match observe(store, &self.id) {
            Ok(observed) => ended_error(&self.id, observed.record.status),
            Err(error) => error,
        }
    }

    /// Returns whether the job was removed, even if another one has its id now.
    fn is_gone(&self) -> bool {
        self.dir.identity().as_ref() != Some(&self.identity)
    }
}

/// Returns the directory of a live job.
pub(super) fn live_job_dir(store: &Store, id: &JobId) -> Result<JobDir, Error> {
    let Observed { dir, record, live } = observe(store, id)?;
    if live && record.version > 0 {
        return Ok(dir);
    }
    Err(ended_error(id, record.status))
}

fn ended_error(id: &JobId, status: Status) -> Error {
    Error::JobEnded(id.to_string(), status.to_string())
}

/// Waits for the end of the turn that received the message, of the job, or of the time limit.
fn await_turn(
    store: &Store,
    id: &JobId,
    dir: &JobDir,
    number: u64,
    until: Option<Instant>,
    watch: &mut Watch,
) -> Option<TurnEnd> {
    loop {
        // Checked before the turns are read: a job that is not live has written all of them.
        let is_live = observe(store, id).is_ok_and(|observed| observed.live);
        if let Some(turn) = turn_of(dir, number) {
            return Some(turn);
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if !is_live || left.is_some_and(|left| left.is_zero()) {
            return None;
        }
        watch.add_end(0, dir);
        watch.next_until(until);
    }
}

/// Returns the end of the turn that received the message, with its result truncated.
fn turn_of(dir: &JobDir, number: u64) -> Option<TurnEnd> {
    let mut turn = ended_turns(dir).into_iter().find(|turn| turn.messages.contains(&number))?;
    turn.result = turn.result.map(|text| clip(&text, MAX_RESULT_CHARS));
    Some(turn)
}
