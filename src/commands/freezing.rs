//! Freezes and thaws the processes of running jobs.

use super::requests::{WorkerReply, request};
use super::several::FailedJob;
use crate::error::Error;
use crate::job::{FreezeSkip, InboxMessage, JobId, Record, Status};
use crate::process::has_own_marker;
use crate::queue::{PauseScope, PauseSet, Queue};
use crate::store::Store;

/// Result of freezing or thawing jobs.
#[derive(Debug, Default)]
pub(super) struct Freezing {
    pub done: Vec<JobId>,
    pub failed: Vec<FailedJob>,
}

/// Freezes the running jobs to which these pauses apply. The pauses exist already, so that a job
/// that does not run now is held back.
pub(super) fn freeze(
    store: &Store,
    queue: &Queue,
    pauses: &[PauseScope],
) -> Result<Freezing, Error> {
    let scope: PauseSet = pauses.iter().cloned().collect();
    let running = queue.running_tickets();
    let mut ids = live_jobs(store, |record| {
        // The record of a job that has just been admitted lags behind.
        let runs = record.status != Status::Queued
            || running.iter().any(|ticket| ticket.job_id == record.job_id);
        runs && applies(&scope, record)
    })?;
    let own = ids.iter().position(|id| is_own(store, id));
    let own = own.map(|at| ids.remove(at));
    let mut freezing = send(store, &ids, &InboxMessage::Freeze, |id, reply| {
        match (reply.event.as_str(), reply.why) {
            ("frozen", _) => Ok(true),
            (_, Some(FreezeSkip::NoClaude | FreezeSkip::NotPaused)) => Ok(false),
            (_, Some(FreezeSkip::Ending)) => Err(not_frozen(id, "its claude is ending")),
            (_, Some(FreezeSkip::Unstoppable)) => {
                Err(not_frozen(id, "its processes cannot be stopped"))
            }
            _ => Err(not_frozen(id, "its worker is of an earlier version of this program")),
        }
    });
    if let Some(own) = own {
        let error = not_frozen(&own, "this command runs in it");
        freezing.failed.push(FailedJob::new(store, own, &error));
    }
    Ok(freezing)
}

/// Whether this process belongs to the job: it would stop before it has answered.
fn is_own(store: &Store, id: &JobId) -> bool {
    has_own_marker(store.job(id).path())
}

/// Lets the frozen jobs continue that no pause holds, and those that are `named`.
pub(super) fn thaw(store: &Store, queue: &Queue, named: &[PauseScope]) -> Result<Freezing, Error> {
    let paused = queue.paused();
    let ids = live_jobs(store, |record| {
        let is_named = named.contains(&PauseScope::Job(record.job_id.clone()));
        record.times.frozen_at.is_some() && (is_named || !applies(&paused, record))
    })?;
    Ok(send(store, &ids, &InboxMessage::Thaw, |_, _| Ok(true)))
}

fn applies(pauses: &PauseSet, record: &Record) -> bool {
    let group = record.spec.queue_options.group.as_deref();
    pauses.find(&record.job_id, group).is_some()
}

fn not_frozen(id: &JobId, why: &str) -> Error {
    Error::NotFrozen(id.to_string(), why.to_owned())
}

/// Returns the jobs with a live worker whose records are chosen.
fn live_jobs(store: &Store, is_chosen: impl Fn(&Record) -> bool) -> Result<Vec<JobId>, Error> {
    let mut ids = Vec::new();
    for job in store.summaries()?.1 {
        if job.ended.is_some() {
            continue;
        }
        let dir = store.job(&job.id);
        let Ok(record) = dir.load() else { continue };
        if record.status.is_live() && record.is_writable() && is_chosen(&record) && dir.may_live() {
            ids.push(job.id);
        }
    }
    Ok(ids)
}

/// Sends the message to the jobs. `check` says whether a reply means that it was done. A job that
/// has ended meanwhile needs neither.
fn send(
    store: &Store,
    ids: &[JobId],
    message: &InboxMessage,
    check: impl Fn(&JobId, &WorkerReply) -> Result<bool, Error>,
) -> Freezing {
    let mut result = Freezing::default();
    for (id, reply) in request(store, ids, message) {
        match reply.and_then(|reply| check(&id, &reply)) {
            Ok(true) => result.done.push(id),
            Ok(false) | Err(Error::JobEnded(..) | Error::JobRemoved(_) | Error::NotFound(_)) => {}
            Err(error) => result.failed.push(FailedJob::new(store, id, &error)),
        }
    }
    result
}
