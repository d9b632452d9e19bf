//! Kills several jobs at the same time, in the time of one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use super::{KILL_TIMEOUT, KillAnswer, kill_until, open_worker, request_kill};
use crate::error::Error;
use crate::job::JobId;
use crate::store::Store;

/// Maximum number of jobs that are killed at the same time.
const MAX_THREADS: usize = 64;

/// Kills these jobs. Returns their answers in the same order.
pub(super) fn kill_several(store: &Store, ids: &[JobId]) -> Vec<Result<KillAnswer, Error>> {
    let until = Instant::now() + KILL_TIMEOUT;
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
    let next = AtomicUsize::new(0);
    let answers: Mutex<Vec<(usize, Result<KillAnswer, Error>)>> = Mutex::default();
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(id) = ids.get(index) else { return };
            let answer = if Instant::now() < until {
                kill_until(store, id, until)
            } else {
                Err(Error::StillEnding(id.to_string()))
            };
            if let Ok(mut answers) = answers.lock() {
                answers.push((index, answer));
            }
        }
    };
    thread::scope(|scope| {
        // The calling thread works, too, and alone if there can be no others.
        for _ in 1..MAX_THREADS.min(ids.len()) {
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let mut answers = answers.into_inner().unwrap_or_default();
    answers.sort_unstable_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}
