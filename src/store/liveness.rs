//! Whether a job is live: its record compared with its lock.

use std::io;
use std::time::Duration;

use super::{JobDir, StoreError};
use crate::job::Record;
use crate::process::{JobMarker, ProcessId};

/// Poll interval for the files of a job of another machine.
const REMOTE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The same for a job with an engine, because there may be thousands.
const ENGINE_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The state of a job by its record and its lock. Says who writes the verdict of a job that is
/// recorded as live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Liveness {
    /// The record has the verdict.
    Ended,
    /// The job has a worker, which will write the verdict.
    Live,
    /// The worker has died. The first process that takes the lock writes the verdict.
    Lost,
    /// The worker was started on this other machine, whose locks may not be visible here. Such a job
    /// must not be ended, recovered or removed from here.
    OtherMachine(String),
}

impl Record {
    /// Whether the recorded worker is alive, or that cannot be seen from here. If it is not, and the
    /// lock is held, another process is writing the job's verdict or continuing the job.
    pub(crate) fn worker_may_live(&self) -> bool {
        let (Some(pid), Some(start_time)) = (self.worker.pid, self.worker.pid_start_time) else {
            return true;
        };
        self.is_of_node_skill()
            || !self.is_of_this_machine()
            || ProcessId { pid, start_time }.is_alive()
    }
}

impl JobDir {
    /// Compares a record with the lock. The job may have ended since the record was read.
    pub(crate) fn liveness(&self, record: &Record) -> Result<Liveness, StoreError> {
        match self.liveness_if_unlocked(record) {
            Liveness::Lost | Liveness::OtherMachine(_) if self.has_worker()? => Ok(Liveness::Live),
            liveness => Ok(liveness),
        }
    }

    /// Whether a process holds the lock. The job's record may say that it has ended: its worker
    /// exits a moment later, and a command that continues the job holds the lock before it changes
    /// the record. If the lock file was removed, searches the worker among the processes.
    pub(crate) fn has_worker(&self) -> Result<bool, StoreError> {
        match self.is_held() {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
                if !self.path().is_dir() {
                    return Ok(false);
                }
                match JobMarker::new(self.path()).worker() {
                    Ok(worker) => Ok(worker.is_some()),
                    Err(_) => Err(error),
                }
            }
            Ok(false) => Ok(self.is_live_on_engine()),
            held => held,
        }
    }

    /// Whether the job has a worker, or that cannot be found out.
    pub(crate) fn may_live(&self) -> bool {
        self.has_worker().unwrap_or(true)
    }

    /// Returns the liveness of a job whose lock no worker holds: this process holds it, or has found
    /// it free.
    pub(crate) fn liveness_if_unlocked(&self, record: &Record) -> Liveness {
        if !record.status.is_live() {
            Liveness::Ended
        } else if record.is_of_node_skill() {
            // Its jobs have no lock; a dead one was ended when the record was read.
            Liveness::Live
        } else if record.spec.engine.is_some() {
            // Its engine knows whether it has a worker, on whatever machine.
            Liveness::Live
        } else if self.is_elsewhere(record) {
            Liveness::OtherMachine(record.host_name().to_owned())
        } else {
            Liveness::Lost
        }
    }

    /// Whether the directory holds a live job whose locks and writes may not be visible here: of
    /// another machine, or of an engine.
    pub(crate) fn needs_polling(&self) -> bool {
        self.may_live_elsewhere() || self.is_live_on_engine()
    }

    /// Returns how often to look at the files of such a job.
    pub(crate) fn poll_interval(&self) -> Duration {
        if self.is_on_engine() { ENGINE_POLL_INTERVAL } else { REMOTE_POLL_INTERVAL }
    }

    /// Whether the directory holds a live job of another machine.
    pub(crate) fn may_live_elsewhere(&self) -> bool {
        if !self.is_shared() {
            return false;
        }
        let Ok(record) = self.load() else { return false };
        matches!(self.liveness_if_unlocked(&record), Liveness::OtherMachine(_))
    }
}
