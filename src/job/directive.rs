//! What a running job is told: the contents of a file in its `inbox/`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Timestamp;

/// One thing that somebody tells a running job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Directive {
    /// A message to the agent: it steers the turn that is under way, or begins one.
    Message {
        /// The UUID under which claude is given it, and under which it says that it took it in.
        uuid: String,
        /// What is said.
        text: String,
    },
    /// The turn is to be stopped; the session stays.
    Interrupt,
    /// Nothing more will be asked of a job that is kept alive.
    Finish,
    /// Claude is ended while its question waits for an answer.
    Release,
    /// What claude asked is answered.
    Answer {
        /// Claude's id of the request.
        request_id: String,
        /// The answer in claude's own words.
        response: Value,
    },
}

/// A message that claude did not take in before the job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Undelivered {
    /// Its place in the order of arrival.
    pub number: u64,
    /// Its beginning, on one line.
    pub text: String,
}

/// The end of a turn: a line of `turns.ndjson`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TurnEnd {
    /// 1 for a job's first turn, one more for each further.
    pub turn: u64,
    /// When it ended.
    pub at: Timestamp,
    /// Which run of claude it was in.
    pub attempt: u32,
    /// The numbers of the messages that it took in.
    pub messages: Vec<u64>,
    /// Whether it failed, taken by itself: claude calls it an error, or it has no answer.
    pub is_error: bool,
    /// The turn was stopped.
    pub interrupted: bool,
    /// The answer, or what went wrong; cut if it is very long.
    pub result: Option<String>,
    /// Milliseconds that the turn took, as claude reported them; `None` in lines of older versions.
    #[serde(default)]
    pub duration_ms: Option<u64>,
    /// Claude's conversation.
    #[serde(default)]
    pub session_id: Option<String>,
    /// US dollars so far, of the whole job.
    pub cost_usd: Option<f64>,
}
