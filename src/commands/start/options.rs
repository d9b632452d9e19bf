//! Options of `start` that belong together: each group converts itself into a part of the
//! specification.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Budget;
use crate::arguments::{
    absolute, budget, bytes, duration, factor, file_or_json, group, notify_event, parse_job_id,
    parse_job_ids, positive_duration, schema, text,
};
use crate::error::Error;
use crate::job::{
    AgentSession, AskOptions, Chat, ClaudeOptions, FailOn, JobId, KeepAliveOptions, Limits,
    NotifyEvent, NotifyOptions, OpenClawCommand, OpenClawRecipients, QueueOptions, Replay,
    RetryOptions, SessionOptions, WakeTarget, milliseconds,
};

/// Maximum number of jobs that one job waits for.
const MAX_DEPENDENCIES: usize = 100;

/// Options of claude that only a start sets.
#[derive(Debug, Args)]
pub(super) struct ClaudeArgs {
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
}

impl ClaudeArgs {
    pub(super) fn into_options(self) -> Result<ClaudeOptions, Error> {
        let mut options = ClaudeOptions::default();
        if let Some(json_schema) = &self.json_schema {
            options.json_schema = Some(schema(json_schema)?);
        }
        for path in &self.add_dir {
            options.add_dirs.push(text(absolute(path)?)?);
        }
        for config in &self.mcp_config {
            options.mcp_config.push(file_or_json(config)?);
        }
        if let Some(settings) = &self.settings {
            options.settings = Some(file_or_json(settings)?);
        }
        Ok(options)
    }
}

/// The conversation to continue.
#[derive(Debug, Args)]
pub(super) struct SessionArgs {
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
}

impl SessionArgs {
    /// Returns the options and the job whose session is continued.
    pub(super) fn into_parts(self) -> Result<(SessionOptions, Option<JobId>), Error> {
        let resume_job = match &self.resume_job {
            Some(text) => Some(parse_job_id(text)?),
            None => None,
        };
        if self.fork && resume_job.is_none() && self.resume.is_none() {
            return Err(Error::Usage("--fork needs --resume or --resume-job".to_owned()));
        }
        let options =
            SessionOptions { resume: self.resume, fork: self.fork, ..SessionOptions::default() };
        Ok((options, resume_job))
    }
}

/// Events that make the job fail.
#[derive(Debug, Args)]
pub(super) struct FailOnArgs {
    /// Fail the job if a tool is denied
    #[arg(long)]
    fail_on_denial: bool,
    /// Fail the job if claude cannot use an MCP server
    #[arg(long)]
    fail_on_mcp: bool,
}

impl FailOnArgs {
    pub(super) fn into_options(self) -> FailOn {
        FailOn { denial: self.fail_on_denial, mcp: self.fail_on_mcp }
    }
}

/// Whether and how the job is kept alive after a result.
#[derive(Debug, Args)]
pub(super) struct KeepAliveArgs {
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
}

/// `--restart`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Restart {
    /// Restart a claude that exited before the job was finished
    OnFailure,
    /// End the job when claude exits
    No,
}

impl KeepAliveArgs {
    pub(super) fn into_options(self) -> KeepAliveOptions {
        KeepAliveOptions {
            enabled: self.keep_alive,
            idle_timeout_ms: milliseconds(self.idle_timeout),
            restart: self.restart == Restart::OnFailure,
            max_restarts: self.max_restarts,
        }
    }
}

/// Whether the agent may ask.
#[derive(Debug, Args)]
pub(super) struct AskArgs {
    /// Let the agent ask questions and wait for answers
    #[arg(long)]
    ask: bool,
    /// Deny requests without an answer in time [default: wait]
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "ask")]
    block_timeout: Option<Duration>,
}

impl AskArgs {
    pub(super) fn set(&mut self, may_ask: bool) {
        self.ask = may_ask;
    }

    pub(super) fn into_options(self) -> AskOptions {
        AskOptions { enabled: self.ask, block_timeout_ms: self.block_timeout.map(milliseconds) }
    }
}

/// Retries of the job.
#[derive(Debug, Args)]
pub(super) struct RetryArgs {
    /// Exclude the job from recovery
    #[arg(long, help_heading = "Retries")]
    no_recover: bool,
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
}

impl RetryArgs {
    /// Returns how long the job waits for the end of a limit that another job has met.
    pub(super) fn limit_wait_ms(&self) -> u64 {
        if self.no_wait_for_reset { 0 } else { milliseconds(self.max_wait) }
    }

    pub(super) fn into_options(self) -> RetryOptions {
        RetryOptions {
            no_recover: self.no_recover,
            retries: self.retries,
            max_backoff_ms: milliseconds(self.max_backoff),
            no_wait_for_reset: self.no_wait_for_reset,
            max_wait_ms: milliseconds(self.max_wait),
        }
    }
}

/// Limits that only a start sets.
#[derive(Debug, Args)]
pub(super) struct LimitArgs {
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
    /// Limit the wait for background work after the answer
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h", help_heading = "Limits")]
    background_wait: Duration,
}

impl LimitArgs {
    pub(super) fn into_parts(self) -> (Limits, Option<Budget>) {
        let limits = Limits {
            memory_max: self.memory_max,
            background_wait_ms: milliseconds(self.background_wait),
            ..Limits::default()
        };
        (limits, self.budget_usd.map(|(usd, over)| Budget { usd, over }))
    }
}

/// Number of jobs that run at the same time by default.
pub(super) const DEFAULT_MAX_PARALLEL: u32 = 32;
/// Default of `--stagger`.
pub(super) const DEFAULT_STAGGER: Duration = Duration::from_millis(200);

/// When the job is admitted.
#[derive(Debug, Args)]
pub(super) struct QueueArgs {
    /// Queue the job if N jobs are running; 0 disables the limit
    #[arg(
        long,
        value_name = "N",
        env = "CLAUDE_SKILL_MAX_PARALLEL",
        hide_env_values = true,
        default_value_t = DEFAULT_MAX_PARALLEL,
        help_heading = "Queue"
    )]
    max_parallel: u32,
    /// Set the priority in the queue, from -1000 to 1000
    ///
    /// Jobs of a higher priority are admitted first.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1000..=1000), help_heading = "Queue")]
    priority: i32,
    /// Add the job to a group with its own limit (--group-limit)
    #[arg(short, long, value_name = "NAME", value_parser = group, help_heading = "Queue")]
    group: Option<String>,
    /// Limit the running jobs of the group
    #[arg(long, value_name = "N", default_value_t = 1, requires = "group", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Queue")]
    group_limit: u32,
    /// Fail instead of waiting in the queue
    #[arg(long, conflicts_with_all = ["after", "after_any", "start_delay"], help_heading = "Queue")]
    no_queue: bool,
    /// Wait for this time before entering the queue
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Queue")]
    pub(super) start_delay: Option<Duration>,
    /// Set the minimum time between two starts of claude
    #[arg(long, value_name = "DURATION", value_parser = duration, env = "CLAUDE_SKILL_STAGGER", hide_env_values = true, default_value = "200ms", help_heading = "Queue")]
    stagger: Duration,
}

impl QueueArgs {
    pub(super) fn into_options(self, limit_wait_ms: u64) -> QueueOptions {
        QueueOptions {
            max_parallel: self.max_parallel,
            priority: self.priority,
            stagger_ms: milliseconds(self.stagger),
            limit_wait_ms,
            group_limit: self.group_limit,
            group: self.group,
            no_queue: self.no_queue,
        }
    }
}

/// Jobs that the job waits for.
#[derive(Debug, Args)]
pub(super) struct DependencyArgs {
    /// Run after these jobs have completed; fail if one does not
    #[arg(long, value_name = "ID", value_delimiter = ',', help_heading = "Queue")]
    after: Vec<String>,
    /// Run after these jobs have ended, whatever their status
    #[arg(long, value_name = "ID", value_delimiter = ',', help_heading = "Queue")]
    after_any: Vec<String>,
}

impl DependencyArgs {
    /// Returns the ids of `--after` and of `--after-any`.
    pub(super) fn into_ids(self) -> Result<(Vec<JobId>, Vec<JobId>), Error> {
        if self.after.len() + self.after_any.len() > MAX_DEPENDENCIES {
            return Err(Error::Usage(format!(
                "a job can wait for at most {MAX_DEPENDENCIES} other jobs"
            )));
        }
        Ok((parse_job_ids(&self.after)?, parse_job_ids(&self.after_any)?))
    }
}

/// Notifications of the job.
#[derive(Debug, Args)]
pub(super) struct NotifyArgs {
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
    /// Notify an OpenClaw agent: openclaw or openclaw:KEY
    ///
    /// KEY is the word after session= in the Runtime line of the agent's prompt, such as
    /// agent:main:main. Without it the main session is notified. The openclaw command is run; it
    /// is searched on PATH and where installers put it, or named by CLAUDE_SKILL_OPENCLAW.
    #[arg(long, value_name = "AGENT", conflicts_with = "wake_url", help_heading = "Notifications")]
    wake: Option<String>,
    /// Notify a person: openclaw:CHANNEL:TARGET (repeatable)
    ///
    /// The openclaw command sends a message to TARGET, which has the form of the channel, such as
    /// openclaw:telegram:123 or openclaw:discord:channel:123. A number after its last colon is a
    /// thread, as in openclaw:telegram:-100123:42. %3A stands for a colon that begins no thread.
    #[arg(long, value_name = "CHAT", value_parser = Chat::parse, help_heading = "Notifications")]
    notify: Vec<Chat>,
    /// Add the job's shortened answer to these notifications
    #[arg(long, help_heading = "Notifications")]
    notify_answer: bool,
    /// Notify an OpenClaw agent at http://HOST:PORT/hooks/wake
    #[arg(long, value_name = "URL", help_heading = "Notifications")]
    wake_url: Option<String>,
    /// Read the token from this variable; it is never stored
    #[arg(long, value_name = "NAME", requires = "wake_url", help_heading = "Notifications")]
    wake_token_env: Option<String>,
    /// Select the session of the OpenClaw agent
    #[arg(long, value_name = "KEY", requires = "wake_url", help_heading = "Notifications")]
    wake_session: Option<String>,
}

impl NotifyArgs {
    pub(super) fn into_options(self) -> Result<NotifyOptions, Error> {
        let mut on_event = self.on_event;
        on_event.retain(|command| !command.is_empty());
        let agent = match self.wake {
            // The configuration file may name another agent.
            Some(text) if self.wake_url.is_none() => match AgentSession::parse(&text) {
                Ok(agent) => Some(agent),
                Err(why) => return Err(Error::BadWake(text, why)),
            },
            _ => None,
        };
        let openclaw = if agent.is_none() && self.notify.is_empty() {
            None
        } else {
            // The command is searched for when the job is started.
            let command = OpenClawCommand::default();
            Some(OpenClawRecipients { command, wake: agent, chats: self.notify })
        };
        let (token_env, session) = (self.wake_token_env, self.wake_session);
        Ok(NotifyOptions {
            on_event,
            on_event_filter: self.on_event_filter,
            on_event_timeout_ms: self.on_event_timeout.map(milliseconds),
            wake: self.wake_url.map(|url| WakeTarget { url, token_env, session }),
            openclaw,
            notify_answer: self.notify_answer,
        })
    }
}

/// A recording that replaces claude.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// Replay a recorded stream instead of running claude
    ///
    /// This needs no API key, CLI or network.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Set the speed of the replay; 0 skips the pauses
    #[arg(long, value_name = "FACTOR", default_value = "1", requires = "replay", value_parser = factor)]
    replay_speed: f64,
}

impl ReplayArgs {
    pub(super) fn is_given(&self) -> bool {
        self.replay.is_some()
    }

    pub(super) fn into_replay(self) -> Result<Option<Replay>, Error> {
        let Some(file) = &self.replay else { return Ok(None) };
        Ok(Some(Replay { file: Some(text(absolute(file)?)?), speed: self.replay_speed }))
    }
}
