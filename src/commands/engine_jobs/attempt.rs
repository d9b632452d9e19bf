//! Another attempt of a job whose workers an engine starts.

use super::Unsubmitted;
use crate::error::Error;
use crate::fault_point::fault_point;
use crate::job::{Record, Spec, Status};
use crate::store::{Claim, ClaimKind, EpochEntry, JobDir, OUTPUT};

/// Continues an ended job: claims it, and prepares its record by `begin` for the worker that the engine
/// starts when the job is submitted. Fails with `raced` if another process continues it.
pub(in crate::commands) fn begin_attempt(
    dir: &JobDir,
    spec: Spec,
    raced: impl FnOnce() -> Error,
    begin: impl FnOnce(&JobDir, &mut Record) -> Result<(), Error>,
) -> Result<Unsubmitted, Error> {
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
    // The engine has ended the job that has this name.
    owner.remove_engine_ref()?;
    owner.open_inbox()?;
    owner.save(&record, false)?;
    let dir = owner.publish_epoch()?;
    fault_point("attempt:saved");
    Ok(Unsubmitted { dir, record })
}
