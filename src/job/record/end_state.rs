//! The part of a record that decides how an ended job can be continued.

use super::{Exit, is_writable_version};
use crate::job::{Reason, Status};

/// The part of a record that decides how a job that has ended can be continued.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndState {
    pub version: u32,
    pub status: Status,
    pub reason: Option<Reason>,
    pub exit: Option<Exit>,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// The failed dependency of this job can be recovered itself.
    pub dependency_cut_off: bool,
    /// The job was started with `--no-recover`.
    pub no_recover: bool,
    /// How many attempts in a row, the last one included, failed for the same reason.
    pub failures_in_row: u64,
}

impl EndState {
    /// Returns whether the job was ended from outside without a request to end it: its host, its
    /// worker or its claude ended, or those of a job that it waited for.
    pub(crate) fn is_cut_off(&self) -> bool {
        let by_signal = self.exit.is_some_and(|exit| exit.signal().is_some());
        let from_outside = match self.reason {
            Some(Reason::HostRestarted | Reason::WorkerDied | Reason::Terminated) => true,
            // Only if claude did not end by itself.
            Some(Reason::NoResult | Reason::WakeupMissed) => by_signal,
            Some(Reason::DependencyFailed) => self.dependency_cut_off,
            // Claude was started before: an update replaces it now, or a resource was missing.
            Some(Reason::LaunchFailed) => self.attempt > 1,
            _ => false,
        };
        let failed = self.status == Status::Failed;
        failed && from_outside && !self.no_recover && self.is_resumable()
    }

    /// Returns whether `recover` accepts the job: it was cut off, its login was refused, or a
    /// wake-up did not come. `recover --all` leaves out the last two: a restart of the machine does
    /// not renew a login.
    pub(crate) fn is_recoverable(&self) -> bool {
        let is_manual = matches!(self.reason, Some(Reason::Auth | Reason::WakeupMissed));
        let may_recover = self.status == Status::Failed && is_manual;
        self.is_cut_off() || (may_recover && !self.no_recover && self.is_resumable())
    }

    /// Returns whether `resume` accepts the job: this program may write the record's version.
    pub(crate) fn is_resumable(&self) -> bool {
        is_writable_version(self.version)
    }
}
