//! The request of the agent that a job waits for.

use serde::{Deserialize, Serialize};

use crate::job::{Question, Timestamp};

/// A request of the agent that waits for an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Blocked {
    /// `question` or `permission`.
    pub kind: String,
    /// Claude's id of the request.
    pub request_id: String,
    /// The tool that wants to run.
    #[serde(default)]
    pub tool_name: Option<String>,
    /// The tool's input as JSON text, truncated to a readable size; empty for a question.
    #[serde(default)]
    pub input: String,
    /// The questions; empty for a permission request.
    #[serde(default)]
    pub questions: Vec<Question>,
    /// Ids of further requests that wait for an answer.
    #[serde(default)]
    pub others: Vec<String>,
    /// When the request was made.
    pub since: Timestamp,
    /// Claude was ended (`answer --release`): the answer starts it again.
    #[serde(default)]
    pub released: bool,
}

/// A question whose claude was ended, so that the job has no slot while it waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReleasedQuestion {
    /// The request.
    pub blocked: Blocked,
    /// Offset of the part of `output.log` that contains the request, in bytes.
    pub log_start: u64,
    /// The answer in the format of claude's control protocol, until a claude works on it.
    #[serde(default)]
    pub response: Option<serde_json::Value>,
}
