//! The environment variables by which a job's processes are found when their parents are gone.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::proc::{self, MARKER_VARIABLES, Pids, Process, ProcessId};
use crate::hidden_verbs;

const SEARCH_TIMEOUT: Duration = Duration::from_secs(2);

/// Marks a command, and the processes that it will start, as the job's.
pub(crate) fn set_marker(command: &mut Command, job_dir: &Path) {
    for name in MARKER_VARIABLES {
        command.env(name, job_dir);
    }
}

/// Returns whether this process was started by the job in this directory, by its own environment.
pub(crate) fn has_own_marker(job_dir: &Path) -> bool {
    MARKER_VARIABLES.iter().any(|name| std::env::var_os(name).is_some_and(|dir| dir == job_dir))
}

/// Identifies a job's processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobMarker {
    pub(super) job_dir: PathBuf,
    pub(super) scope: Option<String>,
}

impl JobMarker {
    /// Creates the marker of the job in this directory, an absolute path.
    pub(crate) fn new(job_dir: &Path) -> Self {
        Self { job_dir: job_dir.to_owned(), scope: None }
    }

    /// Adds the job's own control group, if it has one: all processes in it are the job's, whatever
    /// their parents and environment are.
    pub(crate) fn in_scope(mut self, cgroup: Option<String>) -> Self {
        self.scope = cgroup;
        self
    }

    /// Finds the job's worker by its marker and its arguments, for records without a process id.
    /// Finds only workers of this user.
    pub(crate) fn worker(&self) -> io::Result<Option<ProcessId>> {
        let until = Instant::now() + SEARCH_TIMEOUT;
        loop {
            let Pids { pids, is_complete } = proc::pids()?;
            let worker = pids.into_iter().find_map(|pid| self.worker_with_pid(pid));
            if worker.is_some() || is_complete {
                return Ok(worker);
            }
            if Instant::now() >= until {
                let why = "processes start others faster than they can be listed";
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
    }

    fn worker_with_pid(&self, pid: i32) -> Option<ProcessId> {
        let process = Process::living(pid)?;
        let arguments = process.arguments();
        let [_, verb, dir, ..] = arguments.as_slice() else { return None };
        let verbs = [hidden_verbs::WORKER, hidden_verbs::WORKER_HERE];
        let is_worker = verbs.iter().any(|name| verb == name.as_bytes())
            && dir == self.job_dir.as_os_str().as_bytes()
            && process.markers().contains(&self.job_dir)
            && process.uid() == Some(nix::unistd::geteuid().as_raw());
        if is_worker { Some(process.id) } else { None }
    }

    /// Returns whether a process has the marker in its environment. On systems where environments
    /// cannot be read, every process does.
    pub(crate) fn is_on(&self, pid: i32) -> bool {
        if cfg!(not(target_os = "linux")) {
            return true;
        }
        matches!(Process::living(pid), Some(process) if process.markers().contains(&self.job_dir))
    }
}
