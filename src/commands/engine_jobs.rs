//! Jobs whose workers an engine starts: their submission.

mod attempt;
mod ending;
mod states;
mod view;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::claude::Env;
use crate::error::Error;
use crate::finalize::end_on_engine;
use crate::job::{EngineKind, EngineRef, JobId, Reason, Record, Spec, Verdict};
use crate::launch::{EngineError, Submission, engine};
use crate::store::{JobDir, Store};

pub(super) use attempt::begin_attempt;
pub(super) use ending::{kill, wake};
pub(super) use states::Ask;
pub(super) use view::{end_if_lost, view};

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

/// Returns the environment of a job: the caller's, with its profile and its file of variables.
pub(super) fn env_of<'a>(env: &'a Env, spec: &Spec) -> Result<Cow<'a, Env>, Error> {
    if spec.engine.is_some() && spec.profile.is_some() {
        let why = "a profile does not reach the nodes of a cluster: use --env-file";
        return Err(Error::Usage(why.to_owned()));
    }
    let env = env.with_profile(spec.profile.as_deref())?;
    match spec.engine.as_ref().and_then(|engine| engine.env_file.as_deref()) {
        Some(file) => Ok(Cow::Owned(env.with_env_file(Path::new(file))?)),
        None => Ok(env),
    }
}

/// Submits jobs that are recorded as queued, in an order in which each one comes after those that it
/// waits for. Returns a result for each up to the first that could not be submitted, which is removed
/// unless the engine may have it nevertheless.
pub(super) fn submit(store: &Store, dirs: &[JobDir]) -> Vec<Result<EngineRef, Error>> {
    let mut results = Vec::new();
    let mut jobs: Vec<(&JobDir, Record)> = Vec::new();
    let mut ids = BTreeSet::new();
    for dir in dirs {
        let record = match dir.load() {
            Ok(record) => record,
            Err(error) => {
                results.extend(submit_together(store, &jobs));
                results.push(Err(error.into()));
                return results;
            }
        };
        // What the engine calls a job that this one waits for has to be known.
        if record.spec.dependencies().any(|id| ids.contains(id)) {
            results.extend(submit_together(store, &jobs));
            if results.iter().any(Result::is_err) {
                return results;
            }
            jobs.clear();
            ids.clear();
        }
        ids.insert(dir.id().clone());
        jobs.push((dir, record));
    }
    results.extend(submit_together(store, &jobs));
    results
}

/// Submits jobs that do not wait for each other. Returns a result for each up to the first failure.
fn submit_together(store: &Store, jobs: &[(&JobDir, Record)]) -> Vec<Result<EngineRef, Error>> {
    let mut submissions = Vec::new();
    for (dir, record) in jobs {
        let after = references(store, &record.spec);
        submissions.push(Submission { dir, spec: &record.spec, after });
    }
    let mut results = Vec::new();
    let Some(kind) = jobs.first().and_then(|(_, record)| kind(&record.spec)) else {
        return results;
    };
    let submitted = match engine(kind, SUBMIT_TIMEOUT) {
        Ok(engine) => engine.submit(&submissions),
        Err(error) => vec![Err(error)],
    };
    for ((dir, record), submitted) in jobs.iter().zip(submitted) {
        let result = match submitted {
            // Without a reference the job runs nevertheless, and its worker records it.
            Ok(job) => dir.save_engine_ref(&job).map(|()| job).map_err(Error::from),
            Err(error) => Err(undo(dir, record, &error)),
        };
        let has_failed = result.is_err();
        results.push(result);
        if has_failed {
            break;
        }
    }
    results
}

/// Removes a job that was not submitted. If that is uncertain, the job gets a verdict, so that a
/// worker which starts nevertheless does nothing.
fn undo(dir: &JobDir, record: &Record, error: &EngineError) -> Error {
    if error.may_have_worked {
        let verdict = Verdict::failed(Reason::LaunchFailed, error.to_string());
        end_on_engine(dir, record.clone(), Some(verdict));
        return Error::Launch { id: dir.id().to_string(), why: error.to_string() };
    }
    discard(dir);
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
    let mut references = Vec::new();
    for id in spec.dependencies() {
        let dir = store.job(id);
        let Ok(record) = dir.load() else { continue };
        if record.status.is_live() {
            references.extend(states::reference(&dir, &record));
        }
    }
    references
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
