//! What a job came to: the contents of `result.json`.

use serde::{Deserialize, Serialize};

use crate::text::count;

use super::{Exit, JobId, Reason, Record, Status, Undelivered, Verdict};

/// The contents of `result.json`: the verdict with the answer, in the field names that the CLI's
/// own `result` event uses. Written before `meta.json` says that the job has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The job's id.
    #[serde(rename = "jobId")]
    pub job_id: JobId,
    /// How the job stands.
    pub status: Status,
    /// Which attempt came to it.
    #[serde(default = "first")]
    pub attempt: u32,
    /// Why it failed.
    #[serde(default)]
    pub reason: Option<Reason>,
    /// The same as a sentence.
    #[serde(default)]
    pub error: Option<String>,
    /// How the claude process ended.
    #[serde(default)]
    pub exit: Option<Exit>,
    /// The answer of the last turn that gave one.
    #[serde(default)]
    pub result: Option<String>,
    /// Bytes of the answer that are not in `result` because it is longer than what is kept; the
    /// whole is in `output.log`.
    #[serde(default, rename = "resultOmittedBytes", skip_serializing_if = "is_zero")]
    pub result_omitted_bytes: u64,
    /// `result` is what the agent said before it failed, not an answer.
    #[serde(default)]
    pub partial: bool,
    /// US dollars.
    #[serde(default)]
    pub cost_usd: Option<f64>,
    /// `cost_usd` is a lower bound: an attempt ended without reporting its cost.
    #[serde(default, rename = "costIsLowerBound")]
    pub cost_is_lower_bound: bool,
    /// The connection to the API was lost, and that ended the job.
    #[serde(default, rename = "lostConnection", skip_serializing_if = "std::ops::Not::not")]
    pub lost_connection: bool,
    /// Milliseconds that claude says its turns took, added up.
    #[serde(default)]
    pub duration_ms: Option<u64>,
    /// Turns, added up.
    #[serde(default)]
    pub num_turns: u64,
    /// Claude's conversation.
    #[serde(default)]
    pub session_id: Option<String>,
    /// Tokens, as claude reported them last.
    #[serde(default)]
    pub usage: Option<serde_json::Value>,
    /// Each tool call that was denied.
    #[serde(default)]
    pub permission_denials: Vec<serde_json::Value>,
    /// What `--json-schema` asked for.
    #[serde(default)]
    pub structured_output: Option<serde_json::Value>,
    /// As in the record.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Messages that claude did not take in; `undelivered` is the name that earlier versions wrote.
    #[serde(
        default,
        rename = "undeliveredMessages",
        alias = "undelivered",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub undelivered: Vec<Undelivered>,
}

impl Outcome {
    /// The result of a job as far as its record knows it.
    pub fn of(record: &Record) -> Self {
        Self {
            job_id: record.job_id.clone(),
            status: record.status,
            attempt: record.attempt,
            reason: record.reason,
            error: record.error.clone(),
            exit: record.exit,
            result: None,
            result_omitted_bytes: 0,
            partial: false,
            cost_usd: record.cost_usd,
            cost_is_lower_bound: record.cost_is_lower_bound,
            lost_connection: record.lost_connection,
            duration_ms: record.elapsed_ms,
            num_turns: record.num_turns,
            session_id: record.session_id.clone(),
            usage: None,
            permission_denials: Vec::new(),
            structured_output: None,
            warnings: record.warnings.clone(),
            undelivered: Vec::new(),
        }
    }

    /// The verdict that it tells of; `None` of a job that has not ended.
    pub fn verdict(&self) -> Option<Verdict> {
        match (self.status, self.reason) {
            (Status::Completed, _) => Some(Verdict::Completed),
            (Status::Killed, _) => Some(Verdict::Killed),
            (Status::Failed, Some(reason)) => {
                Some(Verdict::failed(reason, self.error.clone().unwrap_or_default()))
            }
            _ => None,
        }
    }

    /// The same with the messages that were not delivered, if there are any.
    pub fn with_undelivered(mut self, undelivered: Vec<Undelivered>) -> Self {
        if !undelivered.is_empty() && undelivered != self.undelivered {
            let messages = count(undelivered.len(), "message");
            self.warnings.push(format!("{messages} not delivered: resume delivers"));
            self.undelivered = undelivered;
        }
        self
    }

    /// The same without what can be long, for a disk that is full: the answer is in `output.log`.
    pub fn shortened(mut self) -> Self {
        if let Some(answer) = self.result.take() {
            self.result_omitted_bytes += answer.len() as u64;
        }
        self.usage = None;
        self.structured_output = None;
        self.permission_denials.clear();
        self
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn first() -> u32 {
    1
}
