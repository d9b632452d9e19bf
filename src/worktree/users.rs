//! The jobs that work in a worktree.

use std::collections::BTreeSet;

use crate::job::{JobId, Record, Spec, Status};
use crate::store::Store;

/// Returns another live job that works in the worktree at this path. A queued job does not work
/// there yet, nor does one that waits for `own` and was created just now: it is not queued so far.
pub(super) fn worker_in(store: &Store, path: &str, own: &Record) -> Option<JobId> {
    let is_other = |record: &Record| {
        record.job_id != own.job_id
            && record.status != Status::Queued
            && !awaited_by(store, &record.spec).contains(&own.job_id)
    };
    user_of(store, path, is_other)
}

/// Returns the live jobs for which a job waits, also by others: it may follow them in the same
/// worktree.
pub(crate) fn awaited_by(store: &Store, spec: &Spec) -> BTreeSet<JobId> {
    let mut all = BTreeSet::new();
    let mut open: Vec<JobId> = spec.dependencies().cloned().collect();
    while let Some(id) = open.pop() {
        if let Ok(record) = store.job(&id).load()
            && record.status.is_live()
            && all.insert(id)
        {
            open.extend(record.spec.dependencies().cloned());
        }
    }
    all
}

/// Returns a live job with the worktree at this path, of those that `counts` selects.
pub(crate) fn user_of(
    store: &Store,
    path: &str,
    counts: impl Fn(&Record) -> bool,
) -> Option<JobId> {
    let (_, jobs) = store.summaries().ok()?;
    for listed in jobs {
        let job = store.job(&listed.id);
        if listed.ended.is_none()
            && let Ok(record) = job.load()
            && record.status.is_live()
            && record.spec.worktree.as_ref().is_some_and(|worktree| worktree.path == path)
            && counts(&record)
            && job.is_held().unwrap_or(true)
        {
            return Some(listed.id);
        }
    }
    None
}
