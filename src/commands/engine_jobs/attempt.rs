//! Another attempt of a job whose workers an engine starts.

use super::{SUBMIT_TIMEOUT, from_engine_error, kind, references};
use crate::error::Error;
use crate::fault_point::fault_point;
use crate::finalize::end_claimed;
use crate::job::{Reason, Record, Spec, Status, Verdict};
use crate::launch::{Submission, engine};
use crate::store::{Claim, ClaimKind, EpochEntry, JobDir, OUTPUT, Store};

/// Continues an ended job: claims it, prepares its record by `begin` for the worker that the engine
/// starts, and submits it. Fails with `raced` if another process continues it.
pub(in crate::commands) fn begin_attempt(
    store: &Store,
    dir: &JobDir,
    spec: Spec,
    raced: impl FnOnce() -> Error,
    begin: impl FnOnce(&JobDir, &mut Record) -> Result<(), Error>,
) -> Result<Record, Error> {
    let Some(kind) = kind(&spec) else { return Err(raced()) };
    let engine =
        engine(kind, SUBMIT_TIMEOUT).map_err(|error| from_engine_error(dir.id(), &error))?;
    let Some(last) = dir.last_entry()? else { return Err(raced()) };
    let EpochEntry::End(ended) = last.entry else { return Err(raced()) };
    let claim = Claim::new(ClaimKind::Submit, None);
    let Some(owner) = dir.claim_epoch(last.number + 1, &claim)? else { return Err(raced()) };
    fault_point("attempt:claimed");
    owner.copy_predecessor()?;
    let _lock = owner.try_lock()?;
    let mut record = owner.load()?;
    if let Err(error) = begin(&owner, &mut record) {
        // As it was before.
        owner.publish_epoch()?.save_end(&ended)?;
        return Err(error);
    }
    record.spec = spec;
    record.status = Status::Queued;
    record.worker = Default::default();
    record.attempt.log_start = owner.length(OUTPUT);
    owner.open_inbox()?;
    owner.save(&record, false)?;
    let owner = owner.publish_epoch()?;
    fault_point("attempt:saved");
    let after = references(store, &record.spec);
    let submission = Submission { dir, spec: &record.spec, after };
    match engine.submit(&[submission]).pop() {
        Some(Ok(job)) => owner.save_engine_ref(&job)?,
        Some(Err(error)) => {
            let verdict = Verdict::failed(Reason::LaunchFailed, error.to_string());
            end_claimed(&owner, record, &verdict);
            return Err(from_engine_error(dir.id(), &error));
        }
        None => {}
    }
    Ok(record)
}
