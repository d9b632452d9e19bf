//! A worker on this machine: this very program, in a session of its own and, where that would
//! not outlive the service around it, in a scope of its own.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::Duration;

use super::detach::Plan;
use super::{BUSY, LAUNCHED, NO_SLOT, NOT_LAUNCHED, QUEUED};
use crate::checkpoint::checkpoint;
use crate::claude::Surroundings;
use crate::process;
use crate::store::{JobDir, Lock, STDERR};

/// How long systemd may take for a scope. It takes 15 ms.
const SCOPE_TAKES: Duration = Duration::from_secs(4);

/// A worker could not be put on its feet.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Claude could not be started; the job's record says why.
    #[error("claude could not be started")]
    Claude,
    /// The worker itself could not be started.
    #[error("the worker could not be started: {0}")]
    Worker(#[source] io::Error),
    /// The worker died before it could say that claude runs.
    #[error("the worker died at once{0}")]
    Died(String),
    /// There is no slot, and the job does not want to wait.
    #[error("there is no slot: {0}")]
    NoSlot(String),
    /// The lock of the queue cannot be had.
    #[error("the queue is busy: {0}")]
    Busy(String),
    /// There is no scope, and there must be one.
    #[error("systemd gave no scope: {0}")]
    Scope(String),
}

/// A worker that stands.
#[derive(Clone, Copy, Debug)]
pub struct Launched {
    /// Its process id.
    pub pid: i32,
    /// Its job waits for its turn; else claude runs.
    pub queued: bool,
}

/// Starts the worker of a job and waits until it says that claude runs, or that the job waits. The lock passes to it
/// without a moment in which nobody holds it; this process's own hold ends with this call.
///
/// Whether `plan` was kept to it says itself.
pub fn launch(
    job: &JobDir,
    lock: &Lock,
    plan: &mut Plan,
    around: &Surroundings,
) -> Result<Launched, LaunchError> {
    if plan.unit().is_some() {
        match attempt(job, lock, plan, around) {
            Err(error @ (LaunchError::Worker(_) | LaunchError::Died(_))) => {
                let why = said_last(job).unwrap_or_else(|| error.to_string());
                if plan.is_strict() {
                    return Err(LaunchError::Scope(why));
                }
                plan.without_scope(&why);
                note_risks(job, plan);
            }
            launched => return launched,
        }
    }
    attempt(job, lock, plan, around)
}

fn attempt(
    job: &JobDir,
    lock: &Lock,
    plan: &mut Plan,
    around: &Surroundings,
) -> Result<Launched, LaunchError> {
    let (mut reports, report) = io::pipe().map_err(LaunchError::Worker)?;
    // What a crashing worker says is kept beside what claude says.
    let stderr = job.append(STDERR).map(Stdio::from).unwrap_or_else(|_| Stdio::null());
    let mut arguments = vec![OsString::from("worker"), job.path().into()];
    arguments.extend(plan.unit().map(OsString::from));
    let mut command = plan.command(&crate::claude::own_executable(), &arguments, around);
    process::mark(&mut command, job.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let mut child = process::spawn_worker(&mut command, lock.as_fd(), report.as_fd())
        .map_err(LaunchError::Worker)?;
    drop(report);
    checkpoint("start:spawned");
    plan.look_around(around);
    if plan.unit().is_some() && !process::readable_within(reports.as_fd(), SCOPE_TAKES) {
        // Nothing has come of it, and nothing shall: it would meet the next attempt's worker.
        let _ = child.kill();
        let _ = child.wait();
        return Err(LaunchError::Worker(io::ErrorKind::TimedOut.into()));
    }
    let mut word = [0];
    let launched = match reports.read(&mut word) {
        Ok(1) if matches!(word[0], LAUNCHED | QUEUED) => {
            Ok(Launched { pid: child.id() as i32, queued: word[0] == QUEUED })
        }
        Ok(1) if matches!(word[0], NO_SLOT | BUSY) => {
            let mut why = String::new();
            let _ = reports.read_to_string(&mut why);
            let _ = child.wait();
            Err(if word[0] == BUSY { LaunchError::Busy(why) } else { LaunchError::NoSlot(why) })
        }
        Ok(1) if word[0] == NOT_LAUNCHED => Err(LaunchError::Claude),
        Ok(_) => {
            // The pipe was closed by its end, so this does not wait.
            let how = child.wait().map(|status| format!(" ({status})"));
            Err(LaunchError::Died(how.unwrap_or_default()))
        }
        Err(error) => Err(LaunchError::Worker(error)),
    };
    process::leave(child);
    launched
}

/// The last line that systemd-run said.
fn said_last(job: &JobDir) -> Option<String> {
    let tail = job.tail(STDERR, 0, 2_000);
    let text = String::from_utf8_lossy(&tail);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(crate::text::one_line(line, 200))
}

/// There is no worker yet, and the lock is ours: the record is ours to write, too.
fn note_risks(job: &JobDir, plan: &Plan) {
    if let Ok(mut record) = job.load() {
        record.detached = Some(plan.expected());
        let _ = job.save(&record, false);
    }
}
