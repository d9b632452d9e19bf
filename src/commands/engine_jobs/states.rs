//! What engines know about jobs.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::kind;
use crate::clock;
use crate::fault_point::test_number;
use crate::job::{EngineKind, EngineRef, Record};
use crate::launch::{EngineError, EngineStates, EngineStatus, engine};
use crate::store::JobDir;

/// Time limit of a question to an engine.
const QUERY_TIMEOUT: Duration = Duration::from_secs(15);
/// Environment variable by which tests change this limit and that of a kill's commands: a number of seconds.
const TEST_TIMEOUT: &str = "CLAUDEJOB_TEST_QUERY_TIMEOUT";
/// How long an answer is used.
const MAX_AGE: Duration = Duration::from_secs(5);

/// How long an engine that did not answer is not asked again, or each of many jobs would cost the time
/// limit of a question.
const MAX_FAILURE_AGE: Duration = Duration::from_secs(30);

/// By how much the clocks of two machines of a cluster may differ: Slurm's authentication refuses more.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(300);

/// How long after the record of a job was written its submission may not have ended, among those of a
/// large file.
const MAX_SUBMISSION_TIME: Duration = Duration::from_secs(300);

/// The last answers by the job that was asked about, `None` for all, so that a call that shows many jobs
/// asks once, and one that follows a job asks rarely.
type Answers =
    HashMap<(EngineKind, Option<EngineRef>), (Instant, Result<EngineStates, EngineError>)>;
static ANSWERS: Mutex<Option<Answers>> = Mutex::new(None);

/// How many jobs a caller asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Ask {
    /// About this one.
    One,
    /// About many, one after the other: the engine is asked about all at once.
    Many,
}

impl Ask {
    pub(in crate::commands) fn about(jobs: usize) -> Self {
        if jobs == 1 { Self::One } else { Self::Many }
    }
}

/// Returns what the engine of a job knows about it; `None` for a job of this machine and for one that
/// has ended, unless it was cut off: then its engine may start it again. A job that was not
/// submitted is `Unknown`, as long as a process may be about to do so.
pub(in crate::commands) fn engine_status(
    dir: &JobDir,
    record: &Record,
    ask: Ask,
) -> Option<Result<EngineStatus, EngineError>> {
    let kind = kind(&record.spec)?;
    let is_live = record.status.is_live();
    if !is_live && !record.is_cut_off() {
        return None;
    }
    let Some(job) = reference(dir, record) else {
        return Some(Ok(unsubmitted(dir, record)));
    };
    let mut found = find(kind, ask, &job);
    // A live job that is missing has ended, or was submitted since the answer about all. Many jobs can
    // be missing, when a cluster has lost its queue.
    if is_live && matches!(found, Ok(None)) && was_active_within(dir, record, MAX_AGE) {
        found = find(kind, Ask::One, &job);
    }
    Some(found.map(|status| match status {
        Some(status) => status,
        None if job.is_name() => unsubmitted(dir, record),
        None => EngineStatus::Ended("gone from the queue".to_owned()),
    }))
}

/// Returns the state of a job that its engine does not have. If the process that submits it is only
/// slower than this expects, the job continues when it is submitted.
fn unsubmitted(dir: &JobDir, record: &Record) -> EngineStatus {
    if was_active_within(dir, record, MAX_SUBMISSION_TIME) {
        EngineStatus::Unknown
    } else {
        EngineStatus::Ended("it was not submitted".to_owned())
    }
}

/// Whether anything was written for the job within this time, by the clock of any machine.
fn was_active_within(dir: &JobDir, record: &Record, time: Duration) -> bool {
    clock::now().since(dir.last_activity_at(record)) < time + MAX_CLOCK_DIFFERENCE
}

/// Makes sure that answers from now on are newer than this call.
pub(in crate::commands) fn forget_answers() {
    *ANSWERS.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// Finds the job in the answer about it, or about all.
fn find(kind: EngineKind, ask: Ask, job: &EngineRef) -> Result<Option<EngineStatus>, EngineError> {
    let asked = if ask == Ask::One { Some(job) } else { None };
    let mut answers = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
    let answers = answers.get_or_insert_default();
    answers.retain(|_, (at, answer)| {
        at.elapsed() <= if answer.is_ok() { MAX_AGE } else { MAX_FAILURE_AGE }
    });
    let (_, answer) = answers.entry((kind, asked.cloned())).or_insert_with(|| {
        let timeout = test_number(TEST_TIMEOUT).map_or(QUERY_TIMEOUT, Duration::from_secs);
        let answer =
            engine(kind, timeout).and_then(|engine| engine.query(asked.map(std::slice::from_ref)));
        // After a question that has taken long.
        (Instant::now(), answer)
    });
    match answer {
        Ok(states) => Ok(states.get(&job.id).map(|job| job.status.clone())),
        Err(error) => Err(error.clone()),
    }
}

/// Returns the time limit of a command of an engine.
pub(super) fn time_limit(usual: Duration) -> Duration {
    test_number(TEST_TIMEOUT).map_or(usual, Duration::from_secs)
}

/// Returns what the engine calls the job, if that is known.
pub(super) fn reference(dir: &JobDir, record: &Record) -> Option<EngineRef> {
    record.worker.engine.clone().or_else(|| dir.engine_ref())
}
