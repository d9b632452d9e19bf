//! `kill`: the end of a job with all its processes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::Serialize;

use super::host::refuse_elsewhere;
use super::seen::{Seen, look};
use crate::checkpoint::checkpoint;
use crate::error::Error;
use crate::job::{JobId, LeftProcess, Leftovers, Record, Status, Verdict};
use crate::launch::SCOPE_PREFIX;
use crate::process::{self, Mark, Orphans, ProcessId, Target, cgroup};
use crate::settle::settle_until;
use crate::store::{JobDir, LOCK, LoadError, META, Store, StoreError, addressed, is_independent};

/// How long all of it may take: callers give a command 10 s.
const KILL_TAKES: Duration = Duration::from_millis(7_800);
/// How long the worker may take, by its own ladder of signals and bounds 6.6 s.
const WORKER_TAKES: Duration = Duration::from_millis(7_000);
/// How long a worker that is just being started may take to say who it is.
const HANDOVER_TAKES: Duration = Duration::from_secs(3);
/// How long another command of this program may hold the job's lock: longer than it takes to
/// finalize a lost job.
const HOLDER_TAKES: Duration = Duration::from_millis(5_500);
/// How long the writing of the end and the answer may take.
const ANSWER_TAKES: Duration = Duration::from_millis(500);
/// How long it may take to say who it is. One that is stopped before is searched for.
const WORKER_SAYS: Duration = Duration::from_millis(500);
/// How long the kernel may take to end a process that was sent SIGKILL.
const SIGKILL_TAKES: Duration = Duration::from_millis(500);

/// The result of a kill.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct KillAnswer {
    /// The job's id.
    pub job_id: JobId,
    /// The job is killed for good. No process of it is left but those in `left`.
    pub killed: bool,
    /// The job's status.
    pub status: Status,
    /// Why the job was not killed.
    pub error: Option<String>,
    /// The job's processes that could not be ended.
    pub left: Vec<LeftProcess>,
    /// Problems that did not make the job fail, such as processes that could not be ended.
    pub warnings: Vec<String>,
    /// Path of the job's record; null if its directory was removed or cannot be trusted, so that
    /// the job was found by its processes alone.
    pub record: Option<PathBuf>,
    /// The command to run next, as `sh` takes it; null for a completed job.
    pub hint: Option<String>,
}

/// Kills the job. The answer comes when no process of it is left, or names those that are.
pub fn kill(store: &Store, id: &JobId) -> Result<KillAnswer, Error> {
    let until = Instant::now() + KILL_TAKES;
    let dir = store.job(id);
    if let Err(error) = dir.check() {
        let answer = kill_without_record(&dir, id, until)?;
        return answer.ok_or_else(|| Error::load(id.as_str(), error));
    }
    let record = match dir.load() {
        // Somebody broke it while the job runs, or put something else in its place. The worker can
        // be found all the same, and writes the record anew, if it can.
        Err(LoadError::Unreadable { .. } | LoadError::Store(_))
            if dir.is_held().unwrap_or(false) =>
        {
            end_marked_worker(id, &Mark::new(dir.path()), until)?;
            dir.load()
        }
        loaded => loaded,
    };
    let record = record.map_err(|error| Error::load(id.as_str(), error))?;
    refuse_elsewhere(&dir, &record)?;
    checkpoint("kill:looked");
    let mut asked = may_go_on(&record, &dir)?;
    if asked {
        end(id, &dir, record, until)?;
    }
    let Seen { mut record, .. } = look(store, id)?;
    // Somebody may have taken it up between the two looks.
    if !asked && may_go_on(&record, &dir)? {
        asked = true;
        end(id, &dir, record, until)?;
        record = look(store, id)?.record;
    }
    let mut left = record.left.clone();
    left.retain(is_alive);
    if asked && !is_held(&dir)? {
        end_scope(&dir, &mut record, &mut left);
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
    Ok(KillAnswer {
        job_id: record.job_id,
        killed,
        status: record.status,
        error,
        left,
        warnings: record.warnings,
        record: Some(dir.file(META)),
        hint,
    })
}

/// Kills a job whose jobs directory cannot be trusted, for this reason: nothing in it is read.
pub fn kill_untrusted(root: &Path, id: &JobId, error: StoreError) -> Result<KillAnswer, Error> {
    let dir = Store::at_links(root).job(id);
    let answer = kill_without_record(&dir, id, Instant::now() + KILL_TAKES)?;
    answer.ok_or_else(|| error.into())
}

/// Ends the processes that are marked with a job's directory, the worker first; `None` if there is
/// none.
fn kill_without_record(
    dir: &JobDir,
    id: &JobId,
    until: Instant,
) -> Result<Option<KillAnswer>, Error> {
    let mark = Mark::new(dir.path());
    let has_worker = end_marked_worker(id, &mark, until)?;
    let orphans = Orphans {
        mark: &mark,
        worker_start: None,
        is_locked: false,
        is_independent: &is_independent,
    };
    let (ended, left) = orphans.end(until - ANSWER_TAKES);
    if let Some(error) = left.unlisted {
        return Err(unknown(id, &error));
    }
    if !has_worker && ended == 0 && left.processes.is_empty() {
        return Ok(None);
    }
    let warnings = left.warnings();
    Ok(Some(KillAnswer {
        job_id: id.clone(),
        killed: true,
        status: Status::Killed,
        error: None,
        left: left.processes,
        warnings,
        record: None,
        hint: None,
    }))
}

/// Ends the worker that bears the mark; says whether there was one.
fn end_marked_worker(id: &JobId, mark: &Mark, until: Instant) -> Result<bool, Error> {
    let found = mark.worker().map_err(|error| unknown(id, &error.to_string()))?;
    let Some(found) = found else { return Ok(false) };
    let Ok(worker) = Target::open(found.pid) else { return Ok(true) };
    if ProcessId::of(found.pid) != Some(found) {
        return Ok(true);
    }
    end_worker(id, &worker, until)?;
    Ok(true)
}

/// The processes of the job cannot be found.
fn unknown(id: &JobId, why: &str) -> Error {
    let why = format!("its processes cannot be found: {why}");
    Error::Signal(id.to_string(), std::io::Error::other(why))
}

fn rest(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

fn is_alive(process: &LeftProcess) -> bool {
    let LeftProcess { pid, start_time, .. } = *process;
    // Where that cannot be looked at, it is as it was.
    process::check_proc().is_err() || ProcessId { pid, start_time }.is_alive()
}

/// Ends the remaining processes of the job's scope through the kernel (`cgroup.kill`), which also
/// ends those of other users and those that fork all the time. Does nothing if the scope holds a
/// process that is independent of the job.
fn end_scope(dir: &JobDir, record: &mut Record, left: &mut Vec<LeftProcess>) {
    let scope = record.detached.as_ref().and_then(|detached| detached.cgroup.as_deref());
    let Some(scope) = scope.filter(|scope| is_scope_of(scope, &record.job_id)) else { return };
    let processes = cgroup::processes(scope);
    let own = std::process::id() as i32;
    let goes_on = |pid: &i32| *pid == own || process::is_below_any(*pid, &is_independent);
    if processes.is_empty() || processes.iter().any(goes_on) || cgroup::kill(scope).is_err() {
        return;
    }
    let until = Instant::now() + SIGKILL_TAKES;
    while !cgroup::is_empty(scope) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
    left.retain(is_alive);
    if left.is_empty() && !record.left.is_empty() {
        forget_left(dir, record);
    }
}

/// Whether a control group is one that was made for this job: the record can have been changed.
fn is_scope_of(scope: &str, id: &JobId) -> bool {
    let unit = scope.rsplit('/').next().unwrap_or_default();
    unit.strip_prefix(SCOPE_PREFIX)
        .and_then(|rest| rest.strip_prefix(id.as_str()))
        .is_some_and(|rest| rest.starts_with('-') && rest.ends_with(".scope"))
}

/// Removes the processes that have ended since from the record.
fn forget_left(dir: &JobDir, record: &mut Record) {
    let Ok(Some(_lock)) = dir.try_lock() else { return };
    let Ok(mut written) = dir.load() else { return };
    if written.attempt != record.attempt || written.status.is_live() || !written.is_ours_to_write()
    {
        return;
    }
    let processes = std::mem::take(&mut written.left);
    let warnings = Leftovers { processes, unlisted: None }.warnings();
    written.warnings.retain(|warning| !warnings.contains(warning));
    if dir.save(&written, true).is_ok() {
        *record = written;
    }
}

/// Whether there is something to end: a job that is live, or that somebody is just taking up.
fn may_go_on(record: &Record, dir: &JobDir) -> Result<bool, Error> {
    let live = record.status.is_live() && record.version > 0;
    Ok(live || (record.is_cut_off() && is_held(dir)?))
}

/// Ends the job, for good: others may find it lost meanwhile, or take it up.
fn end(id: &JobId, dir: &JobDir, mut record: Record, until: Instant) -> Result<(), Error> {
    loop {
        match find_worker(id, dir, until)? {
            Some(worker) => end_worker(id, &worker, until)?,
            None => checkpoint("kill:alone"),
        }
        // A job that lost its worker is killed all the same: it shall not be taken up again.
        if !is_held(dir)? {
            record = settle_until(dir, record, Some(Verdict::Killed), until - ANSWER_TAKES);
        } else {
            record = dir.load().map_err(|error| Error::load(id.as_str(), error))?;
        }
        let goes_on = record.status.is_live() || record.is_cut_off();
        if !goes_on || Instant::now() >= until {
            return Ok(());
        }
    }
}

/// Whether the job is live. One that has ended may be removed meanwhile.
fn is_held(dir: &JobDir) -> Result<bool, StoreError> {
    match dir.is_held() {
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(false),
        held => held,
    }
}

fn past(status: Status) -> &'static str {
    if status == Status::Completed { "completed" } else { "failed" }
}

/// Finds the job's worker. `None`: nobody holds the job's lock. A worker that is just being started
/// is waited for, and another command that holds the lock is continued, or ended.
fn find_worker(id: &JobId, dir: &JobDir, until: Instant) -> Result<Option<Target>, Error> {
    let failed = |error| Error::Signal(id.to_string(), error);
    let began = Instant::now();
    let mut continued = false;
    loop {
        if !is_held(dir)? {
            return Ok(None);
        }
        let waited = began.elapsed();
        if let Some(worker) = worker(id, dir, waited >= WORKER_SAYS)? {
            return Ok(Some(worker));
        }
        // Another command holds the lock, for milliseconds: `start`, or one that finalizes a lost
        // job. It may be stopped. Whatever it was doing, its end does no harm.
        let holder = if waited >= WORKER_SAYS { command_that_holds(dir) } else { None };
        let allowed = if holder.is_some() { HOLDER_TAKES } else { HANDOVER_TAKES };
        let is_over = waited >= allowed || Instant::now() >= until;
        match holder {
            Some(holder) if is_over => {
                holder.signal(Signal::SIGKILL).map_err(failed)?;
                if !holder.ends_within(SIGKILL_TAKES) {
                    return Err(failed(std::io::ErrorKind::TimedOut.into()));
                }
            }
            Some(holder) if !continued => {
                holder.signal(Signal::SIGCONT).map_err(failed)?;
                continued = true;
            }
            None if is_over => return Err(failed(std::io::ErrorKind::TimedOut.into())),
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The process of this program, other than the job's worker, that holds the job's lock.
fn command_that_holds(dir: &JobDir) -> Option<Target> {
    let pid = dir.lock_holder()?;
    let target = Target::open(pid).ok()?;
    // Looked at again after it was opened: the number cannot have passed to another.
    let holds = process::holds_lock(pid, &dir.file(LOCK));
    (holds && process::is_this_program(pid)).then_some(target)
}

/// Asks the worker to end the job. One that does not answer is ended, and claude with it; the rest
/// is swept by whoever settles the job. Its end is waited for and not the release of the lock: a
/// `start` that is stopped holds that, too.
fn end_worker(id: &JobId, worker: &Target, until: Instant) -> Result<(), Error> {
    let failed = |error| Error::Signal(id.to_string(), error);
    ask_worker(worker).map_err(failed)?;
    if !worker.ends_within(WORKER_TAKES.min(rest(until))) {
        worker.signal(Signal::SIGKILL).map_err(failed)?;
        worker.ends_within(SIGKILL_TAKES);
    }
    Ok(())
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
/// against a stranger. A worker that has not written its number yet is found by its mark, if
/// `search`.
fn worker(id: &JobId, dir: &JobDir, search: bool) -> Result<Option<Target>, Error> {
    process::check_proc().map_err(|error| unknown(id, &error.to_string()))?;
    let load = || dir.load().map_err(|error| Error::load(id.as_str(), error));
    let mark = Mark::new(dir.path());
    let record = load()?;
    let written = record.pid;
    let found = if search && written.is_none() {
        mark.worker().ok().flatten().map(|worker| worker.pid)
    } else {
        None
    };
    let Some(pid) = written.or(found) else { return Ok(None) };
    let Ok(target) = Target::open(pid) else { return Ok(None) };
    let now = ProcessId::of(pid).map(|process| process.start_time);
    let started_then = record.pid_start_time.is_none_or(|at| now == Some(at));
    let same = is_held(dir)? && load()?.pid == written && started_then && mark.is_on(pid);
    Ok(same.then_some(target))
}
