//! The record of a job: the contents of `meta.json`.

mod blocked;
mod end_state;
mod next_attempt;

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{JobId, LeftProcess, Leftovers, Reason, Spec, Status, Timestamp, Verdict, WaitingFor};
use crate::text::is_zero;

pub(crate) use blocked::{Blocked, ReleasedQuestion};
pub(crate) use end_state::{EndState, end_state};

/// The version of `meta.json` that this program writes. A record of a higher version is read as
/// far as possible and never overwritten; one without a version was written by the Node skill
/// that this program replaces.
pub(crate) const FORMAT_VERSION: u32 = 2;

/// A job's record. It is small (with only the beginning of the prompt) and replaced as a whole.
///
/// Unknown fields are ignored and missing ones have a default, so that records of other versions
/// can be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// Version of the format; 0 for a record of the Node skill.
    #[serde(default)]
    pub version: u32,
    pub job_id: JobId,
    /// The worker's process id, also after its end.
    #[serde(default)]
    pub pid: Option<i32>,
    /// The worker's start time in clock ticks since the boot: together with `pid` it identifies the
    /// process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_start_time: Option<u64>,
    /// Claude's process id, also after its end.
    #[serde(default)]
    pub claude_pid: Option<i32>,
    /// Id of the boot in which the worker was started (Linux: `/proc/sys/kernel/random/boot_id`).
    #[serde(default)]
    pub boot_id: Option<String>,
    /// Name of the machine on which the worker was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Id of that machine (`/etc/machine-id`), if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
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
    /// When the job was started.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// When the job ended.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// Milliseconds that the job was live, over all attempts, by the monotonic clock.
    #[serde(default)]
    pub elapsed_ms: Option<u64>,
    /// The job was admitted in some attempt: it no longer waits for its start time or other jobs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[serde(rename = "hadTurn")]
    pub was_admitted: bool,
    /// Milliseconds that the job waited for a slot, for other jobs or for its start time, over all
    /// attempts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub queued_ms: u64,
    /// Milliseconds that the job waited between attempts, for a limit or after a transient failure,
    /// over all attempts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub limited_ms: u64,
    /// Claude's session, for `--resume`.
    #[serde(default)]
    pub session_id: Option<String>,
    /// Claude's file of that session, if the worker has found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_file: Option<String>,
    /// When a limit ends for which the job did not wait: it can be resumed then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumable_at: Option<Timestamp>,
    /// The model that claude reported, or else the requested one.
    #[serde(default)]
    pub model: Option<String>,
    /// Claude has announced a session in some attempt: there is one to continue.
    #[serde(default)]
    pub session_began: bool,
    /// Number of the attempt, from 1.
    #[serde(default)]
    pub attempt: u32,
    /// The failed dependency of this job was cut off itself: both can be continued.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dependency_cut_off: bool,
    /// Totals of the earlier attempts.
    #[serde(default, skip_serializing_if = "EarlierTotals::is_default")]
    pub earlier: EarlierTotals,
    /// This attempt was requested by `resume`: it begins with the messages in the inbox.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resumed: bool,
    /// The job was kept alive and had answered everything when it was cut off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[serde(rename = "atRest")]
    pub was_idle: bool,
    /// Failure of a kept-alive job's last turn; `None` if it did not fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<TurnFailure>,
    /// Number of turns that have ended, over all attempts.
    #[serde(default)]
    #[serde(rename = "turn")]
    pub ended_turns: u64,
    /// Why the job was cut off, when it was recovered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered_from: Option<Reason>,
    /// How the worker is detached from the process that started it; `None` until it is known.
    #[serde(default)]
    pub detached: Option<Detached>,
    /// Offset of this attempt's part of `output.log`, in bytes.
    #[serde(default)]
    pub log_start: u64,
    /// That part is incomplete: it does not prove how the attempt ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log_incomplete: bool,
    /// Number of turns of the conversation so far.
    #[serde(default)]
    pub num_turns: u64,
    /// Number of tool calls that were denied since the job was started or resumed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub denied: u64,
    /// Cost in US dollars, as far as claude reported it.
    #[serde(default)]
    pub cost_usd: Option<f64>,
    /// `cost_usd` is a lower bound: an attempt ended without a result, which reports the cost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cost_is_lower_bound: bool,
    /// The job failed because the connection to the API was lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost_connection: bool,
    /// The job waits for a limit of the API, or failed because of it.
    #[serde(default)]
    pub rate_limited: bool,
    /// When claude tries again.
    #[serde(default)]
    pub retry_at: Option<Timestamp>,
    /// When claude last wrote anything.
    #[serde(default)]
    pub last_event_at: Option<Timestamp>,
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
    /// The question whose claude was ended, until a new claude works on the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<ReleasedQuestion>,
    /// Problems that did not make the job fail.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Processes of the job that could not be ended after the last attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[serde(rename = "left")]
    pub left_processes: Vec<LeftProcess>,
    /// How the claude process ended.
    #[serde(default)]
    pub exit: Option<Exit>,
    /// The sequence number of the last line of `events.ndjson`.
    #[serde(default)]
    pub last_seq: u64,
    /// The request.
    #[serde(default)]
    pub spec: Spec,
}

impl Record {
    /// Returns the record of a job that is being started.
    pub(crate) fn new(job_id: JobId, spec: Spec, prompt: String, now: Timestamp) -> Self {
        Self {
            version: FORMAT_VERSION,
            job_id,
            pid: None,
            pid_start_time: None,
            claude_pid: None,
            boot_id: None,
            host: None,
            machine_id: None,
            status: Status::Starting,
            reason: None,
            error: None,
            prompt,
            started_at: Some(now),
            ended_at: None,
            elapsed_ms: None,
            was_admitted: false,
            queued_ms: 0,
            limited_ms: 0,
            resumable_at: None,
            session_id: spec.resume.clone(),
            session_file: None,
            session_began: false,
            model: spec.model.clone(),
            attempt: 1,
            dependency_cut_off: false,
            earlier: EarlierTotals::default(),
            resumed: false,
            ended_turns: 0,
            was_idle: false,
            last_failure: None,
            recovered_from: None,
            detached: None,
            log_start: 0,
            log_incomplete: false,
            num_turns: 0,
            denied: 0,
            cost_usd: None,
            cost_is_lower_bound: false,
            lost_connection: false,
            rate_limited: false,
            retry_at: None,
            last_event_at: None,
            activity: None,
            waiting_for: None,
            blocked: None,
            released: None,
            warnings: Vec::new(),
            left_processes: Vec::new(),
            exit: None,
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
        self.ended_at = Some(at);
        if self.status != Status::Failed {
            self.released = None;
        }
        self.retry_at = None;
        self.blocked = None;
        self.activity = None;
        self.waiting_for = None;
    }

    /// Returns the verdict on a job that is recorded as live and has no worker, unless its log gives
    /// a better one.
    pub(crate) fn lost_verdict(&self, boot_id: Option<&str>) -> Verdict {
        let has_restarted =
            self.boot_id.is_some() && boot_id.is_some() && self.boot_id.as_deref() != boot_id;
        if has_restarted {
            let error = "the machine restarted while the job was live";
            return Verdict::failed(Reason::HostRestarted, error);
        }
        let worker = self.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        let error = format!("the job's worker{worker} died without a verdict");
        Verdict::failed(Reason::WorkerDied, error)
    }

    /// Returns how long the job was live, over all attempts; `None` if that is unknown.
    pub(crate) fn elapsed(&self) -> Option<Duration> {
        match self.elapsed_ms {
            Some(ms) => Some(Duration::from_millis(ms)),
            None => Some(self.ended_at?.since(self.started_at?)),
        }
    }

    /// Returns the question that waits for an answer while no claude runs.
    pub(crate) fn released_question(&self) -> Option<&Blocked> {
        match self.released.as_ref()? {
            ReleasedQuestion { response: None, blocked, .. } => Some(blocked),
            _ => None,
        }
    }

    /// Returns when the job joins the queue, if that is delayed (`--start-delay`) and the job was
    /// not admitted yet.
    pub(crate) fn starts_at(&self) -> Option<Timestamp> {
        let delay = Duration::from_millis(self.spec.start_delay_ms);
        if self.was_admitted || delay.is_zero() {
            return None;
        }
        Some(self.started_at?.after(delay))
    }

    /// Returns whether `recover` accepts the job: see [`EndState::is_recoverable`].
    pub(crate) fn is_recoverable(&self) -> bool {
        self.end_state().is_recoverable()
    }

    /// Returns whether `recover --all` accepts the job: see [`EndState::is_cut_off`].
    pub(crate) fn is_cut_off(&self) -> bool {
        self.end_state().is_cut_off()
    }

    /// Returns the facts that decide how the job can be continued when it has ended.
    pub(super) fn end_state(&self) -> EndState {
        end_state!(self)
    }

    /// Returns claude's file of the present session, if it was found.
    pub(crate) fn session_file(&self) -> Option<&Path> {
        let session = self.session_id.as_deref()?;
        let file = Path::new(self.session_file.as_deref()?);
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
        self.left_processes = left.processes;
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
