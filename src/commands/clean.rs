//! `clean`: jobs that have ended are removed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::observe::try_load_checked;
use crate::clock;
use crate::error::Error;
use crate::job::{JobId, Record, Summary, Timestamp};
use crate::store::{self, JobDir, Listed, Store, StoreError, Summaries};

/// How many are left where nothing else was asked for.
const KEPT: usize = 50;
/// Ids that an answer names.
const NAMED: usize = 50;

/// What to remove.
#[derive(Debug, Default)]
pub struct CleanRequest {
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

/// A job that was not removed.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Left {
    /// The job's id.
    pub job_id: JobId,
    /// Why it was not removed.
    pub error: String,
}

/// The jobs that were removed.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct CleanAnswer {
    /// Number of jobs that were removed, or would be with `dryRun`.
    pub removed: usize,
    /// Bytes of disk space that were freed, or would be with `dryRun`.
    pub freed_bytes: u64,
    /// Nothing was removed (`--dry-run`).
    pub dry_run: bool,
    /// Ids of the first of these jobs.
    pub jobs: Vec<JobId>,
    /// Number of further jobs, which `jobs` leaves out.
    pub omitted: usize,
    /// Jobs asked for by id that stay, and jobs that could not be removed.
    pub left: Vec<Left>,
    /// Problems that did not prevent the removal.
    pub warnings: Vec<String>,
}

/// Removes jobs that have ended: never one that is live, of which somebody was not told, or that
/// another waits for, nor what is no job. What is removed disappears as a whole, and no link in it
/// is followed. One that cannot be removed does not keep the others; it is an error where nothing
/// else is to be told.
pub fn clean(store: &Store, request: &CleanRequest) -> Result<CleanAnswer, Error> {
    let mut answer = CleanAnswer { dry_run: request.dry_run, ..CleanAnswer::default() };
    let mut failures = Vec::new();
    let chosen = choose(store, request, &mut answer, &mut failures)?;
    if !request.dry_run {
        store.clear_leftovers()?;
    }
    // From here on no job comes to wait for one of them.
    let removal = !request.dry_run && !chosen.is_empty();
    let _removal = removal.then(|| store.lock_removal()).flatten();
    let awaited = if chosen.is_empty() { BTreeMap::new() } else { awaited(store)? };
    let mut unnoted = None;
    for id in chosen {
        let dir = store.job(&id);
        let freed = dir.disk_usage();
        let done = match awaited.get(&id) {
            Some(waiter) => Err(Stays::Must(format!("job {waiter} waits for it"))),
            None if request.dry_run => {
                may_go(&dir, dir.is_held().as_ref().map(|held| !held)).map(|()| None)
            }
            None => remove(&dir),
        };
        match done {
            Ok(not_noted) => {
                unnoted = unnoted.or(not_noted);
                answer.count(id, freed);
            }
            Err(Stays::Must(error)) if !request.ids.is_empty() => {
                answer.left.push(Left { job_id: id, error });
            }
            Err(Stays::Must(_)) => {}
            Err(Stays::Fails(error)) => failures.push((id, error.into())),
        }
    }
    if answer.removed == 0 && answer.left.is_empty() && !failures.is_empty() {
        return Err(failures.swap_remove(0).1);
    }
    let failures = failures.into_iter().take(NAMED);
    let failures = failures.map(|(job_id, error)| Left { job_id, error: error.to_string() });
    answer.left.extend(failures);
    let kept =
        |error| format!("what they have cost is kept in .new until it can be noted: {error}");
    answer.warnings.extend(unnoted.map(kept));
    Ok(answer)
}

/// The jobs that are to be removed, those that ended last first. Of ids `answer` gets those that
/// are left, and `failures` those that cannot be looked at.
fn choose(
    store: &Store,
    request: &CleanRequest,
    answer: &mut CleanAnswer,
    failures: &mut Vec<(JobId, Error)>,
) -> Result<Vec<JobId>, Error> {
    let named = !request.ids.is_empty();
    let selects = named || request.older_than.is_some() || !request.labels.is_empty();
    let keep = request.keep.unwrap_or(if selects { 0 } else { KEPT });
    let before = request.older_than.map(|age| clock::now().before(age));
    let mut ended: Vec<(Option<Timestamp>, JobId)> = Vec::new();
    let (summaries, jobs) = match named {
        true => (Summaries::default(), request.ids.iter().cloned().map(Listed::unread).collect()),
        false => store.summaries()?,
    };
    for job in jobs {
        let id = job.id;
        if request.spare.as_ref() == Some(&id) {
            continue;
        }
        // Nobody is to be notified: the job may go.
        if let Some(job) = job.ended.filter(|job| !job.has_recipients) {
            let is_wanted = match !selects {
                true => true,
                false => summaries
                    .get(&job)
                    .is_some_and(|summary| request.why_unwanted(&summary, before).is_none()),
            };
            if is_wanted {
                ended.push((job.ended_at, id));
            }
            continue;
        }
        match try_load_checked(store, &id) {
            Ok(seen) => match why_left(&seen.dir, &seen.record) {
                None => {
                    let summary = seen.record.into();
                    match request.why_unwanted(&summary, before) {
                        None => ended.push((summary.ended_at, id)),
                        Some(why) if named => {
                            answer.left.push(Left { job_id: id, error: why.to_owned() });
                        }
                        Some(_) => {}
                    }
                }
                Some(error) if named => answer.left.push(Left { job_id: id, error }),
                Some(_) => {}
            },
            Err(error) if named => {
                let error = Error::from_load_error(id.as_str(), error);
                failures.push((id, error));
            }
            Err(_) => {}
        }
    }
    ended.sort_unstable_by(|a, b| b.cmp(a));
    let chosen = ended.split_off(keep.min(ended.len()));
    if named {
        let error = || format!("it is one of the {keep} that ended last");
        answer.left.extend(ended.into_iter().map(|(_, job_id)| Left { job_id, error: error() }));
    }
    Ok(chosen.into_iter().map(|(_, id)| id).collect())
}

impl CleanAnswer {
    fn count(&mut self, id: JobId, freed: u64) {
        self.removed += 1;
        self.freed_bytes += freed;
        if self.jobs.len() < NAMED {
            self.jobs.push(id);
        } else {
            self.omitted += 1;
        }
    }
}

impl CleanRequest {
    /// Why a job that has ended is none of those that were asked for.
    fn why_unwanted(&self, job: &Summary, before: Option<Timestamp>) -> Option<&'static str> {
        let old = before.is_none_or(|before| job.ended_at.is_some_and(|at| at <= before));
        if !old {
            return Some("it has not ended so long ago");
        }
        let fits = job.has_labels(self.labels.iter().map(|(key, value)| (key, value)));
        (!fits).then_some("it does not have these labels")
    }
}

/// The jobs that others wait for who did not have their turn yet, or had been cut off before it,
/// each with one of those: it will read how they ended.
fn awaited(store: &Store) -> Result<BTreeMap<JobId, JobId>, StoreError> {
    let mut awaited = BTreeMap::new();
    let (summaries, jobs) = store.summaries()?;
    for Listed { id, ended } in jobs {
        let known = ended.and_then(|ended| summaries.get(&ended));
        // Who waits behind a record that cannot be read is not known.
        let Some(waiter) = known.or_else(|| store.job(&id).summary().ok()) else { continue };
        // One that was cut off before its turn may be taken up again.
        if !waiter.had_turn && (waiter.status.is_live() || waiter.ending().is_cut_off()) {
            let others = [waiter.spec.after, waiter.spec.after_any].concat();
            awaited.extend(others.into_iter().map(|other| (other, id.clone())));
        }
    }
    Ok(awaited)
}

/// Why a job has to stay; `None` if it may go.
fn why_left(dir: &JobDir, record: &Record) -> Option<String> {
    let is_dead = record.version == 0 && store::legacy_is_dead(record);
    if record.status.is_live() && !is_dead {
        let host = dir.other_host(record).map(|host| format!(" on {host}")).unwrap_or_default();
        return Some(format!("it is {}{host}", record.status));
    }
    let errands = dir.notifications(record);
    let errand = errands.first()?;
    let to = &errand.to;
    Some(match &errand.error {
        Some(why) => format!("{to} could not be told that it {}: {why}", errand.event),
        None => format!("{to} is still to be told that it {}", errand.event),
    })
}

/// Why a job was not removed.
enum Stays {
    /// It has to stay.
    Must(String),
    /// It could not be removed.
    Fails(StoreError),
}

/// Whether the job may go as it is now. `is_free` is whether nobody holds its lock.
fn may_go(dir: &JobDir, is_free: Result<bool, &StoreError>) -> Result<(), Stays> {
    let record = dir.check().and_then(|()| dir.load());
    let record = record.map_err(|error| Stays::Must(error.to_string()))?;
    match is_free {
        Ok(true) => {}
        // Somebody resumes it, or looks at it for long.
        Ok(false) => return Err(Stays::Must("somebody holds its lock".to_owned())),
        // The Node skill's jobs have no lock.
        Err(_) if record.version == 0 => {}
        Err(error) => return Err(Stays::Must(error.to_string())),
    }
    why_left(dir, &record).map_or(Ok(()), |why| Err(Stays::Must(why)))
}

/// Removes the job, if it is still as it was. Gives what was in the way of noting its cost.
fn remove(dir: &JobDir) -> Result<Option<StoreError>, Stays> {
    let lock = dir.try_lock();
    may_go(dir, lock.as_ref().map(Option::is_some))?;
    dir.discard().map_err(Stays::Fails)
}
