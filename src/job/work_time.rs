//! How long a job has worked.

use std::time::Duration;

use super::{Record, Status, Summary, Timestamp};

/// The time that texts show for a job: from its first admission to its end or to now, without its
/// waits in the queue and without the time before it was resumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WorkTime {
    /// The part of the time that has passed for good.
    past: Duration,
    /// Since when the time passes.
    since: Option<Timestamp>,
}

impl WorkTime {
    fn past(past: Duration) -> Option<Self> {
        if past.is_zero() { None } else { Some(Self { past, since: None }) }
    }

    #[cfg(test)]
    pub(crate) fn running(past: Duration, since: Timestamp) -> Self {
        Self { past, since: Some(since) }
    }

    /// Returns the time at `now`.
    pub(crate) fn at(self, now: Timestamp) -> Duration {
        match self.since {
            Some(since) => self.past + now.since(since),
            None => self.past,
        }
    }
}

/// Points in a job's life that texts show.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lifetime {
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// How long the job has worked; `None` if it was never admitted.
    pub work_time: Option<WorkTime>,
}

impl Record {
    /// Returns the points in the job's life.
    pub(crate) fn lifetime(&self) -> Lifetime {
        Lifetime {
            started_at: self.times.started_at,
            ended_at: self.times.ended_at,
            work_time: self.work_time(),
        }
    }

    /// Returns how long the job has worked; `None` if it was not admitted yet.
    pub(crate) fn work_time(&self) -> Option<WorkTime> {
        let times = &self.times;
        if !self.status.is_live() {
            return WorkTime::past(self.elapsed()?);
        }
        let past = Duration::from_millis(self.attempt.earlier.elapsed_ms);
        if let Some(since) = times.counted_since {
            return Some(WorkTime { past, since: Some(since) });
        }
        // A worker of an earlier version does not record since when the time counts.
        let is_old = self.attempt.was_admitted && times.elapsed_ms.unwrap_or_default() > 0;
        let is_first = past.is_zero() && self.status != Status::Queued;
        if is_first && (is_old || self.is_of_node_skill()) {
            let queued = Duration::from_millis(times.queued_ms);
            return Some(WorkTime { past, since: Some(times.started_at?.after(queued)) });
        }
        WorkTime::past(past)
    }
}

impl Summary {
    /// Returns how long the job, which has ended, has worked; `None` if it was never admitted.
    pub(crate) fn work_time(&self) -> Option<WorkTime> {
        match self.elapsed_ms {
            Some(ms) => WorkTime::past(Duration::from_millis(ms)),
            None => WorkTime::past(self.ended_at?.since(self.started_at?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{JobId, Spec};

    #[test]
    fn counts_from_the_first_admission() {
        let at = |s: i64| Timestamp::from_epoch_ms(s * 1_000).unwrap();
        let id = JobId::parse("j").unwrap();
        let mut record = Record::new(id, Spec::default(), String::new(), at(100));
        record.status = Status::Queued;
        assert_eq!(record.work_time(), None, "in the queue");

        record.status = Status::Running;
        record.times.counted_since = Some(at(130));
        let shown = |record: &Record| record.work_time().map(|time| time.at(at(190)).as_secs());
        assert_eq!(shown(&record), Some(60));

        record.attempt.earlier.elapsed_ms = 5_000;
        assert_eq!(shown(&record), Some(65), "with an earlier attempt");
        record.times.counted_since = None;
        assert_eq!(shown(&record), Some(5), "about to start again");

        record.attempt.earlier.elapsed_ms = 0;
        record.times.elapsed_ms = Some(1_000);
        record.times.queued_ms = 20_000;
        record.attempt.was_admitted = true;
        assert_eq!(shown(&record), Some(70), "of an earlier version");

        record.status = Status::Completed;
        assert_eq!(shown(&record), Some(1));
        record.times.elapsed_ms = Some(0);
        assert_eq!(record.work_time(), None, "never admitted");
    }
}
