//! Jobs of other machines: refused, or taken over with `--force-host`, which declares their machine
//! gone for good.

use crate::error::Error;
use crate::job::{JobId, Record};
use crate::store::{JobDir, Liveness, Store};

/// Takes over the live jobs of other machines among these, so that this machine treats them as
/// lost.
pub(crate) fn take_over(store: &Store, ids: &[JobId]) -> Result<(), Error> {
    for id in ids {
        take_over_one(store, id)?;
    }
    Ok(())
}

fn take_over_one(store: &Store, id: &JobId) -> Result<(), Error> {
    let dir = store.job(id);
    // The verb itself reports a job that does not exist or cannot be read.
    let Ok(()) = dir.check() else { return Ok(()) };
    if !dir.is_shared() {
        return Ok(());
    }
    // A held lock shows that the other machine's locks are visible here, and that the worker lives.
    let Some(_lock) = dir.try_lock()? else { return Ok(()) };
    let Ok(mut record) = dir.load() else { return Ok(()) };
    if !record.is_writable() {
        return Ok(());
    }
    let host = match dir.liveness_if_unlocked(&record) {
        Liveness::OtherMachine(host) => host,
        Liveness::Ended => {
            // The machine may have been about to launch the next attempt.
            dir.revoke_claim(record.attempt.number + 1);
            return Ok(());
        }
        Liveness::Live | Liveness::Lost => return Ok(()),
    };
    // The boot id is kept: it shows that the worker is not a process of the current boot.
    let boot_id = record.worker.boot_id.take();
    record.set_host();
    record.worker.boot_id = boot_id;
    record.warn(format!("it ran on {host}, which --force-host declared gone for good"));
    dir.save(&record, false)?;
    Ok(())
}

/// Refuses a live job that another machine may be running. A job whose lock is held is known to
/// run, so it is not refused.
pub(super) fn refuse_other_host(dir: &JobDir, record: &Record) -> Result<(), Error> {
    match dir.liveness(record)? {
        Liveness::OtherMachine(host) => Err(Error::OtherHost(record.job_id.to_string(), host)),
        Liveness::Ended | Liveness::Live | Liveness::Lost => Ok(()),
    }
}
