//! The jobs that work in a worktree.

use crate::job::{JobId, Record, Status};
use crate::store::{Preparation, Store};

/// Returns another live job that works in the worktree at this path. A queued job does not work
/// there yet, nor does one whose worker has just begun: it may have to wait for this job.
pub(super) fn worker_in(store: &Store, path: &str, own: &Record) -> Option<JobId> {
    let works_there = |record: &Record| match record.status {
        Status::Queued => false,
        Status::Starting => store.job(&record.job_id).preparation() != Preparation::default(),
        _ => true,
    };
    user_of(store, path, |record| record.job_id != own.job_id && works_there(record))
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
