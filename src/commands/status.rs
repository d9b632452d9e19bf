//! `status`: shows the state of a job.

mod text;
mod waiting;

use std::cell::OnceCell;

use clap::Args;

use super::Call;
use super::engine_jobs::{self, Ask};
use super::host_takeover::take_over;
use super::observe::{Observed, observe};
use crate::arguments::{FORCE_HOST, JobName};
use crate::error::{Error, ExitStatus};
use crate::job::{Activity, Blocked, JobId, Notification, Record, Status, StatusView};
use crate::store::{JobDir, Store, addressed};
use crate::worktree::inspect;

pub(super) use self::waiting::{QueueView, Waiting};
pub(crate) use crate::job::StatusView as StatusAnswer;

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(after_help = "Example: claudejob status fix-login")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    target: JobName,
    /// Show the whole open request
    #[arg(long)]
    full: bool,
    /// Treat live jobs of other machines as lost
    #[arg(long, long_help = FORCE_HOST)]
    force_host: bool,
}

impl StatusArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let id = call.job_or_last(&store, &self.target)?;
        if self.force_host {
            take_over(&store, std::slice::from_ref(&id))?;
        }
        call.print(&status(&store, &id, self.full)?)
    }
}

/// Maximum number of undelivered notifications in an answer.
const MAX_NOTIFICATIONS: usize = 10;
/// Returns the state of the job with this record.
pub(super) fn status_view(store: &Store, record: &Record, ask: Ask) -> StatusView {
    let mut answer = status_view_in_queue(store, record, &OnceCell::new(), ask);
    answer.map_hints(|hint| addressed(store.root(), hint));
    answer
}

/// Like [`status_view`], but with a queue that may have been loaded for another job, and with hints
/// that lack `--jobs-dir`.
pub(super) fn status_view_in_queue(
    store: &Store,
    record: &Record,
    queue: &OnceCell<QueueView>,
    ask: Ask,
) -> StatusView {
    if record.spec.engine.is_some() {
        return engine_jobs::view(&store.job(&record.job_id), record, ask);
    }
    let mut answer = StatusView::from_record(record);
    if record.status == Status::Running
        && record.spec.needs_preparation()
        && let Some(step) = store.job(&record.job_id).preparation().step
    {
        answer.activity = Some(Activity { tool: None, text: step.describe().to_owned() });
    }
    if record.status == Status::Queued
        && let Some(waiting) = queue.get_or_init(|| QueueView::load(store)).waiting(store, record)
    {
        if waiting.is_over {
            answer.status = Status::Starting;
        }
        answer.waiting_for = waiting.waiting_for();
        if let Some(hint) = waiting.hint(store, &record.job_id) {
            answer.hint = Some(hint);
        }
        answer.position = waiting.position;
        answer.starts_at = waiting.starts_at;
        answer.waits_for = waiting.waits_for;
        answer.rate_limited |= waiting.limited_until.is_some();
        answer.retry_at = answer.retry_at.or(waiting.limited_until);
    }
    answer
}

/// Returns the notifications of a job that were not delivered, with their hints.
pub(super) fn undelivered(store: &Store, dir: &JobDir, record: &Record) -> Vec<Notification> {
    let hint = addressed(store.root(), format!("claudejob redeliver {}", record.job_id));
    let mut notifications = dir.notifications(record);
    for notification in &mut notifications {
        notification.hint = Some(hint.clone());
    }
    notifications
}

/// Returns the job's state. With `full`, a request that waits for an answer is not shortened.
pub(crate) fn status(store: &Store, id: &JobId, full: bool) -> Result<StatusAnswer, Error> {
    let Observed { record, dir, .. } = observe(store, id)?;
    let mut answer = status_view(store, &record, Ask::One);
    let mut notifications = undelivered(store, &dir, &record);
    notifications.truncate(MAX_NOTIFICATIONS);
    answer.set_undelivered(notifications);
    answer.worktree = record.spec.worktree.as_ref().map(inspect);
    if full && let Some(blocked) = &mut answer.blocked {
        let others = std::mem::take(&mut blocked.others);
        let open = super::answer::open(store, id, Some(&blocked.request_id))?;
        *blocked = Blocked { others, ..open.blocked };
    }
    Ok(answer)
}
