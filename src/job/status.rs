//! The status of a job and its verdict.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A job's status, in every answer and in `meta.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// Waits for a slot, for other jobs or for its start time.
    Queued,
    /// Its worker is starting.
    Starting,
    /// Claude works, or the job waits for a retry.
    Running,
    /// A question or a permission request waits for an answer.
    Blocked,
    /// A kept-alive job is between turns.
    Idle,
    /// Claude answered, and no work was outstanding.
    Completed,
    /// The job failed; `reason` says why.
    Failed,
    /// The job was ended by `kill`.
    Killed,
}

impl Status {
    /// Every status, in the order of a job's life.
    pub(crate) const ALL: [Self; 8] = [
        Self::Queued,
        Self::Starting,
        Self::Running,
        Self::Blocked,
        Self::Idle,
        Self::Completed,
        Self::Failed,
        Self::Killed,
    ];

    /// Returns whether a job of this status has (or, if it is lost, had) a worker.
    pub(crate) fn is_live(self) -> bool {
        !matches!(self, Self::Completed | Self::Failed | Self::Killed)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Blocked => "blocked",
            Self::Idle => "idle",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Killed => "killed",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a job failed: a stable word for programs, beside the sentence in `error` for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// The API refused the key or the login.
    Auth,
    /// A limit of the API or the subscription, until the last retry.
    RateLimit,
    /// The API was overloaded, until the last retry.
    Overloaded,
    /// Any other error of the API.
    ApiError,
    /// The conversation is longer than the model's context window.
    PromptTooLong,
    /// `--max-turns` was reached.
    MaxTurns,
    /// `--max-budget-usd` was reached.
    MaxBudget,
    /// A tool was denied, and the job was to fail on that.
    PermissionDenied,
    /// An MCP server could not be used, and the job was to fail on that.
    McpFailed,
    /// The structured output that `--json-schema` requested is missing.
    InvalidOutput,
    /// No turn since the last message has an answer.
    NoAnswer,
    /// The CLI refused the prompt or answered it itself: the model was not asked.
    PromptRejected,
    /// The agent relied on a scheduled wake-up or cron task that did not come.
    WakeupMissed,
    /// The turn was interrupted, but not by a kill.
    Interrupted,
    /// The job's `--timeout` was reached.
    Timeout,
    /// Claude was silent for longer than `--stall-timeout`.
    Stalled,
    /// Claude ended at once with an error message.
    ClaudeRefused,
    /// Claude ended, or went silent, without a result.
    NoResult,
    /// The worker was killed or crashed.
    WorkerDied,
    /// The machine went down while the job was live.
    HostRestarted,
    /// The worker received SIGTERM, without a request to kill the job.
    Terminated,
    /// A job that this one waited for did not complete.
    DependencyFailed,
    /// The worker or claude could not be started.
    LaunchFailed,
}

impl Reason {
    /// Every reason.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 23] = [
        Self::Auth,
        Self::RateLimit,
        Self::Overloaded,
        Self::ApiError,
        Self::PromptTooLong,
        Self::MaxTurns,
        Self::MaxBudget,
        Self::PermissionDenied,
        Self::McpFailed,
        Self::InvalidOutput,
        Self::NoAnswer,
        Self::PromptRejected,
        Self::WakeupMissed,
        Self::Interrupted,
        Self::Timeout,
        Self::Stalled,
        Self::ClaudeRefused,
        Self::NoResult,
        Self::WorkerDied,
        Self::HostRestarted,
        Self::Terminated,
        Self::DependencyFailed,
        Self::LaunchFailed,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::RateLimit => "rate_limit",
            Self::Overloaded => "overloaded",
            Self::ApiError => "api_error",
            Self::PromptTooLong => "prompt_too_long",
            Self::MaxTurns => "max_turns",
            Self::MaxBudget => "max_budget",
            Self::PermissionDenied => "permission_denied",
            Self::McpFailed => "mcp_failed",
            Self::InvalidOutput => "invalid_output",
            Self::NoAnswer => "no_answer",
            Self::PromptRejected => "prompt_rejected",
            Self::WakeupMissed => "wakeup_missed",
            Self::Interrupted => "interrupted",
            Self::Timeout => "timeout",
            Self::Stalled => "stalled",
            Self::ClaudeRefused => "claude_refused",
            Self::NoResult => "no_result",
            Self::WorkerDied => "worker_died",
            Self::HostRestarted => "host_restarted",
            Self::Terminated => "terminated",
            Self::DependencyFailed => "dependency_failed",
            Self::LaunchFailed => "launch_failed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a job ended. Reached once, in the [supervisor](crate::supervisor), and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The last turn ended with an answer, and no work was outstanding.
    Completed,
    /// The job failed.
    Failed {
        reason: Reason,
        /// What happened, as a sentence that can follow the job's id.
        error: String,
    },
    /// `kill` was called before there was another verdict.
    Killed,
}

impl Verdict {
    pub(crate) fn failed(reason: Reason, error: impl Into<String>) -> Self {
        Self::Failed { reason, error: error.into() }
    }

    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Completed => Status::Completed,
            Self::Failed { .. } => Status::Failed,
            Self::Killed => Status::Killed,
        }
    }

    pub(crate) fn reason(&self) -> Option<Reason> {
        match self {
            Self::Failed { reason, .. } => Some(*reason),
            Self::Completed | Self::Killed => None,
        }
    }

    pub(crate) fn error(&self) -> Option<&str> {
        match self {
            Self::Failed { error, .. } => Some(error),
            Self::Completed | Self::Killed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_the_serialized_words() {
        for status in Status::ALL {
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{status}\""));
        }
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{reason}\""));
        }
        let schema = serde_json::to_string(&schemars::schema_for!(Reason)).unwrap();
        assert_eq!(Reason::ALL.len(), schema.matches("\"const\"").count());
    }
}
