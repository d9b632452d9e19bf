//! The messages of the protocol between the sidecar and the embedding program.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::job::{JobId, Reason, Status};

/// A request of the embedding program.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub(super) enum SidecarRequest {
    Ping,
    Query(Box<SessionQuery>),
    Attach {
        session_id: String,
        #[serde(default)]
        since_offset: u64,
        since_log_offset: Option<u64>,
    },
    Stop {
        session_id: String,
    },
    Message {
        session_id: String,
        text: String,
    },
    Answer(Box<SessionReply>),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionQuery {
    pub(super) session_id: String,
    pub(super) prompt: String,
    pub(super) cwd: Option<String>,
    pub(super) max_turns: Option<u32>,
    pub(super) max_budget_usd: Option<f64>,
    pub(super) resume_session_id: Option<String>,
    pub(super) permission_mode: Option<String>,
    #[serde(default)]
    pub(super) ask: bool,
    #[serde(default)]
    pub(super) keep_alive: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SessionReply {
    pub(super) session_id: String,
    pub(super) request_id: Option<String>,
    pub(super) choices: Vec<String>,
    pub(super) text: Option<String>,
    pub(super) allow: bool,
    pub(super) deny: bool,
    pub(super) message: Option<String>,
    pub(super) release: bool,
}

/// A line for the embedding program.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub(crate) enum SidecarEvent {
    /// The sidecar reads its input.
    Ready {
        /// The version of this program.
        version: &'static str,
    },
    /// The answer to a ping.
    Pong,
    /// The job of a query runs, or an `attach` was accepted.
    AgentStarted {
        /// The session's id, as the caller gave it.
        session_id: String,
        /// The id of the session's job, for the other verbs.
        job_id: JobId,
        /// The worker's process id.
        pid: Option<i32>,
    },
    /// An event of claude's stream, unchanged.
    AgentEvent {
        /// The session's id, as the caller gave it.
        session_id: String,
        /// The event; null if it is too long.
        #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
        event: Option<Box<RawValue>>,
        /// Offset after the event in the stream, for `sinceOffset` of `attach`.
        offset: u64,
    },
    /// A line of stderr, or one of stdout that is not an event.
    AgentLog {
        /// The session's id, as the caller gave it.
        session_id: String,
        /// `stderr` or `stdout`.
        stream: &'static str,
        /// The line.
        line: String,
        /// Offset after the line in its stream, for `sinceLogOffset` of `attach`.
        offset: u64,
    },
    /// The job has ended.
    AgentStopped {
        /// The session's id, as the caller gave it.
        session_id: String,
        /// Claude's exit code; null if it has none.
        exit_code: Option<i32>,
        /// Name of the signal that ended claude, such as `SIGKILL`; null if none did.
        signal: Option<String>,
        /// The job's status.
        status: Status,
        /// Why the job failed.
        reason: Option<Reason>,
        /// Error message of the failure.
        error: Option<String>,
    },
    /// A query's job could not be started or resumed.
    AgentError {
        /// The session's id, as the caller gave it.
        session_id: String,
        /// Error message.
        error: String,
        /// Stable code of the error.
        code: &'static str,
    },
    /// A line of the input was invalid or could not be carried out.
    Error {
        /// The session that the line named.
        session_id: Option<String>,
        /// Error message.
        error: String,
        /// Stable code of the error.
        code: &'static str,
    },
}
