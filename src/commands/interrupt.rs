//! `interrupt`: interrupts the current turn of a job.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::Call;
use super::observe::{ended_turns, observe};
use super::recipient::Recipient;
use super::requests::PendingRequest;
use super::watch::Watch;
use crate::arguments::JobName;
use crate::error::{Error, ExitStatus};
use crate::job::{InboxMessage, JobId, Record, Status, WaitKind};
use crate::output::{Answer, BOLD, painted, sentence};
use crate::store::{EVENTS, Store, TURNS};

/// Time limit for an interrupted turn to end.
const INTERRUPT_TIMEOUT: Duration = Duration::from_secs(8);

/// Arguments of `interrupt`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: claudejob interrupt fix-login\n\nA job that is queued, starting, idle \
    or between two attempts has no turn: the answer says so at once, and nothing changes."
)]
pub(crate) struct InterruptArgs {
    #[command(flatten)]
    target: JobName,
}

impl InterruptArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        call.print(&interrupt(&store, &call.job(&store, &self.target)?)?)
    }
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

impl Answer for InterruptAnswer {
    fn text(&self) -> String {
        let id = painted(BOLD, self.job_id.as_str());
        match &self.error {
            None if self.status == Status::Idle => {
                format!("Job {id} was interrupted and is idle.\n")
            }
            // Its end may be recorded already, or not yet.
            None => format!("Job {id} was interrupted.\n"),
            Some(error) => sentence(&format!("Job {id} was not interrupted: {error}.")),
        }
    }

    fn exit_status(&self) -> ExitStatus {
        if self.interrupted { ExitStatus::Done } else { ExitStatus::Failed }
    }
}

/// Interrupts the turn of a running job.
pub(crate) fn interrupt(store: &Store, id: &JobId) -> Result<InterruptAnswer, Error> {
    let recipient = Recipient::find(store, id)?;
    let dir = recipient.dir.clone();
    let observed = observe(store, id)?;
    if let Some(why) = reason_without_turn(&observed.record) {
        let (status, hint) = (observed.record.status, observed.hint());
        let (job_id, error) = (id.clone(), Some(why.to_owned()));
        return Ok(InterruptAnswer { job_id, interrupted: false, status, error, hint });
    }
    let mut watch = Watch::for_files(&dir, &[TURNS, EVENTS]);
    let before = ended_turns(&dir).len();
    let request = PendingRequest::post_to(store, recipient, &InboxMessage::Interrupt)?;
    let is_frozen = observed.record.times.frozen_at.is_some();
    // A frozen claude reads the request when it continues.
    let timeout = if is_frozen { Duration::ZERO } else { INTERRUPT_TIMEOUT };
    let until = Instant::now() + timeout;
    let mut is_refused = false;
    let interrupted = loop {
        if ended_turns(&dir).iter().skip(before).any(|turn| turn.interrupted) {
            break true;
        }
        is_refused = request.reply().is_some_and(|reply| reply.event == "message_refused");
        if is_refused || !dir.may_live() || Instant::now() >= until {
            break ended_turns(&dir).iter().skip(before).any(|turn| turn.interrupted);
        }
        watch.add_end(0, &dir);
        watch.next_until(Some(until));
    };
    let observed = observe(store, id)?;
    let (status, hint) = (observed.record.status, observed.hint());
    let why = match status {
        Status::Idle => "it is idle: no turn is running",
        Status::Queued | Status::Starting => "it has not started",
        status if status.is_live() && is_refused => "no turn is running",
        status if status.is_live() && is_frozen => "it is frozen: its turn ends when it continues",
        status if status.is_live() => "its turn is still running",
        _ => "it ended before the interrupt",
    };
    let error = if interrupted { None } else { Some(why.to_owned()) };
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
