//! `status`: how a job stands.

use super::seen::{Seen, look};
use crate::clock;
use crate::error::Error;
use crate::job::{Blocked, JobId, Record, Spec, Standing, Status, Timestamp, milliseconds};
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

    /// Of the job of this record; `None` if it does not wait.
    pub(super) fn waiting(&self, store: &Store, record: &Record) -> Option<Waiting> {
        let id = &record.job_id;
        if record.status != Status::Queued {
            return None;
        }
        let mut waiting =
            Waiting { position: self.positions.get(id).copied(), ..Waiting::default() };
        if waiting.position.is_none() {
            // Its record lags behind: it has its slot, and is about to say so.
            waiting.is_over = self.queue.has_slot(id);
            if !waiting.is_over {
                waiting.starts_at = record.starts_at().filter(|at| *at > clock::now());
                waiting.waits_for = waits_for(store, &record.spec);
            }
        } else {
            let waits = |until: &Timestamp| {
                let left = milliseconds(until.since(clock::now()));
                record.spec.admission.waits_for_limit(left)
            };
            waiting.limited_until = self.limit.filter(waits);
        }
        Some(waiting)
    }
}

/// What the queue adds to the record of a job that waits.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// It does not wait any more: it is about to start.
    pub is_over: bool,
    /// Its place in the line, from 1; `None` if it is not in it yet.
    pub position: Option<usize>,
    /// When it takes its place in the line, if that is to come.
    pub starts_at: Option<Timestamp>,
    /// The jobs that it still waits for.
    pub waits_for: Vec<JobId>,
    /// The end of the API's limit that another job met.
    pub limited_until: Option<Timestamp>,
}

/// The jobs that one which is queued and was asked for so still waits for.
pub(super) fn waits_for(store: &Store, spec: &Spec) -> Vec<JobId> {
    let open = spec.others().filter(|id| {
        let other = store.job(id).load();
        other.is_ok_and(|other| other.status.is_live())
    });
    open.take(20).cloned().collect()
}

/// Of the job of this record.
pub(super) fn standing(store: &Store, record: &Record) -> Standing {
    let mut answer = Standing::of(record);
    if record.status == Status::Queued
        && let Some(waiting) = Line::of(store).waiting(store, record)
    {
        if waiting.is_over {
            answer.status = Status::Starting;
        }
        answer.position = waiting.position;
        answer.starts_at = waiting.starts_at;
        answer.waits_for = waiting.waits_for;
        answer.rate_limited |= waiting.limited_until.is_some();
        answer.retry_at = answer.retry_at.or(waiting.limited_until);
    }
    answer
}

/// How the job stands now.
///
/// `full` shows the whole of what it asks, however long that is.
pub fn status(store: &Store, id: &JobId, full: bool) -> Result<StatusAnswer, Error> {
    let Seen { record, dir, .. } = look(store, id)?;
    let mut answer = standing(store, &record);
    answer.undelivered = dir.errands(&record);
    answer.undelivered.truncate(ERRANDS_SHOWN);
    if full && let Some(blocked) = &mut answer.blocked {
        let others = std::mem::take(&mut blocked.others);
        let open = super::answer::open(store, id, Some(&blocked.request_id))?;
        *blocked = Blocked { others, ..open.blocked };
    }
    Ok(answer)
}
