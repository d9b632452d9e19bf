//! Options that `start` and `run` share: the job, without its id.

use std::path::PathBuf;

use clap::{Arg, Args};

use super::engine_options::EngineArgs;
use super::options::{
    AskArgs, ClaudeArgs, DependencyArgs, FailOnArgs, KeepAliveArgs, LimitArgs, NotifyArgs,
    QueueArgs, ReplayArgs, RetryArgs, SessionArgs,
};
use super::worktree::WorktreeArgs;
use super::{MAX_PROMPT_BYTES, StartRequest};
use crate::arguments::{RunOptions, cwd, label, program, read_file, read_text, text};
use crate::error::Error;
use crate::job::{ClaudeOptions, JobId, Spec, milliseconds};
use crate::launch::DetachMode;

/// Maximum number of labels of a job.
pub(super) const MAX_LABELS: usize = 10;

/// Options that the short help shows.
const SHORT_HELP: [&str; 19] = [
    "id",
    "text",
    "prompt",
    "prompt_file",
    "name",
    "cwd",
    "model",
    "permission_mode",
    "profile",
    "resume_job",
    "ask",
    "label",
    "timeout",
    "max_budget_usd",
    "group",
    "max_parallel",
    "after",
    "worktree",
    "from",
];

/// Hides an option in the short help, unless it is one of the most important.
pub(in crate::commands) fn shorten_help(arg: Arg) -> Arg {
    let is_short = SHORT_HELP.contains(&arg.get_id().as_str());
    arg.hide_short_help(!is_short)
}

/// Gives options that `resume` has, too, their values for a new job. Once for all: to change one
/// argument clap moves the others.
fn for_new_job(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "model" => arg.env("CLAUDE_SKILL_MODEL").hide_env_values(true),
        "permission_mode" => arg.default_value("bypassPermissions"),
        "stall_timeout" => arg.default_value("30m"),
        _ => arg,
    }
}

/// A job to start, without its id.
#[derive(Debug, Args)]
#[command(mut_args(for_new_job))]
pub(crate) struct JobOptions {
    /// Arguments that are passed to claude unchanged
    #[arg(last = true, value_name = "CLAUDE ARGS")]
    pub(super) extra_args: Vec<String>,
    /// Set the prompt; - reads it from stdin
    #[arg(
        short,
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        help_heading = "Prompt",
        conflicts_with = "prompt_file"
    )]
    pub prompt: Option<String>,
    /// Read the prompt from a file
    #[arg(short = 'f', long, value_name = "FILE", help_heading = "Prompt")]
    pub(super) prompt_file: Option<PathBuf>,
    /// Set the working directory [default: the current one]
    #[arg(short = 'C', long, value_name = "DIR", help_heading = "Claude")]
    cwd: Option<PathBuf>,
    #[command(flatten)]
    pub run: RunOptions,
    /// Set the path of the claude CLI [default: search PATH]
    ///
    /// After PATH, the directories of claude's installers are searched.
    #[arg(
        long,
        value_name = "PATH",
        env = "CLAUDE_SKILL_CLAUDE",
        hide_env_values = true,
        help_heading = "Claude"
    )]
    claude: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Claude")]
    options: ClaudeArgs,
    #[command(flatten, next_help_heading = "Session")]
    session: SessionArgs,
    /// Use this model if the first one is overloaded
    #[arg(long, value_name = "MODEL", help_heading = "Claude")]
    fallback_model: Option<String>,
    #[command(flatten, next_help_heading = "Limits")]
    fail_on: FailOnArgs,
    #[command(flatten, next_help_heading = "Session")]
    keep_alive: KeepAliveArgs,
    #[command(flatten, next_help_heading = "Session")]
    ask: AskArgs,
    #[command(flatten, next_help_heading = "Worktree")]
    worktree: WorktreeArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    queue: QueueArgs,
    #[command(flatten)]
    dependencies: DependencyArgs,
    #[command(flatten)]
    retry: RetryArgs,
    #[command(flatten)]
    notify: NotifyArgs,
    /// Select how the job is detached from the caller
    #[arg(long, value_name = "HOW", default_value = "auto", value_enum, help_heading = "Job")]
    detach: DetachMode,
    /// Label the job (repeatable)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = label, help_heading = "Job")]
    label: Vec<(String, String)>,
    #[command(flatten, next_help_heading = "Cluster")]
    engine: EngineArgs,
    #[command(flatten, next_help_heading = "Job")]
    replay: ReplayArgs,
}

impl JobOptions {
    /// Reads the prompt of `-p` or `-f`; `None` if there is neither.
    pub(in crate::commands) fn read_prompt(&self) -> Result<Option<Vec<u8>>, Error> {
        match (&self.prompt, &self.prompt_file) {
            (Some(text), _) => read_text(text, MAX_PROMPT_BYTES).map(Some),
            (None, Some(file)) => read_file(file, MAX_PROMPT_BYTES).map(Some),
            (None, None) if self.replay.is_given() => {
                Ok(Some(b"(a recording is replayed)".to_vec()))
            }
            (None, None) => Ok(None),
        }
    }

    /// Sets whether the agent may ask questions.
    pub(in crate::commands) fn set_ask(&mut self, may_ask: bool) {
        self.ask.set(may_ask);
    }

    /// Converts the options into a job to start.
    pub(in crate::commands) fn into_request(
        self,
        id: Option<JobId>,
        prompt: Vec<u8>,
    ) -> Result<StartRequest, Error> {
        if self.label.len() > MAX_LABELS {
            return Err(Error::Usage(format!("at most {MAX_LABELS} labels")));
        }
        let (session, resume_job) = self.session.into_parts()?;
        let (after, after_any) = self.dependencies.into_ids()?;
        let (limits, budget) = self.limits.into_parts();
        let (mut worktree, setup) = self.worktree.into_parts()?;
        if resume_job.is_some() {
            // A session belongs to the directory in which it began.
            worktree = None;
        }
        let options = ClaudeOptions {
            fallback_model: self.fallback_model,
            extra_args: self.extra_args,
            ..self.options.into_options()?
        };
        let mut spec = Spec {
            cwd: match (&self.cwd, &resume_job) {
                (None, Some(_)) => String::new(),
                (path, _) => cwd(path.as_deref())?,
            },
            claude: match &self.claude {
                Some(path) if !path.as_os_str().is_empty() => text(program(path)?)?,
                _ => String::new(),
            },
            replay: self.replay.into_replay()?,
            options,
            session,
            limits,
            keep_alive: self.keep_alive.into_options(),
            ask: self.ask.into_options(),
            fail_on: self.fail_on.into_options(),
            start_delay_ms: self.queue.start_delay.map_or(0, milliseconds),
            queue_options: self.queue.into_options(self.retry.limit_wait_ms()),
            retry: self.retry.into_options(),
            after,
            after_any,
            notify: self.notify.into_options()?,
            labels: self.label.into_iter().collect(),
            rerun_of: None,
            profile: None,
            worktree,
            start_commit: None,
            setup,
            engine: self.engine.into_options()?,
        };
        self.run.into_change().apply(&mut spec);
        let detach = self.detach;
        Ok(StartRequest { id, prompt, spec, if_absent: false, detach, resume_job, budget })
    }
}
