//! Kills several jobs at the same time, in the time of one.

use std::time::{Duration, Instant};

use super::{KILL_TIMEOUT, KillAnswer, STILL_ENDING, kill_until, open_worker, request_kill};
use crate::commands::parallel::for_each_job;
use crate::error::Error;
use crate::job::JobId;
use crate::process::{JobMarker, Orphans};
use crate::store::{Liveness, Store, is_independent};

/// Maximum number of jobs that are killed at the same time.
const MAX_THREADS: usize = 64;

/// Maximum number of lost jobs whose processes are searched for together: the lock of each is an
/// open file.
const MAX_LOST: usize = 256;
/// Time limit of this search: less than the workers of the other jobs leave of the whole time.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(1);

/// Kills these jobs. Returns their answers in the same order.
pub(super) fn kill_several(store: &Store, ids: &[JobId]) -> Vec<Result<KillAnswer, Error>> {
    let until = Instant::now() + KILL_TIMEOUT;
    if let [id] = ids {
        return vec![kill_until(store, id, until)];
    }
    end_orphans(store, ids);
    // Jobs beyond the threads have to wait: their workers begin to end them meanwhile.
    for id in ids.iter().skip(MAX_THREADS) {
        let dir = store.job(id);
        if dir.check().is_ok()
            && let Ok(Some(worker)) = open_worker(&dir, false)
        {
            // A failure is reported below.
            let _ = request_kill(&worker);
        }
    }
    for_each_job(ids, MAX_THREADS, |id| kill_in_time(store, id, until))
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
/// machine. What it leaves is ended, or reported, when the verdict of each job is written.
fn end_orphans(store: &Store, ids: &[JobId]) {
    let (mut locks, mut markers) = (Vec::new(), Vec::new());
    for id in ids {
        let dir = store.job(id);
        let Ok(record) = dir.load_checked() else { continue };
        if markers.len() < MAX_LOST
            && matches!(dir.liveness(&record), Ok(Liveness::Lost))
            && let Ok(Some(lock)) = dir.try_lock()
        {
            locks.push(lock);
            markers.push(JobMarker::new(dir.path()));
        }
    }
    // The search for one job is that of its verdict.
    if markers.len() < 2 {
        return;
    }
    let orphans = Orphans {
        markers: &markers,
        worker_start: None,
        is_locked: true,
        is_independent: &is_independent,
    };
    orphans.end(Instant::now() + SEARCH_TIMEOUT);
}
