//! A start whose id is in use.

use super::{StartAnswer, next_commands};
use crate::claude::Env;
use crate::commands::engine_jobs::Ask;
use crate::commands::observe::{Observed, observe};
use crate::commands::recover::recover;
use crate::commands::status::status_view;
use crate::error::Error;
use crate::job::JobId;
use crate::store::{OUTPUT, Store};

/// Returns the answer for a job that exists, with `--if-absent`. A job whose start was interrupted, so
/// that claude never ran for it, is started again: the caller repeats the call to complete it.
pub(super) fn existing_answer(
    store: &Store,
    id: &JobId,
    if_absent: bool,
    env: &Env,
) -> Result<StartAnswer, Error> {
    if !if_absent {
        return Err(Error::Exists(id.to_string()));
    }
    let mut warnings = Vec::new();
    if never_ran(&observe(store, id)?) {
        match recover(store, id, env) {
            Ok(recovered) => warnings = recovered.warnings,
            // Another call has just done so.
            Err(Error::NotRecoverable(..)) => {}
            Err(error) => return Err(error),
        }
    }
    let status = status_view(store, &observe(store, id)?.record, Ask::One);
    Ok(StartAnswer {
        next: next_commands(store, id),
        job_id: status.job_id,
        pid: status.pid,
        status: status.status,
        existing: true,
        warnings,
        waits_for: status.waits_for,
        waiting_for: status.waiting_for,
        hint: status.hint,
    })
}

/// Returns whether the job was interrupted before its first claude was started.
fn never_ran(observed: &Observed) -> bool {
    let record = &observed.record;
    record.is_cut_off() && record.attempt.number == 1 && !observed.dir.file(OUTPUT).exists()
}
