//! `result`: a job's verdict and answer.

use serde::Serialize;
use serde_json::Value;

use super::ANSWER_MOST;
use super::seen::{Seen, look};
use crate::error::Error;
use crate::job::{JobId, Outcome, Status, hint};
use crate::store::Store;
use crate::text::{clip, json_length};

/// Characters of an answer below which it has no room for claude's count of tokens.
const USAGE_LEAST: usize = 1_000;

/// A job's verdict and answer; before its end only how it stands.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum ResultAnswer {
    /// The job has not ended.
    Pending {
        /// The job's id.
        #[serde(rename = "jobId")]
        job_id: JobId,
        /// How it stands.
        status: Status,
        /// Always null.
        result: Option<String>,
    },
    /// It has.
    Ended(Box<Ended>),
}

/// The verdict and the answer.
#[derive(Debug, Serialize)]
pub struct Ended {
    /// What the job came to.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Parts were left out to keep the answer short; `result --full` gives them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// What can be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ResultAnswer {
    /// How the job stands.
    pub fn status(&self) -> Status {
        match self {
            Self::Pending { status, .. } => *status,
            Self::Ended(ended) => ended.outcome.status,
        }
    }
}

/// The job's result, shortened to an answer's length unless it is to be `full`.
pub fn result(store: &Store, id: &JobId, full: bool) -> Result<ResultAnswer, Error> {
    result_within(store, id, if full { usize::MAX } else { ANSWER_MOST })
}

/// The job's result in about `most` characters.
pub(super) fn result_within(store: &Store, id: &JobId, most: usize) -> Result<ResultAnswer, Error> {
    let Seen { dir, record, .. } = look(store, id)?;
    let of_this =
        |outcome: &Outcome| outcome.status == record.status && outcome.attempt == record.attempt;
    // A job that is kept alive has the answer of its last turn.
    let last = |outcome: &Outcome| outcome.status.is_live() && outcome.result.is_some();
    if record.status == Status::Idle
        && let Some(outcome) = dir.outcome().filter(last)
    {
        let outcome = Outcome { status: record.status, ..outcome };
        return Ok(ResultAnswer::Ended(Box::new(fit(outcome, most))));
    }
    if record.status.is_live() {
        return Ok(ResultAnswer::Pending {
            job_id: record.job_id,
            status: record.status,
            result: None,
        });
    }
    // The record is what a lost job's verdict was written to last.
    let outcome = dir.outcome().filter(of_this).unwrap_or_else(|| Outcome::of(&record));
    Ok(ResultAnswer::Ended(Box::new(Ended { hint: hint(&record), ..fit(outcome, most) })))
}

/// Leaves out what is longest and least telling first, until the rest fits.
fn fit(mut outcome: Outcome, most: usize) -> Ended {
    let mut truncated = false;
    if length(&outcome) > most {
        truncated = true;
        for denial in &mut outcome.permission_denials {
            if let Value::Object(fields) = denial {
                fields.remove("tool_input");
            }
        }
        outcome.permission_denials.truncate(10);
        outcome.warnings.truncate(5);
    }
    if length(&outcome) > most && outcome.structured_output.as_ref().is_some_and(is_long) {
        outcome.structured_output = None;
    }
    if length(&outcome) > most && most < USAGE_LEAST {
        outcome.usage = None;
    }
    let excess = length(&outcome).saturating_sub(most);
    if excess > 0
        && let Some(text) = &outcome.result
    {
        // What the text may weigh as JSON, where an escape makes a character up to six long.
        let room = length_of(text).saturating_sub(excess + 20);
        let mut keep = room;
        let mut shorter = clip(text, keep);
        while keep > 0 && length_of(&shorter) > room {
            keep = keep * 9 / 10;
            shorter = clip(text, keep);
        }
        outcome.result = Some(shorter);
    }
    Ended { outcome, truncated, hint: None }
}

fn is_long(value: &Value) -> bool {
    length_of(value) > 2_000
}

fn length(outcome: &Outcome) -> usize {
    length_of(outcome)
}

fn length_of(value: &(impl Serialize + ?Sized)) -> usize {
    serde_json::to_string(value).map_or(0, |text| json_length(&text))
}
