//! Messages and requests to a running job: the contents of the files in its `inbox/`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{QueueChange, Timestamp};

/// A message or a request to a running job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub(crate) enum InboxMessage {
    /// A message to the agent: it steers the current turn, or begins one.
    Message {
        /// Identifies the message to claude, and in its confirmation that it took the message in.
        uuid: String,
        text: String,
    },
    /// Stop the turn, and keep the session.
    Interrupt,
    /// End a kept-alive job: there will be no more messages.
    Finish,
    /// End claude while its question waits for an answer.
    Release,
    /// Change the conditions under which the queue admits the job.
    Requeue(QueueChange),
    /// Freeze the job's processes, as long as the job is paused.
    Freeze,
    /// Let frozen processes continue.
    Thaw,
    /// Answer a request of claude.
    Answer {
        request_id: String,
        /// The answer in the format of claude's control protocol.
        response: Value,
    },
}

/// A message that claude did not take in before the job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct UndeliveredMessage {
    /// Number of the message, in the order of arrival.
    pub number: u64,
    /// The beginning of its text, on one line.
    pub text: String,
}

/// The end of a turn: a line of `turns.ndjson`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct TurnEnd {
    /// Number of the turn, from 1.
    pub turn: u64,
    /// When it ended.
    pub at: Timestamp,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Numbers of the messages that the turn took in.
    pub messages: Vec<u64>,
    /// The turn failed: claude reported an error, or there is no answer.
    pub is_error: bool,
    /// The turn was stopped.
    pub interrupted: bool,
    /// The answer or the error; truncated if it is very long.
    pub result: Option<String>,
    /// Milliseconds that the turn took, as claude reported them; `None` in lines of older versions.
    #[serde(default)]
    pub duration_ms: Option<u64>,
    /// Claude's conversation.
    #[serde(default)]
    pub session_id: Option<String>,
    /// Cost of the job so far, in US dollars.
    pub cost_usd: Option<f64>,
}
