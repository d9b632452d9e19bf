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

/// Number of failures in a row for the same reason after which a person has to act.
const MAX_FAILURES: u64 = 3;

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
            // An update replaces claude, or a resource was missing. What is wrong for good would fail
            // at each `recover --all`, and its end would be told each time.
            Some(Reason::LaunchFailed) => self.was_started_before() && !self.fails_repeatedly(),
            _ => false,
        };
        let failed = self.status == Status::Failed;
        failed && from_outside && !self.no_recover && self.is_resumable()
    }

    /// Returns whether `recover` accepts the job: it was cut off, its login was refused, a wake-up did
    /// not come, or it could not be started again and again. `recover --all` leaves out the last
    /// three: a restart of the machine does not renew a login.
    pub(crate) fn is_recoverable(&self) -> bool {
        let is_manual = match self.reason {
            Some(Reason::Auth | Reason::WakeupMissed) => true,
            Some(Reason::LaunchFailed) => self.was_started_before(),
            _ => false,
        };
        let may_recover = self.status == Status::Failed && is_manual;
        self.is_cut_off() || (may_recover && !self.no_recover && self.is_resumable())
    }

    fn was_started_before(&self) -> bool {
        self.attempt > 1
    }

    /// Returns whether the job failed so often in a row for the same reason that only a person can
    /// remove the cause.
    pub(crate) fn fails_repeatedly(&self) -> bool {
        self.failures_in_row >= MAX_FAILURES
    }

    /// Returns whether `resume` accepts the job: this program may write the record's version.
    pub(crate) fn is_resumable(&self) -> bool {
        is_writable_version(self.version)
    }
}
