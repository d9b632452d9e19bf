//! Starts a worker on this machine: this program, in its own session and, where a session would
//! not outlive the surrounding service, in its own systemd scope.

use std::ffi::OsString;
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::detach::DetachPlan;
use super::{BUSY, LAUNCH_FAILED, LAUNCHED, NO_SLOT, QUEUED};
use crate::claude::Env;
use crate::fault_point::fault_point;
use crate::hidden_verbs;
use crate::process;
use crate::store::{JobDir, Lock, STDERR};
use crate::text::{last_line, one_line};

/// How long to wait for a scope, which systemd usually creates in 15 ms.
const SCOPE_TIMEOUT: Duration = Duration::from_secs(4);

/// A worker could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// Claude could not be started; the job's record says why.
    #[error("claude could not be started")]
    ClaudeFailed,
    /// The worker itself could not be started.
    #[error("the worker could not be started: {0}")]
    WorkerFailed(#[source] io::Error),
    /// The worker died before its report.
    #[error("the worker died at once{0}")]
    WorkerDied(String),
    /// There is no slot, and the job does not want to wait.
    #[error("there is no slot: {0}")]
    NoSlot(String),
    /// The queue's lock cannot be taken.
    #[error("the queue is busy: {0}")]
    Busy(String),
    /// The required scope cannot be created.
    #[error("systemd created no scope: {0}")]
    ScopeFailed(String),
}

/// A started worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Launched {
    pub pid: i32,
    /// The job is queued; otherwise its claude runs.
    pub is_queued: bool,
}

/// Starts the worker of a job and waits for its report that claude runs or that the job is queued.
/// The worker inherits the lock, which is never free in between; this process's own hold ends with
/// this call.
///
/// If the planned scope is optional and cannot be created, the worker is started without it.
pub(crate) fn launch(
    job: &JobDir,
    lock: &Lock,
    plan: &mut DetachPlan,
    env: &Env,
) -> Result<Launched, LaunchError> {
    if plan.unit().is_some() {
        match try_launch(job, lock, plan, env) {
            Err(error @ (LaunchError::WorkerFailed(_) | LaunchError::WorkerDied(_))) => {
                let why = match last_stderr_line(job) {
                    Some(line) => line,
                    None => error.to_string(),
                };
                if plan.requires_scope() {
                    return Err(LaunchError::ScopeFailed(why));
                }
                plan.drop_scope(&why);
                note_risks(job, plan);
            }
            launched => return launched,
        }
    }
    try_launch(job, lock, plan, env)
}

fn try_launch(
    job: &JobDir,
    lock: &Lock,
    plan: &mut DetachPlan,
    env: &Env,
) -> Result<Launched, LaunchError> {
    let (mut reader, writer) = io::pipe().map_err(LaunchError::WorkerFailed)?;
    // The messages of a crashing worker are stored together with claude's.
    let stderr = match job.append(STDERR) {
        Ok(file) => Stdio::from(file),
        Err(_) => Stdio::null(),
    };
    let mut arguments = vec![OsString::from(hidden_verbs::WORKER), job.path().into()];
    if let Some(unit) = plan.unit() {
        arguments.push(unit.into());
    }
    let mut command = plan.command(&crate::claude::own_executable(), &arguments, env);
    process::set_marker(&mut command, job.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let mut child = process::spawn_worker(&mut command, lock.as_fd(), writer.as_fd())
        .map_err(LaunchError::WorkerFailed)?;
    drop(writer);
    fault_point("start:spawned");
    plan.detect_risks(env);
    if plan.unit().is_some() && !process::readable_within(reader.as_fd(), SCOPE_TIMEOUT) {
        // A late worker would collide with the one of the next attempt.
        let _ = child.kill();
        let _ = child.wait();
        return Err(LaunchError::WorkerFailed(io::ErrorKind::TimedOut.into()));
    }
    let launched = read_report(&mut reader, &mut child);
    process::detach(child);
    launched
}

/// Waits for the worker's report.
fn read_report(reader: &mut PipeReader, worker: &mut Child) -> Result<Launched, LaunchError> {
    let pid = worker.id() as i32;
    let mut code = [0];
    // Without a report it stays zero.
    let _ = reader.read(&mut code).map_err(LaunchError::WorkerFailed)?;
    match code[0] {
        LAUNCHED => Ok(Launched { pid, is_queued: false }),
        QUEUED => Ok(Launched { pid, is_queued: true }),
        NO_SLOT | BUSY => {
            let mut why = String::new();
            let _ = reader.read_to_string(&mut why);
            let _ = worker.wait();
            Err(if code[0] == BUSY { LaunchError::Busy(why) } else { LaunchError::NoSlot(why) })
        }
        LAUNCH_FAILED => Err(LaunchError::ClaudeFailed),
        _ => {
            // The worker's end closed the pipe, so this does not block.
            let how = worker.wait().map(|status| format!(" ({status})"));
            Err(LaunchError::WorkerDied(how.unwrap_or_default()))
        }
    }
}

/// Returns the last line that systemd-run wrote to stderr.
fn last_stderr_line(job: &JobDir) -> Option<String> {
    let tail = job.tail(STDERR, 0, 2_000);
    let text = String::from_utf8_lossy(&tail);
    let line = one_line(last_line(&text), 200);
    (!line.is_empty()).then_some(line)
}

/// Records the plan. No worker runs yet and this process holds the lock, so that it may write.
fn note_risks(job: &JobDir, plan: &DetachPlan) {
    if let Ok(mut record) = job.load() {
        record.worker.detached = Some(plan.expected());
        let _ = job.save(&record, false);
    }
}
