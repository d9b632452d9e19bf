//! `clean`: jobs that have ended are removed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seen::look_leniently;
use crate::clock;
use crate::error::Error;
use crate::job::{JobId, Record, Status, Timestamp};
use crate::store::{self, JobDir, Store, StoreError};

/// How many are left where nothing else was asked for.
const KEPT: usize = 50;
/// Ids that an answer names.
const NAMED: usize = 50;

/// What to remove.
#[derive(Debug, Default)]
pub struct Request {
    /// Only these jobs; empty for any.
    pub ids: Vec<JobId>,
    /// This job is left, and is none of those that `keep` counts.
    pub spare: Option<JobId>,
    /// Those that ended last are left, so many of them.
    pub keep: Option<usize>,
    /// Only jobs that ended so long ago.
    pub older_than: Option<Duration>,
    /// Only jobs that have all these labels.
    pub labels: Vec<(String, String)>,
    /// Nothing is removed.
    pub dry_run: bool,
}

/// Why a job was left that was asked for by its id.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Left {
    /// The job.
    pub job_id: JobId,
    /// Why.
    pub error: String,
}

/// What was removed.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CleanAnswer {
    /// How many jobs, or how many would be.
    pub removed: usize,
    /// Bytes on the disk that came free, or would.
    pub freed_bytes: u64,
    /// Nothing was removed: this is what would be.
    pub dry_run: bool,
    /// Their ids, the first of them.
    pub jobs: Vec<JobId>,
    /// How many more there are that are not named.
    #[serde(skip_serializing_if = "is_zero")]
    pub omitted: usize,
    /// Those that were asked for by their ids and are left.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Left>,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// Removes jobs that have ended: never one that is live, of which somebody was not told, or that
/// another waits for, nor what is no job. What is removed disappears as a whole, and no link in it is followed.
pub fn clean(store: &Store, request: &Request) -> Result<CleanAnswer, Error> {
    let mut answer = CleanAnswer { dry_run: request.dry_run, ..CleanAnswer::default() };
    let chosen =
        !request.ids.is_empty() || request.older_than.is_some() || !request.labels.is_empty();
    let keep = request.keep.unwrap_or(if chosen { 0 } else { KEPT });
    let mut ended: Vec<(Option<Timestamp>, JobId)> = Vec::new();
    let mut ids = if request.ids.is_empty() { store.ids()? } else { request.ids.clone() };
    ids.retain(|id| request.spare.as_ref() != Some(id));
    let before = request.older_than.map(|age| clock::now().before(age));
    let named = !request.ids.is_empty();
    for id in ids {
        match look_leniently(store, &id) {
            Ok(seen) => {
                let why = why_left(&seen.dir, &seen.record);
                match why {
                    None if request.wants(&seen.record, before) => {
                        ended.push((seen.record.ended_at, id));
                    }
                    Some(error) if named => answer.left.push(Left { job_id: id, error }),
                    _ => {}
                }
            }
            Err(error) if named => return Err(Error::load(id.as_str(), error)),
            Err(_) => {}
        }
    }
    ended.sort_unstable_by(|a, b| b.cmp(a));
    ended.drain(..keep.min(ended.len()));
    // Late, so that little time is left for a job that comes to wait for one of them.
    let awaited = if ended.is_empty() { BTreeMap::new() } else { awaited(store)? };
    for (_, id) in ended {
        let dir = store.job(&id);
        let freed = dir.disk_usage();
        let why = if let Some(waiter) = awaited.get(&id) {
            Some(format!("job {waiter} waits for it"))
        } else if request.dry_run {
            may_go(&dir, dir.is_held().as_ref().map(|held| !held)).err()
        } else {
            remove(store, &dir)?
        };
        if let Some(error) = why {
            if named {
                answer.left.push(Left { job_id: id, error });
            }
            continue;
        }
        answer.removed += 1;
        answer.freed_bytes += freed;
        if answer.jobs.len() < NAMED {
            answer.jobs.push(id);
        } else {
            answer.omitted += 1;
        }
    }
    Ok(answer)
}

impl Request {
    fn wants(&self, record: &Record, before: Option<Timestamp>) -> bool {
        let old = before.is_none_or(|before| record.ended_at.is_some_and(|at| at <= before));
        let labels = &record.spec.labels;
        old && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// Of a record what tells whom the job waits for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Waiter {
    status: Status,
    #[serde(default)]
    had_turn: bool,
    #[serde(default)]
    spec: After,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct After {
    after: Vec<JobId>,
    after_any: Vec<JobId>,
}

/// The jobs that others wait for who did not have their turn yet, each with one of those: it will
/// read how they ended.
fn awaited(store: &Store) -> Result<BTreeMap<JobId, JobId>, StoreError> {
    let mut awaited = BTreeMap::new();
    for id in store.ids()? {
        // Who waits behind a record that cannot be read is not known.
        let Ok(waiter) = store.job(&id).part::<Waiter>() else { continue };
        if waiter.status.is_live() && !waiter.had_turn {
            let others = waiter.spec.after.into_iter().chain(waiter.spec.after_any);
            awaited.extend(others.map(|other| (other, id.clone())));
        }
    }
    Ok(awaited)
}

/// Why a job has to stay; `None` if it may go.
fn why_left(dir: &JobDir, record: &Record) -> Option<String> {
    let is_dead = record.version == 0 && store::legacy_is_dead(record);
    if record.status.is_live() && !is_dead {
        return Some(format!("it is {}", record.status));
    }
    let errands = dir.errands(&record.spec);
    let errand = errands.first()?;
    let to = &errand.to;
    Some(match &errand.error {
        Some(why) => format!("{to} could not be told that it {}: {why}", errand.event),
        None => format!("{to} is still to be told that it {}", errand.event),
    })
}

/// The job's record, if it may go as it is now; or else why it has to stay. `is_free` is whether
/// nobody holds its lock.
fn may_go(dir: &JobDir, is_free: Result<bool, &StoreError>) -> Result<Record, String> {
    let record = dir.check().and_then(|()| dir.load()).map_err(|error| error.to_string())?;
    match is_free {
        Ok(true) => {}
        // Somebody resumes it, or looks at it for long.
        Ok(false) => return Err("somebody holds its lock".to_owned()),
        // The Node skill's jobs have no lock.
        Err(_) if record.version == 0 => {}
        Err(error) => return Err(error.to_string()),
    }
    why_left(dir, &record).map_or(Ok(record), Err)
}

/// Removes the job, if it is still as it was; gives why it has to stay.
fn remove(store: &Store, dir: &JobDir) -> Result<Option<String>, Error> {
    let lock = dir.try_lock();
    let record = match may_go(dir, lock.as_ref().map(Option::is_some)) {
        Ok(record) => record,
        Err(why) => return Ok(Some(why)),
    };
    store.note_spent(&record)?;
    dir.discard()?;
    Ok(None)
}
