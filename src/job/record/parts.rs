//! Parts of a record. In `meta.json` their fields stand side by side.

use serde::{Deserialize, Serialize};

use super::{Detached, EarlierTotals, Exit, ReleasedQuestion, TurnFailure};
use crate::job::{EngineRef, LeftProcess, Reason, Timestamp};
use crate::text::is_zero;

/// The worker, its claude and their machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WorkerInfo {
    /// The worker's process id, also after its end.
    pub pid: Option<i32>,
    /// The worker's start time in clock ticks since the boot: together with `pid` it identifies the
    /// process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_start_time: Option<u64>,
    /// Claude's process id, also after its end.
    pub claude_pid: Option<i32>,
    /// Id of the boot in which the worker was started (Linux: `/proc/sys/kernel/random/boot_id`).
    pub boot_id: Option<String>,
    /// Name of the machine on which the worker was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Id of that machine (`/etc/machine-id`), if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// How the worker is detached from the process that started it; `None` until it is known.
    pub detached: Option<Detached>,
    /// What the engine that started the worker calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineRef>,
}

/// Points in time and durations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Times {
    /// When the job was started.
    pub started_at: Option<Timestamp>,
    /// When the job ended.
    pub ended_at: Option<Timestamp>,
    /// Milliseconds that the job was live, over all attempts, by the monotonic clock.
    pub elapsed_ms: Option<u64>,
    /// Since when the present attempt counts in `elapsed_ms`; `None` while it waits for its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted_since: Option<Timestamp>,
    /// Milliseconds that the job waited for a slot, for other jobs or for its start time, over all
    /// attempts.
    #[serde(skip_serializing_if = "is_zero")]
    pub queued_ms: u64,
    /// Milliseconds that the job waited between attempts, for a limit or after a transient failure,
    /// over all attempts.
    #[serde(skip_serializing_if = "is_zero")]
    pub limited_ms: u64,
    /// When claude last wrote anything.
    pub last_event_at: Option<Timestamp>,
    /// Since when the job's processes are frozen (`claudejob pause --stop`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen_at: Option<Timestamp>,
}

/// The present attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct AttemptInfo {
    /// Number of the attempt, from 1.
    #[serde(rename = "attempt")]
    pub number: u32,
    /// This attempt was requested by `resume`: it begins with the messages in the inbox.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub resumed: bool,
    /// The job was admitted in some attempt: it no longer waits for its start time or other jobs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[serde(rename = "hadTurn")]
    pub was_admitted: bool,
    /// Why the job was cut off, when it was recovered last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered_from: Option<Reason>,
    /// Offset of this attempt's part of `output.log`, in bytes.
    pub log_start: u64,
    /// That part is incomplete: it does not prove how the attempt ended.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub log_incomplete: bool,
    /// Totals of the earlier attempts.
    #[serde(skip_serializing_if = "EarlierTotals::is_default")]
    pub earlier: EarlierTotals,
}

/// Claude's session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SessionInfo {
    /// Claude's session, for `--resume`.
    #[serde(rename = "sessionId")]
    pub id: Option<String>,
    /// Claude's file of that session, if the worker has found it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "sessionFile")]
    pub file: Option<String>,
    /// Claude has announced a session in some attempt: there is one to continue.
    #[serde(rename = "sessionBegan")]
    pub began: bool,
}

/// Limits of the API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LimitState {
    /// The job waits for a limit of the API, or failed because of it.
    pub rate_limited: bool,
    /// When claude tries again.
    pub retry_at: Option<Timestamp>,
    /// When a limit ends for which the job did not wait: it can be resumed then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumable_at: Option<Timestamp>,
}

/// How the last attempt ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Ending {
    /// How the claude process ended.
    pub exit: Option<Exit>,
    /// The job failed because the connection to the API was lost.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lost_connection: bool,
    /// The failed dependency of this job was cut off itself: both can be continued.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dependency_cut_off: bool,
    /// `kill` was called after the job had been cut off: for that, `no_recover` was set.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub killed_after_end: bool,
    /// Processes of the job that could not be ended after the last attempt.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[serde(rename = "left")]
    pub left_processes: Vec<LeftProcess>,
}

/// What the conversation has come to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ConversationProgress {
    /// Number of turns that have ended, over all attempts.
    #[serde(rename = "turn")]
    pub ended_turns: u64,
    /// Number of turns of the conversation so far.
    pub num_turns: u64,
    /// Number of tool calls that were denied since the job was started or resumed.
    #[serde(skip_serializing_if = "is_zero")]
    pub denied: u64,
    /// Names of the tools whose denial made the job fail (`--fail-on-denial`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied_tools: Vec<String>,
    /// Failure of a kept-alive job's last turn; `None` if it did not fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<TurnFailure>,
    /// The job was kept alive and had answered everything when it was cut off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[serde(rename = "atRest")]
    pub was_idle: bool,
    /// The question whose claude was ended, until a new claude works on the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released: Option<ReleasedQuestion>,
}

/// What the job has cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Cost {
    /// Cost in US dollars, as far as claude reported it.
    #[serde(rename = "costUsd")]
    pub usd: Option<f64>,
    /// `cost_usd` is a lower bound: an attempt ended without a result, which reports the cost.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[serde(rename = "costIsLowerBound")]
    pub is_lower_bound: bool,
}
