//! The record of a job: the contents of `meta.json`.

mod blocked;
mod end_state;
mod next_attempt;
mod parts;

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{JobId, Leftovers, Reason, Spec, Status, Timestamp, Verdict, WaitingFor};
use crate::json::Members;
use crate::text::is_zero;

pub(crate) use blocked::{Blocked, ReleasedQuestion};
pub(crate) use end_state::EndState;
use parts::{
    AttemptInfo, ConversationProgress, Cost, Ending, LimitState, SessionInfo, Times, WorkerInfo,
};

/// The version of `meta.json` that this program writes. A record of a higher version is read as
/// far as possible and never overwritten; one without a version was written by the Node skill
/// that this program replaces.
pub(crate) const FORMAT_VERSION: u32 = 2;

/// A job's record. It is small (with only the beginning of the prompt) and replaced as a whole.
///
/// Unknown fields are ignored and missing ones have a default, so that records of other versions
/// can be read. In the file the fields of the parts stand side by side with the others: records
/// were flat before they had parts here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", remote = "Self")]
pub(crate) struct Record {
    /// Version of the format; 0 for a record of the Node skill.
    #[serde(default)]
    pub version: u32,
    pub job_id: JobId,
    /// The worker, its claude and their machine.
    #[serde(flatten, skip_deserializing)]
    pub worker: WorkerInfo,
    pub status: Status,
    /// Why the job failed; `None` also for a reason that only a newer version knows.
    #[serde(default, deserialize_with = "deserialize_known_reason")]
    pub reason: Option<Reason>,
    /// The same as a sentence.
    #[serde(default)]
    pub error: Option<String>,
    /// The beginning of the prompt, on one line.
    #[serde(default)]
    pub prompt: String,
    /// Points in time and durations.
    #[serde(flatten, skip_deserializing)]
    pub times: Times,
    /// The present attempt.
    #[serde(flatten, skip_deserializing)]
    pub attempt: AttemptInfo,
    /// Claude's session.
    #[serde(flatten, skip_deserializing)]
    pub session: SessionInfo,
    /// Limits of the API.
    #[serde(flatten, skip_deserializing)]
    pub limit: LimitState,
    /// The model that claude reported, or else the requested one.
    #[serde(default)]
    pub model: Option<String>,
    /// How the last attempt ended.
    #[serde(flatten, skip_deserializing)]
    pub ending: Ending,
    /// What the conversation has come to.
    #[serde(flatten, skip_deserializing)]
    pub progress: ConversationProgress,
    /// What the job has cost.
    #[serde(flatten, skip_deserializing)]
    pub cost: Cost,
    /// What the agent is doing now or did last.
    #[serde(default)]
    pub activity: Option<Activity>,
    /// Why claude is not working now, as far as its worker knows. Readers find out for themselves
    /// what a queued job waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<WaitingFor>,
    /// The request that waits for an answer.
    #[serde(default)]
    pub blocked: Option<Blocked>,
    /// Problems that did not make the job fail.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The sequence number of the last line of `events.ndjson`.
    #[serde(default)]
    pub last_seq: u64,
    /// The request.
    #[serde(skip_deserializing)]
    pub spec: Spec,
}

impl Serialize for Record {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Record::serialize(self, serializer)
    }
}

impl Record {
    /// Decodes a record, part by part.
    pub(crate) fn from_json(text: &str) -> serde_json::Result<Self> {
        let members = &Members::parse(text)?;
        Ok(Self {
            worker: WorkerInfo::deserialize(members)?,
            times: Times::deserialize(members)?,
            attempt: AttemptInfo::deserialize(members)?,
            session: SessionInfo::deserialize(members)?,
            limit: LimitState::deserialize(members)?,
            ending: Ending::deserialize(members)?,
            progress: ConversationProgress::deserialize(members)?,
            cost: Cost::deserialize(members)?,
            spec: match members.get("spec") {
                Some(text) => Spec::from_json(text)?,
                None => Spec::default(),
            },
            ..Self::deserialize(members)?
        })
    }

    /// Returns the record of a job that is being started.
    pub(crate) fn new(job_id: JobId, spec: Spec, prompt: String, now: Timestamp) -> Self {
        Self {
            version: FORMAT_VERSION,
            job_id,
            worker: WorkerInfo::default(),
            status: Status::Starting,
            reason: None,
            error: None,
            prompt,
            times: Times { started_at: Some(now), ..Times::default() },
            attempt: AttemptInfo { number: 1, ..AttemptInfo::default() },
            session: SessionInfo { id: spec.session.resume.clone(), ..SessionInfo::default() },
            limit: LimitState::default(),
            model: spec.options.model.clone(),
            ending: Ending::default(),
            progress: ConversationProgress::default(),
            cost: Cost::default(),
            activity: None,
            waiting_for: None,
            blocked: None,
            warnings: Vec::new(),
            last_seq: 0,
            spec,
        }
    }

    /// Records the verdict.
    pub(crate) fn end(&mut self, verdict: &Verdict, at: Timestamp) {
        if self.is_writable() {
            self.version = FORMAT_VERSION;
        }
        self.status = verdict.status();
        self.reason = verdict.reason();
        self.error = verdict.error().map(str::to_owned);
        self.times.ended_at = Some(at);
        self.times.counted_since = None;
        if self.status != Status::Failed {
            self.progress.released = None;
        }
        self.limit.retry_at = None;
        self.blocked = None;
        self.activity = None;
        self.waiting_for = None;
        self.times.frozen_at = None;
    }

    /// Returns the verdict on a job that is recorded as live and has no worker, unless its log gives
    /// a better one.
    pub(crate) fn lost_verdict(&self, boot_id: Option<&str>) -> Verdict {
        let has_restarted = self.worker.boot_id.is_some()
            && boot_id.is_some()
            && self.worker.boot_id.as_deref() != boot_id;
        if has_restarted {
            let error = "the machine restarted while the job was live";
            return Verdict::failed(Reason::HostRestarted, error);
        }
        let worker = self.worker.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        let error = format!("the job's worker{worker} died without a verdict");
        Verdict::failed(Reason::WorkerDied, error)
    }

    /// Returns how long the job was live, over all attempts; `None` if that is unknown.
    pub(crate) fn elapsed(&self) -> Option<Duration> {
        match self.times.elapsed_ms {
            Some(ms) => Some(Duration::from_millis(ms)),
            None => Some(self.times.ended_at?.since(self.times.started_at?)),
        }
    }

    /// Returns the ids of the requests that wait for an answer.
    pub(crate) fn open_requests(&self) -> Vec<&str> {
        let (Status::Blocked, Some(blocked)) = (self.status, &self.blocked) else {
            return Vec::new();
        };
        let mut open = vec![blocked.request_id.as_str()];
        open.extend(blocked.others.iter().map(String::as_str));
        open
    }

    /// Returns the question that waits for an answer while no claude runs.
    pub(crate) fn released_question(&self) -> Option<&Blocked> {
        match self.progress.released.as_ref()? {
            ReleasedQuestion { response: None, blocked, .. } => Some(blocked),
            _ => None,
        }
    }

    /// Returns when the job joins the queue, if that is delayed (`--start-delay`) and the job was
    /// not admitted yet.
    pub(crate) fn starts_at(&self) -> Option<Timestamp> {
        let delay = Duration::from_millis(self.spec.start_delay_ms);
        if self.attempt.was_admitted || delay.is_zero() {
            return None;
        }
        Some(self.times.started_at?.after(delay))
    }

    /// Returns whether `recover` accepts the job: see [`EndState::is_recoverable`].
    pub(crate) fn is_recoverable(&self) -> bool {
        self.end_state().is_recoverable()
    }

    /// Returns whether `recover --all` accepts the job: see [`EndState::is_cut_off`].
    pub(crate) fn is_cut_off(&self) -> bool {
        self.end_state().is_cut_off()
    }

    /// Returns the request as the caller made it, without what `kill` changed after the job's end.
    pub(crate) fn into_request(mut self) -> Spec {
        if self.ending.killed_after_end {
            self.spec.retry.no_recover = false;
        }
        self.spec
    }

    /// Returns the facts that decide how the job can be continued when it has ended.
    pub(super) fn end_state(&self) -> EndState {
        EndState {
            version: self.version,
            status: self.status,
            reason: self.reason,
            exit: self.ending.exit,
            attempt: self.attempt.number,
            dependency_cut_off: self.ending.dependency_cut_off,
            no_recover: self.spec.retry.no_recover,
            failures_in_row: self.failures_in_row(),
        }
    }

    /// Returns how many attempts in a row, this one included, have failed for the same reason.
    pub(super) fn failures_in_row(&self) -> u64 {
        let earlier = &self.attempt.earlier;
        failures_in_row(self.reason, earlier.reason, earlier.failures)
    }

    /// Returns claude's file of the present session, if it was found.
    pub(crate) fn session_file(&self) -> Option<&Path> {
        let session = self.session.id.as_deref()?;
        let file = Path::new(self.session.file.as_deref()?);
        if file.file_stem()?.to_str()? == session { Some(file) } else { None }
    }

    /// Adds a warning once.
    pub(crate) fn warn(&mut self, warning: impl Into<String>) {
        let warning = warning.into();
        // Bounded, so that a recurring problem does not make the record grow.
        if self.warnings.len() < 20 && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Records the processes of the job that could not be ended.
    pub(crate) fn record_leftovers(&mut self, left: Leftovers) {
        for warning in left.warnings() {
            self.warn(warning);
        }
        self.ending.left_processes = left.processes;
    }

    /// Returns whether this program may replace the record. One of an earlier version is converted
    /// to this version.
    pub(crate) fn is_writable(&self) -> bool {
        is_writable_version(self.version)
    }
}

fn is_writable_version(version: u32) -> bool {
    (1..=FORMAT_VERSION).contains(&version)
}

/// Returns how many attempts in a row have failed for this reason, if those before failed
/// `earlier_failures` times for another reason or for the same one.
pub(crate) fn failures_in_row(
    reason: Option<Reason>,
    earlier_reason: Option<Reason>,
    earlier_failures: u64,
) -> u64 {
    match reason {
        None => 0,
        same if same == earlier_reason => earlier_failures.saturating_add(1),
        Some(_) => 1,
    }
}

/// Deserializes a reason; `None` for an unknown one, which a newer version may have written.
pub(crate) fn deserialize_known_reason<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Option<Reason>, D::Error> {
    let word = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(word).ok())
}

/// What the agent is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Activity {
    /// The running tool; null while the model thinks or writes.
    #[serde(default)]
    pub tool: Option<String>,
    /// The tool's main argument, or the beginning of the text that the agent writes.
    #[serde(default)]
    pub text: String,
}

/// How a process ended: exactly one of the two fields is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct Exit {
    /// The exit code; null if a signal ended it.
    pub code: Option<i32>,
    /// The number of the signal that ended it; null if it exited.
    pub signal: Option<i32>,
}

impl Exit {
    /// Returns the signal that ended the process, also if a shell or the CLI reports it as an exit
    /// code of 128 and its number.
    pub(crate) fn signal(self) -> Option<i32> {
        match (self.signal, self.code) {
            (None, Some(code @ (129 | 130 | 131 | 134 | 137 | 139 | 143))) => Some(code - 128),
            (signal, _) => signal,
        }
    }
}

/// Failure of a turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TurnFailure {
    pub reason: Reason,
    /// The same as a sentence.
    pub error: String,
}

/// Totals of the attempts before the present one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EarlierTotals {
    /// Number of turns, as claude counts them.
    pub turns: u64,
    /// Cost in US dollars as far as claude reported it; each attempt counts from 0.
    pub cost_usd: Option<f64>,
    /// Milliseconds that the attempts took.
    pub elapsed_ms: u64,
    /// Milliseconds of `elapsed_ms` that `--timeout` does not count: the job was resumed after
    /// them.
    #[serde(skip_serializing_if = "is_zero")]
    pub untimed_ms: u64,
    /// Number of tool calls that were denied since the job was started or resumed.
    #[serde(skip_serializing_if = "is_zero")]
    pub denied: u64,
    /// Why the job failed last.
    #[serde(
        deserialize_with = "deserialize_known_reason",
        skip_serializing_if = "Option::is_none"
    )]
    pub reason: Option<Reason>,
    /// How many times in a row it failed for that reason.
    #[serde(skip_serializing_if = "is_zero")]
    pub failures: u64,
}

impl EarlierTotals {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How a worker is detached from the process that started it, as observed and not as requested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Detached {
    pub by: Detachment,
    /// The worker's systemd scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The control group of that scope, as `/proc/PID/cgroup` names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// What would end the job nevertheless.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub risks: Vec<String>,
}

/// How a job is detached from the process that started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum Detachment {
    /// A session of its own: setsid(2).
    Session,
    /// A session and a systemd scope of its own.
    Scope,
}
