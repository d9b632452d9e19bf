//! A worker on this machine: this very program, in a session of its own.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use super::{LAUNCHED, NOT_LAUNCHED};
use crate::process;
use crate::store::{JobDir, Lock, STDERR};

/// A worker could not be put on its feet.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Claude could not be started; the job's record says why.
    #[error("claude could not be started")]
    Claude,
    /// The worker itself could not be started, or died at once.
    #[error("the worker could not be started: {0}")]
    Worker(#[source] io::Error),
}

/// Starts the worker of a job and waits until it says that claude runs. The lock passes to it
/// without a moment in which nobody holds it; this process's own hold ends with this call.
///
/// Gives the worker's process id.
pub fn launch(job: &JobDir, lock: Lock) -> Result<i32, LaunchError> {
    let (mut reports, report) = io::pipe().map_err(LaunchError::Worker)?;
    // What a crashing worker says is kept beside what claude says.
    let stderr = job.append(STDERR).map(Stdio::from).unwrap_or_else(|_| Stdio::null());
    let mut command = Command::new(crate::claude::own_executable());
    command
        .arg("worker")
        .arg(job.path())
        .env(process::MARK, job.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr);
    let pid = process::spawn_worker(&mut command, lock.as_fd(), report.as_fd())
        .map_err(LaunchError::Worker)?;
    drop((lock, report));
    let mut word = [0];
    match reports.read(&mut word) {
        Ok(1) if word[0] == LAUNCHED => Ok(pid),
        Ok(1) if word[0] == NOT_LAUNCHED => Err(LaunchError::Claude),
        Ok(_) => {
            let why = io::Error::new(io::ErrorKind::UnexpectedEof, "it died at once");
            Err(LaunchError::Worker(why))
        }
        Err(error) => Err(LaunchError::Worker(error)),
    }
}
