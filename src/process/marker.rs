//! How processes of a job are known where their parents do not tell.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::proc::{self, Pids, Process, ProcessId};

/// The variables that mark every process of a job: their value is the job's directory. The second
/// one is for nothing else, so that a program with a use of its own for the first keeps it.
pub(super) const MARKERS: [&str; 2] = ["CLAUDEJOB_DIR", "CLAUDEJOB_MARK"];

/// How long the search for a worker may take.
const SEARCH_TAKES: Duration = Duration::from_secs(2);

/// Marks a program that is to be started, and all that it starts.
pub fn set_marker(command: &mut Command, job_dir: &Path) {
    for name in MARKERS {
        command.env(name, job_dir);
    }
}

/// What marks a job's processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobMarker {
    pub(super) job_dir: PathBuf,
    pub(super) scope: Option<String>,
}

impl JobMarker {
    /// The mark of the job in this directory, an absolute path.
    pub fn new(job_dir: &Path) -> Self {
        Self { job_dir: job_dir.to_owned(), scope: None }
    }

    /// The same, where the job has a control group of its own: whatever is in it belongs to the
    /// job, also without parents and environment.
    pub fn in_scope(mut self, cgroup: Option<String>) -> Self {
        self.scope = cgroup;
        self
    }

    /// The worker of the job, found by the mark and by what it was started with, where the record
    /// does not say it. Only one of this user.
    pub fn worker(&self) -> io::Result<Option<ProcessId>> {
        let until = Instant::now() + SEARCH_TAKES;
        loop {
            let Pids { pids, is_whole } = proc::pids()?;
            let worker = pids.into_iter().find_map(|pid| self.worker_of_number(pid));
            if worker.is_some() || is_whole {
                return Ok(worker);
            }
            if Instant::now() >= until {
                let why = "processes start others faster than they can be listed";
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
    }

    fn worker_of_number(&self, pid: i32) -> Option<ProcessId> {
        let process = Process::living(pid)?;
        let arguments = process.arguments();
        let is_worker = arguments.get(1).is_some_and(|verb| verb == b"worker")
            && arguments.get(2).is_some_and(|dir| dir == self.job_dir.as_os_str().as_bytes());
        let is_ours = is_worker
            && process.markers().contains(&self.job_dir)
            && process.uid() == Some(nix::unistd::geteuid().as_raw());
        is_ours.then_some(process.id)
    }

    /// Whether a process bears the mark in its environment. Where environments cannot be read,
    /// any process does.
    pub fn is_on(&self, pid: i32) -> bool {
        if cfg!(not(target_os = "linux")) {
            return true;
        }
        Process::living(pid).is_some_and(|process| process.markers().contains(&self.job_dir))
    }
}
