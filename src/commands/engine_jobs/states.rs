//! What engines know about jobs.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::kind;
use crate::job::{EngineRef, Record};
use crate::launch::{EngineError, EngineStatus, engine};
use crate::store::JobDir;

/// Time limit of a question to an engine.
const QUERY_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an answer about all jobs is used.
const MAX_AGE: Duration = Duration::from_secs(5);

/// The states of all jobs, by the engine's ids.
type States = Result<HashMap<String, EngineStatus>, EngineError>;

/// The last answer about all jobs, so that a call that shows many jobs asks once.
static LAST: Mutex<Option<(Instant, States)>> = Mutex::new(None);

/// How many jobs a caller asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Ask {
    /// About this one.
    One,
    /// About many, one after the other: the engine is asked about all at once.
    Many,
}

/// Returns what the engine of a job knows about it; `None` for a job of this machine and for one that
/// has ended, unless it was cut off: then its engine may start it again. A job without a reference is
/// `Unknown`: it is being submitted, or that was cut off.
pub(in crate::commands) fn engine_status(
    dir: &JobDir,
    record: &Record,
    ask: Ask,
) -> Option<Result<EngineStatus, EngineError>> {
    let kind = kind(&record.spec)?;
    if !record.status.is_live() && !record.is_cut_off() {
        return None;
    }
    let Some(job) = reference(dir, record) else {
        return Some(Ok(EngineStatus::Unknown));
    };
    let query = |job| engine(kind, QUERY_TIMEOUT).and_then(|engine| engine.query(job));
    let gone = || EngineStatus::Ended("gone from the queue".to_owned());
    if ask == Ask::Many {
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|(at, _)| at.elapsed() > MAX_AGE) {
            *last = Some((Instant::now(), query(None)));
        }
        match &last.as_ref()?.1 {
            Err(error) => return Some(Err(error.clone())),
            Ok(states) => {
                let status = states.get(&job.id);
                // A live job that is missing has ended, or was submitted since this answer.
                if status.is_some() || !record.status.is_live() {
                    return Some(Ok(status.cloned().unwrap_or_else(gone)));
                }
            }
        }
    }
    let mut states = match query(Some(&job)) {
        Ok(states) => states,
        Err(error) => return Some(Err(error)),
    };
    Some(Ok(states.remove(&job.id).unwrap_or_else(gone)))
}

/// Returns what the engine calls the job, if that is known.
pub(super) fn reference(dir: &JobDir, record: &Record) -> Option<EngineRef> {
    record.worker.engine.clone().or_else(|| dir.engine_ref())
}
