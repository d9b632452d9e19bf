//! Jobs whose workers an engine starts: their submission.

mod attempt;
mod ending;
mod states;
mod view;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::error::Error;
use crate::fault_point::fault_point;
use crate::finalize::{end_claimed, end_on_engine};
use crate::job::{EngineKind, EngineRef, JobId, Reason, Record, Spec, Verdict};
use crate::launch::{EngineError, Submission, engine};
use crate::store::{JobDir, Store};

pub(super) use attempt::begin_attempt;
pub(super) use ending::{kill, wake};
pub(super) use states::Ask;
pub(super) use states::forget_answers;
pub(super) use view::{is_live, may_restart, settle, view};

/// Time limit of a submission: longer than Slurm's commands wait for its controller.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Converts an error of an engine's command about a job.
fn from_engine_error(id: &JobId, error: &EngineError) -> Error {
    let (id, why) = (id.to_string(), error.to_string());
    if error.is_temporary {
        Error::EngineUnavailable { id, why }
    } else {
        Error::EngineRefused { id, why }
    }
}

/// Returns the engine of the jobs with this specification; `None` for jobs of this machine.
pub(super) fn kind(spec: &Spec) -> Option<EngineKind> {
    spec.engine.as_ref().map(|engine| engine.kind)
}

/// A job that is recorded as queued, and that its engine has not got yet.
#[derive(Debug)]
pub(super) struct Unsubmitted {
    /// Of a job that continues, with the epoch of this process.
    pub dir: JobDir,
    pub record: Record,
}

/// Submits jobs, given in an order in which each one comes after those that it waits for. Returns a
/// result for each, up to the first that the engine does not accept and those that were submitted
/// together with that one. What the engine has not accepted is undone.
pub(super) fn submit(store: &Store, jobs: &[Unsubmitted]) -> Vec<Result<EngineRef, Error>> {
    let mut results: Vec<Result<EngineRef, Error>> = Vec::new();
    while results.len() < jobs.len() && !results.iter().any(Result::is_err) {
        let rest = &jobs[results.len()..];
        results.extend(submit_together(store, &rest[..count_independent(rest)]));
    }
    results
}

/// Returns how many of the first jobs do not wait for each other: what the engine calls a job that
/// another one waits for has to be known.
fn count_independent(jobs: &[Unsubmitted]) -> usize {
    let mut ids = BTreeSet::new();
    for job in jobs {
        if job.record.spec.dependencies().any(|id| ids.contains(id)) {
            break;
        }
        ids.insert(job.dir.id());
    }
    ids.len()
}

/// Submits jobs that do not wait for each other.
fn submit_together(store: &Store, jobs: &[Unsubmitted]) -> Vec<Result<EngineRef, Error>> {
    let mut submissions = Vec::new();
    for Unsubmitted { dir, record } in jobs {
        let after = references(store, &record.spec);
        let delay = record.starts_at().map_or(0, |_| record.spec.start_delay_ms);
        let delay = Duration::from_millis(delay);
        submissions.push(Submission { dir, spec: &record.spec, delay, after });
    }
    let kind = jobs.first().and_then(|job| kind(&job.record.spec)).unwrap_or(EngineKind::Unknown);
    let submitted = match engine(kind, SUBMIT_TIMEOUT) {
        Ok(engine) => engine.submit(&submissions),
        Err(error) => vec![Err(error)],
    };
    fault_point("engine:submitted");
    let result = |(job, submitted): (&Unsubmitted, Result<EngineRef, EngineError>)| {
        let reference = submitted.map_err(|error| undo(job, &error))?;
        // Without it the job is found by the name of its submission, and its worker writes it.
        let _ = job.dir.save_engine_ref(&reference);
        Ok(reference)
    };
    jobs.iter().zip(submitted).map(result).collect()
}

/// Removes a new job that was not submitted. If that is uncertain, or the job continues, it gets a
/// verdict, so that a worker which starts nevertheless does nothing.
fn undo(job: &Unsubmitted, error: &EngineError) -> Error {
    let Unsubmitted { dir, record } = job;
    let verdict = Verdict::failed(Reason::LaunchFailed, error.to_string());
    if dir.is_claimed() {
        end_claimed(dir, record.clone(), &verdict);
    } else if error.may_have_worked {
        end_on_engine(dir, record.clone(), Some(verdict));
        return Error::Launch { id: dir.id().to_string(), why: error.to_string() };
    } else {
        discard(dir);
    }
    from_engine_error(dir.id(), error)
}

/// Removes a job that no engine has got. It stays as queued if that fails, and can be killed.
pub(super) fn discard(dir: &JobDir) {
    if let Ok(Some(_lock)) = dir.try_lock() {
        let _ = dir.discard();
    }
}

/// Returns what the engine calls the live jobs that a job waits for.
fn references(store: &Store, spec: &Spec) -> Vec<EngineRef> {
    let reference = |id| {
        let dir = store.job(id);
        let record = dir.load().ok().filter(|record| record.status.is_live())?;
        states::reference(&dir, &record)
    };
    spec.dependencies().filter_map(reference).collect()
}

/// Refuses a job on an engine that waits for a live job of this machine, or the other way round:
/// neither could see the end of the other.
pub(super) fn check_dependencies(store: &Store, spec: &Spec) -> Result<(), Error> {
    for id in spec.dependencies() {
        let Ok(other) = store.job(id).load() else { continue };
        if other.status.is_live() && kind(&other.spec) != kind(spec) {
            return Err(Error::OtherEngine(id.to_string()));
        }
    }
    Ok(())
}
