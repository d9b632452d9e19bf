//! Waiting for the ends of other jobs: a thread each that sleeps until the job's lock is let go.

use std::collections::BTreeSet;
use std::future::pending;
use std::io::{self, PipeWriter, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::waker::{Waker, create_waker};
use crate::job::JobId;
use crate::store::JobDir;

/// How often is looked where no thread, or no lock, can be had.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The jobs whose ends are waited for.
pub(super) struct ExitWatch {
    create_waker: Waker,
    /// Kept, so that the pipe does not end when the last of the threads does.
    waker: PipeWriter,
    watched: Arc<Mutex<BTreeSet<JobId>>>,
    again: Option<Instant>,
}

impl ExitWatch {
    /// Of none yet.
    pub(super) fn new() -> io::Result<Self> {
        let (wakeup, waker) = create_waker()?;
        Ok(Self { create_waker: wakeup, waker, watched: Arc::default(), again: None })
    }

    /// Watches these as well, if they are not watched: one that has ended may have come to life
    /// again.
    pub(super) fn watch(&mut self, jobs: Vec<(JobId, JobDir)>) {
        self.create_waker.drain();
        self.again = None;
        for (id, dir) in jobs {
            if !locked(&self.watched).insert(id.clone()) {
                continue;
            }
            if self.spawn(id.clone(), dir).is_err() {
                locked(&self.watched).remove(&id);
                self.again = Some(Instant::now() + LOOK_AGAIN);
            }
        }
    }

    fn spawn(&self, id: JobId, dir: JobDir) -> io::Result<()> {
        let mut waker = self.waker.try_clone()?;
        let watched = Arc::clone(&self.watched);
        let watch = move || {
            if dir.wait_released().is_err() {
                // It cannot be slept for.
                std::thread::sleep(LOOK_AGAIN);
            }
            // Before the word: whoever hears it may watch the job anew.
            locked(&watched).remove(&id);
            let _ = waker.write(b"!");
        };
        std::thread::Builder::new().stack_size(64 << 10).spawn(watch).map(drop)
    }

    /// Sleeps until one of them has ended.
    pub(super) async fn news(&self) {
        let again = async {
            match self.again {
                Some(at) => sleep_until(at.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.create_waker.wait() => {}
            () = again => {}
        }
    }
}

fn locked(watched: &Mutex<BTreeSet<JobId>>) -> std::sync::MutexGuard<'_, BTreeSet<JobId>> {
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
    fn a_job_that_comes_to_life_again_is_slept_for_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().canonicalize().unwrap().join("jobs"));
        let id = JobId::parse("a").unwrap();
        let record = Record::new(id.clone(), Spec::default(), String::new(), clock::now());
        let (dir, mut lock) = store.create(&record, "x").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut ends = ExitWatch::new().unwrap();
            for _ in 0..3 {
                ends.watch(vec![(id.clone(), dir.clone())]);
                let sleeps = pin!(ends.news()).poll(&mut Context::from_waker(Waker::noop()));
                assert_eq!(sleeps, Poll::Pending);
                drop(lock);
                ends.news().await;
                lock = std::iter::repeat_with(|| dir.try_lock().unwrap())
                    .find_map(|lock| lock)
                    .unwrap();
            }
            drop(lock);
        });
    }
}
