//! Waiting for jobs to end, without polling: their locks are let go.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::store::JobDir;

/// Watches several jobs.
pub(super) struct Watch {
    ended: Receiver<usize>,
    left: usize,
}

impl Watch {
    /// Watches these jobs; each is told once by its place in the list. A job without a lock that
    /// can be waited for counts as ended.
    pub(super) fn over(jobs: Vec<JobDir>) -> Self {
        let (tell, ended) = channel();
        let left = jobs.len();
        for (place, job) in jobs.into_iter().enumerate() {
            let tell = tell.clone();
            // A thread sleeps in flock(2) for each; it ends with the process at the latest.
            std::thread::spawn(move || {
                let _ = job.wait_released();
                let _ = tell.send(place);
            });
        }
        Self { ended, left }
    }

    /// The next job that has ended, or `None` at `deadline` or when all have.
    pub(super) fn next(&mut self, deadline: Option<Instant>) -> Option<usize> {
        if self.left == 0 {
            return None;
        }
        let next = match deadline {
            None => self.ended.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => self.ended.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        let next = next.ok()?;
        self.left -= 1;
        Some(next)
    }
}

/// Sleeps until the job ends or `most` is over; says whether it ended.
pub(super) fn ends_within(job: &JobDir, most: Duration) -> bool {
    Watch::over(vec![job.clone()]).next(Some(Instant::now() + most)).is_some()
}
