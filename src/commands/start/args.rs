//! Arguments of `start`, and the specification that they make.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Budget, MAX_PROMPT_BYTES, StartRequest};
use crate::arguments::{
    RunOptions, absolute, budget, bytes, cwd, duration, factor, file_or_json, group, label,
    notify_event, parse_job_id, parse_job_ids, positive_duration, program, read_text, schema, text,
};
use crate::error::Error;
use crate::job::{
    AskOptions, ClaudeOptions, FailOn, KeepAliveOptions, Limits, NotifyEvent, NotifyOptions,
    QueueOptions, Replay, RetryOptions, SessionOptions, Spec, WakeTarget, milliseconds,
};
use crate::launch::DetachMode;

/// Maximum number of jobs that one job waits for.
const MAX_DEPENDENCIES: usize = 100;

/// Arguments of `start`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: claudejob start fix-login --cwd ~/app --prompt \"Fix the login test\"\n\
    \nClaude gets the environment of this command; it is not stored.",
    mut_arg("model", |arg| arg.env("CLAUDE_SKILL_MODEL").hide_env_values(true)),
    mut_arg("permission_mode", |arg| arg.default_value("bypassPermissions")),
    mut_arg("stall_timeout", |arg| arg.default_value("30m"))
)]
pub(crate) struct StartArgs {
    /// The job's id [default: derived from the time]
    #[arg(value_name = "ID", conflicts_with = "job_id")]
    id: Option<String>,
    /// Set the job's id
    #[arg(long, value_name = "ID")]
    job_id: Option<String>,
    /// Set the prompt; - reads it from stdin
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        required_unless_present_any = ["prompt_file", "replay"],
        conflicts_with = "prompt_file"
    )]
    pub prompt: Option<String>,
    /// Read the prompt from a file
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// Set the working directory [default: the current one]
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Options that `resume` accepts as well.
    #[command(flatten)]
    run: RunOptions,
    /// Set the path of the claude CLI [default: search PATH]
    ///
    /// After PATH, the directories of claude's installers are searched.
    #[arg(long, value_name = "PATH", env = "CLAUDE_SKILL_CLAUDE", hide_env_values = true)]
    claude: Option<PathBuf>,
    /// Let tools use another directory (repeatable)
    #[arg(long, value_name = "DIR")]
    add_dir: Vec<PathBuf>,
    /// Require structured output of this JSON schema (text or file)
    #[arg(long, value_name = "SCHEMA")]
    json_schema: Option<String>,
    /// Configure MCP servers, as file or JSON (repeatable)
    #[arg(long, value_name = "CONFIG")]
    mcp_config: Vec<String>,
    /// Set claude's settings, as file or JSON
    #[arg(long, value_name = "SETTINGS")]
    settings: Option<String>,
    /// Continue a session of claude
    #[arg(long, value_name = "SESSION", conflicts_with = "resume_job")]
    resume: Option<String>,
    /// Continue the session of another job, in its directory
    ///
    /// To continue the job itself, use claudejob resume ID.
    #[arg(long, value_name = "ID")]
    resume_job: Option<String>,
    /// Continue a copy of the session
    #[arg(long)]
    fork: bool,
    /// Use this model if the first one is overloaded
    #[arg(long, value_name = "MODEL")]
    fallback_model: Option<String>,
    /// Fail the job if a tool is denied
    #[arg(long)]
    fail_on_denial: bool,
    /// Fail the job if claude cannot use an MCP server
    #[arg(long)]
    fail_on_mcp: bool,
    /// Select how the job is detached from the caller
    #[arg(long, value_name = "HOW", default_value = "auto", value_enum)]
    detach: DetachMode,
    /// Wait for messages after a result
    ///
    /// The job ends by claudejob finish or after --idle-timeout.
    #[arg(long)]
    keep_alive: bool,
    /// Limit the wait for the next message
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h", requires = "keep_alive")]
    idle_timeout: Duration,
    /// Select when claude is restarted
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        default_value = "on-failure",
        requires = "keep_alive"
    )]
    restart: Restart,
    /// Limit consecutive restarts without a completed turn
    #[arg(long, value_name = "N", default_value_t = 5, requires = "keep_alive")]
    max_restarts: u32,
    /// Let the agent ask questions and wait for answers
    #[arg(long)]
    ask: bool,
    /// Deny requests without an answer in time [default: wait]
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "ask")]
    block_timeout: Option<Duration>,
    /// Exclude the job from recovery
    #[arg(long)]
    no_recover: bool,
    /// Limit the memory of all processes, such as 2G
    ///
    /// Requires a systemd scope.
    #[arg(long, value_name = "BYTES", value_parser = bytes, help_heading = "Limits")]
    memory_max: Option<u64>,
    /// Refuse the job if its labels spent this much, such as 20/day
    ///
    /// The cost of all jobs with the same labels counts.
    #[arg(long, value_name = "USD/TIME", value_parser = budget, help_heading = "Limits")]
    budget_usd: Option<(f64, Duration)>,
    /// Queue the job if N jobs are running; 0 disables the limit
    #[arg(
        long,
        value_name = "N",
        env = "CLAUDE_SKILL_MAX_PARALLEL",
        hide_env_values = true,
        default_value_t = 32,
        help_heading = "Queue"
    )]
    max_parallel: u32,
    /// Set the priority in the queue, from -1000 to 1000
    ///
    /// Jobs of a higher priority are admitted first.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1000..=1000), help_heading = "Queue")]
    priority: i32,
    /// Add the job to a group with its own limit (--group-limit)
    #[arg(long, value_name = "NAME", value_parser = group, help_heading = "Queue")]
    group: Option<String>,
    /// Limit the running jobs of the group
    #[arg(long, value_name = "N", default_value_t = 1, requires = "group", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Queue")]
    group_limit: u32,
    /// Fail instead of waiting in the queue
    #[arg(long, conflicts_with_all = ["after", "after_any", "start_delay"], help_heading = "Queue")]
    no_queue: bool,
    /// Wait for this time before entering the queue
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Queue")]
    start_delay: Option<Duration>,
    /// Set the minimum time between two starts of claude
    #[arg(long, value_name = "DURATION", value_parser = duration, env = "CLAUDE_SKILL_STAGGER", hide_env_values = true, default_value = "200ms", help_heading = "Queue")]
    stagger: Duration,
    /// Run after these jobs have completed; fail if one does not
    #[arg(long, value_name = "ID", value_delimiter = ',', help_heading = "Queue")]
    after: Vec<String>,
    /// Run after these jobs have ended, whatever their status
    #[arg(long, value_name = "ID", value_delimiter = ',', help_heading = "Queue")]
    after_any: Vec<String>,
    /// Limit the retries after temporary failures
    ///
    /// These are a rate limit, an overload, an API error (5xx) and a crash.
    #[arg(
        long,
        value_name = "N",
        env = "CLAUDE_SKILL_RETRIES",
        hide_env_values = true,
        default_value_t = 3,
        help_heading = "Retries"
    )]
    retries: u32,
    /// Limit the pause between two attempts
    ///
    /// The first pause is 5 s, each further one is twice as long.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10m", help_heading = "Retries")]
    max_backoff: Duration,
    /// Retry without waiting for the end of a rate limit
    #[arg(long, help_heading = "Retries")]
    no_wait_for_reset: bool,
    /// Limit the wait for the end of a rate limit
    ///
    /// The job fails if its rate limit lasts longer. It does not wait for a longer limit that
    /// another job has met.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "6h", help_heading = "Retries")]
    max_wait: Duration,
    /// Run a command when the job is blocked or ends (repeatable)
    ///
    /// The command gets the job's status as JSON on stdin.
    #[arg(
        long,
        value_name = "CMD",
        env = "CLAUDE_SKILL_ON_EVENT",
        hide_env_values = true,
        allow_hyphen_values = true,
        help_heading = "Notifications"
    )]
    on_event: Vec<String>,
    /// Select events: blocked, completed, failed, killed
    ///
    /// The default is all of them.
    #[arg(long, value_name = "EVENT", value_delimiter = ',', value_parser = notify_event, help_heading = "Notifications")]
    on_event_filter: Vec<NotifyEvent>,
    /// Limit the duration of such a command [default: 30s]
    ///
    /// After that time the command is ended and tried again.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration, help_heading = "Notifications")]
    on_event_timeout: Option<Duration>,
    /// Notify an OpenClaw agent at http://HOST:PORT/hooks/wake
    #[arg(long, value_name = "URL", help_heading = "Notifications")]
    wake_url: Option<String>,
    /// Read the token from this variable; it is never stored
    #[arg(long, value_name = "NAME", requires = "wake_url", help_heading = "Notifications")]
    wake_token_env: Option<String>,
    /// Select the session of the OpenClaw agent
    #[arg(long, value_name = "KEY", requires = "wake_url", help_heading = "Notifications")]
    wake_session: Option<String>,
    /// Limit the wait for background work after the answer
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h", help_heading = "Limits")]
    background_wait: Duration,
    /// If the id is in use, return that job instead of an error
    #[arg(long)]
    if_absent: bool,
    /// Label the job (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Wait until the job has ended, at most for DURATION
    ///
    /// Output and exit code are those of claudejob wait.
    #[arg(long, value_name = "DURATION", value_parser = duration, num_args = 0..=1, require_equals = false)]
    pub(super) wait: Option<Option<Duration>>,
    /// Replay a recorded stream instead of running claude
    ///
    /// This needs no API key, CLI or network.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Set the speed of the replay; 0 skips the pauses
    #[arg(long, value_name = "FACTOR", default_value = "1", requires = "replay", value_parser = factor)]
    replay_speed: f64,
    /// Arguments that are passed to claude unchanged
    #[arg(last = true, value_name = "CLAUDE ARGS")]
    extra_args: Vec<String>,
}

/// `--restart`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Restart {
    /// Restart a claude that exited before the job was finished
    OnFailure,
    /// End the job when claude exits
    No,
}

impl StartArgs {
    /// Converts the arguments into a job to start.
    pub(super) fn into_request(self) -> Result<StartRequest, Error> {
        let prompt =
            read_text(self.prompt.as_deref(), self.prompt_file.as_deref(), MAX_PROMPT_BYTES)?;
        let id = self.id.or(self.job_id).map(|text| parse_job_id(&text)).transpose()?;
        let replay = self.replay.as_deref().map(|file| {
            Ok::<_, Error>(Replay { file: Some(text(absolute(file)?)?), speed: self.replay_speed })
        });
        if self.label.len() > 10 {
            return Err(Error::Usage("at most 10 labels".to_owned()));
        }
        let resume_job = self.resume_job.as_deref().map(parse_job_id).transpose()?;
        if self.fork && resume_job.is_none() && self.resume.is_none() {
            return Err(Error::Usage("--fork needs --resume or --resume-job".to_owned()));
        }
        let after = parse_job_ids(&self.after)?;
        let after_any = parse_job_ids(&self.after_any)?;
        if after.len() + after_any.len() > MAX_DEPENDENCIES {
            return Err(Error::Usage(format!(
                "a job can wait for at most {MAX_DEPENDENCIES} other jobs"
            )));
        }
        let admission = QueueOptions {
            max_parallel: self.max_parallel,
            priority: self.priority,
            stagger_ms: milliseconds(self.stagger),
            limit_wait_ms: if self.no_wait_for_reset { 0 } else { milliseconds(self.max_wait) },
            group_limit: self.group_limit,
            group: self.group,
            no_queue: self.no_queue,
        };
        let wake = self.wake_url.map(|url| {
            let (token_env, session) = (self.wake_token_env, self.wake_session);
            WakeTarget { url, token_env, session }
        });
        let schema = self.json_schema.as_deref().map(schema).transpose()?;
        let mut spec = Spec {
            cwd: match (&self.cwd, &resume_job) {
                (None, Some(_)) => String::new(),
                (path, _) => cwd(path.as_deref())?,
            },
            claude: match &self.claude {
                None => String::new(),
                Some(path) if path.as_os_str().is_empty() => String::new(),
                Some(path) => text(program(path)?)?,
            },
            replay: replay.transpose()?,
            queue_options: admission,
            start_delay_ms: self.start_delay.map_or(0, milliseconds),
            after,
            after_any,
            labels: self.label.into_iter().collect(),
            options: ClaudeOptions {
                add_dirs: self
                    .add_dir
                    .iter()
                    .map(|path| text(absolute(path)?))
                    .collect::<Result<_, _>>()?,
                json_schema: schema,
                mcp_config: self
                    .mcp_config
                    .iter()
                    .map(|config| file_or_json(config))
                    .collect::<Result<_, _>>()?,
                settings: self.settings.as_deref().map(file_or_json).transpose()?,
                fallback_model: self.fallback_model,
                extra_args: self.extra_args,
                ..ClaudeOptions::default()
            },
            session: SessionOptions {
                resume: self.resume,
                fork: self.fork,
                ..SessionOptions::default()
            },
            fail_on: FailOn { denial: self.fail_on_denial, mcp: self.fail_on_mcp },
            keep_alive: KeepAliveOptions {
                enabled: self.keep_alive,
                idle_timeout_ms: milliseconds(self.idle_timeout),
                restart: self.restart == Restart::OnFailure,
                max_restarts: self.max_restarts,
            },
            ask: AskOptions {
                enabled: self.ask,
                block_timeout_ms: self.block_timeout.map(milliseconds),
            },
            retry: RetryOptions {
                no_recover: self.no_recover,
                retries: self.retries,
                max_backoff_ms: milliseconds(self.max_backoff),
                no_wait_for_reset: self.no_wait_for_reset,
                max_wait_ms: milliseconds(self.max_wait),
            },
            limits: Limits {
                memory_max: self.memory_max,
                background_wait_ms: milliseconds(self.background_wait),
                ..Limits::default()
            },
            notify: NotifyOptions {
                on_event: self.on_event.into_iter().filter(|command| !command.is_empty()).collect(),
                on_event_filter: self.on_event_filter,
                on_event_timeout_ms: self.on_event_timeout.map(milliseconds),
                wake,
            },
        };
        self.run.into_change().apply(&mut spec);
        let detach = self.detach;
        let if_absent = self.if_absent;
        let budget = self.budget_usd.map(|(usd, over)| Budget { usd, over });
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
