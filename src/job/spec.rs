//! What was asked of a job. Written once, at its start, and never changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Milestone;
use super::{Admission, JobId, Wake};

/// What was asked: where, with what, and within which limits. The prompt itself is in
/// `prompt.txt`. No part of the environment is in here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// The absolute path of the folder in which claude works.
    pub cwd: String,
    /// The absolute path of the `claude` program.
    pub claude: String,
    /// A recorded stream that is played in place of `claude`.
    pub replay: Option<Replay>,
    /// `--model`.
    pub model: Option<String>,
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
    /// `--system-prompt-snapshot off` where a session is continued: its recorded system prompt
    /// would be used instead of [`Self::append_system_prompt`].
    pub fresh_system_prompt: bool,
    /// `--max-turns`.
    pub max_turns: Option<u32>,
    /// `--max-budget-usd`.
    pub max_budget_usd: Option<f64>,
    /// `--json-schema`, the schema's text.
    pub json_schema: Option<String>,
    /// `--mcp-config`, absolute paths or JSON texts.
    pub mcp_config: Vec<String>,
    /// `--settings`, an absolute path or a JSON text.
    pub settings: Option<String>,
    /// `--resume`: the session that this job goes on with.
    pub resume: Option<String>,
    /// `--fork-session`: that session is left as it is, and this job has one of its own.
    pub fork: bool,
    /// `--effort`.
    pub effort: Option<String>,
    /// `--fallback-model`.
    pub fallback_model: Option<String>,
    /// After a result the job waits for messages instead of ending.
    pub keep_alive: bool,
    /// Milliseconds that it waits for one.
    pub idle_timeout_ms: u64,
    /// A claude that went away is started again.
    pub restart: bool,
    /// Restarts in a row, at most.
    pub max_restarts: u32,
    /// The agent may ask, and waits for an answer.
    pub ask: bool,
    /// Milliseconds after which a request that nobody answers is denied.
    pub block_timeout_ms: Option<u64>,
    /// What stood behind `--`, passed on as it is.
    pub extra_args: Vec<String>,
    /// A denied tool makes the job fail.
    pub fail_on_denial: bool,
    /// An MCP server that claude cannot use makes the job fail.
    pub fail_on_mcp: bool,
    /// It is not taken up again when it was cut off.
    pub no_recover: bool,
    /// Milliseconds that the job may be live, all attempts added up.
    pub timeout_ms: Option<u64>,
    /// Milliseconds of silence after which it is ended; `None` for never. A tool, background work
    /// and whatever the job waits for are no silence.
    pub stall_timeout_ms: Option<u64>,
    /// Milliseconds of silence after which it is ended while a tool or background work runs; 0 for
    /// never.
    pub tool_timeout_ms: u64,
    /// Bytes of memory that all its processes may take together.
    pub memory_max: Option<u64>,
    /// What must hold before claude is started.
    pub admission: Admission,
    /// Milliseconds before it asks for a slot.
    pub start_delay_ms: u64,
    /// Jobs that must have completed before.
    pub after: Vec<JobId>,
    /// Jobs that must have ended before, however they did.
    pub after_any: Vec<JobId>,
    /// How often claude is started again after what may pass.
    pub retries: u32,
    /// Milliseconds between two attempts, at most.
    pub max_backoff_ms: u64,
    /// Also where the API says when its limit ends, the usual pauses are made.
    pub no_wait_for_reset: bool,
    /// Milliseconds that the end of a limit is waited for, at most.
    pub max_wait_ms: u64,
    /// Commands that are told when the job comes to a [`Milestone`].
    pub on_event: Vec<String>,
    /// Of which they are told; empty for all.
    pub on_event_filter: Vec<Milestone>,
    /// Milliseconds that each of the commands may take; `None` for the usual time.
    pub on_event_timeout_ms: Option<u64>,
    /// Who is woken up likewise.
    pub wake: Option<Wake>,
    /// Milliseconds that outstanding background work is waited for after a result.
    pub background_wait_ms: u64,
    /// `--label KEY=VALUE`.
    pub labels: BTreeMap<String, String>,
}

impl Spec {
    /// The jobs that it waits for, whatever their ends have to be.
    pub fn others(&self) -> impl Iterator<Item = &JobId> {
        self.after.iter().chain(&self.after_any)
    }
}

/// Parts of a [`Spec`] that another attempt may change. `None` or an empty list leaves a part as it
/// is.
#[derive(Clone, Debug, Default)]
pub struct SpecChange {
    /// `--model`.
    pub model: Option<String>,
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
    /// As [`Spec::timeout_ms`].
    pub timeout_ms: Option<u64>,
    /// As [`Spec::stall_timeout_ms`], but 0 for never.
    pub stall_timeout_ms: Option<u64>,
    /// As [`Spec::tool_timeout_ms`].
    pub tool_timeout_ms: Option<u64>,
}

impl SpecChange {
    /// Changes the spec.
    pub fn apply(self, spec: &mut Spec) {
        fn replace<T>(part: &mut Option<T>, new: Option<T>) {
            if new.is_some() {
                *part = new;
            }
        }
        replace(&mut spec.model, self.model);
        replace(&mut spec.effort, self.effort);
        replace(&mut spec.append_system_prompt, self.append_system_prompt);
        replace(&mut spec.max_turns, self.max_turns);
        replace(&mut spec.max_budget_usd, self.max_budget_usd);
        replace(&mut spec.timeout_ms, self.timeout_ms);
        if let Some(mode) = self.permission_mode {
            spec.permission_mode = mode;
        }
        if !self.allowed_tools.is_empty() {
            spec.allowed_tools = self.allowed_tools;
        }
        if !self.disallowed_tools.is_empty() {
            spec.disallowed_tools = self.disallowed_tools;
        }
        if let Some(silence) = self.stall_timeout_ms {
            spec.stall_timeout_ms = if silence == 0 { None } else { Some(silence) };
        }
        if let Some(silence) = self.tool_timeout_ms {
            spec.tool_timeout_ms = silence;
        }
    }
}

/// A recorded stream in place of claude.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Replay {
    /// The absolute path of the recording; `None` is the one built into the program.
    pub file: Option<String>,
    /// How many times as fast as it was recorded; 0 is without any pause.
    pub speed: f64,
}
