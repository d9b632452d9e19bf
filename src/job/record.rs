//! What is known of a job: the contents of `meta.json`.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    JobId, LeftProcess, Leftovers, Question, Reason, Spec, Status, Timestamp, Verdict, WaitingFor,
};
use crate::text::is_zero;

/// The version of `meta.json` that this program writes. A record of a higher version is read as
/// far as possible and never overwritten; one without a version was written by the Node skill
/// that this program replaces.
pub const FORMAT_VERSION: u32 = 2;

/// A job's record. Small (the prompt is only previewed) and rewritten whole.
///
/// Unknown fields are ignored and missing ones take a default, so that records of other versions
/// can be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The format's version; 0 for a record of the Node skill.
    #[serde(default)]
    pub version: u32,
    /// The job's id.
    pub job_id: JobId,
    /// The worker's process id, while and after it lived.
    #[serde(default)]
    pub pid: Option<i32>,
    /// When the worker was started, in clock ticks since the system booted: with `pid` it names
    /// the process for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_start_time: Option<u64>,
    /// Claude's process id, likewise.
    #[serde(default)]
    pub claude_pid: Option<i32>,
    /// The boot during which the worker was started (Linux: `/proc/sys/kernel/random/boot_id`).
    #[serde(default)]
    pub boot_id: Option<String>,
    /// Name of the machine on which the worker was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Id of that machine (`/etc/machine-id`), where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// How the job stands.
    pub status: Status,
    /// Why it failed; `None` also where a newer version has a word that is not known here.
    #[serde(default, deserialize_with = "known")]
    pub reason: Option<Reason>,
    /// The same as a sentence.
    #[serde(default)]
    pub error: Option<String>,
    /// The beginning of the prompt, on one line.
    #[serde(default)]
    pub prompt: String,
    /// When it was asked for.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// Milliseconds that it was live, all attempts added up, by the monotonic clock.
    #[serde(default)]
    pub elapsed_ms: Option<u64>,
    /// It has been its turn, in some attempt: it waits for no time and no other job any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub had_turn: bool,
    /// Milliseconds that it waited for a slot, for other jobs or for its time, all attempts added
    /// up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub queued_ms: u64,
    /// Milliseconds that it waited between attempts, for a limit or for what may pass, likewise.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub limited_ms: u64,
    /// Claude's conversation, for `--resume`.
    #[serde(default)]
    pub session_id: Option<String>,
    /// Claude's file of that conversation, where the worker has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_file: Option<String>,
    /// When a limit ends that the job did not wait for: it can be resumed then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumable_at: Option<Timestamp>,
    /// The model that claude named, or else the one asked for.
    #[serde(default)]
    pub model: Option<String>,
    /// Claude has announced a conversation in some attempt: there is something to go on with.
    #[serde(default)]
    pub session_began: bool,
    /// Which run of claude this is or was, from 1.
    #[serde(default)]
    pub attempt: u32,
    /// The job that it waited for, and failed with, was cut off itself: that may go on, and so may
    /// this one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dependency_cut_off: bool,
    /// What the attempts before this one came to.
    #[serde(default, skip_serializing_if = "Earlier::is_nothing")]
    pub earlier: Earlier,
    /// This attempt was asked for: it begins with what lies in the inbox.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resumed: bool,
    /// It was kept alive, and all that it was asked had its answer when it was cut off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_rest: bool,
    /// How the last turn of a job that is kept alive has failed; `None` if it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Failure>,
    /// Turns that have ended, over all attempts.
    #[serde(default)]
    pub turn: u64,
    /// Why the job had to be taken up again, the last time that it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered_from: Option<Reason>,
    /// How the worker was detached from whoever started it; `None` until it stands.
    #[serde(default)]
    pub detached: Option<Detached>,
    /// Where this attempt's part of `output.log` begins, in bytes.
    #[serde(default)]
    pub log_start: u64,
    /// Some of what claude wrote in this attempt is missing in that part: it tells no end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log_incomplete: bool,
    /// Turns of the conversation so far.
    #[serde(default)]
    pub num_turns: u64,
    /// Tool calls that were denied, since the job was asked for or resumed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub denied: u64,
    /// Cost in US dollars as far as claude reported it.
    #[serde(default)]
    pub cost_usd: Option<f64>,
    /// `cost_usd` is a lower bound: requests of an attempt that ended without a result are in no
    /// result.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cost_is_lower_bound: bool,
    /// The job failed because the connection to the API was lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost_connection: bool,
    /// The API's limit is being waited for, or ended the job.
    #[serde(default)]
    pub rate_limited: bool,
    /// When claude tries again.
    #[serde(default)]
    pub retry_at: Option<Timestamp>,
    /// When claude last wrote anything.
    #[serde(default)]
    pub last_event_at: Option<Timestamp>,
    /// What the agent is doing now, or did last.
    #[serde(default)]
    pub activity: Option<Activity>,
    /// Why claude is not working now, as far as its worker knows. What a queued job waits for is
    /// found by the reader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<WaitingFor>,
    /// What waits for an answer.
    #[serde(default)]
    pub blocked: Option<Blocked>,
    /// The question that waits without a claude, or whose answer no claude has begun to work on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<Released>,
    /// What a reader should know although it is no failure.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Processes of the job that could not be ended, when the last attempt ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<LeftProcess>,
    /// How the claude process ended.
    #[serde(default)]
    pub exit: Option<Exit>,
    /// The sequence number of the last line of `events.ndjson`.
    #[serde(default)]
    pub last_seq: u64,
    /// What was asked.
    #[serde(default)]
    pub spec: Spec,
}

impl Record {
    /// The record of a job that was just asked for.
    pub fn new(job_id: JobId, spec: Spec, prompt: String, now: Timestamp) -> Self {
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
            had_turn: false,
            queued_ms: 0,
            limited_ms: 0,
            resumable_at: None,
            session_id: spec.resume.clone(),
            session_file: None,
            session_began: false,
            model: spec.model.clone(),
            attempt: 1,
            dependency_cut_off: false,
            earlier: Earlier::default(),
            resumed: false,
            turn: 0,
            at_rest: false,
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
            left: Vec::new(),
            exit: None,
            last_seq: 0,
            spec,
        }
    }

    /// Writes the end into the record.
    pub fn end(&mut self, verdict: &Verdict, at: Timestamp) {
        if self.is_ours_to_write() {
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

    /// Makes this the record of the job's next run of claude.
    pub fn begin_attempt(&mut self) {
        self.earlier = Earlier {
            turns: self.num_turns,
            cost_usd: self.cost_usd,
            elapsed_ms: self.elapsed_ms.unwrap_or_default(),
            untimed_ms: self.earlier.untimed_ms,
            denied: self.denied,
        };
        self.resumed = false;
        self.attempt += 1;
        self.version = FORMAT_VERSION;
        self.status = Status::Starting;
        self.reason = None;
        self.error = None;
        self.ended_at = None;
        self.claude_pid = None;
        self.dependency_cut_off = false;
        self.log_incomplete = false;
        self.lost_connection = false;
        self.rate_limited = false;
        self.retry_at = None;
        self.resumable_at = None;
        self.activity = None;
        self.waiting_for = None;
        self.blocked = None;
        self.left.clear();
        self.exit = None;
    }

    /// The question that waits without a claude.
    pub fn released_question(&self) -> Option<&Blocked> {
        let released = self.released.as_ref()?;
        released.response.is_none().then_some(&released.blocked)
    }

    /// When the job takes its place in the queue, where it was to do so later (`--start-delay`) and
    /// did not have its turn yet.
    pub fn starts_at(&self) -> Option<Timestamp> {
        let delay = Duration::from_millis(self.spec.start_delay_ms);
        let delayed = !self.had_turn && !delay.is_zero();
        self.started_at.filter(|_| delayed).map(|at| at.after(delay))
    }

    /// Whether `recover` accepts the job: see [`Ending::is_recoverable`].
    pub fn is_recoverable(&self) -> bool {
        self.ending().is_recoverable()
    }

    /// Whether `recover --all` accepts the job: see [`Ending::is_cut_off`].
    pub fn is_cut_off(&self) -> bool {
        self.ending().is_cut_off()
    }

    fn ending(&self) -> Ending {
        Ending {
            version: self.version,
            status: self.status,
            reason: self.reason,
            exit: self.exit,
            attempt: self.attempt,
            dependency_cut_off: self.dependency_cut_off,
            no_recover: self.spec.no_recover,
        }
    }

    /// Claude's file of the present conversation, where it was seen.
    pub fn session_file(&self) -> Option<&Path> {
        let session = self.session_id.as_deref()?;
        let file = Path::new(self.session_file.as_deref()?);
        if file.file_stem()?.to_str()? == session { Some(file) } else { None }
    }

    /// Adds a warning once.
    pub fn warn(&mut self, warning: impl Into<String>) {
        let warning = warning.into();
        // Bounded, so that something that goes wrong all the time cannot swell the record.
        if self.warnings.len() < 20 && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Notes what is left of the job's processes.
    pub fn note_left(&mut self, left: Leftovers) {
        for warning in left.warnings() {
            self.warn(warning);
        }
        self.left = left.processes;
    }

    /// Whether this program may rewrite the record. One of an earlier version becomes one of this.
    pub fn is_ours_to_write(&self) -> bool {
        is_writable(self.version)
    }
}

fn is_writable(version: u32) -> bool {
    (1..=FORMAT_VERSION).contains(&version)
}

/// The part of a record that decides how a job that has ended can be continued.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// The version of the record's format.
    pub version: u32,
    /// The job's status.
    pub status: Status,
    /// Why the job failed.
    pub reason: Option<Reason>,
    /// How the claude process ended.
    pub exit: Option<Exit>,
    /// Number of the run of claude, from 1.
    pub attempt: u32,
    /// The job that it waited for, and failed with, can be recovered itself.
    pub dependency_cut_off: bool,
    /// The job was started with `--no-recover`.
    pub no_recover: bool,
}

impl Ending {
    /// Whether the job was ended from outside, and nobody asked for its end: its host, its worker
    /// or its claude went away, or those of a job that it waited for.
    pub fn is_cut_off(&self) -> bool {
        let by_signal = self.exit.is_some_and(|exit| exit.signal().is_some());
        let from_outside = match self.reason {
            Some(Reason::HostRestarted | Reason::WorkerDied | Reason::Terminated) => true,
            // Claude did not end by itself.
            Some(Reason::NoResult | Reason::WakeupMissed) => by_signal,
            Some(Reason::DependencyFailed) => self.dependency_cut_off,
            // Claude was there before: an update replaces it, or the machine lacked something.
            Some(Reason::LaunchFailed) => self.attempt > 1,
            _ => false,
        };
        let failed = self.status == Status::Failed;
        failed && from_outside && !self.no_recover && self.is_resumable()
    }

    /// Whether `recover` accepts the job: it was cut off, or its login was refused, or a wake-up
    /// did not come. The last two are left to somebody who names the job: that a machine starts
    /// again does not renew a login.
    pub fn is_recoverable(&self) -> bool {
        let by_name = matches!(self.reason, Some(Reason::Auth | Reason::WakeupMissed));
        let may = self.status == Status::Failed && by_name;
        self.is_cut_off() || (may && !self.no_recover && self.is_resumable())
    }

    /// Whether `resume` accepts the job: its record is of a version that can be rewritten.
    pub fn is_resumable(&self) -> bool {
        is_writable(self.version)
    }
}

/// Decodes a reason; `None` of a word that is not known here, which a newer version may have
/// written.
pub fn known<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Reason>, D::Error> {
    let word = Option::<serde_json::Value>::deserialize(from)?;
    Ok(word.and_then(|word| serde_json::from_value(word).ok()))
}

/// What the agent is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    /// The tool at work; null while the model thinks or writes.
    #[serde(default)]
    pub tool: Option<String>,
    /// The tool's main argument, or the beginning of the text that the agent writes.
    #[serde(default)]
    pub text: String,
}

/// A request of the agent that waits for an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Blocked {
    /// `question` or `permission`.
    pub kind: String,
    /// Claude's id of the request.
    pub request_id: String,
    /// The tool that wants to run.
    #[serde(default)]
    pub tool_name: Option<String>,
    /// The tool's input as JSON text, cut to a readable size; empty for a question.
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

/// A question whose claude was ended, so that it holds no slot while it waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Released {
    /// The request.
    pub blocked: Blocked,
    /// Where the part of `output.log` begins in which claude made it.
    pub log_start: u64,
    /// The answer in claude's own words, until a claude works on it.
    #[serde(default)]
    pub response: Option<serde_json::Value>,
}

/// How a process ended: exactly one of the two is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// The exit code; null if a signal ended it.
    pub code: Option<i32>,
    /// The number of the signal that ended it; null if it exited.
    pub signal: Option<i32>,
}

impl Exit {
    /// The signal that ended the process, also where a shell or the CLI itself reports it as an
    /// exit code of 128 and its number.
    pub fn signal(self) -> Option<i32> {
        let by_code =
            || self.code.filter(|code| matches!(code, 129 | 130 | 131 | 134 | 137 | 139 | 143));
        self.signal.or_else(|| by_code().map(|code| code - 128))
    }
}

/// How a turn has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// The same as a sentence.
    pub error: String,
}

/// What the attempts before the present one came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Earlier {
    /// Their turns, as claude counts them.
    pub turns: u64,
    /// US dollars as far as claude reported them: each run counts from 0.
    pub cost_usd: Option<f64>,
    /// Milliseconds that they took.
    pub elapsed_ms: u64,
    /// Those of them that `--timeout` does not count, because the job was resumed after them.
    #[serde(skip_serializing_if = "is_zero")]
    pub untimed_ms: u64,
    /// Tool calls that were denied in them, since the job was asked for or resumed.
    #[serde(skip_serializing_if = "is_zero")]
    pub denied: u64,
}

impl Earlier {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// How a worker was detached from whoever started it, as it was seen and not as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Detached {
    /// By what.
    pub by: Detachment,
    /// The worker's systemd scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The control group of that scope, as `/proc/PID/cgroup` names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// What would take the job along nevertheless.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub risks: Vec<String>,
}

/// How a job is detached from the process that started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Detachment {
    /// A session of its own: setsid(2).
    Session,
    /// A session and a systemd scope of its own.
    Scope,
}
