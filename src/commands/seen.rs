//! A job as a caller sees it: its record, held against its lock.

use std::time::Duration;

use crate::error::Error;
use crate::job::{JobId, Outcome, Record, Timestamp, Verdict};
use crate::process::{self, Mark};
use crate::store::{self, EVENTS, JobDir, LoadError, META, OUTPUT, Store};
use crate::supervisor;

/// How often, and how far apart, what a dead worker left behind is ended.
const SWEEP_ROUNDS: usize = 100;
const SWEEP_PAUSE: Duration = Duration::from_millis(10);

/// A job that was looked at.
#[derive(Debug)]
pub(super) struct Seen {
    /// Its directory.
    pub dir: JobDir,
    /// Its record, true at the moment of looking.
    pub record: Record,
    /// Whether it has a worker.
    pub live: bool,
}

/// Looks at a job. One that is recorded as live and has no worker is *lost*: what is left of it
/// is ended and its end is written.
pub(super) fn look(store: &Store, id: &JobId) -> Result<Seen, Error> {
    let dir = store.job(id);
    let record = dir.load().map_err(|error| Error::load(id.as_str(), error))?;
    Ok(hold_against_lock(dir, record))
}

/// The same for a listing, where what cannot be read must not spoil the rest.
pub(super) fn look_leniently(store: &Store, id: &JobId) -> Result<Seen, LoadError> {
    let dir = store.job(id);
    dir.load().map(|record| hold_against_lock(dir, record))
}

fn hold_against_lock(dir: JobDir, mut record: Record) -> Seen {
    if !record.status.is_live() {
        return Seen { dir, record, live: false };
    }
    if record.version == 0 {
        let dead = store::legacy_is_dead(&record);
        if dead {
            record.end(&supervisor::lost(&record, None), ended_at(&dir, &record));
        } else {
            record.warn("a record of the Node skill: that the job lives is not certain");
        }
        return Seen { dir, record, live: !dead };
    }
    match dir.is_held() {
        Ok(true) => Seen { dir, record, live: true },
        Ok(false) => {
            let record = settle(&dir, record, None);
            let live = record.status.is_live();
            Seen { dir, record, live }
        }
        Err(error) => {
            record.warn(format!("whether the job lives is not known: {error}"));
            Seen { dir, record, live: true }
        }
    }
}

/// Writes the end of a lost job: `verdict`, or else what the evidence says. Gives the record as
/// it is then.
pub(super) fn settle(dir: &JobDir, mut record: Record, verdict: Option<Verdict>) -> Record {
    let lock = dir.try_lock();
    if let Ok(None) = lock {
        // Another reader is at it, or a worker came to life: its word counts, not ours.
        return dir.load().unwrap_or(record);
    }
    if lock.is_ok()
        && let Ok(now) = dir.load()
    {
        // It may have ended by itself between the look and the lock.
        record = now;
        if !record.status.is_live() {
            return record;
        }
    }
    let mark = Mark::new(dir.path());
    let (_, left) = process::sweep_orphans(mark, SWEEP_ROUNDS, SWEEP_PAUSE, &store::is_live_job);
    if left > 0 {
        record.warn(format!("{left} processes of the job could not be ended"));
    }
    let at = ended_at(dir, &record);
    // A worker that died after it had written the result had reached a verdict.
    let reached = dir.outcome().filter(|outcome| !outcome.status.is_live());
    let verdict = reached
        .as_ref()
        .and_then(verdict_of)
        .or(verdict)
        .unwrap_or_else(|| supervisor::lost(&record, process::boot_id().as_deref()));
    record.end(&verdict, at);
    if lock.is_ok() && record.is_ours_to_write() {
        // If it cannot be written, the next who looks comes to the same end.
        if reached.is_none() {
            let _ = dir.save_outcome(&outcome_of(&record));
        }
        let _ = dir.save(&record);
    }
    record
}

/// The result of a job as far as its record knows it.
pub(super) fn outcome_of(record: &Record) -> Outcome {
    Outcome {
        job_id: record.job_id.clone(),
        status: record.status,
        reason: record.reason,
        error: record.error.clone(),
        result: None,
        result_omitted_bytes: 0,
        cost_usd: record.cost_usd,
        duration_ms: record.elapsed_ms,
        num_turns: record.num_turns,
        session_id: record.session_id.clone(),
        usage: None,
        permission_denials: Vec::new(),
        structured_output: None,
        warnings: record.warnings.clone(),
    }
}

fn verdict_of(outcome: &Outcome) -> Option<Verdict> {
    use crate::job::Status;
    match (outcome.status, outcome.reason) {
        (Status::Completed, _) => Some(Verdict::Completed),
        (Status::Killed, _) => Some(Verdict::Killed),
        (Status::Failed, Some(reason)) => {
            Some(Verdict::failed(reason, outcome.error.clone().unwrap_or_default()))
        }
        _ => None,
    }
}

/// The last sign of life: when anything was last written.
fn ended_at(dir: &JobDir, record: &Record) -> Timestamp {
    let written = [META, OUTPUT, EVENTS].into_iter().filter_map(|name| {
        let at = std::fs::metadata(dir.file(name)).ok()?.modified().ok()?;
        let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
        Timestamp::from_epoch_ms(i64::try_from(since.as_millis()).ok()?)
    });
    let known = [record.last_event_at, record.started_at];
    written.chain(known.into_iter().flatten()).max().unwrap_or_else(crate::clock::now)
}
