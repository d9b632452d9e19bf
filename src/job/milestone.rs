//! What others are told of a job, and how.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Status;

/// A moment in a job's life of which others can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Milestone {
    /// It asks something, and waits for an answer.
    Blocked,
    /// It did what was asked.
    Completed,
    /// It did not.
    Failed,
    /// Somebody ended it.
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

/// Something that somebody is to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Errand {
    /// Which of the job's news.
    pub number: u64,
    /// What the job has come to.
    pub event: Milestone,
    /// Who: `command N`, the place among those that were given, or `wake`.
    pub to: String,
    /// How often it was tried, the try under way included.
    pub tries: u32,
    /// Why it could not be delivered; `None` while nobody has given up.
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
