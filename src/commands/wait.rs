//! `wait`: waits until jobs have ended.

mod finished;
mod pending;
mod progress;
mod text;

use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::signal::Signal;
use serde::Serialize;

use super::Call;
use super::engine_jobs::may_restart;
use super::observe::observe;
use super::result::{Pending, ResultAnswer};
use super::selecting::{Among, Selected};
use super::several::{FailedJob, first_exit_status};
use super::shortened::ArrayLimit;
#[cfg(test)]
use super::shortened::{OmittedJobs, ShortenedJob};
use super::status::StatusAnswer;
use crate::arguments::{SelectorArgs, duration};
use crate::error::{Error, ExitStatus};
use crate::job::{JobId, Lifetime, Reason, Status, full_status};
use crate::output::{Answer, LiveLine, print_note};
use crate::process::{self, AwaitedSignals};
use crate::store::{Address, Store, addressed};
use crate::text::{clip, json_length_of, plural};
use finished::FinishedResults;
use pending::PendingJobs;
use progress::WaitProgress;
use text::WaitRow;

/// Maximum number of characters of a hint in a short result.
const MAX_HINT_CHARS: usize = 120;

/// Arguments of `wait`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob wait fix-login --timeout 10m\n  \
    claudejob wait --label project=app\n\nExit codes: 0 all completed, 1 \
    one failed, 3 one was killed, 4 no such job, 5 one waits for an answer, 75 one failed \
    temporarily (try again later), 124 the wait timed out. With several jobs the first of 4, 3, \
    1, 75, 5, 0 applies.")]
pub(crate) struct WaitArgs {
    #[command(flatten)]
    targets: SelectorArgs,
    /// Wait for every live job
    #[arg(long, help_heading = "Selection")]
    all: bool,
    #[command(flatten)]
    options: WaitOptions,
}

/// How to wait.
#[derive(Debug, Default, Args)]
pub(super) struct WaitOptions {
    /// Wait until one of the jobs has ended
    #[arg(long)]
    pub(super) any: bool,
    /// Keep waiting while a job is blocked
    #[arg(long)]
    pub(super) through_blocked: bool,
    /// Wait at most for this time, such as 10m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) timeout: Option<Duration>,
}

impl WaitArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let among = if self.all { Among::Live } else { Among::Every };
        let selected = call.select_some(&store, self.targets, self.all, among)?;
        wait_and_print(call, &store, &selected, &self.options)
    }
}

/// Prints that a job was started, or waits until it has ended, at most for the time in `wait`.
pub(super) fn print_or_wait(
    call: &Call,
    store: &Store,
    started: &dyn Answer,
    id: &JobId,
    wait: Option<Option<Duration>>,
) -> Result<ExitStatus, Error> {
    if let Some(timeout) = wait {
        let options = WaitOptions { timeout, ..WaitOptions::default() };
        return wait_and_print(call, store, &Selected::one(id.clone()), &options);
    }
    call.print(started).map_err(|error| match error {
        Error::Output(source) => Error::StartNotReported(id.to_string(), source),
        error => error,
    })
}

/// Waits for the jobs, with a line that shows the progress on a terminal, and prints their states.
pub(super) fn wait_and_print(
    call: &Call,
    store: &Store,
    selected: &Selected,
    options: &WaitOptions,
) -> Result<ExitStatus, Error> {
    let signals = AwaitedSignals::keep(&[Signal::SIGINT]).map_err(Error::Signals)?;
    let line = call.printer.live_line();
    match wait(store, selected, options, call.bound(), line, signals)? {
        Some(answer) => {
            let limit = ArrayLimit::new(call, store, call.bound(), "wait");
            call.print(&WaitAnswer { limit, ..answer })
        }
        None => Ok(ExitStatus::Left),
    }
}

/// Returns the state of a job as a wait for it would that ends now.
pub(super) fn present_state(call: &Call, store: &Store, id: &JobId) -> Result<WaitAnswer, Error> {
    let selected = Selected::one(id.clone());
    answer(store, &selected, &WaitOptions::default(), FinishedResults::within(call.bound(), 1))
}

/// A job's state after the wait.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub(crate) enum Waited {
    /// The job has ended.
    Ended(ResultAnswer),
    /// The job is live.
    Live(Box<StatusAnswer>),
    /// The most important fields, if the wait was for many jobs.
    Short(ShortResult),
    /// The job was removed or its record cannot be read, and the wait was for several jobs.
    Failed(FailedJob),
}

impl Waited {
    /// Reduces the result to its most important fields, in about `max` characters.
    fn shortened(self, store: &Store, max: usize) -> Self {
        let WaitRow { lifetime, cost, .. } = WaitRow::new(&self);
        let (job_id, status, reason, error, result, hint) = match self {
            Self::Ended(ResultAnswer::Ended(ended)) => {
                let outcome = ended.outcome;
                let (error, result) = (outcome.error, outcome.result);
                (outcome.job_id, outcome.status, outcome.reason, error, result, ended.hint)
            }
            Self::Ended(ResultAnswer::Pending(pending)) => {
                let Pending { job_id, status, result, hint, .. } = pending;
                (job_id, status, None, None, result, hint)
            }
            Self::Live(view) => {
                (view.job_id, view.status, view.reason, view.error, None, view.hint)
            }
            Self::Short(_) | Self::Failed(_) => return self,
        };
        let truncated = true;
        let mut short =
            ShortResult { job_id, status, reason, error, result, truncated, hint, lifetime, cost };
        if short.hint.as_ref().is_some_and(|hint| hint.len() > MAX_HINT_CHARS) {
            short.hint = Some(addressed(store.root(), full_status(&short.job_id)));
        }
        for keep in [max, max / 2, max / 4, 0] {
            if length(&short) > max {
                short.result = short.result.map(|text| clip(&text, keep));
                short.error = short.error.map(|text| clip(&text, keep));
            }
        }
        Self::Short(short)
    }
}

/// The most important fields of one of many jobs.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShortResult {
    /// The job's id.
    pub job_id: JobId,
    /// The job's status.
    pub status: Status,
    /// Why the job failed, as a stable word; null unless it failed.
    pub reason: Option<Reason>,
    /// The beginning of the sentence that says why the job failed.
    pub error: Option<String>,
    /// The beginning of the answer.
    pub result: Option<String>,
    /// Always true: `result` and `status` give the fields that are left out.
    pub truncated: bool,
    /// The command to run next, as `sh` takes it; null for a completed job.
    pub hint: Option<String>,
    /// When the job worked, for text.
    #[serde(skip)]
    lifetime: Lifetime,
    /// Its cost, and whether that is a lower bound, for text.
    #[serde(skip)]
    cost: Option<(f64, bool)>,
}

/// The jobs after the wait, in the order of the request.
#[derive(Debug)]
pub(crate) struct WaitAnswer {
    pub jobs: Vec<Waited>,
    is_several: bool,
    pub exit_status: ExitStatus,
    /// The jobs directory, for commands in the text.
    address: Address,
    /// Limit of the length as JSON.
    limit: Option<ArrayLimit>,
}

#[cfg(test)]
impl schemars::JsonSchema for WaitAnswer {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WaitAnswer".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let one = generator.subschema_for::<Waited>();
        let element = [
            &one,
            &generator.subschema_for::<ShortenedJob>(),
            &generator.subschema_for::<OmittedJobs>(),
        ];
        schemars::json_schema!({
            "description": "The job, or an array in the order of the request if the call asks \
                for several jobs: by two different ids or by a selection.",
            "anyOf": [one, { "type": "array", "items": { "anyOf": element } }],
        })
    }
}

impl Serialize for WaitAnswer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.jobs.as_slice() {
            [one] if !self.is_several => one.serialize(serializer),
            several => match &self.limit {
                Some(limit) => limit.serialize(several, serializer),
                None => several.serialize(serializer),
            },
        }
    }
}

/// Waits for the jobs, while `line` shows their progress. The answer has at most `bound` characters.
/// Returns `None` if a signal ended the wait.
fn wait(
    store: &Store,
    selected: &Selected,
    options: &WaitOptions,
    bound: Option<usize>,
    line: Option<LiveLine>,
    signals: AwaitedSignals,
) -> Result<Option<WaitAnswer>, Error> {
    process::reap_in_background();
    let began = Instant::now();
    let ids = &selected.ids;
    // All jobs are checked first: if one of several that are named is unknown, the others are not
    // waited for, so that the caller learns it at once.
    let mut has_unknown = false;
    let mut open = Vec::new();
    let mut ended = Vec::new();
    let mut statuses = Vec::new();
    for id in ids {
        let observed = match observe(store, id) {
            // It was removed since it was selected, or is live without a readable record.
            Err(_) if selected.is_selection => continue,
            Err(_) if selected.is_several() => {
                has_unknown = true;
                continue;
            }
            observed => observed?,
        };
        // A worker that has recorded the end needs a little longer to exit.
        if observed.live || observed.dir.may_live() || may_restart(&observed.record) {
            open.push(observed.dir);
        } else {
            ended.push(id);
            statuses.push(observed.record.status);
        }
    }
    let mut finished = FinishedResults::within(bound, ids.len());
    finished.has_unknown = has_unknown;
    // The present state needs no watch, whose threads would remain in a server.
    if options.timeout == Some(Duration::ZERO) {
        return answer(store, selected, options, finished).map(Some);
    }
    if !open.is_empty() {
        for id in &ended {
            finished.keep(store, id);
        }
    }
    let mut pending = PendingJobs::watch(store, options, open, line.is_some());
    let progress = line.map(|line| WaitProgress::new(line, selected.is_several(), statuses));
    pending.heed(signals);
    // Checked after the watch has begun, so that no change is missed in between.
    let is_enough = has_unknown || options.any && !ended.is_empty() || pending.has_blocked();
    if !is_enough && !pending.wait(&mut finished, began, progress) {
        let left = match pending.live_jobs().as_slice() {
            [one] => addressed(store.root(), format!("claudejob wait {one}")),
            several => {
                let list = addressed(store.root(), "claudejob list".to_owned());
                format!("{} ({list})", plural(several.len(), "job"))
            }
        };
        print_note(&format!("Left running: {left}\n"));
        return Ok(None);
    }
    answer(store, selected, options, finished).map(Some)
}

/// Returns the exit status of a command that waited for a job with this result.
pub(super) fn exit_status(result: &ResultAnswer) -> ExitStatus {
    match result {
        ResultAnswer::Pending(pending) => ExitStatus::of_job(pending.status, None, false),
        ResultAnswer::Ended(ended) => {
            let outcome = &ended.outcome;
            ExitStatus::of_job(outcome.status, outcome.reason, outcome.lost_connection)
        }
    }
}

fn answer(
    store: &Store,
    selected: &Selected,
    options: &WaitOptions,
    mut finished: FinishedResults,
) -> Result<WaitAnswer, Error> {
    let mut jobs = Vec::new();
    let mut codes = Vec::new();
    let mut unreadable = Vec::new();
    for id in &selected.ids {
        match finished.answer(store, id) {
            Ok((ExitStatus::Blocked, waited)) if options.through_blocked => {
                codes.push(ExitStatus::TimedOut);
                jobs.push(waited);
            }
            Ok((code, waited)) => {
                codes.push(code);
                jobs.push(waited);
            }
            // The states of the other jobs are still returned.
            Err(error) if selected.is_several() => {
                unreadable.push(error.exit_status());
                jobs.push(Waited::Failed(FailedJob::new(store, id.clone(), &error)));
            }
            Err(error) => return Err(error),
        }
    }
    // The live jobs must fit, too.
    let is_too_long = jobs.len() > 1
        && finished.bound.is_some_and(|bound| jobs.iter().map(length).sum::<usize>() > bound);
    if finished.is_short() || is_too_long {
        jobs = jobs.into_iter().map(|waited| waited.shortened(store, finished.max_chars)).collect();
    }
    // With `--any`, an unreadable job does not matter if another one has ended.
    let has_ended = codes.iter().any(|code| *code != ExitStatus::TimedOut);
    if !(options.any && has_ended) {
        codes.append(&mut unreadable);
    }
    // Live jobs count only if the wait for them timed out.
    let exit_status = overall(&codes, options.any || finished.has_unknown);
    let address = Address::of(store.root());
    Ok(WaitAnswer { jobs, is_several: selected.is_several(), exit_status, address, limit: None })
}

/// Returns the length of a value as JSON, with a separator, in characters.
fn length(value: &impl Serialize) -> usize {
    json_length_of(value) + 1
}

/// Returns one exit status for several jobs: the first that applies in a fixed order. If jobs are
/// live and none is blocked, the wait timed out; with `any`, live jobs do not count.
fn overall(codes: &[ExitStatus], any: bool) -> ExitStatus {
    let is_live = codes.contains(&ExitStatus::TimedOut);
    if is_live && !any && !codes.contains(&ExitStatus::Blocked) {
        return ExitStatus::TimedOut;
    }
    if codes.is_empty() {
        return ExitStatus::Done;
    }
    first_exit_status(codes).unwrap_or(ExitStatus::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combines_exit_statuses_of_several_jobs() {
        use ExitStatus::{Blocked, Done, Failed, Killed, NotFound, TimedOut, TryAgain};
        for (codes, all, any) in [
            (vec![Done, Done], Done, Done),
            (vec![Done, Killed], Killed, Killed),
            (vec![Killed, Failed], Killed, Killed),
            (vec![Failed, NotFound, Killed], NotFound, NotFound),
            (vec![TryAgain, Failed], Failed, Failed),
            (vec![Done, TryAgain], TryAgain, TryAgain),
            (vec![TimedOut, Failed], TimedOut, Failed),
            (vec![TimedOut, TimedOut], TimedOut, TimedOut),
            (vec![TimedOut, Blocked, Done], Blocked, Blocked),
            (vec![TimedOut, Blocked, Failed], Failed, Failed),
        ] {
            assert_eq!(overall(&codes, false), all, "{codes:?}");
            assert_eq!(overall(&codes, true), any, "{codes:?} any");
        }
    }

    #[test]
    fn temporary_failure_has_own_exit_status() {
        for (reason, lost, code) in [
            (Reason::RateLimit, false, ExitStatus::TryAgain),
            (Reason::Overloaded, false, ExitStatus::TryAgain),
            (Reason::ApiError, true, ExitStatus::TryAgain),
            (Reason::ApiError, false, ExitStatus::Failed),
            (Reason::Auth, false, ExitStatus::Failed),
        ] {
            assert_eq!(ExitStatus::of_job(Status::Failed, Some(reason), lost), code, "{reason}");
        }
        assert_eq!(ExitStatus::of_job(Status::Failed, None, false), ExitStatus::Failed);
    }
}
