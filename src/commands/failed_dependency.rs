//! Jobs that failed because another one did.

use super::observe::try_load_checked;
use crate::error::Error;
use crate::job::{Reason, Record, Status, followed_by};
use crate::store::{Store, addressed};

/// How many jobs that failed because of each other are followed to the first.
const MAX_DEPTH: usize = 10;

/// Returns the record of the dependency that made the job fail, if that one has neither completed
/// nor been continued since.
pub(super) fn failed_dependency(store: &Store, record: &Record) -> Option<Record> {
    if record.reason != Some(Reason::DependencyFailed) {
        return None;
    }
    for id in &record.spec.after {
        if let Ok(observed) = try_load_checked(store, id)
            && !observed.live
            && observed.record.status != Status::Completed
        {
            return Some(observed.record);
        }
    }
    None
}

/// Refuses to continue a job that would fail at once, because its dependency has failed. The hint
/// continues the dependency first, or shows why that cannot be done.
pub(super) fn refuse_failed_dependency(store: &Store, record: &Record) -> Result<(), Error> {
    let Some(mut failed) = failed_dependency(store, record) else { return Ok(()) };
    let (id, other, status) = (&record.job_id, failed.job_id.clone(), failed.status);
    // The second and later commands: the first one gets the option for the jobs directory later.
    let mut then = addressed(store.root(), format!("claudejob resume {id}"));
    for _ in 0..MAX_DEPTH {
        let Some(next) = failed_dependency(store, &failed) else { break };
        let resume = addressed(store.root(), format!("claudejob resume {}", failed.job_id));
        then = format!("{resume} && {then}");
        failed = next;
    }
    let hint = failed.hint().unwrap_or_default();
    let continues = ["claudejob resume ", "claudejob recover "];
    let hint = if continues.iter().any(|verb| hint.starts_with(verb)) {
        followed_by(&hint, &then)
    } else {
        hint
    };
    let why = format!("it needs job {other}, which is {status}");
    Err(Error::DependencyFailed { id: id.to_string(), why, hint })
}
