//! Arguments of `start`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::RunOptions;
use super::values::{budget, bytes, duration, factor, group, label, positive_duration};

/// `start`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: claudejob start fix-login --cwd ~/app --prompt \"Fix the login test\"\n\
    \nClaude gets the environment of this command; it is not stored.",
    mut_arg("model", |arg| arg.env("CLAUDE_SKILL_MODEL").hide_env_values(true)),
    mut_arg("permission_mode", |arg| arg.default_value("bypassPermissions")),
    mut_arg("stall_timeout", |arg| arg.default_value("30m"))
)]
pub(crate) struct Start {
    /// The job's id [default: derived from the time]
    #[arg(value_name = "ID", conflicts_with = "job_id")]
    pub id: Option<String>,
    /// Set the job's id
    #[arg(long, value_name = "ID")]
    pub job_id: Option<String>,
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
    pub prompt_file: Option<PathBuf>,
    /// Set the working directory [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Options that `resume` accepts as well.
    #[command(flatten)]
    pub run: RunOptions,
    /// Set the path of the claude CLI [default: search PATH]
    ///
    /// After PATH, the directories of claude's installers are searched.
    #[arg(long, value_name = "PATH", env = "CLAUDE_SKILL_CLAUDE", hide_env_values = true)]
    pub claude: Option<PathBuf>,
    /// Let tools use another directory (repeatable)
    #[arg(long, value_name = "DIR")]
    pub add_dir: Vec<PathBuf>,
    /// Require structured output of this JSON schema (text or file)
    #[arg(long, value_name = "SCHEMA")]
    pub json_schema: Option<String>,
    /// Configure MCP servers, as file or JSON (repeatable)
    #[arg(long, value_name = "CONFIG")]
    pub mcp_config: Vec<String>,
    /// Set claude's settings, as file or JSON
    #[arg(long, value_name = "SETTINGS")]
    pub settings: Option<String>,
    /// Continue a session of claude
    #[arg(long, value_name = "SESSION", conflicts_with = "resume_job")]
    pub resume: Option<String>,
    /// Continue the session of another job, in its directory
    ///
    /// To continue the job itself, use claudejob resume ID.
    #[arg(long, value_name = "ID")]
    pub resume_job: Option<String>,
    /// Continue a copy of the session
    #[arg(long)]
    pub fork: bool,
    /// Use this model if the first one is overloaded
    #[arg(long, value_name = "MODEL")]
    pub fallback_model: Option<String>,
    /// Fail the job if a tool is denied
    #[arg(long)]
    pub fail_on_denial: bool,
    /// Fail the job if claude cannot use an MCP server
    #[arg(long)]
    pub fail_on_mcp: bool,
    /// Select how the job is detached from the caller
    #[arg(long, value_name = "HOW", default_value = "auto", value_enum)]
    pub detach: Detach,
    /// Wait for messages after a result
    ///
    /// The job ends by claudejob finish or after --idle-timeout.
    #[arg(long)]
    pub keep_alive: bool,
    /// Limit the wait for the next message
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h", requires = "keep_alive")]
    pub idle_timeout: Duration,
    /// Select when claude is restarted
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        default_value = "on-failure",
        requires = "keep_alive"
    )]
    pub restart: Restart,
    /// Limit consecutive restarts without a completed turn
    #[arg(long, value_name = "N", default_value_t = 5, requires = "keep_alive")]
    pub max_restarts: u32,
    /// Let the agent ask questions and wait for answers
    #[arg(long)]
    pub ask: bool,
    /// Deny requests without an answer in time [default: wait]
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "ask")]
    pub block_timeout: Option<Duration>,
    /// Exclude the job from recovery
    #[arg(long)]
    pub no_recover: bool,
    /// Limit the memory of all processes, such as 2G
    ///
    /// Requires a systemd scope.
    #[arg(long, value_name = "BYTES", value_parser = bytes, help_heading = "Limits")]
    pub memory_max: Option<u64>,
    /// Refuse the job if its labels spent this much, such as 20/day
    ///
    /// The cost of all jobs with the same labels counts.
    #[arg(long, value_name = "USD/TIME", value_parser = budget, help_heading = "Limits")]
    pub budget_usd: Option<(f64, Duration)>,
    /// Queue the job if N jobs are running; 0 disables the limit
    #[arg(
        long,
        value_name = "N",
        env = "CLAUDE_SKILL_MAX_PARALLEL",
        hide_env_values = true,
        default_value_t = 32,
        help_heading = "Queue"
    )]
    pub max_parallel: u32,
    /// Set the priority in the queue, from -1000 to 1000
    ///
    /// Jobs of a higher priority are admitted first.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1000..=1000), help_heading = "Queue")]
    pub priority: i32,
    /// Add the job to a group with its own limit (--group-limit)
    #[arg(long, value_name = "NAME", value_parser = group, help_heading = "Queue")]
    pub group: Option<String>,
    /// Limit the running jobs of the group
    #[arg(long, value_name = "N", default_value_t = 1, requires = "group", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Queue")]
    pub group_limit: u32,
    /// Fail instead of waiting in the queue
    #[arg(long, conflicts_with_all = ["after", "after_any", "start_delay"], help_heading = "Queue")]
    pub no_queue: bool,
    /// Wait for this time before entering the queue
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Queue")]
    pub start_delay: Option<Duration>,
    /// Set the minimum time between two starts of claude
    #[arg(long, value_name = "DURATION", value_parser = duration, env = "CLAUDE_SKILL_STAGGER", hide_env_values = true, default_value = "200ms", help_heading = "Queue")]
    pub stagger: Duration,
    /// Run after these jobs have completed; fail if one does not
    #[arg(long, value_name = "ID", value_delimiter = ',', help_heading = "Queue")]
    pub after: Vec<String>,
    /// Run after these jobs have ended, whatever their status
    #[arg(long, value_name = "ID", value_delimiter = ',', help_heading = "Queue")]
    pub after_any: Vec<String>,
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
    pub retries: u32,
    /// Limit the pause between two attempts
    ///
    /// The first pause is 5 s, each further one is twice as long.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10m", help_heading = "Retries")]
    pub max_backoff: Duration,
    /// Retry without waiting for the end of a rate limit
    #[arg(long, help_heading = "Retries")]
    pub no_wait_for_reset: bool,
    /// Limit the wait for the end of a rate limit
    ///
    /// The job fails if its rate limit lasts longer. It does not wait for a longer limit that
    /// another job has met.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "6h", help_heading = "Retries")]
    pub max_wait: Duration,
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
    pub on_event: Vec<String>,
    /// Select events: blocked, completed, failed, killed
    ///
    /// The default is all of them.
    #[arg(long, value_name = "EVENT", value_delimiter = ',', help_heading = "Notifications")]
    pub on_event_filter: Vec<String>,
    /// Limit the duration of such a command [default: 30s]
    ///
    /// After that time the command is ended and tried again.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration, help_heading = "Notifications")]
    pub on_event_timeout: Option<Duration>,
    /// Notify an OpenClaw agent at http://HOST:PORT/hooks/wake
    #[arg(long, value_name = "URL", help_heading = "Notifications")]
    pub wake_url: Option<String>,
    /// Read the token from this variable; it is never stored
    #[arg(long, value_name = "NAME", requires = "wake_url", help_heading = "Notifications")]
    pub wake_token_env: Option<String>,
    /// Select the session of the OpenClaw agent
    #[arg(long, value_name = "KEY", requires = "wake_url", help_heading = "Notifications")]
    pub wake_session: Option<String>,
    /// Limit the wait for background work after the answer
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h", help_heading = "Limits")]
    pub background_wait: Duration,
    /// If the id is in use, return that job instead of an error
    #[arg(long)]
    pub if_absent: bool,
    /// Label the job (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// Wait until the job has ended, at most for DURATION
    ///
    /// Output and exit code are those of claudejob wait.
    #[arg(long, value_name = "DURATION", value_parser = duration, num_args = 0..=1, require_equals = false)]
    pub wait: Option<Option<Duration>>,
    /// Replay a recorded stream instead of running claude
    ///
    /// This needs no API key, CLI or network.
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// Set the speed of the replay; 0 skips the pauses
    #[arg(long, value_name = "FACTOR", default_value = "1", requires = "replay", value_parser = factor)]
    pub replay_speed: f64,
    /// Arguments that are passed to claude unchanged
    #[arg(last = true, value_name = "CLAUDE ARGS")]
    pub extra_args: Vec<String>,
}

/// `--restart`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Restart {
    /// Restart a claude that exited before the job was finished
    OnFailure,
    /// End the job when claude exits
    No,
}

/// `--detach`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Detach {
    /// A systemd scope if the job would not survive in a session
    Auto,
    /// A new session
    Session,
    /// A systemd scope, or fail
    Scope,
}
