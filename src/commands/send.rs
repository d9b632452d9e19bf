//! `send`: sends a message to a live job.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::Call;
use super::logs::{self, LogsAnswer, LogsRequest};
use super::observe::{ended_turns, observe};
use super::recipient::Recipient;
use super::result::shortened;
use super::watch::Watch;
use crate::arguments::{
    JobName, MAX_MESSAGE_BYTES, MessageArgs, check_message, duration, read_stdin, read_text,
};
use crate::error::{Error, ExitStatus};
use crate::job::{InboxMessage, JobId, Status, TurnEnd};
use crate::output::{Answer, BOLD, painted};
use crate::store::{JobDir, OUTPUT, Store, TURNS};
use crate::text::{harmless, json_length_of};

/// Arguments of `send`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob send fix-login \"Leave the API as it is\"\n  \
    claudejob send fix-login \"Which test failed?\" --wait 5m\n\n\
    A message during a turn becomes part of that turn, which has one answer.")]
pub(crate) struct SendArgs {
    #[command(flatten)]
    target: JobName,
    /// The message; - reads stdin
    #[arg(value_name = "MESSAGE", conflicts_with = "MessageArgs")]
    pub text: Option<String>,
    #[command(flatten)]
    pub message: MessageArgs,
    /// Show the agent's output until the end of that turn
    #[arg(long, conflicts_with = "wait")]
    follow: bool,
    /// Wait for the answer, at most for DURATION
    #[arg(long, value_name = "DURATION", value_parser = duration, num_args = 0..=1, require_equals = false)]
    wait: Option<Option<Duration>>,
}

impl SendArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let id = call.job(&store, &self.target)?;
        let message = self.read_message()?;
        if !self.follow {
            let mut answer = send(&store, &id, message, self.wait)?;
            answer.shorten(call.bound());
            return call.print(&answer);
        }
        let mut answer = send_and_follow(&store, &id, message, |part| part.print(call))?;
        if call.printer.is_json() {
            answer.shorten(call.bound());
            return call.print(&answer);
        }
        // The text was printed already.
        let failed = !matches!(&answer.turn, Some(Some(turn)) if !turn.is_error);
        Ok(if failed { ExitStatus::Failed } else { ExitStatus::Done })
    }
}

impl SendArgs {
    /// Reads the message from the arguments, or from stdin if it is no terminal.
    fn read_message(&self) -> Result<String, Error> {
        if let Some(text) = &self.text {
            return check_message(read_text(text, MAX_MESSAGE_BYTES)?);
        }
        if let Some(message) = self.message.read()? {
            return Ok(message);
        }
        if io::stdin().is_terminal() {
            return Err(Error::Usage("no message".to_owned()));
        }
        check_message(read_stdin(MAX_MESSAGE_BYTES)?)
    }
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

impl SendAnswer {
    /// Truncates the answer of the turn if this answer has more than `bound` characters.
    fn shorten(&mut self, bound: Option<usize>) {
        let Some(bound) = bound else { return };
        let excess = json_length_of(self).saturating_sub(bound);
        if excess > 0
            && let Some(Some(turn)) = &mut self.turn
            && let Some(text) = &turn.result
        {
            turn.result = Some(shortened(text, excess));
        }
    }
}

impl Answer for SendAnswer {
    fn text(&self) -> String {
        let id = painted(BOLD, self.job_id.as_str());
        match &self.turn {
            None => format!("Message {} was sent to job {id}.\n", self.message),
            Some(None) => {
                format!("Message {} has no answer; job {id} is {}.\n", self.message, self.status)
            }
            Some(Some(turn)) => {
                format!("{}\n", harmless(turn.result.as_deref().unwrap_or_default()))
            }
        }
    }

    fn exit_status(&self) -> ExitStatus {
        match &self.turn {
            Some(None) if self.status.is_live() => ExitStatus::TimedOut,
            Some(None) => ExitStatus::Failed,
            Some(Some(turn)) if turn.is_error => ExitStatus::Failed,
            _ => ExitStatus::Done,
        }
    }
}

/// Sends a message to a running job. The message is durable when this returns. `wait`: wait for the
/// end of the turn that receives the message, up to this time limit.
pub(crate) fn send(
    store: &Store,
    id: &JobId,
    text: String,
    wait: Option<Option<Duration>>,
) -> Result<SendAnswer, Error> {
    send_to(store, &Recipient::find(store, id)?, text, wait)
}

fn send_to(
    store: &Store,
    recipient: &Recipient,
    text: String,
    wait: Option<Option<Duration>>,
) -> Result<SendAnswer, Error> {
    let dir = &recipient.dir;
    let id = dir.id();
    let watch = if wait.is_some() { Some(Watch::for_files(dir, &[TURNS])) } else { None };
    let uuid = uuid::Uuid::new_v4().to_string();
    let number = recipient.post(store, &InboxMessage::Message { uuid, text })?;
    let turn = match watch {
        Some(watch) => {
            let until = wait.flatten().and_then(|timeout| Instant::now().checked_add(timeout));
            Some(await_turn(store, dir, number, until, watch))
        }
        None => None,
    };
    let observed = observe(store, id)?;
    let (status, hint) = (observed.record.status, observed.hint());
    Ok(SendAnswer { job_id: id.clone(), message: number, status, turn, hint })
}

/// Like [`send`], and calls `give` with new parts of the log until the turn that received the
/// message has ended. The answer contains the result of the turn.
fn send_and_follow(
    store: &Store,
    id: &JobId,
    text: String,
    give: impl FnMut(&mut LogsAnswer) -> bool,
) -> Result<SendAnswer, Error> {
    let recipient = Recipient::find(store, id)?;
    let dir = &recipient.dir;
    let log = LogsRequest::from_offset(id.clone(), dir.length(OUTPUT));
    let mut answer = send_to(store, &recipient, text, None)?;
    let number = answer.message;
    let has_ended = || ended_turns(dir).iter().any(|turn| turn.messages.contains(&number));
    logs::follow_until(store, &log, give, &[OUTPUT, TURNS], has_ended)?;
    answer.turn = Some(turn_of(dir, number));
    let observed = observe(store, &answer.job_id)?;
    (answer.status, answer.hint) = (observed.record.status, observed.hint());
    Ok(answer)
}

/// Waits for the end of the turn that received the message, of the job, or of the time limit.
fn await_turn(
    store: &Store,
    dir: &JobDir,
    number: u64,
    until: Option<Instant>,
    mut watch: Watch,
) -> Option<TurnEnd> {
    loop {
        // Checked before the turns are read: a job that is not live has written all of them.
        let is_live = observe(store, dir.id()).is_ok_and(|observed| observed.live);
        if let Some(turn) = turn_of(dir, number) {
            return Some(turn);
        }
        if !is_live || until.is_some_and(|until| until <= Instant::now()) {
            return None;
        }
        watch.add_end(0, dir);
        watch.next_until(until);
    }
}

/// Returns the end of the turn that received the message.
fn turn_of(dir: &JobDir, number: u64) -> Option<TurnEnd> {
    ended_turns(dir).into_iter().find(|turn| turn.messages.contains(&number))
}
