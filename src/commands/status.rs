//! `status`: a job's state.

use std::cell::OnceCell;

use super::observe::{Observed, observe};
use crate::clock;
use crate::error::Error;
use crate::job::{
    Blocked, JobId, Record, Spec, Status, StatusView, Timestamp, WaitKind, WaitingFor, milliseconds,
};
use crate::queue::{Limit, Queue, Ticket};
use crate::store::{Store, addressed};
use crate::text::plural;

pub use crate::job::StatusView as StatusAnswer;

/// Undelivered notifications that an answer shows.
const ERRANDS_SHOWN: usize = 10;
/// Jobs that the sentence of a wait names.
const JOBS_NAMED: usize = 5;

/// The queue as it is now: what the records of queued jobs do not say.
#[derive(Debug)]
pub(super) struct Line {
    queue: Queue,
    /// The tickets of those who wait, in order.
    waiting: Vec<Ticket>,
    limits: Vec<Limit>,
}

impl Line {
    /// Reads the queue of this directory.
    pub(super) fn of(store: &Store) -> Self {
        let queue = Queue::for_jobs_dir(store.root());
        let (waiting, limits) = queue.waiting_tickets();
        Self { waiting, limits, queue }
    }

    /// The wait of the job of this record; `None` if it is not queued.
    pub(super) fn waiting(&self, store: &Store, record: &Record) -> Option<Waiting> {
        let id = &record.job_id;
        if record.status != Status::Queued {
            return None;
        }
        let place = self.waiting.iter().position(|ticket| ticket.job_id == *id);
        let mut waiting = Waiting { position: place.map(|at| at + 1), ..Waiting::default() };
        let Some(place) = place else {
            // Its record lags behind: it has its slot, and is about to say so.
            waiting.is_over = self.queue.has_slot(id);
            if !waiting.is_over {
                waiting.starts_at = record.starts_at().filter(|at| *at > clock::now());
                waiting.waits_for = waits_for(store, &record.spec);
            }
            return Some(waiting);
        };
        let ticket = &self.waiting[place];
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
    /// It has ended: the job is about to start.
    pub is_over: bool,
    /// Its place in the line, from 1; `None` if it is not in it yet.
    pub position: Option<usize>,
    /// When it takes its place in the line, if that is to come.
    pub starts_at: Option<Timestamp>,
    /// The jobs that it still waits for.
    pub waits_for: Vec<JobId>,
    /// The end of the limit of its login that another job met.
    pub limited_until: Option<Timestamp>,
    /// The job that met it last, or is finding out whether it is over.
    pub limited_with: Option<JobId>,
}

impl Waiting {
    /// The wait as answers show it; `None` if it is over.
    pub fn waiting_for(&self) -> Option<WaitingFor> {
        if self.is_over {
            return None;
        }
        // In the order in which the worker waits.
        if let Some(at) = self.starts_at {
            return Some(WaitingFor::new(WaitKind::Time, Some(at), "its start time has not come"));
        }
        if let Some(first) = self.waits_for.first() {
            let hint = Some(format!("claudejob wait {first}"));
            let wait = WaitingFor::new(WaitKind::Job, None, unended(&self.waits_for));
            return Some(WaitingFor { hint, ..wait });
        }
        if let Some(until) = self.limited_until {
            let (why, hint) = match &self.limited_with {
                Some(job) => (
                    format!("a limit of its login, which job {job} met, has not ended"),
                    Some(format!("claudejob status {job}")),
                ),
                None => ("a limit of the API has not ended".to_owned(), None),
            };
            let wait = WaitingFor::new(WaitKind::Limit, Some(until), why);
            return Some(WaitingFor { hint, ..wait });
        }
        let why = match self.position {
            Some(position) => format!("it is number {position} in line for a slot"),
            None => "it is about to get in line for a slot".to_owned(),
        };
        let hint = Some("claudejob list --status running  # the jobs that hold slots".to_owned());
        Some(WaitingFor { hint, ..WaitingFor::new(WaitKind::Slot, None, why) })
    }
}

fn unended(jobs: &[JobId]) -> String {
    let mut names: Vec<String> = jobs.iter().take(JOBS_NAMED).map(JobId::to_string).collect();
    if jobs.len() > JOBS_NAMED {
        names.push(plural(jobs.len() - JOBS_NAMED, "other"));
    }
    match names.as_slice() {
        [one] => format!("job {one} has not ended"),
        [first @ .., last] => format!("jobs {} and {last} have not ended", first.join(", ")),
        [] => String::new(),
    }
}

/// The jobs of `--after` and `--after-any` that have not ended.
fn waits_for(store: &Store, spec: &Spec) -> Vec<JobId> {
    let open = spec.dependencies().filter(|id| {
        let other = store.job(id).load();
        other.is_ok_and(|other| other.status.is_live())
    });
    open.take(20).cloned().collect()
}

/// The state of the job of this record.
pub(super) fn standing(store: &Store, record: &Record) -> StatusView {
    let mut answer = standing_in_line(store, record, &OnceCell::new());
    answer.map_hints(|hint| addressed(store.root(), hint));
    answer
}

/// The same, with the queue as it was read for another job, and with the commands as they are for
/// the default jobs directory.
pub(super) fn standing_in_line(
    store: &Store,
    record: &Record,
    line: &OnceCell<Line>,
) -> StatusView {
    let mut answer = StatusView::from_record(record);
    if record.status == Status::Queued
        && let Some(waiting) = line.get_or_init(|| Line::of(store)).waiting(store, record)
    {
        if waiting.is_over {
            answer.status = Status::Starting;
        }
        answer.waiting_for = waiting.waiting_for();
        answer.position = waiting.position;
        answer.starts_at = waiting.starts_at;
        answer.waits_for = waiting.waits_for;
        answer.rate_limited |= waiting.limited_until.is_some();
        answer.retry_at = answer.retry_at.or(waiting.limited_until);
    }
    answer
}

/// Returns the job's state. `full` shows the whole request that waits for an answer, however long
/// it is.
pub fn status(store: &Store, id: &JobId, full: bool) -> Result<StatusAnswer, Error> {
    let Observed { record, dir, .. } = observe(store, id)?;
    let mut answer = standing(store, &record);
    let mut errands = dir.notifications(&record);
    errands.truncate(ERRANDS_SHOWN);
    answer.set_undelivered(errands);
    if full && let Some(blocked) = &mut answer.blocked {
        let others = std::mem::take(&mut blocked.others);
        let open = super::answer::open(store, id, Some(&blocked.request_id))?;
        *blocked = Blocked { others, ..open.blocked };
    }
    Ok(answer)
}
