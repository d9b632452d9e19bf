//! `redeliver`: sends failed notifications again.

pub(crate) mod background;

use std::env;
use std::time::{Duration, Instant};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::Call;
use super::observe::load_without_notifying;
use super::parallel::for_each_job;
use super::selecting::Among;
use crate::arguments::SelectorArgs;
use crate::error::{Error, ExitStatus};
use crate::job::{JobId, Notification, Record};
use crate::launch::spawn_notifier;
use crate::notifier;
use crate::output::{Answer, RED, push_marked};
use crate::store::{LOCK_BOUND, Store, addressed};
use crate::text::plural;

/// Arguments of `redeliver`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  claudejob redeliver\n  claudejob redeliver fix-login\n\n\
    claudejob list --undelivered shows the notifications and the errors.",
    mut_arg("ids", |arg| arg.help("Ids of the jobs [default: every job]"))
)]
pub(crate) struct RedeliverArgs {
    #[command(flatten)]
    targets: SelectorArgs,
}

impl RedeliverArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let selected = call.select(&store, self.targets, false, Among::Recorded)?;
        let is_all = selected.ids.is_empty() && !selected.is_selection;
        let is_named = !is_all && !selected.is_selection;
        let ids = if is_all { with_recipients(&store)? } else { selected.ids };
        if call.is_by_agent() {
            let until = Instant::now() + ANSWER_TIMEOUT;
            if is_named {
                for id in &ids {
                    load_without_notifying(&store, id)?;
                }
            }
            let due: Vec<JobId> =
                ids.iter().filter(|id| !undelivered(&store, id).is_empty()).cloned().collect();
            if !due.is_empty()
                && let Ok(answer) = background::redeliver_until(&store, &due, is_named, until)
            {
                return call.print(&answer?);
            }
        }
        call.print(&redeliver(&store, ids, is_named)?)
    }
}

/// The notifications of one job that could not be delivered.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct UndeliveredJob {
    /// The job's id.
    pub job_id: JobId,
    /// The notifications.
    pub undelivered_notifications: Vec<Notification>,
    /// Deprecated name of `undeliveredNotifications`; absent when empty.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub undelivered: Vec<Notification>,
    /// Reason why none of them was sent.
    pub error: Option<String>,
    /// Stable code of the error.
    pub code: Option<String>,
    /// How to resolve the error.
    pub hint: Option<String>,
}

/// The result of a redelivery.
#[derive(Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RedeliverAnswer {
    /// Number of notifications that were delivered.
    pub delivered: usize,
    /// The jobs that still have undelivered notifications.
    pub failed: Vec<UndeliveredJob>,
}

impl UndeliveredJob {
    fn new(
        store: &Store,
        job_id: JobId,
        mut notifications: Vec<Notification>,
        error: Option<&Error>,
    ) -> Self {
        let again = addressed(store.root(), format!("claudejob redeliver {job_id}"));
        for notification in &mut notifications {
            notification.hint = Some(again.clone());
        }
        let hint = match error {
            Some(error) => error.hint(),
            None => Some(format!(
                "{again}  # when the cause is removed; claudejob rm {job_id} drops it with the job"
            )),
        };
        Self {
            job_id,
            undelivered_notifications: notifications.clone(),
            undelivered: notifications,
            error: error.map(Error::to_string),
            code: error.map(|error| error.code().to_owned()),
            hint,
        }
    }
}

impl Answer for RedeliverAnswer {
    fn text(&self) -> String {
        if self.delivered == 0 && self.failed.is_empty() {
            return "No undelivered notifications.\n".to_owned();
        }
        let mut text = format!("{} delivered.\n", plural(self.delivered, "notification"));
        for left in &self.failed {
            let mut failures = Vec::new();
            match &left.error {
                Some(error) => failures.push(error.clone()),
                None => {
                    for notification in &left.undelivered_notifications {
                        let why = notification.error.as_deref().unwrap_or("not tried yet");
                        let (to, event) = (&notification.to, &notification.event);
                        failures.push(format!("{event} to {to}: {why}"));
                    }
                }
            }
            for failure in failures {
                let what = format!("{}: {failure}", left.job_id);
                push_marked(&mut text, RED.bold(), "not delivered:", &what);
            }
        }
        text
    }

    fn exit_status(&self) -> ExitStatus {
        if self.failed.is_empty() { ExitStatus::Done } else { ExitStatus::Failed }
    }
}

/// Number of jobs whose notifications are sent at the same time.
const MAX_PARALLEL: usize = 8;
/// Time for the tries of notifiers that are asked to yield: an agent expects an answer within 10 s.
const YIELD_TIMEOUT: Duration = Duration::from_secs(8);
/// Time for an answer to an agent.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

/// What became of a job's notifications: how many there were, and those that are left.
struct Attempt {
    before: Vec<Notification>,
    result: Result<Vec<Notification>, Error>,
}

/// Returns the jobs that may have notifications.
fn with_recipients(store: &Store) -> Result<Vec<JobId>, Error> {
    let (_, mut jobs) = store.summaries()?;
    jobs.retain(|job| job.ended.is_none_or(|ended| ended.has_recipients));
    Ok(jobs.into_iter().map(|job| job.id).collect())
}

/// Sends the notifications of these jobs, and waits until that is done. Tokens are read from the
/// caller's environment. A job that was named must exist.
fn redeliver(store: &Store, mut ids: Vec<JobId>, is_named: bool) -> Result<RedeliverAnswer, Error> {
    ids.sort_unstable();
    let mut answer = RedeliverAnswer::default();
    let until = Instant::now() + YIELD_TIMEOUT;
    let attempts = for_each_job(&ids, MAX_PARALLEL, |id| attempt(store, id, until));
    for (job_id, Attempt { before, result }) in ids.into_iter().zip(attempts) {
        match result {
            Ok(undelivered) => {
                answer.delivered += before.len().saturating_sub(undelivered.len());
                if !undelivered.is_empty() {
                    answer.failed.push(UndeliveredJob::new(store, job_id, undelivered, None));
                }
            }
            Err(error) if is_named => return Err(error),
            // The job has no notifications, or it was removed in the meantime.
            Err(_) if before.is_empty() && !store.job(&job_id).has_notifications() => {}
            Err(_) if !store.job(&job_id).path().exists() => {}
            Err(error) => {
                answer.failed.push(UndeliveredJob::new(store, job_id, before, Some(&error)));
            }
        }
    }
    Ok(answer)
}

/// Sends the notifications of a job. Waits for a notifier that yields until `until`.
fn attempt(store: &Store, id: &JobId, until: Instant) -> Attempt {
    let observed = match load_without_notifying(store, id) {
        Ok(observed) => observed,
        Err(error) => return Attempt { before: Vec::new(), result: Err(error.into()) },
    };
    let job = observed.dir;
    let before = job.notifications(&observed.record);
    if before.is_empty() {
        return Attempt { before, result: Ok(Vec::new()) };
    }
    if job.notifier_yields()
        && let Some(why) = missing_token(&observed.record, &before)
        && matches!(job.try_lock_notifications(), Ok(None))
    {
        // The notifier has the token, and tries on: it must not make room for a process without.
        let why = format!("{why} here, but the process that delivers them has it");
        return Attempt { before, result: Err(Error::Delivering(id.to_string(), why)) };
    }
    let mut bound = LOCK_BOUND;
    if job.notifier_yields() {
        bound = bound.max(until.saturating_duration_since(Instant::now()));
    }
    let result = match notifier::redeliver(&job, bound) {
        Ok((left, is_retried)) => {
            if is_retried {
                spawn_notifier(&job);
            }
            Ok(left)
        }
        Err(error) => match Error::from(error) {
            // It was asked to end, and will do so after its present try.
            Error::Busy(why) if job.notifier_yields() => {
                spawn_notifier(&job);
                let why = format!("a try takes long; the others follow it ({why})");
                Err(Error::Delivering(id.to_string(), why))
            }
            error => Err(error),
        },
    };
    Attempt { before, result }
}

/// Returns the notifications of a job that were not delivered, if its record can be read.
fn undelivered(store: &Store, id: &JobId) -> Vec<Notification> {
    let job = store.job(id);
    job.load().map(|record| job.notifications(&record)).unwrap_or_default()
}

/// Returns why this process cannot wake the agent, if that is among the notifications to send.
fn missing_token(record: &Record, notifications: &[Notification]) -> Option<String> {
    let name = record.spec.notify.wake.as_ref()?.token_env.as_ref()?;
    if !notifications.iter().any(|notification| notification.to == "wake") {
        return None;
    }
    notifier::check_token(name, env::var_os(name).as_deref()).err()
}
