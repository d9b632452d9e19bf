//! `kill`: the end of a job with all its processes.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::Serialize;

use super::host::refuse_elsewhere;
use super::seen::{Seen, look};

use super::watch::ends_within;
use crate::checkpoint::checkpoint;
use crate::error::Error;
use crate::job::{JobId, Record, Status, Verdict};
use crate::process::{Mark, Target};
use crate::settle::settle;
use crate::store::{JobDir, LoadError, Store, addressed};

/// How long the worker may take: its ladder of signals and the sweep fit well into it, and callers
/// give a command 10 s.
const WORKER_TAKES: Duration = Duration::from_millis(8_500);
/// How long a worker that is just being started may take to stand.
const HANDOVER_TAKES: Duration = Duration::from_secs(3);
/// How long the kernel may take to end a process that was sent SIGKILL.
const SIGKILL_TAKES: Duration = Duration::from_millis(500);

/// The result of a kill.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct KillAnswer {
    /// The job's id.
    pub job_id: JobId,
    /// The job's status is `killed` and no process of it is left.
    pub killed: bool,
    /// The job's status.
    pub status: Status,
    /// Why the job was not killed.
    pub error: Option<String>,
    /// The command to run next, as `sh` takes it; null for a completed job.
    pub hint: Option<String>,
}

/// Kills the job and answers when nothing of it is left.
pub fn kill(store: &Store, id: &JobId) -> Result<KillAnswer, Error> {
    let dir = store.job(id);
    dir.check().map_err(|error| Error::load(id.as_str(), error))?;
    let record = match dir.load() {
        // Somebody broke it while the job runs, or put something else in its place. The worker can
        // be found all the same, and writes the record anew, if it can.
        Err(LoadError::Unreadable { .. } | LoadError::Store(_))
            if dir.is_held().unwrap_or(false) =>
        {
            if let Some(worker) = Mark::new(dir.path()).worker() {
                let failed = |error| Error::Signal(id.to_string(), error);
                Target::open(worker).and_then(|worker| ask_worker(&worker)).map_err(failed)?;
                ends_within(&dir, WORKER_TAKES);
            }
            dir.load()
        }
        loaded => loaded,
    };
    let record = record.map_err(|error| Error::load(id.as_str(), error))?;
    refuse_elsewhere(&dir, &record)?;
    checkpoint("kill:looked");
    let asked = may_go_on(&record, &dir)?;
    if asked {
        end(id, &dir, record)?;
    }
    let Seen { mut record, .. } = look(store, id)?;
    // Somebody may have taken it up between the two looks.
    if !asked && may_go_on(&record, &dir)? {
        end(id, &dir, record)?;
        record = look(store, id)?.record;
    }
    let killed = record.status == Status::Killed;
    let error = match record.status {
        Status::Killed => None,
        status if status.is_live() && record.version == 0 => {
            Some("a job of the Node skill can only be killed by it".to_owned())
        }
        status if status.is_live() => Some("the job is still being ended".to_owned()),
        status => Some(format!("the job has already {}", past(status))),
    };
    let hint = record.hint().map(|hint| addressed(store.root(), hint));
    Ok(KillAnswer { job_id: record.job_id, killed, status: record.status, error, hint })
}

/// Whether there is something to end: a job that is live, or that somebody is just taking up.
fn may_go_on(record: &Record, dir: &JobDir) -> Result<bool, Error> {
    let live = record.status.is_live() && record.version > 0;
    Ok(live || (record.is_cut_off() && dir.is_held()?))
}

/// Ends the job, for good: others may find it lost meanwhile, or take it up.
fn end(id: &JobId, dir: &JobDir, mut record: Record) -> Result<(), Error> {
    let until = Instant::now() + WORKER_TAKES;
    loop {
        match ask(id, dir)? {
            Asked::Worker => {
                if !ends_within(dir, WORKER_TAKES) {
                    end_by_force(id, dir)?;
                }
            }
            Asked::Nobody => checkpoint("kill:alone"),
        }
        // A job that lost its worker is killed all the same: it shall not be taken up again.
        if !dir.is_held()? {
            record = settle(dir, record, Some(Verdict::Killed));
        } else {
            record = dir.load().map_err(|error| Error::load(id.as_str(), error))?;
        }
        let goes_on = record.status.is_live() || record.is_cut_off();
        if !goes_on || Instant::now() >= until {
            return Ok(());
        }
    }
}

fn past(status: Status) -> &'static str {
    if status == Status::Completed { "completed" } else { "failed" }
}

enum Asked {
    Worker,
    Nobody,
}

/// Asks the job's worker, if it has one.
fn ask(id: &JobId, dir: &JobDir) -> Result<Asked, Error> {
    let until = Instant::now() + HANDOVER_TAKES;
    loop {
        if !dir.is_held()? {
            return Ok(Asked::Nobody);
        }
        if let Some(worker) = worker(id, dir)? {
            ask_worker(&worker).map_err(|error| Error::Signal(id.to_string(), error))?;
            return Ok(Asked::Worker);
        }
        if Instant::now() >= until {
            let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
            return Err(Error::Signal(id.to_string(), error));
        }
        // `start` still holds the lock, for a few milliseconds.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asks by SIGUSR1, which needs no file: it works on a full disk, too.
fn ask_worker(worker: &Target) -> std::io::Result<()> {
    worker.signal(Signal::SIGUSR1)?;
    checkpoint("kill:asked");
    // One that was stopped (SIGSTOP) could not hear it.
    worker.signal(Signal::SIGCONT)
}

/// The process that holds the lock. Its number is read and the process is opened while the lock
/// is held, and both are looked at again after that: the number cannot have passed to another.
/// It must bear the job's mark, so that a record that was tampered with turns no signal of ours
/// against a stranger.
fn worker(id: &JobId, dir: &JobDir) -> Result<Option<Target>, Error> {
    let load = || dir.load().map_err(|error| Error::load(id.as_str(), error));
    let Some(pid) = load()?.pid else { return Ok(None) };
    let Ok(target) = Target::open(pid) else { return Ok(None) };
    let same = dir.is_held()? && load()?.pid == Some(pid) && Mark::new(dir.path()).is_on(pid);
    Ok(same.then_some(target))
}

/// The worker does not answer: it is ended, and claude with it, and what is left is swept by
/// whoever settles the job.
fn end_by_force(id: &JobId, dir: &JobDir) -> Result<(), Error> {
    if let Some(worker) = worker(id, dir)? {
        worker.signal(Signal::SIGKILL).map_err(|error| Error::Signal(id.to_string(), error))?;
        ends_within(dir, SIGKILL_TAKES);
    }
    Ok(())
}
