//! Jobs whose state takes time to find out. They are observed in the background, so that the screen
//! follows its keys meanwhile.

use std::collections::BTreeSet;

use crate::commands::engine_jobs::may_restart;
use crate::job::{JobId, Record};
use crate::screen::top::TopJob;
use crate::store::{JobDir, Liveness};

/// Why the state of a job takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slowness {
    /// Its worker has ended without a verdict: its processes are killed, and the verdict is written.
    Lost,
    /// Its engine has to be asked.
    OnEngine,
}

impl Slowness {
    /// Returns why the state of this job takes time; `None` if it does not.
    pub(super) fn of(dir: &JobDir, record: &Record) -> Option<Self> {
        if record.spec.engine.is_some() {
            let is_asked = record.status.is_live() || may_restart(record);
            return if is_asked { Some(Self::OnEngine) } else { None };
        }
        match dir.liveness(record) {
            Ok(Liveness::Lost) => Some(Self::Lost),
            _ => None,
        }
    }
}

/// Jobs of one kind of slowness. One thread at a time observes them.
#[derive(Debug, Default)]
pub(super) struct SlowJobs {
    /// To observe next.
    waiting: BTreeSet<JobId>,
    /// The jobs of the thread; without those about which more is known meanwhile.
    observed: Option<BTreeSet<JobId>>,
}

impl SlowJobs {
    pub(super) fn add(&mut self, id: &JobId) {
        self.waiting.insert(id.clone());
    }

    /// What a thread finds out about this job is out of date.
    pub(super) fn remove(&mut self, id: &JobId) {
        self.waiting.remove(id);
        if let Some(observed) = &mut self.observed {
            observed.remove(id);
        }
    }

    /// Returns the jobs for the next thread; `None` if there are none, or while a thread runs.
    pub(super) fn begin(&mut self) -> Option<BTreeSet<JobId>> {
        if self.observed.is_some() || self.waiting.is_empty() {
            return None;
        }
        let jobs = std::mem::take(&mut self.waiting);
        self.observed = Some(jobs.clone());
        Some(jobs)
    }

    /// The thread has ended. Returns those of its jobs whose state is news.
    pub(super) fn end(&mut self, mut jobs: Vec<TopJob>) -> Vec<TopJob> {
        let observed = self.observed.take().unwrap_or_default();
        jobs.retain(|job| observed.contains(&job.id));
        jobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Status;

    fn job(id: &str) -> TopJob {
        TopJob::blank(JobId::parse(id).unwrap(), Some(Status::Running))
    }

    fn ids(jobs: impl IntoIterator<Item = JobId>) -> Vec<String> {
        jobs.into_iter().map(|id| id.to_string()).collect()
    }

    #[test]
    fn a_thread_observes_and_the_rest_waits() {
        let [a, b, c] = ["a", "b", "c"].map(|id| JobId::parse(id).unwrap());
        let mut slow = SlowJobs::default();
        assert_eq!(slow.begin(), None);
        slow.add(&a);
        slow.add(&b);
        assert_eq!(ids(slow.begin().unwrap()), ["a", "b"]);
        // Both change meanwhile: the one again, the other so that more is known about it.
        slow.add(&a);
        slow.add(&c);
        slow.remove(&b);
        assert_eq!(slow.begin(), None, "a thread runs");
        let news = slow.end(vec![job("a"), job("b")]);
        assert_eq!(ids(news.into_iter().map(|job| job.id)), ["a"]);
        slow.remove(&c);
        assert_eq!(ids(slow.begin().unwrap()), ["a"]);
        assert!(slow.end(Vec::new()).is_empty());
        assert_eq!(slow.begin(), None);
    }
}
