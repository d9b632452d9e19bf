//! `status`: shows the state of a job.

mod text;

use std::cell::OnceCell;

use clap::Args;

use super::Call;
use super::host_takeover::take_over;
use super::observe::{Observed, observe};
use crate::arguments::{FORCE_HOST, JobName};
use crate::clock;
use crate::error::{Error, ExitStatus};
use crate::job::{
    Blocked, JobId, Record, Spec, Status, StatusView, Timestamp, WaitKind, WaitingFor, milliseconds,
};
use crate::queue::{Limit, PauseScope, PauseSet, Queue, Ticket};
use crate::store::{Store, addressed};
use crate::text::plural;

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
/// Maximum number of jobs that a reason for a wait names.
const MAX_NAMED_JOBS: usize = 5;
/// Maximum number of dependencies in an answer.
const MAX_LISTED_JOBS: usize = 20;

/// The current state of the queue, which the records of queued jobs do not contain.
#[derive(Debug)]
pub(super) struct QueueView {
    queue: Queue,
    /// The tickets of the waiting jobs, in order.
    waiting: Vec<Ticket>,
    limits: Vec<Limit>,
    paused: PauseSet,
}

impl QueueView {
    /// Loads the queue of a jobs directory.
    pub(super) fn load(store: &Store) -> Self {
        let queue = Queue::for_jobs_dir(store.root());
        let (waiting, limits) = queue.waiting_tickets();
        let paused = queue.paused();
        Self { waiting, limits, paused, queue }
    }

    /// Returns the wait of a job; `None` if it is not queued.
    pub(super) fn waiting(&self, store: &Store, record: &Record) -> Option<Waiting> {
        let id = &record.job_id;
        if record.status != Status::Queued {
            return None;
        }
        let index = self.waiting.iter().position(|ticket| ticket.job_id == *id);
        let group = record.spec.queue_options.group.as_deref();
        let mut waiting = Waiting {
            position: index.map(|at| at + 1),
            paused: self.paused.find(id, group),
            ..Waiting::default()
        };
        let Some(index) = index else {
            // The record lags behind: a job that has a slot is about to be recorded as running.
            waiting.is_over = self.queue.has_slot(id);
            if !waiting.is_over {
                if let Some(at) = record.starts_at()
                    && at > clock::now()
                {
                    waiting.starts_at = Some(at);
                }
                waiting.waits_for = waits_for(store, &record.spec);
            }
            return Some(waiting);
        };
        let ticket = &self.waiting[index];
        for limit in &self.limits {
            let Some(until) = limit.ends_at() else { continue };
            let left = milliseconds(until.since(clock::now()));
            let waits = limit.applies_to(&ticket.login) && ticket.options.waits_for_limit(left);
            if waits && waiting.limited_until.is_none_or(|latest| latest < until) {
                waiting.limited_until = Some(until);
                waiting.limited_with = limit.job().cloned();
            }
        }
        Some(waiting)
    }
}

/// The wait of a queued job.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// The wait is over: the job is about to start.
    pub is_over: bool,
    /// Position in the queue, from 1; `None` if the job has not joined it yet.
    pub position: Option<usize>,
    /// When the job joins the queue, if that is in the future.
    pub starts_at: Option<Timestamp>,
    /// The unfinished jobs that the job waits for.
    pub waits_for: Vec<JobId>,
    /// The pause that holds the job back.
    pub paused: Option<PauseScope>,
    /// End of the limit of its login that another job reached.
    pub limited_until: Option<Timestamp>,
    /// The job that reached the limit last, or is testing whether it is over.
    pub limited_with: Option<JobId>,
}

impl Waiting {
    /// Returns the wait as answers show it; `None` if it is over.
    pub(super) fn waiting_for(&self) -> Option<WaitingFor> {
        if self.is_over {
            return None;
        }
        // The worker waits in this order.
        if let Some(at) = self.starts_at {
            return Some(WaitingFor::new(WaitKind::Time, Some(at), "its start time has not come"));
        }
        if let Some(first) = self.waits_for.first() {
            let hint = Some(format!("claudejob wait {first}"));
            let wait = WaitingFor::new(WaitKind::Job, None, describe_unfinished(&self.waits_for));
            return Some(WaitingFor { hint, ..wait });
        }
        if let Some(pause) = &self.paused {
            return Some(pause.waiting_for());
        }
        if let Some(until) = self.limited_until {
            let (why, hint) = match &self.limited_with {
                Some(job) => (
                    format!("a limit of its login, reached by job {job}, has not ended"),
                    Some(format!("claudejob status {job}")),
                ),
                None => ("a limit of the API has not ended".to_owned(), None),
            };
            let wait = WaitingFor::new(WaitKind::Limit, Some(until), why);
            return Some(WaitingFor { hint, ..wait });
        }
        let why = match self.position {
            Some(position) => format!("it is number {position} in the queue for a slot"),
            None => "it is about to join the queue for a slot".to_owned(),
        };
        let hint = Some("claudejob list --status running  # the jobs that hold slots".to_owned());
        Some(WaitingFor { hint, ..WaitingFor::new(WaitKind::Slot, None, why) })
    }
}

fn describe_unfinished(jobs: &[JobId]) -> String {
    let mut names: Vec<String> = jobs.iter().take(MAX_NAMED_JOBS).map(JobId::to_string).collect();
    if jobs.len() > MAX_NAMED_JOBS {
        names.push(plural(jobs.len() - MAX_NAMED_JOBS, "other"));
    }
    match names.as_slice() {
        [one] => format!("job {one} has not ended"),
        [first @ .., last] => format!("jobs {} and {last} have not ended", first.join(", ")),
        [] => String::new(),
    }
}

/// Returns the jobs of `--after` and `--after-any` that have not ended.
fn waits_for(store: &Store, spec: &Spec) -> Vec<JobId> {
    let mut live = Vec::new();
    for id in spec.dependencies() {
        if live.len() < MAX_LISTED_JOBS
            && store.job(id).load().is_ok_and(|record| record.status.is_live())
        {
            live.push(id.clone());
        }
    }
    live
}

/// Returns the state of the job with this record.
pub(super) fn status_view(store: &Store, record: &Record) -> StatusView {
    let mut answer = status_view_in_queue(store, record, &OnceCell::new());
    answer.map_hints(|hint| addressed(store.root(), hint));
    answer
}

/// Like [`status_view`], but with a queue that may have been loaded for another job, and with hints
/// that lack `--jobs-dir`.
pub(super) fn status_view_in_queue(
    store: &Store,
    record: &Record,
    queue: &OnceCell<QueueView>,
) -> StatusView {
    let mut answer = StatusView::from_record(record);
    if record.status == Status::Queued
        && let Some(waiting) = queue.get_or_init(|| QueueView::load(store)).waiting(store, record)
    {
        if waiting.is_over {
            answer.status = Status::Starting;
        }
        answer.waiting_for = waiting.waiting_for();
        if waiting.paused.is_some()
            && let Some(wait) = &answer.waiting_for
            && wait.kind == WaitKind::Paused
        {
            // `wait` would not return before somebody unpauses the job.
            answer.hint.clone_from(&wait.hint);
        }
        answer.position = waiting.position;
        answer.starts_at = waiting.starts_at;
        answer.waits_for = waiting.waits_for;
        answer.rate_limited |= waiting.limited_until.is_some();
        answer.retry_at = answer.retry_at.or(waiting.limited_until);
    }
    answer
}

/// Returns the job's state. With `full`, a request that waits for an answer is not shortened.
pub(crate) fn status(store: &Store, id: &JobId, full: bool) -> Result<StatusAnswer, Error> {
    let Observed { record, dir, .. } = observe(store, id)?;
    let mut answer = status_view(store, &record);
    let mut notifications = dir.notifications(&record);
    notifications.truncate(MAX_NOTIFICATIONS);
    answer.set_undelivered(notifications);
    if full && let Some(blocked) = &mut answer.blocked {
        let others = std::mem::take(&mut blocked.others);
        let open = super::answer::open(store, id, Some(&blocked.request_id))?;
        *blocked = Blocked { others, ..open.blocked };
    }
    Ok(answer)
}
