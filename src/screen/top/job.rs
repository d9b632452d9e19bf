//! A job of the list, and the order of the list: by need of attention.

use std::cmp::{Ordering, Reverse};

use crate::job::{Blocked, JobId, Status, Timestamp, WaitingFor, WorkTime};

/// A job as the list shows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TopJob {
    pub id: JobId,
    /// `None` if the record cannot be read.
    pub status: Option<Status>,
    /// The open request.
    pub blocked: Option<Blocked>,
    /// Why the job does not work now.
    pub waiting_for: Option<WaitingFor>,
    /// What the job does, or how it has ended; `None` for an answer that was not read.
    pub text: Option<String>,
    pub prompt: String,
    pub started_at: Option<Timestamp>,
    pub last_event_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub work_time: Option<WorkTime>,
    /// Position in the queue, from 1.
    pub position: Option<usize>,
    pub cost_usd: Option<f64>,
    pub cost_is_lower_bound: bool,
    pub place: JobPlace,
}

/// What a job belongs to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct JobPlace {
    /// The directory in which it works.
    pub folder: String,
    pub group: Option<String>,
    pub model: Option<String>,
    /// Its labels, as `KEY=VALUE`.
    pub labels: Vec<String>,
}

impl TopJob {
    /// Returns a job without any values.
    pub(crate) fn blank(id: JobId, status: Option<Status>) -> Self {
        Self {
            id,
            status,
            blocked: None,
            waiting_for: None,
            text: None,
            prompt: String::new(),
            started_at: None,
            last_event_at: None,
            ended_at: None,
            work_time: None,
            position: None,
            cost_usd: None,
            cost_is_lower_bound: false,
            place: JobPlace::default(),
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.status.is_some_and(Status::is_live)
    }

    /// Returns whether the job has all words of the filter, which is in lower case.
    pub(super) fn matches(&self, filter: &str) -> bool {
        filter.split_whitespace().all(|word| self.has_word(word))
    }

    fn has_word(&self, word: &str) -> bool {
        let has = |text: &str| text.to_lowercase().contains(word);
        let status = self.status.map_or("unreadable", Status::as_str);
        has(self.id.as_str())
            || has(status)
            || has(&self.prompt)
            || has(&self.place.folder)
            || self.place.group.as_deref().is_some_and(has)
            || self.place.labels.iter().any(|label| has(label))
    }

    /// Returns when the job's present state began, for the order within a rank.
    fn order(&self) -> JobOrder {
        let newest = |at: Option<Timestamp>| at.map_or(i64::MAX, |at| -at.epoch_ms());
        let oldest = |at: Option<Timestamp>| at.map_or(i64::MAX, Timestamp::epoch_ms);
        match self.status {
            Some(Status::Blocked) => (0, oldest(self.blocked.as_ref().map(|it| it.since))),
            Some(Status::Idle) => (1, oldest(self.last_event_at)),
            Some(Status::Running) => (2, newest(self.last_event_at)),
            Some(Status::Starting) => (3, newest(self.started_at)),
            Some(Status::Queued) => {
                let position = self.position.and_then(|at| i64::try_from(at).ok());
                (4, position.unwrap_or(i64::MAX))
            }
            None => (5, 0),
            Some(Status::Completed | Status::Failed | Status::Killed) => (6, newest(self.ended_at)),
        }
    }
}

/// The rank of a job, and its place among those of the same rank.
type JobOrder = (u8, i64);

/// Compares two jobs: those that need a person come first, the longest waiting one on top; then
/// the running ones by their last event, the queued ones by their position, and the ended ones by
/// their end. Equal ones are ordered newest first.
pub(super) fn by_attention(a: &TopJob, b: &TopJob) -> Ordering {
    let key = |job: &TopJob| (job.order(), Reverse(job.started_at.map(Timestamp::epoch_ms)));
    key(a).cmp(&key(b)).then_with(|| a.id.cmp(&b.id))
}
