//! The verbs, one file each: a request in, an answer out. They never print.

pub mod answer;
pub mod clean;
pub mod demo;
pub mod doctor;
pub mod events;
pub mod export;
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
use crate::job::{JobId, Status};

/// Characters under which an answer stays unless more was asked for: what its callers cut is no
/// JSON any more.
pub const ANSWER_MOST: usize = 8_000;

/// A job with which something could not be done, where it could with others.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Its id.
    pub job_id: JobId,
    /// Why not.
    pub error: String,
    /// The stable word for it.
    pub code: &'static str,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
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

/// The exit status that tells how a job that was waited for stands.
pub fn exit_status_of(status: Status) -> ExitStatus {
    match status {
        Status::Completed => ExitStatus::Done,
        Status::Failed => ExitStatus::Failed,
        Status::Killed => ExitStatus::Killed,
        Status::Queued | Status::Starting | Status::Running | Status::Blocked | Status::Idle => {
            ExitStatus::TimedOut
        }
    }
}
