//! Why a job is not working now.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Record, Status, Timestamp};
use crate::text::clip;

/// Length of the sentence in answers.
const MAX_WHY_CHARS: usize = 300;

/// What a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum WaitKind {
    /// The end of other jobs (`--after`, `--after-any`).
    Job,
    /// Its start time (`--start-delay`).
    Time,
    /// A free slot.
    Slot,
    /// The end of a pause (`claudejob pause`).
    Paused,
    /// The end of a limit of the API, or of its overload.
    Limit,
    /// The time of the next attempt.
    Retry,
    /// Background tasks of claude, after its answer.
    Background,
    /// A wake-up or a cron task that the agent scheduled.
    Wakeup,
    /// An answer to a question or a permission request.
    Answer,
    /// The next message to a kept-alive job.
    Message,
    /// The end of the current turn, after which the job ends.
    Turn,
    /// The end of claude, whose stdin was closed.
    Exit,
    /// The engine that starts workers.
    Engine,
    /// A kind that a newer version wrote.
    #[serde(other)]
    Other,
}

/// Why a job is not working now, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct WaitingFor {
    /// What it waits for.
    pub kind: WaitKind,
    /// When the wait ends at the latest, or when the next attempt begins; null if unknown.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// One sentence for people.
    #[serde(default)]
    pub why: String,
    /// A command that ends the wait or shows more; null if there is nothing to do but wait.
    #[serde(default)]
    pub hint: Option<String>,
}

impl WaitingFor {
    /// A wait without a hint.
    pub(crate) fn new(kind: WaitKind, until: Option<Timestamp>, why: impl Into<String>) -> Self {
        Self { kind, until, why: why.into(), hint: None }
    }

    /// Rewrites the command in `hint`.
    pub(crate) fn map_hint(mut self, map: impl FnOnce(String) -> String) -> Self {
        self.hint = self.hint.map(map);
        self
    }
}

impl Record {
    /// Returns why a live job is not working now, as far as its record says: what the worker wrote,
    /// or else what follows from the status. Only the queue knows what a queued job waits for.
    pub(crate) fn waiting_for(&self) -> Option<WaitingFor> {
        if !self.status.is_live() || self.status == Status::Queued {
            return None;
        }
        if let Some(known) = &self.waiting_for {
            let hint = match known.kind {
                WaitKind::Message => Some(self.message_hint()),
                _ => known.hint.clone(),
            };
            let why = clip(&known.why, MAX_WHY_CHARS);
            return Some(WaitingFor { why, hint, ..known.clone() });
        }
        match (self.status, &self.blocked, self.limit.retry_at) {
            (Status::Blocked, Some(blocked), _) => {
                let limit = self.spec.ask.block_timeout_ms.map(Duration::from_millis);
                let until = limit.map(|limit| blocked.since.after(limit));
                let why = match (blocked.questions.first(), &blocked.tool_name) {
                    (Some(question), _) => format!("the agent asks: {}", question.question),
                    (None, Some(tool)) => format!("the agent asks for permission to use {tool}"),
                    (None, None) => "the agent asks for permission".to_owned(),
                };
                let wait = WaitingFor::new(WaitKind::Answer, until, clip(&why, MAX_WHY_CHARS));
                Some(WaitingFor { hint: self.hint(), ..wait })
            }
            (Status::Idle, ..) => {
                let wait = WaitingFor::new(WaitKind::Message, None, "waiting for the next message");
                Some(WaitingFor { hint: Some(self.message_hint()), ..wait })
            }
            (Status::Running, _, Some(at)) if self.limit.rate_limited => {
                let why = "waiting for the end of an API limit or overload";
                Some(WaitingFor::new(WaitKind::Limit, Some(at), why))
            }
            (Status::Running, _, Some(at)) => {
                let why = "claude is started again after a transient failure";
                Some(WaitingFor::new(WaitKind::Retry, Some(at), why))
            }
            _ => None,
        }
    }

    /// Returns the command that ends a kept-alive job which waits for a message.
    pub(crate) fn message_hint(&self) -> String {
        let id = &self.job_id;
        format!("claudejob finish {id}  # or: claudejob send {id} --message TEXT")
    }
}
