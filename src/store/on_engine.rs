//! Jobs whose workers an engine starts. Locks say nothing about them, because a worker on another machine
//! may hold one that is not visible here.

use super::{EPOCHS, JobDir};

impl JobDir {
    /// Whether an engine starts the job's workers.
    pub(crate) fn is_on_engine(&self) -> bool {
        self.path().join(EPOCHS).is_dir()
    }

    /// Whether an engine starts the job's workers, and its record is that of a live job.
    pub(super) fn is_live_on_engine(&self) -> bool {
        self.is_on_engine() && self.load().is_ok_and(|record| record.status.is_live())
    }
}
