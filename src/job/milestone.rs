//! What others are told of a job, and how.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Status;

/// An event of which a notification can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Milestone {
    /// The job waits for an answer.
    Blocked,
    /// The job completed.
    Completed,
    /// The job failed.
    Failed,
    /// The job was killed.
    Killed,
}

impl Milestone {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Blocked, Self::Completed, Self::Failed, Self::Killed];

    /// The one that a job of this status has come to.
    pub fn of(status: Status) -> Option<Self> {
        Self::ALL.into_iter().find(|milestone| milestone.as_str() == status.as_str())
    }

    /// The word for it: that of the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Killed => "killed",
        }
    }
}

impl fmt::Display for Milestone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An agent that is woken up by `POST URL` (OpenClaw's `/hooks/wake`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Wake {
    /// Where.
    pub url: String,
    /// The variable that holds the bearer token. The token itself is stored nowhere.
    pub token_env: Option<String>,
    /// The key of the session that is to be woken up.
    pub session: Option<String>,
}

/// A notification of one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Errand {
    /// Number of the event among the job's events that are notified.
    pub number: u64,
    /// The event.
    pub event: Milestone,
    /// The recipient: `command N`, the N-th `--on-event`, or `wake` for `--wake-url`.
    pub to: String,
    /// Number of attempts to deliver it, the current one included.
    pub tries: u32,
    /// Why it could not be delivered; null while it is being tried.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_status() {
        for milestone in Milestone::ALL {
            assert_eq!(serde_json::to_string(&milestone).unwrap(), format!("\"{milestone}\""));
        }
        assert_eq!(Milestone::of(Status::Failed), Some(Milestone::Failed));
        assert_eq!(Milestone::of(Status::Idle), None);
    }
}
