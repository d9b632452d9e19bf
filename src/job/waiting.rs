//! Why a job is not working now.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// What a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitKind {
    /// The end of other jobs (`--after`, `--after-any`).
    Job,
    /// Its start time (`--start-delay`).
    Time,
    /// A free slot.
    Slot,
    /// The end of a limit of the API, or of its overload.
    Limit,
    /// The next attempt.
    Retry,
    /// Background tasks of claude, after its answer.
    Background,
    /// A wake-up or a cron task that the agent scheduled.
    Wakeup,
    /// An answer to a question or a permission request.
    Answer,
    /// The next message, of a kept-alive job.
    Message,
    /// The engine that starts workers.
    Engine,
    /// A kind that a newer version wrote.
    #[serde(other)]
    Other,
}

/// Why a job is not working now, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitingFor {
    /// What it waits for.
    pub kind: WaitKind,
    /// When the wait ends at the latest, or when the job is tried again; `None` if unknown.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// One sentence for people.
    #[serde(default)]
    pub why: String,
    /// A command that ends the wait or shows more; `None` if there is nothing to do but wait.
    #[serde(default)]
    pub hint: Option<String>,
}

impl WaitingFor {
    /// A wait without a hint.
    pub fn new(kind: WaitKind, until: Option<Timestamp>, why: impl Into<String>) -> Self {
        Self { kind, until, why: why.into(), hint: None }
    }
}
