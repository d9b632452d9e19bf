//! Why a queued job waits.

use std::cell::OnceCell;

use crate::clock;
use crate::job::{
    JobId, Record, Spec, Status, Timestamp, WaitKind, WaitingFor, bounded_wait, followed_by,
    milliseconds,
};
use crate::queue::{Limit, PauseScope, PauseSet, Queue, Ticket, slot_holders};
use crate::store::{JobDir, Store, addressed};
use crate::text::plural;

/// Maximum number of jobs that a reason for a wait names.
const MAX_NAMED_JOBS: usize = 5;
/// Maximum number of dependencies in an answer.
const MAX_LISTED_JOBS: usize = 20;
/// How many jobs that wait for each other are followed to the one that has to act.
const MAX_DEPTH: usize = 5;

/// The current state of the queue, which the records of queued jobs do not contain.
#[derive(Debug)]
pub(in crate::commands) struct QueueView {
    queue: Queue,
    /// The tickets of the waiting jobs, in order.
    waiting: Vec<Ticket>,
    limits: Vec<Limit>,
    paused: PauseSet,
    /// The tickets of the jobs that have a slot, each with the command for a job that keeps its slot
    /// until somebody acts. Read when they are needed.
    holders: OnceCell<Vec<(Ticket, Option<String>)>>,
}

impl QueueView {
    /// Loads the queue of a jobs directory.
    pub(in crate::commands) fn load(store: &Store) -> Self {
        let queue = Queue::for_jobs_dir(store.root());
        let (waiting, limits) = queue.waiting_tickets();
        let paused = queue.paused();
        Self { waiting, limits, paused, queue, holders: OnceCell::new() }
    }

    /// Returns the wait of a job; `None` if it is not queued.
    pub(super) fn waiting(&self, store: &Store, record: &Record) -> Option<Waiting> {
        self.waiting_within(store, record, MAX_DEPTH)
    }

    /// Like [`waiting`](Self::waiting), where the chain of jobs that wait for each other is followed
    /// for at most `depth` jobs.
    fn waiting_within(&self, store: &Store, record: &Record, depth: usize) -> Option<Waiting> {
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
                if let Some(first) = waiting.waits_for.first() {
                    waiting.hint_of_other = Some(self.hint_of(store, first, depth));
                }
            }
            return Some(waiting);
        };
        let ticket = &self.waiting[index];
        if let Some(group) = group {
            let before = &self.waiting[..index];
            let ahead = before.iter().filter(|ticket| ticket.is_in_group(group)).count();
            waiting.in_group = Some((group.to_owned(), ahead + 1));
        }
        waiting.hint_of_other = self.stuck_holder(store, ticket);
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

    /// Returns the hint of a job for whose end another one waits.
    fn hint_of(&self, store: &Store, id: &JobId, depth: usize) -> String {
        let status = format!("claudejob status {id}");
        let Ok(record) = store.job(id).load() else { return status };
        if depth == 0 {
            return status;
        }
        let hint = match self.waiting_within(store, &record, depth - 1) {
            Some(waiting) => match waiting.waiting_for() {
                Some(WaitingFor { kind: WaitKind::Job | WaitKind::Paused, hint, .. }) => hint,
                _ => waiting.hint_of_other,
            },
            None => None,
        };
        hint.or_else(|| record.hint()).unwrap_or(status)
    }

    /// Returns the hint of a job that keeps the slot for which this one waits, if every such job keeps
    /// it until somebody acts.
    fn stuck_holder(&self, store: &Store, ticket: &Ticket) -> Option<String> {
        let holders = self.holders.get_or_init(|| {
            let tickets = self.queue.slot_tickets().into_iter();
            tickets.map(|ticket| (ticket.clone(), stuck_hint(store, &ticket.job_id))).collect()
        });
        let running: Vec<Ticket> = holders.iter().map(|(ticket, _)| ticket.clone()).collect();
        let mut first = None;
        for holder in slot_holders(ticket, &running) {
            let (_, hint) = holders.iter().find(|(ticket, _)| ticket == holder)?;
            first = first.or(Some(hint.as_ref()?));
        }
        first.cloned()
    }
}

/// Returns the command for a job that does not go on before somebody acts; `None` for any other.
fn stuck_hint(store: &Store, id: &JobId) -> Option<String> {
    let record = store.job(id).load().ok()?;
    match record.status {
        Status::Blocked | Status::Idle => record.hint(),
        _ if record.times.frozen_at.is_some() => record.hint(),
        _ => None,
    }
}

/// The wait of a queued job.
#[derive(Debug, Default)]
pub(in crate::commands) struct Waiting {
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
    /// Its group, and its position among the waiting jobs of that group, from 1.
    in_group: Option<(String, usize)>,
    /// The command to run next for the job that this one waits for, or that does not give up its slot.
    hint_of_other: Option<String>,
}

impl Waiting {
    /// Returns the wait of a job that was just queued.
    pub(in crate::commands) fn of_new_job(store: &Store, dir: &JobDir) -> Option<Self> {
        let record = dir.load().ok()?;
        // The job may have started after its worker reported that it is queued.
        let queued = Record { status: Status::Queued, ..record };
        QueueView::load(store).waiting(store, &queued)
    }

    /// Returns the wait as answers show it; `None` if it is over.
    pub(in crate::commands) fn waiting_for(&self) -> Option<WaitingFor> {
        if self.is_over {
            return None;
        }
        // The worker waits in this order.
        if let Some(at) = self.starts_at {
            return Some(WaitingFor::new(WaitKind::Time, Some(at), "its start time has not come"));
        }
        if !self.waits_for.is_empty() {
            let hint = self.hint_of_other.clone();
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
        let why = match (self.position, &self.in_group) {
            (Some(position), Some((group, in_group))) => format!(
                "it is number {position} in the queue for a slot, and number {in_group} of group {group}"
            ),
            (Some(position), None) => format!("it is number {position} in the queue for a slot"),
            (None, _) => "it is about to join the queue for a slot".to_owned(),
        };
        let holders = "claudejob list --status running  # the jobs that hold slots";
        let hint = Some(self.hint_of_other.clone().unwrap_or_else(|| holders.to_owned()));
        Some(WaitingFor { hint, ..WaitingFor::new(WaitKind::Slot, None, why) })
    }

    /// Returns the command to run next for the queued job, if that is not to wait for it: a `wait`
    /// would not return before somebody unpauses the job, or before another job has gone on.
    pub(in crate::commands) fn hint(&self, store: &Store, id: &JobId) -> Option<String> {
        let wait = self.waiting_for()?;
        let own_wait = bounded_wait(id);
        match (wait.kind, &self.hint_of_other) {
            (WaitKind::Paused, _) => wait.hint,
            (WaitKind::Job, Some(other)) if other.starts_with("claudejob wait ") => Some(own_wait),
            (WaitKind::Job | WaitKind::Slot, Some(other)) => {
                Some(followed_by(other, &addressed(store.root(), own_wait)))
            }
            _ => None,
        }
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
