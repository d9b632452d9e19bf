//! `recover`: jobs that were cut off go on, as another attempt.

use serde::Serialize;

use super::seen::{look, look_leniently};
use super::start::{check_claude, check_cwd, make_plan, put_on_its_feet, status_of};
use crate::checkpoint::checkpoint;
use crate::claude::{self, Surroundings};
use crate::error::Error;
use crate::job::{JobId, Record, Spec, Status};
use crate::launch::Wish;
use crate::process;
use crate::settle::bury;
use crate::store::{JobDir, OUTPUT, Store};

/// What to recover.
#[derive(Debug)]
pub struct Request {
    /// This job; `None` for every one that can be.
    pub id: Option<JobId>,
    /// How a job is detached from us.
    pub detach: Wish,
}

/// A job that goes on.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Recovered {
    /// Its id.
    pub job_id: JobId,
    /// Its worker's process id.
    pub pid: i32,
    /// How it stands.
    pub status: Status,
    /// Which run of claude this is.
    pub attempt: u32,
    /// Claude goes on with its conversation; else it was given the prompt again.
    pub resumes: bool,
    /// What would end the job before its time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A job that could have gone on, and does not.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Its id.
    pub job_id: JobId,
    /// Why not.
    pub error: String,
    /// The stable word for it.
    pub code: &'static str,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What became of all of them.
#[derive(Debug, Default, Serialize)]
pub struct RecoverAllAnswer {
    /// Those that go on.
    pub recovered: Vec<Recovered>,
    /// Those that do not.
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
    if !seen.record.is_recoverable() {
        return Err(Error::NotRecoverable(id.to_string(), why_not(&seen.record)));
    }
    take_up(store, id, &seen.dir, seen.record, detach, around)
}

/// Takes up every job that was cut off. A job that another `recover` takes up meanwhile is left
/// to it.
pub fn recover_all(
    store: &Store,
    detach: Wish,
    around: &Surroundings,
) -> Result<RecoverAllAnswer, Error> {
    let mut ids = store.ids()?;
    ids.sort_unstable();
    let mut answer = RecoverAllAnswer::default();
    for id in ids {
        let Ok(seen) = look_leniently(store, &id) else { continue };
        if !seen.record.is_recoverable() {
            continue;
        }
        match take_up(store, &id, &seen.dir, seen.record, detach, around) {
            Ok(recovered) => answer.recovered.push(recovered),
            Err(Error::NotRecoverable(..)) => {}
            Err(error) => answer.failed.push(Failure {
                job_id: id,
                error: error.to_string(),
                code: error.code(),
                hint: error.hint(),
            }),
        }
    }
    Ok(answer)
}

fn why_not(record: &Record) -> String {
    match record.status {
        Status::Killed => "it was killed, which is for good".to_owned(),
        Status::Completed => "it has completed".to_owned(),
        Status::Failed if record.spec.no_recover => "it was started with --no-recover".to_owned(),
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
    dir: &JobDir,
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
        Ok(())
    };
    attempt_again(store, id, dir, record.spec, detach, around, begin)
}

/// Launches another attempt, which `begin` makes the record's next while the lock is held.
pub(super) fn attempt_again(
    store: &Store,
    id: &JobId,
    dir: &JobDir,
    mut spec: Spec,
    detach: Wish,
    around: &Surroundings,
    begin: impl FnOnce(&JobDir, &mut Record) -> Result<(), Error>,
) -> Result<Recovered, Error> {
    // All that can be refused is refused before the record is touched.
    check_cwd(&spec)?;
    if !claude::is_executable(std::path::Path::new(&spec.claude)) {
        // An update may have put it elsewhere.
        spec.claude.clear();
    }
    check_claude(&mut spec, around)?;
    let mut plan = make_plan(detach, store, id, &spec, around)?;
    let taken = || Error::NotRecoverable(id.to_string(), "it was taken up just now".to_owned());
    let lock = dir.try_lock()?.ok_or_else(taken)?;
    checkpoint("recover:locked");
    let mut record = dir.load().map_err(|error| Error::load(id.as_str(), error))?;
    if record.status.is_live() {
        // Its end could not be written by whoever found it lost.
        record = bury(dir, record, None, Some(&lock));
    }
    begin(dir, &mut record)?;
    record.spec.claude = spec.claude;
    record.pid = None;
    record.boot_id = process::boot_id();
    record.detached = Some(plan.expected());
    record.log_start = dir.length(OUTPUT);
    dir.reopen_inbox()?;
    dir.save(&record, false)?;
    checkpoint("recover:saved");
    dir.forget_outcome();
    let launched = put_on_its_feet(id, dir, lock, &mut plan, around)?;
    Ok(Recovered {
        job_id: id.clone(),
        pid: launched.pid,
        status: status_of(launched),
        attempt: record.attempt,
        resumes: record.session_began,
        warnings: plan.risks().to_vec(),
    })
}
