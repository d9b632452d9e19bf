//! `status`: how a job stands.

use super::seen::{Seen, look};
use crate::error::Error;
use crate::job::{Blocked, JobId, Record, Standing, Status, Timestamp};
use crate::queue::Queue;
use crate::store::Store;

pub use crate::job::Standing as StatusAnswer;

/// What was not told that is shown, at most.
const ERRANDS_SHOWN: usize = 10;

/// How those who wait stand, beside what their records say.
#[derive(Debug)]
pub(super) struct Line {
    queue: Queue,
    positions: std::collections::BTreeMap<JobId, usize>,
    limit: Option<Timestamp>,
}

impl Line {
    /// Of the jobs of this directory, as it is now.
    pub(super) fn of(store: &Store) -> Self {
        let queue = Queue::of(store.root());
        Self { positions: queue.positions(), limit: queue.limit(), queue }
    }

    /// The job's place, from 1.
    pub(super) fn position(&self, id: &JobId) -> Option<usize> {
        self.positions.get(id).copied()
    }

    /// Whether the job's record lags behind: it has its slot, and is about to say so.
    fn has_slot(&self, id: &JobId) -> bool {
        !self.positions.contains_key(id) && self.queue.has_slot(id)
    }
}

/// The jobs that one which is queued still waits for.
fn waits_for(store: &Store, record: &Record) -> Vec<JobId> {
    let others = record.spec.after.iter().chain(&record.spec.after_any);
    let open = others.filter(|id| {
        let other = store.job(id).load();
        other.is_ok_and(|other| other.status.is_live())
    });
    open.take(20).cloned().collect()
}

/// Adds what only the queue knows.
fn in_line(store: &Store, line: &Line, record: &Record, answer: &mut Standing) {
    if record.status != Status::Queued {
        return;
    }
    answer.position = line.position(&record.job_id);
    if answer.position.is_none() {
        if line.has_slot(&record.job_id) {
            answer.status = Status::Starting;
            return;
        }
        answer.waits_for = waits_for(store, record);
    } else if !record.spec.admission.ignores_limit {
        answer.rate_limited |= line.limit.is_some();
        answer.retry_at = answer.retry_at.or(line.limit);
    }
}

/// Of the job of this record.
pub(super) fn standing(store: &Store, record: &Record) -> Standing {
    let mut answer = Standing::of(record);
    if record.status == Status::Queued {
        in_line(store, &Line::of(store), record, &mut answer);
    }
    answer
}

/// How the job stands now.
///
/// `full` shows the whole of what it asks, however long that is.
pub fn status(store: &Store, id: &JobId, full: bool) -> Result<StatusAnswer, Error> {
    let Seen { record, dir, .. } = look(store, id)?;
    let mut answer = standing(store, &record);
    answer.undelivered = dir.errands(&record.spec);
    answer.undelivered.truncate(ERRANDS_SHOWN);
    if full && let Some(blocked) = &mut answer.blocked {
        let others = std::mem::take(&mut blocked.others);
        let open = super::answer::open(store, id, Some(&blocked.request_id))?;
        *blocked = Blocked { others, ..open.blocked };
    }
    Ok(answer)
}
