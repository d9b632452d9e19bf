//! Waiting for the ends of other jobs, with a thread for each that sleeps until the job's lock is
//! released.

use std::collections::BTreeSet;
use std::io::{self, PipeWriter, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::sleep_to;
use super::wake_source::WakeSource;
use crate::job::JobId;
use crate::store::JobDir;

/// How often to check a job for which there is no thread, or whose lock cannot be waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Waits for the ends of jobs.
pub(super) struct ExitWatch {
    ended: WakeSource,
    /// Keeps the pipe open after the last thread has ended.
    wake: PipeWriter,
    watched: Arc<Mutex<BTreeSet<JobId>>>,
    poll_at: Option<Instant>,
}

impl ExitWatch {
    pub(super) fn new() -> io::Result<Self> {
        let (ended, wake) = WakeSource::pipe()?;
        Ok(Self { ended, wake, watched: Arc::default(), poll_at: None })
    }

    /// Watches these jobs as well, unless they are watched already. A job that has ended may have been
    /// resumed.
    pub(super) fn watch(&mut self, jobs: Vec<JobDir>) {
        self.ended.drain();
        self.poll_at = None;
        for dir in jobs {
            let id = dir.id().clone();
            if !lock(&self.watched).insert(id.clone()) {
                continue;
            }
            if self.spawn(dir).is_err() {
                lock(&self.watched).remove(&id);
                self.poll_at = Some(Instant::now() + POLL_INTERVAL);
            }
        }
    }

    fn spawn(&self, dir: JobDir) -> io::Result<()> {
        let wake = self.wake.try_clone()?;
        let watched = Arc::clone(&self.watched);
        let thread = std::thread::Builder::new().stack_size(64 << 10);
        thread.spawn(move || wait_for_end(&dir, &watched, wake))?;
        Ok(())
    }

    /// Sleeps until one of the jobs may have ended.
    pub(super) async fn ended(&self) {
        tokio::select! {
            () = self.ended.woken() => {}
            () = sleep_to(self.poll_at) => {}
        }
    }
}

/// Sleeps until the job's lock is released, and wakes the worker.
fn wait_for_end(dir: &JobDir, watched: &Mutex<BTreeSet<JobId>>, mut wake: PipeWriter) {
    if dir.wait_released().is_err() {
        // The lock cannot be waited for.
        std::thread::sleep(POLL_INTERVAL);
    }
    // Before the wake-up, after which the worker may watch the job again.
    lock(watched).remove(dir.id());
    let _ = wake.write(b"!");
}

fn lock(watched: &Mutex<BTreeSet<JobId>>) -> MutexGuard<'_, BTreeSet<JobId>> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::clock;
    use crate::job::{Record, Spec};
    use crate::store::Store;

    #[test]
    fn watches_a_resumed_job_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::at(directory.path().canonicalize().unwrap().join("jobs"));
        let id = JobId::parse("a").unwrap();
        let record = Record::new(id, Spec::default(), String::new(), clock::now());
        let (dir, mut lock) = store.create(&record, "x").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut exits = ExitWatch::new().unwrap();
            for _ in 0..3 {
                exits.watch(vec![dir.clone()]);
                let ended = pin!(exits.ended()).poll(&mut Context::from_waker(Waker::noop()));
                assert_eq!(ended, Poll::Pending);
                drop(lock);
                exits.ended().await;
                lock = std::iter::repeat_with(|| dir.try_lock().unwrap())
                    .find_map(|lock| lock)
                    .unwrap();
            }
            drop(lock);
        });
    }
}
