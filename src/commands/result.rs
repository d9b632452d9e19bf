//! `result`: shows the verdicts and the answers of jobs.

mod markdown;
mod text;

use clap::Args;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::Call;
use super::engine_jobs::Ask;
use super::observe::{Observed, observe};
use super::selecting::Among;
use super::several::Several;
use super::shortened::ArrayLimit;
use super::status::status_view;
use crate::arguments::SelectorArgs;
use crate::error::{Error, ExitStatus};
use crate::finalize::outcome_from_log;
use crate::job::{
    Exit, JobId, Lifetime, Outcome, PreviousResult, Reason, Status, UndeliveredMessage,
    WorktreeView,
};
use crate::store::{Store, addressed};
use crate::text::{clip, json_length_of};
use crate::worktree::inspect;

/// Arguments of `result`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  claudejob result fix-login\n  claudejob result --label project=app"
)]
pub(crate) struct ResultArgs {
    #[command(flatten)]
    targets: SelectorArgs,
    /// Do not shorten the result for an agent
    #[arg(long, hide = true)]
    full: bool,
}

impl ResultArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let selected = call.select_some(&store, self.targets, false, Among::Every)?;
        let bound = call.bound_unless(self.full);
        let max = bound.map(|bound| (bound / selected.ids.len().max(1)).saturating_sub(2));
        let results = Several::of(&store, selected, |id| result_within(&store, id, max))?;
        call.print(&results.with_headings().within(ArrayLimit::new(call, &store, bound, "result")))
    }
}

/// Token counts are left out of answers with fewer characters.
const MIN_CHARS_WITH_USAGE: usize = 1_000;

/// A job's verdict and answer, or before its end its status.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub(crate) enum ResultAnswer {
    /// The job has not ended.
    Pending(Pending),
    /// The job has ended, or is idle and has answered its last message.
    Ended(Box<EndedResult>),
}

impl ResultAnswer {
    pub(super) fn job_id(&self) -> &JobId {
        match self {
            Self::Pending(pending) => &pending.job_id,
            Self::Ended(ended) => &ended.outcome.job_id,
        }
    }
}

/// The answer for a job that has not ended.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pending {
    /// The job's id.
    pub job_id: JobId,
    /// The job's status.
    pub status: Status,
    /// Always null.
    pub result: Option<String>,
    /// The answer of an earlier attempt or turn, until there is a new one.
    pub previous_result: Option<PreviousResult>,
    /// The command to run next, as `sh` takes it.
    pub hint: Option<String>,
}

/// The verdict and the answer.
#[derive(Debug)]
pub(crate) struct EndedResult {
    pub outcome: Outcome,
    /// When the job worked, for text.
    pub lifetime: Lifetime,
    /// The model, for Markdown.
    pub model: Option<String>,
    /// The job's git worktree.
    pub worktree: Option<WorktreeView>,
    /// Parts were left out to keep the answer short.
    pub truncated: bool,
    pub hint: Option<String>,
}

/// The verdict and the answer of a job, with the field names of the `result` event of the CLI.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct EndedView<'a> {
    /// The job's id.
    #[serde(rename = "jobId")]
    job_id: &'a JobId,
    /// The job's status.
    status: Status,
    /// Number of the run of claude that produced this result, from 1.
    attempt: u32,
    /// Why the job failed, as a stable word; null unless it failed.
    reason: Option<Reason>,
    /// Why the job failed, as a sentence.
    error: Option<&'a str>,
    /// How the claude process ended.
    exit: Option<Exit>,
    /// The answer; if `partial` is true, text from before the failure.
    result: Option<&'a str>,
    /// Number of bytes of the answer that are not stored here; the whole answer is in `output.log`.
    #[serde(rename = "resultOmittedBytes")]
    result_omitted_bytes: u64,
    /// `result` is text that the agent wrote before it failed, not an answer.
    partial: bool,
    /// The answer of the attempt before the last `resume`, until there is a new one.
    #[serde(rename = "previousResult")]
    previous_result: Option<&'a PreviousResult>,
    /// Cost in US dollars as claude reported it.
    cost_usd: Option<f64>,
    /// `cost_usd` is a lower bound: an attempt ended without reporting its cost.
    #[serde(rename = "costIsLowerBound")]
    cost_is_lower_bound: bool,
    /// The job failed because the connection to the API was lost: it can be retried.
    #[serde(rename = "lostConnection")]
    lost_connection: bool,
    /// Total duration of the turns in milliseconds, as claude reported it.
    duration_ms: Option<u64>,
    /// Total number of turns.
    num_turns: u64,
    /// Claude's session, which `claude --resume` accepts.
    session_id: Option<&'a str>,
    /// Token counts in the last report of claude, without zeros and empty values.
    usage: Option<Value>,
    /// Tool calls that were denied.
    permission_denials: &'a [Value],
    /// The output that `--json-schema` requested.
    structured_output: Option<&'a Value>,
    /// Problems that did not make the job fail.
    warnings: &'a [String],
    /// Messages that claude did not receive; `resume` delivers them.
    #[serde(rename = "undeliveredMessages")]
    undelivered_messages: &'a [UndeliveredMessage],
    /// Deprecated name of `undeliveredMessages`; absent when empty.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    undelivered: &'a [UndeliveredMessage],
    /// The job's git worktree (`--worktree`).
    worktree: Option<&'a WorktreeView>,
    /// Parts were left out to keep the answer short; `result --max-chars 0` shows them.
    truncated: bool,
    /// The command to run next, as `sh` takes it; null for a completed job.
    hint: Option<&'a str>,
}

#[cfg(test)]
impl schemars::JsonSchema for EndedResult {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EndedResult".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        EndedView::json_schema(generator)
    }
}

impl Serialize for EndedResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let outcome = &self.outcome;
        let view = EndedView {
            job_id: &outcome.job_id,
            status: outcome.status,
            attempt: outcome.attempt,
            reason: outcome.reason,
            error: outcome.error.as_deref(),
            exit: outcome.exit,
            result: outcome.result.as_deref(),
            result_omitted_bytes: outcome.result_omitted_bytes,
            partial: outcome.partial,
            previous_result: outcome.previous_result.as_ref(),
            cost_usd: outcome.cost_usd,
            cost_is_lower_bound: outcome.cost_is_lower_bound,
            lost_connection: outcome.lost_connection,
            duration_ms: outcome.duration_ms,
            num_turns: outcome.num_turns,
            session_id: outcome.session_id.as_deref(),
            usage: outcome.usage.clone().map(without_zeros),
            permission_denials: &outcome.permission_denials,
            structured_output: outcome.structured_output.as_ref(),
            warnings: &outcome.warnings,
            undelivered_messages: &outcome.undelivered,
            undelivered: &outcome.undelivered,
            worktree: self.worktree.as_ref(),
            truncated: self.truncated,
            hint: self.hint.as_deref(),
        };
        view.serialize(serializer)
    }
}

/// Returns the job's result, in about `max` characters if that is given.
pub(super) fn result_within(
    store: &Store,
    id: &JobId,
    max: Option<usize>,
) -> Result<ResultAnswer, Error> {
    let max = max.unwrap_or(usize::MAX);
    let observed = observe(store, id)?;
    let hint = match observed.record.status {
        // The caller reads the answer here.
        Status::Idle => Some(addressed(store.root(), observed.record.message_hint())),
        Status::Queued if observed.record.spec.engine.is_none() => {
            status_view(store, &observed.record, Ask::One).hint
        }
        _ => observed.hint(),
    };
    let Observed { dir, record, .. } = observed;
    let (lifetime, model) = (record.lifetime(), record.model.clone());
    let worktree = record.spec.worktree.clone();
    let outcome = dir.outcome();
    let failure = record.progress.last_failure.as_ref();
    // An idle job has the answer of its last turn.
    if record.status == Status::Idle
        && let Some(outcome) = &outcome
        && outcome.status.is_live()
        && (outcome.result.is_some() || failure.is_some())
    {
        let outcome = Outcome {
            status: record.status,
            reason: failure.map(|failure| failure.reason),
            error: failure.map(|failure| failure.error.clone()),
            ..outcome.clone()
        };
        let worktree = worktree.as_ref().map(inspect);
        let ended = EndedResult { outcome, lifetime, model, worktree, truncated: false, hint };
        return Ok(ResultAnswer::Ended(Box::new(fit(ended, max))));
    }
    if record.status.is_live() {
        let (job_id, status) = (record.job_id, record.status);
        let previous_result = outcome.and_then(Outcome::into_previous);
        let mut pending = Pending { job_id, status, result: None, previous_result, hint };
        let excess = json_length_of(&pending).saturating_sub(max);
        shorten_previous(&mut pending.previous_result, excess);
        return Ok(ResultAnswer::Pending(pending));
    }
    // The verdict of a lost job is written to its record last, so the record decides.
    let outcome = match outcome {
        Some(outcome)
            if outcome.status == record.status && outcome.attempt == record.attempt.number =>
        {
            outcome
        }
        None if record.is_of_node_skill() => outcome_from_log(&dir, record),
        earlier => Outcome {
            previous_result: earlier.and_then(Outcome::into_previous),
            ..Outcome::from_record(&record)
        },
    };
    let worktree = worktree.as_ref().map(inspect);
    let ended = EndedResult { outcome, lifetime, model, worktree, truncated: false, hint };
    Ok(ResultAnswer::Ended(Box::new(fit(ended, max))))
}

/// Shortens the answer until it fits, beginning with long parts that say least.
fn fit(mut answer: EndedResult, max: usize) -> EndedResult {
    if json_length_of(&answer) > max {
        answer.truncated = true;
        for denial in &mut answer.outcome.permission_denials {
            if let Value::Object(fields) = denial {
                fields.remove("tool_input");
            }
        }
        answer.outcome.permission_denials.truncate(10);
        answer.outcome.warnings.truncate(5);
        answer.outcome.undelivered.truncate(5);
    }
    let structured_output = answer.outcome.structured_output.as_ref();
    if json_length_of(&answer) > max && structured_output.is_some_and(is_long) {
        answer.outcome.structured_output = None;
    }
    if json_length_of(&answer) > max && max < MIN_CHARS_WITH_USAGE {
        answer.outcome.usage = None;
    }
    let excess = json_length_of(&answer).saturating_sub(max);
    shorten_previous(&mut answer.outcome.previous_result, excess);
    let excess = json_length_of(&answer).saturating_sub(max);
    if excess > 0
        && let Some(text) = &answer.outcome.result
    {
        answer.outcome.result = Some(shortened(text, excess));
    }
    answer
}

/// Shortens an earlier answer by `excess` characters, as far as possible.
fn shorten_previous(previous: &mut Option<PreviousResult>, excess: usize) {
    let Some(previous) = previous else { return };
    if excess == 0 {
        return;
    }
    if previous.structured_output.as_ref().is_some_and(is_long) {
        previous.structured_output = None;
    }
    if let Some(text) = &previous.result {
        previous.result = Some(shortened(text, excess));
    }
}

/// Returns the beginning of a text, shorter as JSON by `excess` characters and by the length of the
/// mark for the truncation.
pub(super) fn shortened(text: &str, excess: usize) -> String {
    // An escaped character has up to six characters.
    let max = json_length_of(text).saturating_sub(excess + 20);
    let mut keep = max;
    let mut shorter = clip(text, keep);
    while keep > 0 && json_length_of(&shorter) > max {
        keep = keep * 9 / 10;
        shorter = clip(text, keep);
    }
    shorter
}

/// Removes zeros and empty values from the maps of a report.
fn without_zeros(report: Value) -> Value {
    match report {
        Value::Object(fields) => {
            let kept = fields.into_iter().map(|(name, value)| (name, without_zeros(value)));
            Value::Object(kept.filter(|(_, value)| !is_empty(value)).collect())
        }
        Value::Array(elements) => Value::Array(elements.into_iter().map(without_zeros).collect()),
        other => other,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) => false,
    }
}

fn is_long(value: &Value) -> bool {
    json_length_of(value) > 2_000
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn usage_has_no_zeros() {
        for (usage, shown) in [
            (
                json!({"input_tokens": 12, "cache_read_input_tokens": 0, "server_tool_use": {"n": 0},
                    "iterations": [], "speed": "standard", "inference_geo": "", "x": null}),
                json!({"input_tokens": 12, "speed": "standard"}),
            ),
            (
                json!({"iterations": [{"a": 0, "b": 1}, {}], "c": false}),
                json!({"iterations": [{"b": 1}, {}], "c": false}),
            ),
            (json!({"output_tokens": 0}), json!({})),
            (json!(0), json!(0)),
        ] {
            assert_eq!(without_zeros(usage), shown);
        }
    }
}
