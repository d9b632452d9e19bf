//! The verbs, one file each: a request in, an answer out. They never print.

pub mod answer;
pub mod clean;
pub mod demo;
pub mod doctor;
pub mod events;
pub mod export;
pub mod host;
pub mod kill;
pub mod list;
pub mod logs;
pub mod recover;
pub mod redeliver;
pub mod result;
pub mod resume;
mod seen;
pub mod send;
pub mod sidecar;
pub mod start;
pub mod stats;
pub mod status;
pub mod wait;
mod watch;

use serde::Serialize;

use crate::error::{Error, ExitStatus};
use crate::job::{JobId, Reason, Status};

/// Characters of an answer, unless more was asked for: callers cut a longer one, and cut JSON
/// cannot be parsed.
pub const ANSWER_MOST: usize = 8_000;

/// A job for which an operation on several jobs failed.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The job's id.
    pub job_id: JobId,
    /// What went wrong.
    pub error: String,
    /// What went wrong, as a stable word.
    pub code: &'static str,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    fn of(job_id: JobId, error: &Error) -> Self {
        Self { job_id, error: error.to_string(), code: error.code(), hint: error.hint() }
    }
}

/// The id that a caller gave.
pub fn job_id(text: &str) -> Result<JobId, Error> {
    JobId::parse(text).map_err(|_| Error::InvalidJobId(text.to_owned()))
}

/// The exit status of a call that waited for a job. A failure that may pass by itself, such as a
/// lost connection, is told from one that needs a change.
pub fn exit_status_of(status: Status, reason: Option<Reason>, lost_connection: bool) -> ExitStatus {
    match (status, reason) {
        (Status::Completed, _) => ExitStatus::Done,
        (Status::Failed, Some(Reason::RateLimit | Reason::Overloaded)) => ExitStatus::TryAgain,
        (Status::Failed, Some(Reason::ApiError)) if lost_connection => ExitStatus::TryAgain,
        (Status::Failed, _) => ExitStatus::Failed,
        (Status::Killed, _) => ExitStatus::Killed,
        (Status::Blocked, _) => ExitStatus::Blocked,
        (Status::Queued | Status::Starting | Status::Running | Status::Idle, _) => {
            ExitStatus::TimedOut
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_may_pass_has_its_own_exit_status() {
        for (reason, lost, code) in [
            (Reason::RateLimit, false, ExitStatus::TryAgain),
            (Reason::Overloaded, false, ExitStatus::TryAgain),
            (Reason::ApiError, true, ExitStatus::TryAgain),
            (Reason::ApiError, false, ExitStatus::Failed),
            (Reason::Auth, false, ExitStatus::Failed),
        ] {
            assert_eq!(exit_status_of(Status::Failed, Some(reason), lost), code, "{reason}");
        }
        assert_eq!(exit_status_of(Status::Failed, None, false), ExitStatus::Failed);
    }
}
