//! The part of a record that lists and totals of jobs need.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    EndState, EngineOptions, Exit, HintFacts, JobId, Limits, OpenClawRecipients, Reason, Record,
    Status, Timestamp, ToolAccess, WakeTarget, Worktree, deserialize_known_reason, failures_in_row,
    hint, recipients,
};
use crate::text::{clip, is_zero};

/// The part of a [`Record`] that lists, totals and the removal of jobs need. Decoded from a record,
/// whose other fields are skipped, or from an encoded summary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    #[serde(default)]
    pub(crate) version: u32,
    pub(crate) job_id: JobId,
    pub(crate) status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<i32>,
    #[serde(
        default,
        deserialize_with = "deserialize_known_reason",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) prompt: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) started_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) elapsed_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[serde(rename = "hadTurn")]
    pub(crate) was_admitted: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) queued_ms: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) limited_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resumable_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    #[serde(default)]
    pub(crate) attempt: u32,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) dependency_cut_off: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) num_turns: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cost_usd: Option<f64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) cost_is_lower_bound: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) rate_limited: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exit: Option<Exit>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) denied_tools: Vec<String>,
    #[serde(default, skip_serializing_if = "EarlierFailures::is_empty")]
    pub(crate) earlier: EarlierFailures,
    #[serde(default)]
    pub(crate) spec: SpecSummary,
}

/// The part of the [`EarlierTotals`](super::record::EarlierTotals) in a summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct EarlierFailures {
    #[serde(
        deserialize_with = "deserialize_known_reason",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) reason: Option<Reason>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) failures: u64,
}

impl EarlierFailures {
    fn is_empty(&self) -> bool {
        self.reason.is_none()
    }
}

/// The part of a [`Spec`](super::Spec) in a summary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SpecSummary {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) no_recover: bool,
    #[serde(skip_serializing_if = "AdmissionSummary::is_empty")]
    pub(crate) admission: AdmissionSummary,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) after: Vec<JobId>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) after_any: Vec<JobId>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) on_event: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wake: Option<WakeTarget>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) openclaw: Option<OpenClawRecipients>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_turns: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_budget_usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stall_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) tool_timeout_ms: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) allowed_tools: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) disallowed_tools: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) worktree: Option<WorktreeSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) engine: Option<EngineOptions>,
}

/// The part of the [`Worktree`] in a summary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WorktreeSummary {
    pub(crate) path: String,
    pub(crate) branch: String,
}

impl From<Worktree> for WorktreeSummary {
    fn from(worktree: Worktree) -> Self {
        Self { path: worktree.path, branch: worktree.branch }
    }
}

/// The part of the [`QueueOptions`](super::QueueOptions) in a summary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct AdmissionSummary {
    pub(crate) group: Option<String>,
}

impl AdmissionSummary {
    fn is_empty(&self) -> bool {
        self.group.is_none()
    }
}

impl From<Record> for Summary {
    fn from(record: Record) -> Self {
        Self {
            version: record.version,
            job_id: record.job_id,
            status: record.status,
            pid: record.worker.pid,
            reason: record.reason,
            error: record.error,
            prompt: record.prompt,
            started_at: record.times.started_at,
            ended_at: record.times.ended_at,
            elapsed_ms: record.times.elapsed_ms,
            was_admitted: record.attempt.was_admitted,
            queued_ms: record.times.queued_ms,
            limited_ms: record.times.limited_ms,
            resumable_at: record.limit.resumable_at,
            model: record.model,
            attempt: record.attempt.number,
            dependency_cut_off: record.ending.dependency_cut_off,
            num_turns: record.progress.num_turns,
            cost_usd: record.cost.usd,
            cost_is_lower_bound: record.cost.is_lower_bound,
            rate_limited: record.limit.rate_limited,
            exit: record.ending.exit,
            denied_tools: record.progress.denied_tools,
            earlier: EarlierFailures {
                reason: record.attempt.earlier.reason,
                failures: record.attempt.earlier.failures,
            },
            spec: SpecSummary {
                no_recover: record.spec.retry.no_recover,
                admission: AdmissionSummary { group: record.spec.queue_options.group },
                after: record.spec.after,
                after_any: record.spec.after_any,
                on_event: record.spec.notify.on_event,
                wake: record.spec.notify.wake,
                openclaw: record.spec.notify.openclaw,
                labels: record.spec.labels,
                max_turns: record.spec.limits.max_turns,
                max_budget_usd: record.spec.limits.max_budget_usd,
                timeout_ms: record.spec.limits.timeout_ms,
                stall_timeout_ms: record.spec.limits.stall_timeout_ms,
                tool_timeout_ms: record.spec.limits.tool_timeout_ms,
                allowed_tools: record.spec.options.allowed_tools,
                disallowed_tools: record.spec.options.disallowed_tools,
                worktree: record.spec.worktree.map(WorktreeSummary::from),
                engine: record.spec.engine,
            },
        }
    }
}

impl Summary {
    /// Maximum length of the error in a list.
    pub(crate) const MAX_ERROR_CHARS: usize = 120;
    /// Maximum length of the prompt in a list.
    pub(crate) const MAX_PROMPT_CHARS: usize = 60;

    /// Truncates the texts that can be long.
    pub(crate) fn shortened(mut self) -> Self {
        self.error = self.error.map(|error| clip(&error, Self::MAX_ERROR_CHARS));
        self.prompt = clip(&self.prompt, Self::MAX_PROMPT_CHARS);
        self
    }

    /// Whether the job's notifications have recipients.
    pub(crate) fn has_recipients(&self) -> bool {
        let SpecSummary { on_event, wake, openclaw, .. } = &self.spec;
        !recipients(on_event, wake.as_ref(), openclaw.as_ref()).is_empty()
    }

    /// Returns the facts that decide how the job, which has ended, can be continued.
    pub(crate) fn end_state(&self) -> EndState {
        EndState {
            version: self.version,
            status: self.status,
            reason: self.reason,
            exit: self.exit,
            attempt: self.attempt,
            dependency_cut_off: self.dependency_cut_off,
            no_recover: self.spec.no_recover,
            failures_in_row: failures_in_row(
                self.reason,
                self.earlier.reason,
                self.earlier.failures,
            ),
        }
    }

    /// Returns the next command to run for the job, which has ended.
    pub(crate) fn hint(&self) -> Option<String> {
        hint(&HintFacts {
            job_id: &self.job_id,
            end_state: self.end_state(),
            resumable_at: self.resumable_at,
            blocked: None,
            keep_alive: false,
            limits: Limits {
                max_turns: self.spec.max_turns,
                max_budget_usd: self.spec.max_budget_usd,
                timeout_ms: self.spec.timeout_ms,
                stall_timeout_ms: self.spec.stall_timeout_ms,
                tool_timeout_ms: self.spec.tool_timeout_ms,
                ..Limits::default()
            },
            tools: ToolAccess {
                allowed: &self.spec.allowed_tools,
                disallowed: &self.spec.disallowed_tools,
                denied: &self.denied_tools,
            },
        })
    }
}
