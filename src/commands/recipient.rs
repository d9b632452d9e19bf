//! A live job that accepts messages.

use super::engine_jobs;
use super::host_takeover::refuse_other_host;
use super::observe::{Observed, observe};
use crate::error::Error;
use crate::fault_point::fault_point;
use crate::job::{InboxMessage, JobId, Status};
use crate::store::{DirIdentity, JobDir, Store};

/// A live job that accepts messages.
#[derive(Debug)]
pub(super) struct Recipient {
    pub dir: JobDir,
    /// Distinguishes the job from a later one with the same id, in case this process is stopped
    /// for a while.
    identity: DirIdentity,
}

impl Recipient {
    /// Finds the job with this id. Refuses a job of another machine, whose worker cannot be woken
    /// from here.
    pub(super) fn find(store: &Store, id: &JobId) -> Result<Self, Error> {
        // Read first, so that everything read later is from this job or a later one.
        let identity = store.job(id).identity();
        let dir = live_job_dir(store, id)?;
        let record = dir.load()?;
        refuse_other_host(&dir, &record)?;
        let identity = identity.ok_or_else(|| Error::NotFound(id.to_string()))?;
        Ok(Self { dir, identity })
    }

    /// Puts a message into the job's inbox, and returns its number. The worker reads an accepted
    /// message or reports it when the job ends; if the worker has died, the next command that
    /// reads the job reports it.
    pub(super) fn post(&self, store: &Store, message: &InboxMessage) -> Result<u64, Error> {
        let Some(number) = self.dir.post(message, &self.identity)? else {
            return Err(self.refusal_error(store));
        };
        fault_point("send:accepted");
        if self.is_gone() {
            return Err(Error::NotFound(self.dir.id().to_string()));
        }
        let record = self.dir.load();
        let has_ended = record.as_ref().is_ok_and(|record| !record.status.is_live());
        if has_ended && self.dir.withdraw(number)? {
            return Err(self.refusal_error(store));
        }
        if let Ok(record) = record {
            engine_jobs::wake(&self.dir, &record);
        }
        Ok(number)
    }

    fn refusal_error(&self, store: &Store) -> Error {
        if self.is_gone() {
            return Error::JobRemoved(self.dir.id().to_string());
        }
        match observe(store, self.dir.id()) {
            Ok(observed) => ended_error(self.dir.id(), observed.record.status),
            Err(error) => error,
        }
    }

    /// Returns whether the job was removed, even if another one has its id now.
    fn is_gone(&self) -> bool {
        self.dir.identity().as_ref() != Some(&self.identity)
    }
}

/// Returns the directory of a live job.
pub(super) fn live_job_dir(store: &Store, id: &JobId) -> Result<JobDir, Error> {
    let Observed { dir, record, live } = observe(store, id)?;
    if live && !record.is_of_node_skill() {
        return Ok(dir);
    }
    Err(ended_error(id, record.status))
}

fn ended_error(id: &JobId, status: Status) -> Error {
    Error::JobEnded(id.to_string(), status.to_string())
}
