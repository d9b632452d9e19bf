//! Kills several jobs at the same time, in the time of one.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::{Duration, Instant};

use super::{
    KillAnswer, STILL_ENDING, answer_of_engine, deadline, kill_until, open_worker, request_kill,
};
use crate::commands::engine_jobs;
use crate::commands::parallel::for_each_job;
use crate::error::Error;
use crate::job::{JobId, Record};
use crate::process::{JobMarker, Orphans};
use crate::store::{JobDir, Liveness, Store, is_independent};

/// Maximum number of jobs that are killed at the same time.
const MAX_THREADS: usize = 64;

/// Maximum number of lost jobs whose processes are searched for together: the lock of each is an
/// open file.
const MAX_LOST: usize = 256;
/// Time limit of this search: less than the workers of the other jobs leave of the whole time.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(1);

/// Kills these jobs. Returns their answers in the same order.
pub(super) fn kill_several(store: &Store, ids: &[JobId]) -> Vec<Result<KillAnswer, Error>> {
    let until = deadline();
    if let [id] = ids {
        return vec![kill_until(store, id, until)];
    }
    let on_engine = end_orphans(store, ids);
    let mut local = ids.to_vec();
    if !on_engine.is_empty() {
        let others: HashSet<&JobId> = on_engine.iter().map(|(dir, _)| dir.id()).collect();
        local.retain(|id| !others.contains(id));
    }
    let mut answers: HashMap<JobId, Result<KillAnswer, Error>> = HashMap::new();
    thread::scope(|scope| {
        let others = match on_engine.as_slice() {
            [] => None,
            _ => Some(scope.spawn(|| kill_on_engine(store, on_engine, until))),
        };
        // Jobs beyond the threads have to wait: their workers begin to end them meanwhile.
        for id in local.iter().skip(MAX_THREADS) {
            let dir = store.job(id);
            if dir.check().is_ok()
                && let Ok(Some(worker)) = open_worker(&dir, false)
            {
                // A failure is reported below.
                let _ = request_kill(&worker);
            }
        }
        let killed = for_each_job(&local, MAX_THREADS, |id| kill_in_time(store, id, until));
        answers.extend(local.into_iter().zip(killed));
        if let Some(others) = others {
            answers.extend(others.join().unwrap_or_default());
        }
    });
    let still_ending = |id: &JobId| Err(Error::StillEnding(id.to_string()));
    ids.iter().map(|id| answers.remove(id).unwrap_or_else(|| still_ending(id))).collect()
}

/// Kills these jobs, which have an engine. Returns their answers.
fn kill_on_engine(
    store: &Store,
    mut jobs: Vec<(JobDir, Record)>,
    until: Instant,
) -> Vec<(JobId, Result<KillAnswer, Error>)> {
    let mut answers = Vec::new();
    while let Some(kind) = jobs.first().and_then(|(_, record)| engine_jobs::kind(&record.spec)) {
        let (same, others): (Vec<_>, Vec<_>) =
            jobs.into_iter().partition(|(_, record)| engine_jobs::kind(&record.spec) == Some(kind));
        let ids: Vec<JobId> = same.iter().map(|(dir, _)| dir.id().clone()).collect();
        for (id, killed) in ids.into_iter().zip(engine_jobs::kill(kind, same, until)) {
            let answer = answer_of_engine(store, &id, killed);
            answers.push((id, answer));
        }
        jobs = others;
    }
    answers
}

/// Kills a job. It is an error if the time is over before the job has ended.
fn kill_in_time(store: &Store, id: &JobId, until: Instant) -> Result<KillAnswer, Error> {
    if Instant::now() < until {
        let answer = kill_until(store, id, until)?;
        if answer.error.as_deref() != Some(STILL_ENDING) {
            return Ok(answer);
        }
    }
    Err(Error::StillEnding(id.to_string()))
}

/// Ends the processes of the lost jobs among these in one search, which reads all processes of this
/// machine. What it leaves is ended, or reported, when the verdict of each job is written. Returns the
/// jobs with an engine.
fn end_orphans(store: &Store, ids: &[JobId]) -> Vec<(JobDir, Record)> {
    let (mut locks, mut markers, mut on_engine) = (Vec::new(), Vec::new(), Vec::new());
    for id in ids {
        let dir = store.job(id);
        let Ok(record) = dir.load_checked() else { continue };
        if record.spec.engine.is_some() {
            on_engine.push((dir, record));
        } else if markers.len() < MAX_LOST
            && matches!(dir.liveness(&record), Ok(Liveness::Lost))
            && let Ok(Some(lock)) = dir.try_lock()
        {
            locks.push(lock);
            markers.push(JobMarker::new(dir.path()));
        }
    }
    // The search for one job is that of its verdict.
    if markers.len() < 2 {
        return on_engine;
    }
    let orphans = Orphans {
        markers: &markers,
        worker_start: None,
        is_locked: true,
        is_independent: &is_independent,
    };
    orphans.end(Instant::now() + SEARCH_TIMEOUT);
    on_engine
}
