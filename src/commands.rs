//! The verbs, one file each. Each takes a request and returns an answer; none prints.

pub(crate) mod answer;
pub(crate) mod clean;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod export;
pub(crate) mod host_takeover;
pub(crate) mod kill;
mod launching;
pub(crate) mod list;
pub(crate) mod logs;
mod observe;
pub(crate) mod recover;
pub(crate) mod redeliver;
pub(crate) mod result;
pub(crate) mod resume;
pub(crate) mod send;
pub(crate) mod sidecar;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod status;
mod turns;
pub(crate) mod wait;
mod watch;

use serde::Serialize;

use crate::error::{Error, ExitStatus};
use crate::job::{JobId, Reason, Status};

/// Maximum number of characters of an answer, unless the caller asks for more: callers truncate
/// longer output, and truncated JSON cannot be parsed.
pub(crate) const MAX_ANSWER_CHARS: usize = 8_000;

/// One job's failure in an operation on several jobs.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct JobFailure {
    /// The job's id.
    pub job_id: JobId,
    /// Error message.
    pub error: String,
    /// Stable code of the error.
    pub code: &'static str,
    /// How to resolve the error.
    pub hint: Option<String>,
}

impl JobFailure {
    fn from_error(job_id: JobId, error: &Error) -> Self {
        Self { job_id, error: error.to_string(), code: error.code(), hint: error.hint() }
    }
}

/// Parses a job id from an argument.
pub(crate) fn parse_job_id(text: &str) -> Result<JobId, Error> {
    JobId::parse(text).map_err(|_| Error::InvalidJobId(text.to_owned()))
}

/// Returns the exit status of a command that waited for a job. A temporary failure, such as a lost
/// connection, has its own status, so that callers can retry.
pub(crate) fn exit_status_for(
    status: Status,
    reason: Option<Reason>,
    lost_connection: bool,
) -> ExitStatus {
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
    fn temporary_failure_has_own_exit_status() {
        for (reason, lost, code) in [
            (Reason::RateLimit, false, ExitStatus::TryAgain),
            (Reason::Overloaded, false, ExitStatus::TryAgain),
            (Reason::ApiError, true, ExitStatus::TryAgain),
            (Reason::ApiError, false, ExitStatus::Failed),
            (Reason::Auth, false, ExitStatus::Failed),
        ] {
            assert_eq!(exit_status_for(Status::Failed, Some(reason), lost), code, "{reason}");
        }
        assert_eq!(exit_status_for(Status::Failed, None, false), ExitStatus::Failed);
    }
}
