//! `recover`: jobs that were cut off go on, as another attempt.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Failure;
use super::host::refuse_elsewhere;
use super::seen::{look, look_leniently};
use super::start::{
    check_claude, check_cwd, make_plan, put_on_its_feet, set_system_prompt_snapshot, status_of,
    warnings,
};
use crate::checkpoint::checkpoint;
use crate::claude::{self, Surroundings};
use crate::error::Error;
use crate::job::{JobId, Reason, Record, Spec, Status};
use crate::launch::Wish;
use crate::settle::{SWEEP_TAKES, bury};
use crate::store::{JobDir, Lock, OUTPUT, Store, addressed};

/// How long a worker may hold its job's lock after it has written the end.
const LAST_MOMENTS: Duration = Duration::from_secs(2);
/// How often is looked whether it has let go.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What to recover.
#[derive(Debug)]
pub struct Request {
    /// This job; `None` for every one that can be.
    pub id: Option<JobId>,
    /// How a job is detached from us.
    pub detach: Wish,
}

/// A job that continues as another attempt.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Recovered {
    /// The job's id.
    pub job_id: JobId,
    /// Process id of the worker.
    pub pid: i32,
    /// The job's status.
    pub status: Status,
    /// Number of this run of claude, from 1.
    pub attempt: u32,
    /// Claude continues its conversation; otherwise it gets the prompt again.
    pub resumes: bool,
    /// What would end the job before its time.
    pub warnings: Vec<String>,
    /// The command to run next, as `sh` takes it; null for a completed job.
    pub hint: Option<String>,
}

/// The jobs that were recovered.
#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RecoverAllAnswer {
    /// The jobs that continue.
    pub recovered: Vec<Recovered>,
    /// The jobs that could not be recovered, though they were cut off.
    pub failed: Vec<Failure>,
}

/// Takes up one job.
pub fn recover(
    store: &Store,
    id: &JobId,
    detach: Wish,
    around: &Surroundings,
) -> Result<Recovered, Error> {
    let seen = look(store, id)?;
    refuse_elsewhere(&seen.dir, &seen.record)?;
    if !seen.record.is_recoverable() {
        return Err(Error::NotRecoverable(id.to_string(), why_not(&seen.record)));
    }
    take_up(store, id, seen.record, detach, around)
}

/// Takes up every job that was cut off: one that waits for others after those, which have failed
/// until then, and one that failed with another only where that goes on. A job that another
/// `recover` takes up meanwhile is left to it.
pub fn recover_all(
    store: &Store,
    detach: Wish,
    around: &Surroundings,
) -> Result<RecoverAllAnswer, Error> {
    let mut ids = store.ids()?;
    ids.sort_unstable();
    let cut_off = ids.into_iter().filter_map(|id| {
        let record = look_leniently(store, &id).ok()?.record;
        let others = record.spec.others().cloned().collect();
        record.is_cut_off().then_some((id, others))
    });
    let mut answer = RecoverAllAnswer::default();
    for id in in_order(cut_off.collect()) {
        let Ok(seen) = look_leniently(store, &id) else { continue };
        if !seen.record.is_cut_off() || would_fail_again(store, &seen.record) {
            continue;
        }
        match take_up(store, &id, seen.record, detach, around) {
            Ok(recovered) => answer.recovered.push(recovered),
            Err(Error::NotRecoverable(..)) => {}
            Err(error) => answer.failed.push(Failure::of(id, &error)),
        }
    }
    Ok(answer)
}

/// Whether it failed with a job that it waited for, and that has not gone on.
fn would_fail_again(store: &Store, record: &Record) -> bool {
    let has_failed = |id: &JobId| {
        look_leniently(store, id)
            .is_ok_and(|other| !other.live && other.record.status != Status::Completed)
    };
    record.reason == Some(Reason::DependencyFailed) && record.spec.after.iter().any(has_failed)
}

/// Jobs with those that each waits for, put so that none comes before one that it waits for.
fn in_order(mut jobs: Vec<(JobId, Vec<JobId>)>) -> Vec<JobId> {
    let mut ordered = Vec::new();
    while !jobs.is_empty() {
        let open: BTreeSet<JobId> = jobs.iter().map(|(id, _)| id.clone()).collect();
        let waits = |(_, others): &(JobId, Vec<JobId>)| others.iter().any(|id| open.contains(id));
        let (mut waiting, ready): (Vec<_>, Vec<_>) = jobs.into_iter().partition(waits);
        if ready.is_empty() {
            // They wait for each other, which `start` refuses: no order is better than another.
            ordered.extend(waiting.drain(..).map(|(id, _)| id));
        }
        ordered.extend(ready.into_iter().map(|(id, _)| id));
        jobs = waiting;
    }
    ordered
}

/// The lock of a job that was seen to have ended; `None` if somebody else took it up. Its worker
/// holds it for a moment after it has written the end, of which it may have told us.
fn lock_of_ended(dir: &JobDir) -> Result<Option<Lock>, Error> {
    let until = Instant::now() + LAST_MOMENTS;
    loop {
        let lock = dir.try_lock()?;
        let ended = dir.load().is_ok_and(|record| !record.status.is_live());
        if lock.is_some() || !ended || Instant::now() >= until {
            return Ok(lock);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn why_not(record: &Record) -> String {
    match record.status {
        Status::Killed => "it was killed, which is for good".to_owned(),
        Status::Completed => "it has completed".to_owned(),
        Status::Failed if record.spec.no_recover => {
            "it was started with --no-recover, or killed after it had failed".to_owned()
        }
        Status::Failed if !record.is_ours_to_write() => {
            "its record is of another version of this program".to_owned()
        }
        Status::Failed => {
            let reason = record.reason.map_or("an unknown reason", |reason| reason.as_str());
            format!("it was not cut off, it failed by itself ({reason})")
        }
        live => format!("it is {live}"),
    }
}

fn take_up(
    store: &Store,
    id: &JobId,
    record: Record,
    detach: Wish,
    around: &Surroundings,
) -> Result<Recovered, Error> {
    let taken = || Error::NotRecoverable(id.to_string(), "it was taken up just now".to_owned());
    let begin = |_: &JobDir, record: &mut Record| {
        if !record.is_recoverable() {
            return Err(taken());
        }
        record.recovered_from = record.reason;
        record.begin_attempt();
        if record.recovered_from == Some(Reason::WakeupMissed) {
            // It may have been its own time that ran out while it waited.
            record.earlier.untimed_ms = record.earlier.elapsed_ms;
        }
        Ok(())
    };
    attempt_again(store, id, record.spec, detach, around, taken, begin)
}

/// Launches another attempt, which `begin` makes the record's next while the lock is held; fails
/// as `taken` says if somebody else has it.
pub(super) fn attempt_again(
    store: &Store,
    id: &JobId,
    mut spec: Spec,
    detach: Wish,
    around: &Surroundings,
    taken: impl FnOnce() -> Error,
    begin: impl FnOnce(&JobDir, &mut Record) -> Result<(), Error>,
) -> Result<Recovered, Error> {
    let dir = &store.job(id);
    // All that can be refused is refused before the record is touched.
    check_cwd(&spec)?;
    check_claude_of_job(&mut spec, around)?;
    set_system_prompt_snapshot(&mut spec);
    let mut plan = make_plan(detach, store, id, &spec, around)?;
    // Those that it still has to wait for stay until it is seen to do so.
    let others = store.lock_others();
    let lock = lock_of_ended(dir).map_err(|error| match dir.path().exists() {
        true => error,
        // Somebody has removed it just now.
        false => Error::NotFound(id.to_string()),
    });
    let lock = lock?.ok_or_else(taken)?;
    checkpoint("recover:locked");
    let mut record = dir.load().map_err(|error| Error::load(id.as_str(), error))?;
    if let Some(host) = dir.other_host(&record) {
        return Err(Error::OtherHost(id.to_string(), host.to_owned()));
    }
    if record.status.is_live() {
        // Its end could not be written by whoever found it lost.
        record = bury(dir, record, None, Some(&lock), Instant::now() + SWEEP_TAKES);
    }
    let attempt = record.attempt + 1;
    if let Some(host) = dir.claim_attempt(attempt)? {
        return Err(Error::OtherHost(id.to_string(), host));
    }
    if let Err(error) = begin(dir, &mut record) {
        if dir.is_shared() {
            dir.revoke_claim(attempt);
        }
        return Err(error);
    }
    record.spec = spec;
    // That was said of its start. It is there now, and can wait.
    record.spec.admission.no_queue = false;
    record.pid = None;
    record.pid_start_time = None;
    record.set_host();
    record.detached = Some(plan.expected());
    record.log_start = dir.length(OUTPUT);
    dir.open_inbox()?;
    dir.save(&record, false)?;
    drop(others);
    checkpoint("recover:saved");
    let launched = put_on_its_feet(id, dir, lock, &mut plan, around)?;
    let pid = launched.pid;
    let status = match record.released_question() {
        Some(_) => Status::Blocked,
        None => status_of(launched),
    };
    Ok(Recovered {
        job_id: id.clone(),
        pid,
        status,
        attempt: record.attempt,
        resumes: record.session_began,
        warnings: warnings(store, &plan),
        hint: Some(addressed(store.root(), format!("claudejob wait {id}"))),
    })
}

/// Checks what another attempt needs. A claude that is gone from its path is looked for: an update
/// may have put it elsewhere.
fn check_claude_of_job(spec: &mut Spec, around: &Surroundings) -> Result<(), Error> {
    if claude::is_executable(std::path::Path::new(&spec.claude)) {
        return check_claude(spec, around);
    }
    let path = std::mem::take(&mut spec.claude);
    check_claude(spec, around).map_err(|error| match error {
        Error::ClaudeNotFound(_) if !path.is_empty() => Error::ClaudeNotFound(format!(
            "the job's claude {path:?} is gone, and there is none on PATH"
        )),
        error => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_comes_before_one_that_it_waits_for() {
        for (jobs, expected) in [
            ("", ""),
            ("a b c", "a b c"),
            ("a:z b z", "b z a"),
            ("a:b,c b:c c", "c b a"),
            ("a:gone b", "a b"),
            ("a:b b:a c", "c a b"),
        ] {
            let id = |text: &str| JobId::parse(text).unwrap();
            let parse = |word: &str| {
                let (job, others) = word.split_once(':').unwrap_or((word, ""));
                let others = others.split(',').filter(|other| !other.is_empty());
                (id(job), others.map(id).collect())
            };
            let ordered = in_order(jobs.split_whitespace().map(parse).collect());
            let expected: Vec<JobId> = expected.split_whitespace().map(id).collect();
            assert_eq!(ordered, expected, "{jobs}");
        }
    }
}
