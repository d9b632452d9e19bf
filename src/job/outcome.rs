//! The result of a job: the contents of `result.json`.

use serde::{Deserialize, Serialize};

use crate::text::{is_zero, plural};

use super::{Exit, JobId, Reason, Record, Status, UndeliveredMessage, Verdict};

/// The contents of `result.json`: the verdict with the answer, in the field names that the CLI's
/// own `result` event uses. Written before `meta.json` says that the job has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    #[serde(rename = "jobId")]
    pub job_id: JobId,
    pub status: Status,
    /// Number of the attempt that reached the verdict.
    #[serde(default = "first")]
    pub attempt: u32,
    /// Why the job failed.
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
    /// Bytes of the answer that are missing in `result` because it is too long; the whole answer is in
    /// `output.log`.
    #[serde(default, rename = "resultOmittedBytes", skip_serializing_if = "is_zero")]
    pub result_omitted_bytes: u64,
    /// `result` is text that the agent wrote before it failed, not an answer.
    #[serde(default)]
    pub partial: bool,
    /// The answer of an earlier attempt, while this one has none.
    #[serde(default, rename = "previousResult", skip_serializing_if = "Option::is_none")]
    pub previous_result: Option<PreviousResult>,
    /// Cost in US dollars.
    #[serde(default)]
    pub cost_usd: Option<f64>,
    /// `cost_usd` is a lower bound: an attempt ended without reporting its cost.
    #[serde(default, rename = "costIsLowerBound")]
    pub cost_is_lower_bound: bool,
    /// The job failed because the connection to the API was lost.
    #[serde(default, rename = "lostConnection", skip_serializing_if = "std::ops::Not::not")]
    pub lost_connection: bool,
    /// Total milliseconds of the turns, as claude reported them.
    #[serde(default)]
    pub duration_ms: Option<u64>,
    /// Total number of turns.
    #[serde(default)]
    pub num_turns: u64,
    /// Claude's session.
    #[serde(default)]
    pub session_id: Option<String>,
    /// Tokens, as claude reported them last.
    #[serde(default)]
    pub usage: Option<serde_json::Value>,
    /// Tool calls that were denied.
    #[serde(default)]
    pub permission_denials: Vec<serde_json::Value>,
    /// The output that `--json-schema` requested.
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
    pub undelivered: Vec<UndeliveredMessage>,
}

impl Outcome {
    /// Returns the result as far as it is in the job's record.
    pub(crate) fn from_record(record: &Record) -> Self {
        Self {
            job_id: record.job_id.clone(),
            status: record.status,
            attempt: record.attempt.number,
            reason: record.reason,
            error: record.error.clone(),
            exit: record.ending.exit,
            result: None,
            result_omitted_bytes: 0,
            partial: false,
            previous_result: None,
            cost_usd: record.cost.usd,
            cost_is_lower_bound: record.cost.is_lower_bound,
            lost_connection: record.ending.lost_connection,
            duration_ms: record.times.elapsed_ms,
            num_turns: record.progress.num_turns,
            session_id: record.session.id.clone(),
            usage: None,
            permission_denials: Vec::new(),
            structured_output: None,
            warnings: record.warnings.clone(),
            undelivered: Vec::new(),
        }
    }

    /// Returns the verdict; `None` for a job that has not ended.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        match (self.status, self.reason) {
            (Status::Completed, _) => Some(Verdict::Completed),
            (Status::Killed, _) => Some(Verdict::Killed),
            (Status::Failed, Some(reason)) => {
                Some(Verdict::failed(reason, self.error.clone().unwrap_or_default()))
            }
            _ => None,
        }
    }

    /// Returns the answer that a later attempt shows while it has none of its own: this attempt's,
    /// or else the earlier one. An answer takes precedence over text that was written before a
    /// failure.
    pub(crate) fn into_previous(self) -> Option<PreviousResult> {
        let has_answer = self.result.is_some() || self.structured_output.is_some();
        let earlier = self.previous_result;
        if !has_answer || (self.partial && earlier.is_some()) {
            return earlier;
        }
        Some(PreviousResult {
            attempt: self.attempt,
            result: self.result,
            structured_output: self.structured_output,
            partial: self.partial,
        })
    }

    /// Adds the messages that were not delivered.
    pub(crate) fn with_undelivered(mut self, undelivered: Vec<UndeliveredMessage>) -> Self {
        if !undelivered.is_empty() && undelivered != self.undelivered {
            let messages = plural(undelivered.len(), "message");
            self.warnings.push(format!("{messages} not delivered: resume delivers"));
            self.undelivered = undelivered;
        }
        self
    }

    /// Removes everything that can be long, for a full disk, and says where an answer may be found.
    pub(crate) fn truncated(mut self) -> Self {
        if self.result.is_some() || self.structured_output.is_some() {
            let id = &self.job_id;
            self.warnings.push(format!(
                "the answer could not be stored: claudejob logs {id} or claudejob open {id} may show it"
            ));
        }
        if let Some(answer) = self.result.take() {
            self.result_omitted_bytes += answer.len() as u64;
        }
        self.previous_result = None;
        self.usage = None;
        self.structured_output = None;
        self.permission_denials.clear();
        self
    }
}

/// The answer of an earlier attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PreviousResult {
    /// Number of the attempt that gave the answer, from 1.
    pub attempt: u32,
    /// The answer; if `partial` is true, the text before the failure.
    pub result: Option<String>,
    /// The output that `--json-schema` requested.
    pub structured_output: Option<serde_json::Value>,
    /// `result` is text that the agent wrote before it failed, not an answer.
    pub partial: bool,
}

fn first() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Spec, Timestamp};

    #[test]
    fn an_answer_that_cannot_be_stored_is_mentioned() {
        let id = JobId::parse("fix").unwrap();
        let at = Timestamp::from_epoch_ms(0).unwrap();
        let empty = Outcome::from_record(&Record::new(id, Spec::default(), String::new(), at));
        assert_eq!(empty.clone().truncated(), empty);
        let answered = Outcome { result: Some("done".to_owned()), ..empty };
        let short = answered.truncated();
        assert_eq!((short.result, short.result_omitted_bytes), (None, 4));
        assert!(short.warnings[0].contains("claudejob open fix"), "{:?}", short.warnings);
    }
}
