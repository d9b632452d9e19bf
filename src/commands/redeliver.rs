//! `redeliver`: sends failed notifications again.

use clap::Args;
use serde::Serialize;

use super::Call;
use super::observe::load_without_notifying;
use super::selecting::Among;
use crate::arguments::SelectorArgs;
use crate::error::{Error, ExitStatus};
use crate::job::{JobId, Notification};
use crate::launch::spawn_notifier;
use crate::notifier;
use crate::output::{Answer, RED, push_marked};
use crate::store::{JobDir, LoadError, Store};
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
        if selected.ids.is_empty() && !selected.is_selection {
            return call.print(&redeliver(&store, store.ids()?, false)?);
        }
        let is_named = !selected.is_selection;
        call.print(&redeliver(&store, selected.ids, is_named)?)
    }
}

/// The notifications of one job that could not be delivered.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct UndeliveredJob {
    /// The job's id.
    pub job_id: JobId,
    /// The notifications.
    pub undelivered_notifications: Vec<Notification>,
    /// Deprecated name of `undeliveredNotifications`; absent when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undelivered: Vec<Notification>,
    /// Reason why none of them was sent.
    pub error: Option<String>,
    /// Stable code of the error.
    pub code: Option<&'static str>,
    /// How to resolve the error.
    pub hint: Option<String>,
}

/// The result of a redelivery.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RedeliverAnswer {
    /// Number of notifications that were delivered.
    pub delivered: usize,
    /// The jobs that still have undelivered notifications.
    pub failed: Vec<UndeliveredJob>,
}

impl UndeliveredJob {
    fn new(job_id: JobId, notifications: Vec<Notification>, error: Option<&Error>) -> Self {
        Self {
            job_id,
            undelivered_notifications: notifications.clone(),
            undelivered: notifications,
            error: error.map(Error::to_string),
            code: error.map(Error::code),
            hint: error.and_then(Error::hint),
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

/// Sends the notifications of these jobs, and waits until that is done. Tokens are read from the
/// caller's environment. A job that was named must exist.
fn redeliver(store: &Store, mut ids: Vec<JobId>, is_named: bool) -> Result<RedeliverAnswer, Error> {
    ids.sort_unstable();
    let mut answer = RedeliverAnswer::default();
    for job_id in ids {
        let mut before = Vec::new();
        let result = load_without_notifying(store, &job_id).and_then(|observed| {
            before = observed.dir.notifications(&observed.record);
            if before.is_empty() { Ok(Vec::new()) } else { redeliver_job(&observed.dir) }
        });
        match result {
            Ok(undelivered) => {
                answer.delivered += before.len().saturating_sub(undelivered.len());
                if !undelivered.is_empty() {
                    answer.failed.push(UndeliveredJob::new(job_id, undelivered, None));
                }
            }
            Err(error) if is_named => return Err(error.into()),
            // The job has no notifications, or it was removed in the meantime.
            Err(_) if before.is_empty() && !store.job(&job_id).has_notifications() => {}
            Err(_) if !store.job(&job_id).path().exists() => {}
            Err(error) => {
                let error = Error::from(error);
                answer.failed.push(UndeliveredJob::new(job_id, before, Some(&error)));
            }
        }
    }
    Ok(answer)
}

/// Sends the notifications of a job. A notifier tries again what was not delivered as long as it
/// would have without this call.
fn redeliver_job(job: &JobDir) -> Result<Vec<Notification>, LoadError> {
    match notifier::redeliver(job) {
        Ok((left, is_retried)) => {
            if is_retried {
                spawn_notifier(job);
            }
            Ok(left)
        }
        Err(error) => {
            // The notifier was asked to end, but not in time.
            if job.notifier_yields() {
                spawn_notifier(job);
            }
            Err(error)
        }
    }
}
