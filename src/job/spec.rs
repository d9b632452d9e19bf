//! The request for a job. It is written at the job's start; only `resume` and `recover` change it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::NotifyEvent;
use super::{EngineOptions, JobId, OpenClawRecipients, QueueOptions, WakeTarget, Worktree};
use crate::json::Members;

/// The request for a job, except for the prompt, which is in `prompt.txt`, and the environment,
/// which is not stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, remote = "Self")]
pub(crate) struct Spec {
    /// Absolute path of the directory in which claude works.
    pub cwd: String,
    /// Absolute path of the `claude` program.
    pub claude: String,
    /// A recorded stream that is replayed instead of running `claude`.
    pub replay: Option<Replay>,
    /// Options of claude.
    #[serde(flatten, skip_deserializing)]
    pub options: ClaudeOptions,
    /// The session that the job continues.
    #[serde(flatten, skip_deserializing)]
    pub session: SessionOptions,
    /// Limits of the job.
    #[serde(flatten, skip_deserializing)]
    pub limits: Limits,
    /// Whether and how the job waits for messages after a result.
    #[serde(flatten, skip_deserializing)]
    pub keep_alive: KeepAliveOptions,
    /// Whether and how long the agent may ask.
    #[serde(flatten, skip_deserializing)]
    pub ask: AskOptions,
    /// What makes a job fail that would complete otherwise.
    #[serde(flatten, skip_deserializing)]
    pub fail_on: FailOn,
    /// How the job is tried again.
    #[serde(flatten, skip_deserializing)]
    pub retry: RetryOptions,
    /// Conditions under which the queue admits the job.
    #[serde(rename = "admission")]
    pub queue_options: QueueOptions,
    /// Milliseconds before the job joins the queue.
    pub start_delay_ms: u64,
    /// Jobs that must have completed before this one starts.
    pub after: Vec<JobId>,
    /// Jobs that must have ended, with any verdict, before this one starts.
    pub after_any: Vec<JobId>,
    /// Who is notified of the job.
    #[serde(flatten, skip_deserializing)]
    pub notify: NotifyOptions,
    /// Name of the profile in the user's configuration file, whose environment the job gets.
    pub profile: Option<String>,
    /// `--label KEY=VALUE`.
    pub labels: BTreeMap<String, String>,
    /// The job whose request this one repeats.
    pub rerun_of: Option<JobId>,
    /// The git worktree in which the job works.
    pub worktree: Option<Worktree>,
    /// The commit that was checked out in the directory of a job without a worktree when the job was
    /// started; `None` if that is not known.
    pub start_commit: Option<String>,
    /// Shell command that runs in the job's directory before claude (`--setup`).
    pub setup: Option<String>,
    /// The engine that starts the job's workers; `None` for this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineOptions>,
}

/// Options of claude.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClaudeOptions {
    /// `--model`.
    pub model: Option<String>,
    /// `--effort`.
    pub effort: Option<String>,
    /// `--fallback-model`.
    pub fallback_model: Option<String>,
    /// `--permission-mode`.
    pub permission_mode: String,
    /// `--allowedTools`, an entry each.
    pub allowed_tools: Vec<String>,
    /// `--disallowedTools`, an entry each.
    pub disallowed_tools: Vec<String>,
    /// `--add-dir`, absolute paths.
    pub add_dirs: Vec<String>,
    /// `--append-system-prompt`.
    pub append_system_prompt: Option<String>,
    /// `--json-schema`, the schema's text.
    pub json_schema: Option<String>,
    /// `--mcp-config`, absolute paths or JSON texts.
    pub mcp_config: Vec<String>,
    /// `--settings`, an absolute path or a JSON text.
    pub settings: Option<String>,
    /// Arguments after `--`, passed to claude unchanged.
    pub extra_args: Vec<String>,
}

/// The session that the job continues.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SessionOptions {
    /// `--resume`: the session that this job continues.
    pub resume: Option<String>,
    /// `--fork-session`: the job continues a copy of that session.
    pub fork: bool,
    /// `--system-prompt-snapshot off` when a session is continued: otherwise its recorded system prompt
    /// would replace [`ClaudeOptions::append_system_prompt`].
    pub fresh_system_prompt: bool,
}

/// Limits of the job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Limits {
    /// `--max-turns`.
    pub max_turns: Option<u32>,
    /// `--max-budget-usd`.
    pub max_budget_usd: Option<f64>,
    /// Milliseconds that the job may be live, over all attempts.
    pub timeout_ms: Option<u64>,
    /// Milliseconds of silence after which the job is ended; `None` for never. Time in which a tool
    /// or background work runs, or in which the job waits, does not count.
    pub stall_timeout_ms: Option<u64>,
    /// Milliseconds of silence after which the job is ended while a tool or background work runs; 0
    /// for never.
    pub tool_timeout_ms: u64,
    /// Bytes of memory that all processes of the job may use together.
    pub memory_max: Option<u64>,
    /// Milliseconds that the job waits for outstanding background work after a result.
    pub background_wait_ms: u64,
}

/// Whether and how the job waits for messages after a result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct KeepAliveOptions {
    /// After a result the job waits for messages instead of ending.
    #[serde(rename = "keepAlive")]
    pub enabled: bool,
    /// Milliseconds that the job waits for a message.
    pub idle_timeout_ms: u64,
    /// Start claude again after it ended unexpectedly.
    pub restart: bool,
    /// Highest number of restarts in a row.
    pub max_restarts: u32,
}

/// Whether and how long the agent may ask.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct AskOptions {
    /// The agent may ask questions, and waits for the answers.
    #[serde(rename = "ask")]
    pub enabled: bool,
    /// Milliseconds after which an unanswered request is denied.
    pub block_timeout_ms: Option<u64>,
}

/// What makes a job fail that would complete otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct FailOn {
    /// A denied tool makes the job fail.
    #[serde(rename = "failOnDenial")]
    pub denial: bool,
    /// An MCP server that claude cannot use makes the job fail.
    #[serde(rename = "failOnMcp")]
    pub mcp: bool,
}

/// How the job is tried again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RetryOptions {
    /// Number of retries after transient failures.
    pub retries: u32,
    /// Longest pause between two attempts, in milliseconds.
    pub max_backoff_ms: u64,
    /// Use the default pauses even if the API says when its limit ends.
    pub no_wait_for_reset: bool,
    /// Longest wait for the end of a limit, in milliseconds.
    pub max_wait_ms: u64,
    /// The job is not recovered after it was cut off.
    pub no_recover: bool,
}

/// Who is notified of the job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NotifyOptions {
    /// Commands that are notified of the job's events.
    pub on_event: Vec<String>,
    /// Events that they are notified of; empty for all.
    pub on_event_filter: Vec<NotifyEvent>,
    /// Timeout of each command in milliseconds; `None` for the default.
    pub on_event_timeout_ms: Option<u64>,
    /// Agent that is notified of the same events through its gateway's URL.
    pub wake: Option<WakeTarget>,
    /// Recipients of the same events that the `openclaw` command notifies.
    pub openclaw: Option<OpenClawRecipients>,
    /// Whether agents and people get the job's shortened answer.
    pub notify_answer: bool,
}

impl Serialize for Spec {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Spec::serialize(self, serializer)
    }
}

impl Spec {
    /// Decodes a specification, part by part.
    pub(super) fn from_json(text: &str) -> serde_json::Result<Self> {
        let members = &Members::parse(text)?;
        Ok(Self {
            options: ClaudeOptions::deserialize(members)?,
            session: SessionOptions::deserialize(members)?,
            limits: Limits::deserialize(members)?,
            keep_alive: KeepAliveOptions::deserialize(members)?,
            ask: AskOptions::deserialize(members)?,
            fail_on: FailOn::deserialize(members)?,
            retry: RetryOptions::deserialize(members)?,
            notify: NotifyOptions::deserialize(members)?,
            ..Self::deserialize(members)?
        })
    }

    /// Whether the job's directory is prepared before claude is started.
    pub(crate) fn needs_preparation(&self) -> bool {
        self.worktree.is_some() || self.setup.is_some()
    }

    /// Returns the jobs that this one waits for.
    pub(crate) fn dependencies(&self) -> impl Iterator<Item = &JobId> {
        self.after.iter().chain(&self.after_any)
    }
}

/// Fields of a [`Spec`] that another attempt may change. `None` or an empty list keeps the present
/// value.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpecChange {
    /// `--model`.
    pub model: Option<String>,
    /// As [`Spec::profile`].
    pub profile: Option<String>,
    /// `--effort`.
    pub effort: Option<String>,
    /// `--permission-mode`.
    pub permission_mode: Option<String>,
    /// `--allowedTools`, an entry each.
    pub allowed_tools: Vec<String>,
    /// `--disallowedTools`, an entry each.
    pub disallowed_tools: Vec<String>,
    /// `--append-system-prompt`.
    pub append_system_prompt: Option<String>,
    /// `--max-turns`.
    pub max_turns: Option<u32>,
    /// `--max-budget-usd`.
    pub max_budget_usd: Option<f64>,
    /// As [`Limits::timeout_ms`].
    pub timeout_ms: Option<u64>,
    /// As [`Limits::stall_timeout_ms`], but 0 for never.
    pub stall_timeout_ms: Option<u64>,
    /// As [`Limits::tool_timeout_ms`].
    pub tool_timeout_ms: Option<u64>,
}

impl SpecChange {
    pub(crate) fn apply(self, spec: &mut Spec) {
        fn replace<T>(field: &mut Option<T>, new: Option<T>) {
            if new.is_some() {
                *field = new;
            }
        }
        replace(&mut spec.options.model, self.model);
        replace(&mut spec.options.effort, self.effort);
        replace(&mut spec.profile, self.profile);
        replace(&mut spec.options.append_system_prompt, self.append_system_prompt);
        replace(&mut spec.limits.max_turns, self.max_turns);
        replace(&mut spec.limits.max_budget_usd, self.max_budget_usd);
        replace(&mut spec.limits.timeout_ms, self.timeout_ms);
        if let Some(mode) = self.permission_mode {
            spec.options.permission_mode = mode;
        }
        if !self.allowed_tools.is_empty() {
            spec.options.allowed_tools = self.allowed_tools;
        }
        if !self.disallowed_tools.is_empty() {
            spec.options.disallowed_tools = self.disallowed_tools;
        }
        if let Some(silence) = self.stall_timeout_ms {
            spec.limits.stall_timeout_ms = if silence == 0 { None } else { Some(silence) };
        }
        if let Some(silence) = self.tool_timeout_ms {
            spec.limits.tool_timeout_ms = silence;
        }
    }
}

/// A recorded stream that is replayed instead of running claude.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Replay {
    /// Absolute path of the recording; `None` for the built-in one.
    pub file: Option<String>,
    /// Factor to the recorded speed; 0 for no pauses.
    pub speed: f64,
}
