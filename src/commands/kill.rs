//! `kill`: ends jobs and all their processes, for good.

mod answer;
mod several;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::signal::Signal;
use serde::Serialize;

use super::Call;
use super::engine_jobs;
use super::host_takeover::{refuse_other_host, take_over};
use super::naming::Action;
use super::observe::{Observed, observe};
use super::selecting::Among;
use super::several::Several;
use super::shortened::ArrayLimit;
use crate::arguments::{FORCE_HOST, SelectorArgs};
use crate::claude;
use crate::error::{Error, ExitStatus};
use crate::fault_point::{fault_point, test_number};
use crate::finalize::finalize_lost_until;
use crate::job::{JobId, LeftProcess, Leftovers, Record, Status, Verdict};
use crate::launch::SCOPE_PREFIX;
use crate::output::{Answer, BOLD, painted, push_warning, sentence};
use crate::process::{self, JobMarker, Orphans, ProcessHandle, ProcessId, cgroup};
use crate::store::{JobDir, LOCK, LoadError, Store, is_independent};
use answer::error_of;
use several::kill_several;

/// Time limit of the whole command: callers allow a command 10 s.
const KILL_TIMEOUT: Duration = Duration::from_millis(7_800);
/// Environment variable by which tests change it: a number of seconds.
const TEST_TIMEOUT: &str = "CLAUDEJOB_TEST_KILL_TIMEOUT";
/// Time limit of the worker, whose own sequence of signals takes at most 6.6 s.
const WORKER_TIMEOUT: Duration = Duration::from_millis(7_000);
/// Time limit for a worker that is being started to record its process id.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(3);
/// Time limit for another command of this program to release the job's lock: more than finalizing a
/// lost job takes.
const HOLDER_TIMEOUT: Duration = Duration::from_millis(5_500);
/// Time reserved for writing the verdict and the answer.
const ANSWER_TIME: Duration = Duration::from_millis(500);
/// Time limit for a worker to record its process id before its marker is searched for: the worker
/// may have been stopped before.
const PID_TIMEOUT: Duration = Duration::from_millis(500);
/// Time limit for a request without waiting to find the worker.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(90);
/// Time limit for the kernel to end a process after SIGKILL.
const SIGKILL_TIMEOUT: Duration = Duration::from_millis(500);

/// Error of a kill whose time is over.
const STILL_ENDING: &str = "the job is still being ended";

/// Arguments of `kill`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  claudejob kill fix-login\n  claudejob kill --label project=app\n\n\
    Exit codes: 0 the job was killed, 1 it ended in another way, 4 no such job. With several jobs \
    the first of 4, 1, 75, 0 applies. A selection considers live jobs only."
)]
pub(crate) struct KillArgs {
    #[command(flatten)]
    targets: SelectorArgs,
    /// Kill every live job
    #[arg(long, help_heading = "Selection")]
    all: bool,
    /// Treat live jobs of other machines as lost
    #[arg(long, long_help = FORCE_HOST)]
    force_host: bool,
}

impl KillArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let root = call.jobs_dir()?;
        let store = match Store::open(&root) {
            Ok(store) => store,
            // Jobs can be killed even if another user has tampered with the directory.
            Err(error) => {
                let ids = self.targets.whole_ids()?;
                let [id] = ids.as_slice() else { return Err(error.into()) };
                let dir = Store::at_resolved(&root).job(id);
                let answer = kill_without_record(&dir, deadline())?;
                return call.print(&answer.ok_or(error)?);
            }
        };
        let (action, among) = (Some(Action::Kill), Among::RecordedLive);
        let selected = call.select_to(action, &store, self.targets, self.all, among)?.required()?;
        if self.force_host {
            take_over(&store, &selected.ids)?;
        }
        let mut answers = kill_several(&store, &selected.ids).into_iter();
        let killed = Several::of(&store, selected, |id| match answers.next() {
            Some(answer) => answer,
            None => Err(Error::StillEnding(id.to_string())),
        })?;
        call.print(&killed.within(ArrayLimit::new(call, &store, call.bound(), "status")))
    }
}

/// The result of a kill.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct KillAnswer {
    /// The job's id.
    pub job_id: JobId,
    /// The job is killed for good. No process of the job remains except those in `left`.
    pub killed: bool,
    /// The job's status.
    pub status: Status,
    /// Reason why the job was not killed.
    pub error: Option<String>,
    /// The job's processes that could not be ended.
    pub left: Vec<LeftProcess>,
    /// Problems that did not make the job fail, such as processes that could not be ended.
    pub warnings: Vec<String>,
    /// Path of the job's record; null if the job was found by its processes alone, because its
    /// directory was removed or cannot be trusted.
    pub record: Option<PathBuf>,
    /// The command to run next, as `sh` takes it; null for a completed job.
    pub hint: Option<String>,
}

impl Answer for KillAnswer {
    fn text(&self) -> String {
        let id = painted(BOLD, self.job_id.as_str());
        let mut text = match &self.error {
            None if self.warnings.is_empty() => {
                format!("Job {id} was killed; no process is left.\n")
            }
            None => format!("Job {id} was killed.\n"),
            Some(error) => sentence(&format!("Job {id} was not killed: {error}.")),
        };
        for warning in &self.warnings {
            push_warning(&mut text, warning);
        }
        text
    }

    fn ids(&self) -> Option<Vec<JobId>> {
        Some(vec![self.job_id.clone()])
    }

    fn exit_status(&self) -> ExitStatus {
        if self.killed { ExitStatus::Done } else { ExitStatus::Failed }
    }
}

/// Requests that the job's worker end it, and does not wait. Where there is no worker yet that can
/// be asked, another process of this program kills the job. Returns false if the job has ended.
pub(super) fn request(store: &Store, id: &JobId) -> bool {
    let dir = store.job(id);
    let until = Instant::now() + REQUEST_TIMEOUT;
    // Looked at once in any case, however slow the machine is.
    loop {
        if matches!(dir.has_worker(), Ok(false)) {
            let is_lost = dir.load().is_ok_and(|record| record.status.is_live());
            if is_lost {
                break;
            }
            return false;
        }
        if let Ok(Some(worker)) = open_worker(&dir, false)
            && request_kill(&worker).is_ok()
        {
            return true;
        }
        if Instant::now() >= until {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut command = Command::new(claude::own_executable());
    command.arg("--no-config").arg("--jobs-dir").arg(store.root()).args(["kill", id.as_str()]);
    process::spawn_detached(&mut command, None).is_ok()
}

/// Kills the job. Returns when no process of the job remains, or with the processes that do.
pub(crate) fn kill(store: &Store, id: &JobId) -> Result<KillAnswer, Error> {
    kill_until(store, id, deadline())
}

/// Returns the time at which a command that begins now has to end.
fn deadline() -> Instant {
    Instant::now() + test_number(TEST_TIMEOUT).map_or(KILL_TIMEOUT, Duration::from_secs)
}

/// Like [`kill`], and returns at this time.
fn kill_until(store: &Store, id: &JobId, until: Instant) -> Result<KillAnswer, Error> {
    let dir = store.job(id);
    if let Err(error) = dir.check() {
        return match kill_without_record(&dir, until)? {
            Some(answer) => Ok(answer),
            None => Err(error.into()),
        };
    }
    let record = match dir.load() {
        // The record was damaged or replaced while the job runs. The worker can still be found by
        // its marker, and writes the record again if it can.
        Err(LoadError::Unreadable { .. } | LoadError::Store(_))
            if matches!(dir.has_worker(), Ok(true)) =>
        {
            end_marked_worker(&dir, until)?;
            dir.load()
        }
        loaded => loaded,
    }?;
    if let Some(kind) = engine_jobs::kind(&record.spec) {
        let killed = engine_jobs::kill(kind, vec![(dir, record)], until).pop();
        return answer_of_engine(store, id, killed.unwrap_or(Ok(None)));
    }
    refuse_other_host(&dir, &record)?;
    fault_point("kill:looked");
    let mut has_acted = needs_end(&record, &dir)?;
    let mut was_resumed = false;
    if has_acted {
        was_resumed = end(&dir, record, until)?;
    }
    let Observed { mut record, .. } = observe(store, id)?;
    // Another command may have resumed the job between the two observations.
    if !has_acted && needs_end(&record, &dir)? {
        has_acted = true;
        was_resumed = end(&dir, record, until)?;
        record = observe(store, id)?.record;
    }
    let mut left = record.ending.left_processes.clone();
    left.retain(is_alive);
    if has_acted && !dir.has_worker()? {
        end_scope(&dir, &mut record, &mut left);
    }
    if was_resumed {
        record.warn("another command has resumed the job since it was killed");
    }
    let error = if was_resumed { None } else { error_of(&record) };
    Ok(KillAnswer { left, ..KillAnswer::new(store, &dir, record, error) })
}

/// Returns the answer for a job with an engine, whose kill had this result.
fn answer_of_engine(
    store: &Store,
    id: &JobId,
    killed: Result<Option<String>, Error>,
) -> Result<KillAnswer, Error> {
    let doubt = killed?;
    let Observed { dir, record, .. } = observe(store, id)?;
    let error = doubt.or_else(|| error_of(&record));
    Ok(KillAnswer::new(store, &dir, record, error))
}

/// Ends the processes with the marker of a job's directory, the worker first; `None` if there are
/// none.
fn kill_without_record(dir: &JobDir, until: Instant) -> Result<Option<KillAnswer>, Error> {
    let has_worker = end_marked_worker(dir, until)?;
    let orphans = Orphans {
        markers: &[JobMarker::new(dir.path())],
        worker_start: None,
        is_locked: false,
        is_independent: &is_independent,
    };
    let (ended, left) = orphans.end(until - ANSWER_TIME);
    if let Some(error) = left.unlisted {
        return Err(search_error(dir, &error));
    }
    if !has_worker && ended == 0 && left.processes.is_empty() {
        return Ok(None);
    }
    let warnings = left.warnings();
    Ok(Some(KillAnswer {
        job_id: dir.id().clone(),
        killed: true,
        status: Status::Killed,
        error: None,
        left: left.processes,
        warnings,
        record: None,
        hint: None,
    }))
}

/// Ends the worker that has the job's marker. Returns whether there was one.
fn end_marked_worker(dir: &JobDir, until: Instant) -> Result<bool, Error> {
    let found = JobMarker::new(dir.path()).worker();
    let found = found.map_err(|error| search_error(dir, &error.to_string()))?;
    let Some(found) = found else { return Ok(false) };
    let Ok(worker) = ProcessHandle::open(found.pid) else { return Ok(true) };
    if ProcessId::from_pid(found.pid) != Some(found) {
        return Ok(true);
    }
    end_worker(dir, &worker, until)?;
    Ok(true)
}

/// Returns the error that the job's processes cannot be found.
fn search_error(dir: &JobDir, why: &str) -> Error {
    let why = format!("its processes cannot be found: {why}");
    signal_error(dir, std::io::Error::other(why))
}

fn signal_error(dir: &JobDir, error: std::io::Error) -> Error {
    Error::Signal(dir.id().to_string(), error)
}

fn remaining(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

fn is_alive(process: &LeftProcess) -> bool {
    let LeftProcess { pid, start_time, .. } = *process;
    // Without a readable /proc the process counts as alive, as it was before.
    process::check_proc().is_err() || ProcessId { pid, start_time }.is_alive()
}

/// Ends the remaining processes of the job's scope through the kernel (`cgroup.kill`), which also
/// reaches processes of other users and processes that fork continuously. Does nothing if the scope
/// contains a process that is independent of the job.
fn end_scope(dir: &JobDir, record: &mut Record, left: &mut Vec<LeftProcess>) {
    let Some(scope) = record.worker.detached.as_ref().and_then(|it| it.cgroup.as_deref()) else {
        return;
    };
    let processes = cgroup::processes(scope);
    if !is_scope_of(scope, &record.job_id)
        || processes.is_empty()
        || processes.iter().any(|pid| is_independent_pid(*pid))
        || cgroup::kill(scope).is_err()
    {
        return;
    }
    let until = Instant::now() + SIGKILL_TIMEOUT;
    while !cgroup::is_empty(scope) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
    left.retain(is_alive);
    if left.is_empty() && !record.ending.left_processes.is_empty() {
        remove_ended_leftovers(dir, record);
    }
}

fn is_independent_pid(pid: i32) -> bool {
    pid == process::own_pid() || process::is_below_any(pid, &is_independent)
}

/// Returns whether a control group belongs to this job. The record may have been tampered with.
fn is_scope_of(scope: &str, id: &JobId) -> bool {
    let unit = scope.rsplit('/').next().unwrap_or_default();
    unit.starts_with(&format!("{SCOPE_PREFIX}{id}-")) && unit.ends_with(".scope")
}

/// Removes leftover processes that have ended from the record.
fn remove_ended_leftovers(dir: &JobDir, record: &mut Record) {
    let Ok(Some(_lock)) = dir.try_lock() else { return };
    let Ok(mut written) = dir.load() else { return };
    if written.attempt.number != record.attempt.number
        || written.status.is_live()
        || !written.is_writable()
    {
        return;
    }
    let processes = std::mem::take(&mut written.ending.left_processes);
    let warnings = Leftovers { processes, unlisted: None }.warnings();
    written.warnings.retain(|warning| !warnings.contains(warning));
    if dir.save(&written, true).is_ok() {
        *record = written;
    }
}

/// Returns whether the job must be ended: it is live, or another command is continuing it.
fn needs_end(record: &Record, dir: &JobDir) -> Result<bool, Error> {
    let live = record.status.is_live() && !record.is_of_node_skill();
    Ok(live || (record.is_cut_off() && dir.has_worker()?))
}

/// Ends the job for good. In the meantime others may finalize it as lost or recover it, so this
/// repeats until the job is killed. Returns whether the job was resumed after that.
fn end(dir: &JobDir, mut record: Record, until: Instant) -> Result<bool, Error> {
    let first_attempt = record.attempt.number;
    loop {
        match find_worker(dir, until)? {
            Some(worker) => {
                end_worker(dir, &worker, until)?;
                fault_point("kill:ended");
            }
            None => fault_point("kill:alone"),
        }
        // A lost job is marked as killed, too, so that it is not recovered.
        if !dir.has_worker()? {
            record = finalize_lost_until(dir, record, Some(Verdict::Killed), until - ANSWER_TIME);
        } else {
            record = dir.load()?;
            // A job that was resumed since it was killed goes on: its caller knew that it had ended.
            if let Some(outcome) = dir.outcome()
                && outcome.status == Status::Killed
                && (first_attempt..record.attempt.number).contains(&outcome.attempt)
            {
                return Ok(true);
            }
        }
        let may_continue = record.status.is_live() || record.is_cut_off();
        if !may_continue || Instant::now() >= until {
            return Ok(false);
        }
    }
}

/// Finds the job's worker; `None` if the job's lock is free. Waits for a worker that is being
/// started. Another command that holds the lock is continued, and ended if it does not release it.
fn find_worker(dir: &JobDir, until: Instant) -> Result<Option<ProcessHandle>, Error> {
    let start = Instant::now();
    let mut continued = false;
    loop {
        if !dir.has_worker()? {
            return Ok(None);
        }
        let waited = start.elapsed();
        if let Some(worker) = open_worker(dir, waited >= PID_TIMEOUT)? {
            return Ok(Some(worker));
        }
        // Another command holds the lock, normally for milliseconds: `start`, or a command that
        // finalizes a lost job. It may be stopped. Killing it at any point is safe.
        let holder = if waited >= PID_TIMEOUT { lock_holding_command(dir) } else { None };
        let timeout = if holder.is_some() { HOLDER_TIMEOUT } else { HANDOVER_TIMEOUT };
        let is_over = waited >= timeout || Instant::now() >= until;
        match holder {
            Some(holder) if is_over => {
                holder.signal(Signal::SIGKILL).map_err(|error| signal_error(dir, error))?;
                if !holder.ends_within(SIGKILL_TIMEOUT) {
                    return Err(signal_error(dir, std::io::ErrorKind::TimedOut.into()));
                }
            }
            Some(holder) if !continued => {
                holder.signal(Signal::SIGCONT).map_err(|error| signal_error(dir, error))?;
                continued = true;
            }
            None if is_over => return Err(signal_error(dir, std::io::ErrorKind::TimedOut.into())),
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the process of this program, other than the job's worker, that holds the job's lock.
fn lock_holding_command(dir: &JobDir) -> Option<ProcessHandle> {
    let pid = dir.lock_holder()?;
    let target = ProcessHandle::open(pid).ok()?;
    // Checked again now that the process is open: the pid cannot have been reused before that.
    let holds = process::holds_lock(pid, &dir.file(LOCK));
    if holds && process::is_this_program(pid) { Some(target) } else { None }
}

/// Asks the worker to end the job. A worker that does not respond is killed, and claude with it; the
/// command that finalizes the job ends the remaining processes. Waits for the worker's exit and not
/// for the release of the lock, which a stopped `start` may hold, too.
fn end_worker(dir: &JobDir, worker: &ProcessHandle, until: Instant) -> Result<(), Error> {
    request_kill(worker).map_err(|error| signal_error(dir, error))?;
    if !worker.ends_within(WORKER_TIMEOUT.min(remaining(until))) {
        worker.signal(Signal::SIGKILL).map_err(|error| signal_error(dir, error))?;
        worker.ends_within(SIGKILL_TIMEOUT);
    }
    Ok(())
}

/// Sends the kill request as SIGUSR1, which needs no file and so works on a full disk.
fn request_kill(worker: &ProcessHandle) -> std::io::Result<()> {
    worker.signal(Signal::SIGUSR1)?;
    fault_point("kill:asked");
    // A worker that was stopped (SIGSTOP) cannot handle the signal.
    worker.signal(Signal::SIGCONT)
}

/// Returns the worker, which holds the lock. Its pid is read and the process is opened while the
/// lock is held, and both are checked again after that: the pid cannot have been reused. The process
/// must have the job's marker, so that a record that was tampered with cannot direct a signal at
/// another process. With `search`, a worker that has not recorded its pid is found by its marker.
fn open_worker(dir: &JobDir, search: bool) -> Result<Option<ProcessHandle>, Error> {
    process::check_proc().map_err(|error| search_error(dir, &error.to_string()))?;
    let mark = JobMarker::new(dir.path());
    let record = dir.load()?;
    let written = record.worker.pid;
    let pid = match written {
        Some(pid) => pid,
        None if search => match mark.worker() {
            Ok(Some(worker)) => worker.pid,
            _ => return Ok(None),
        },
        None => return Ok(None),
    };
    let Ok(target) = ProcessHandle::open(pid) else { return Ok(None) };
    let now = ProcessId::from_pid(pid).map(|process| process.start_time);
    let started_then = record.worker.pid_start_time.is_none_or(|at| now == Some(at));
    let same =
        dir.has_worker()? && dir.load()?.worker.pid == written && started_then && mark.is_on(pid);
    Ok(if same { Some(target) } else { None })
}
