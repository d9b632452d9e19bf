//! Arguments of `start`, and the specification that they make.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::options::{
    AskArgs, ClaudeArgs, DependencyArgs, FailOnArgs, KeepAliveArgs, LimitArgs, NotifyArgs,
    QueueArgs, ReplayArgs, RetryArgs, SessionArgs,
};
use super::{MAX_PROMPT_BYTES, StartRequest};
use crate::arguments::{RunOptions, cwd, duration, label, parse_job_id, program, read_text, text};
use crate::error::Error;
use crate::job::{ClaudeOptions, Spec, milliseconds};
use crate::launch::DetachMode;

/// Maximum number of labels of a job.
const MAX_LABELS: usize = 10;

/// Options that the short help shows.
const SHORT_HELP: [&str; 14] = [
    "id",
    "prompt",
    "prompt_file",
    "cwd",
    "model",
    "permission_mode",
    "resume_job",
    "ask",
    "label",
    "timeout",
    "max_budget_usd",
    "group",
    "max_parallel",
    "after",
];

/// Arguments of `start`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: claudejob start fix-login -C ~/app -p \"Fix the login test\"\n\
    \nClaude gets the environment of this command; it is not stored.",
    mut_arg("model", |arg| arg.env("CLAUDE_SKILL_MODEL").hide_env_values(true)),
    mut_arg("permission_mode", |arg| arg.default_value("bypassPermissions")),
    mut_arg("stall_timeout", |arg| arg.default_value("30m")),
    mut_args(|arg| {
        let is_short = SHORT_HELP.contains(&arg.get_id().as_str());
        arg.hide_short_help(!is_short)
    })
)]
pub(crate) struct StartArgs {
    /// The job's id [default: derived from the time]
    #[arg(value_name = "ID", conflicts_with = "job_id")]
    id: Option<String>,
    /// Arguments that are passed to claude unchanged
    #[arg(last = true, value_name = "CLAUDE ARGS")]
    extra_args: Vec<String>,
    /// Set the job's id
    #[arg(long, value_name = "ID", hide = true)]
    job_id: Option<String>,
    /// Set the prompt; - reads it from stdin
    #[arg(
        short,
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        help_heading = "Prompt",
        required_unless_present_any = ["prompt_file", "replay"],
        conflicts_with = "prompt_file"
    )]
    pub prompt: Option<String>,
    /// Read the prompt from a file
    #[arg(short = 'f', long, value_name = "FILE", help_heading = "Prompt")]
    prompt_file: Option<PathBuf>,
    /// Set the working directory [default: the current one]
    #[arg(short = 'C', long, value_name = "DIR", help_heading = "Claude")]
    cwd: Option<PathBuf>,
    #[command(flatten)]
    run: RunOptions,
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
    /// If the id is in use, return that job instead of an error
    #[arg(long, help_heading = "Job")]
    if_absent: bool,
    /// Label the job (repeatable)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = label, help_heading = "Job")]
    label: Vec<(String, String)>,
    /// Wait until the job has ended, at most for DURATION
    ///
    /// Output and exit code are those of claudejob wait.
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration,
        num_args = 0..=1,
        require_equals = false,
        help_heading = "Job"
    )]
    pub(super) wait: Option<Option<Duration>>,
    #[command(flatten, next_help_heading = "Job")]
    replay: ReplayArgs,
}

impl StartArgs {
    /// Converts the arguments into a job to start.
    pub(super) fn into_request(self) -> Result<StartRequest, Error> {
        let prompt =
            read_text(self.prompt.as_deref(), self.prompt_file.as_deref(), MAX_PROMPT_BYTES)?;
        let id = match self.id.or(self.job_id) {
            Some(text) => Some(parse_job_id(&text)?),
            None => None,
        };
        if self.label.len() > MAX_LABELS {
            return Err(Error::Usage(format!("at most {MAX_LABELS} labels")));
        }
        let (session, resume_job) = self.session.into_parts()?;
        let (after, after_any) = self.dependencies.into_ids()?;
        let (limits, budget) = self.limits.into_parts();
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
            notify: self.notify.into_options(),
            labels: self.label.into_iter().collect(),
            rerun_of: None,
        };
        self.run.into_change().apply(&mut spec);
        let (if_absent, detach) = (self.if_absent, self.detach);
        Ok(StartRequest { id, prompt, spec, if_absent, detach, resume_job, budget })
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    fn parse(arguments: &[&str]) -> StartArgs {
        let command = StartArgs::augment_args(Command::new("start")).no_binary_name(true);
        StartArgs::from_arg_matches(&command.try_get_matches_from(arguments).unwrap()).unwrap()
    }

    #[test]
    fn accepts_prompt_with_leading_dashes() {
        let args = parse(&["--prompt", "--help me", "--", "-x"]);
        assert_eq!(args.prompt.as_deref(), Some("--help me"));
        assert_eq!(args.extra_args, ["-x"]);
    }

    #[test]
    fn wait_duration_is_optional() {
        for (arguments, expected) in [
            (&["--prompt", "x"][..], None),
            (&["--prompt", "x", "--wait"], Some(None)),
            (&["--wait", "5s", "--prompt", "x"], Some(Some(Duration::from_secs(5)))),
        ] {
            assert_eq!(parse(arguments).wait, expected);
        }
    }
}
