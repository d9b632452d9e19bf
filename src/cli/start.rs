//! `start`, which has most options of all.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::RunOptions;
use super::values::{budget, bytes, duration, factor, group, label, positive_duration};

/// `start`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: claudejob start fix-login --cwd ~/app --prompt \"Fix the login test\"\n\
    \nThe environment is passed on to claude, and nothing of it is stored.",
    mut_arg("model", |arg| arg.env("CLAUDE_SKILL_MODEL").hide_env_values(true)),
    mut_arg("permission_mode", |arg| arg.default_value("bypassPermissions")),
    mut_arg("stall_timeout", |arg| arg.default_value("30m"))
)]
pub struct Start {
    /// The job's id [default: one made of the time]
    #[arg(value_name = "ID", conflicts_with = "job_id")]
    pub id: Option<String>,
    /// The job's id
    #[arg(long, value_name = "ID")]
    pub job_id: Option<String>,
    /// What to do; - reads it from stdin
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        required_unless_present_any = ["prompt_file", "replay"],
        conflicts_with = "prompt_file"
    )]
    pub prompt: Option<String>,
    /// A file that says what to do
    #[arg(long, value_name = "FILE")]
    pub prompt_file: Option<PathBuf>,
    /// The folder to work in [default: here]
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Model, tools and limits.
    #[command(flatten)]
    pub run: RunOptions,
    /// The path of the claude CLI [default: found on PATH or where its installers put it]
    #[arg(long, value_name = "PATH", env = "CLAUDE_SKILL_CLAUDE", hide_env_values = true)]
    pub claude: Option<PathBuf>,
    /// A further folder that tools may use; repeatable
    #[arg(long, value_name = "DIR")]
    pub add_dir: Vec<PathBuf>,
    /// A JSON schema (text or file) that the job's structured output must fit
    #[arg(long, value_name = "SCHEMA")]
    pub json_schema: Option<String>,
    /// MCP servers (file or JSON); repeatable
    #[arg(long, value_name = "CONFIG")]
    pub mcp_config: Vec<String>,
    /// Settings of claude (file or JSON)
    #[arg(long, value_name = "SETTINGS")]
    pub settings: Option<String>,
    /// A session of claude to go on with
    #[arg(long, value_name = "SESSION", conflicts_with = "resume_job")]
    pub resume: Option<String>,
    /// A job whose session to go on with, in its folder [resume ID goes on with the job itself]
    #[arg(long, value_name = "ID")]
    pub resume_job: Option<String>,
    /// Go on with a copy of that session and leave it as it is
    #[arg(long)]
    pub fork: bool,
    /// The model to fall back on when the first is overloaded
    #[arg(long, value_name = "MODEL")]
    pub fallback_model: Option<String>,
    /// A denied tool makes the job fail
    #[arg(long)]
    pub fail_on_denial: bool,
    /// An MCP server that claude cannot use makes the job fail
    #[arg(long)]
    pub fail_on_mcp: bool,
    /// What keeps the job apart from the caller: a session, a systemd scope, or what is needed
    #[arg(long, value_name = "HOW", default_value = "auto", value_enum)]
    pub detach: Detach,
    /// After a result wait for messages (send), until finish or --idle-timeout
    #[arg(long)]
    pub keep_alive: bool,
    /// How long a job that is kept alive waits for the next message
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h", requires = "keep_alive")]
    pub idle_timeout: Duration,
    /// Whether a claude that went away is started again
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        default_value = "on-failure",
        requires = "keep_alive"
    )]
    pub restart: Restart,
    /// Restarts in a row without a completed turn, at most
    #[arg(long, value_name = "N", default_value_t = 5, requires = "keep_alive")]
    pub max_restarts: u32,
    /// The agent may ask, and waits until somebody answers
    #[arg(long)]
    pub ask: bool,
    /// Deny what nobody has answered after so long [default: wait]
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "ask")]
    pub block_timeout: Option<Duration>,
    /// Do not take it up again by recover when it was cut off
    #[arg(long)]
    pub no_recover: bool,
    /// Memory that all its processes may take together, such as 2G (needs a systemd scope)
    #[arg(long, value_name = "BYTES", value_parser = bytes, help_heading = "Limits")]
    pub memory_max: Option<u64>,
    /// Refuse it where jobs with the same labels have spent so much, such as 20/day
    #[arg(long, value_name = "USD/TIME", value_parser = budget, help_heading = "Limits")]
    pub budget_usd: Option<(f64, Duration)>,
    /// Jobs of the directory that run at once; the others are queued. 0: any number
    #[arg(
        long,
        value_name = "N",
        env = "CLAUDE_SKILL_MAX_PARALLEL",
        hide_env_values = true,
        default_value_t = 32,
        help_heading = "Queue"
    )]
    pub max_parallel: u32,
    /// Queued jobs of a higher priority go first (-1000 to 1000)
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1000..=1000), help_heading = "Queue")]
    pub priority: i32,
    /// A name for jobs of which only so many run at once (--group-limit)
    #[arg(long, value_name = "NAME", value_parser = group, help_heading = "Queue")]
    pub group: Option<String>,
    /// Jobs of the group that run at once
    #[arg(long, value_name = "N", default_value_t = 1, requires = "group", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Queue")]
    pub group_limit: u32,
    /// Refuse it instead of queueing it
    #[arg(long, conflicts_with_all = ["after", "after_any", "start_delay"], help_heading = "Queue")]
    pub no_queue: bool,
    /// Wait so long before it takes its place in the queue
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Queue")]
    pub start_delay: Option<Duration>,
    /// Time since the start of the claude before it
    #[arg(long, value_name = "DURATION", value_parser = duration, env = "CLAUDE_SKILL_STAGGER", hide_env_values = true, default_value = "200ms", help_heading = "Queue")]
    pub stagger: Duration,
    /// Jobs that must have completed before it runs; if one does not, it fails
    #[arg(long, value_name = "ID", value_delimiter = ',', help_heading = "Queue")]
    pub after: Vec<String>,
    /// Jobs that must have ended before it runs, however they did
    #[arg(long, value_name = "ID", value_delimiter = ',', help_heading = "Queue")]
    pub after_any: Vec<String>,
    /// How often claude is started again after what may pass: a limit, an overload, an error of
    /// the API (5xx), a crash
    #[arg(
        long,
        value_name = "N",
        env = "CLAUDE_SKILL_RETRIES",
        hide_env_values = true,
        default_value_t = 3,
        help_heading = "Retries"
    )]
    pub retries: u32,
    /// The longest pause between two attempts; the first is 5 s, each further one twice as long
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10m", help_heading = "Retries")]
    pub max_backoff: Duration,
    /// Try again after the usual pause also where the API says when its limit ends
    #[arg(long, help_heading = "Retries")]
    pub no_wait_for_reset: bool,
    /// The longest wait for the end of a limit; beyond it the job fails, and for one that another
    /// job has met it does not wait
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "6h", help_heading = "Retries")]
    pub max_wait: Duration,
    /// A command that is told when the job is blocked or has ended: its status on stdin; repeatable
    #[arg(
        long,
        value_name = "CMD",
        env = "CLAUDE_SKILL_ON_EVENT",
        hide_env_values = true,
        allow_hyphen_values = true,
        help_heading = "News"
    )]
    pub on_event: Vec<String>,
    /// Of which events it is told: blocked, completed, failed, killed [default: all]
    #[arg(long, value_name = "EVENT", value_delimiter = ',', help_heading = "News")]
    pub on_event_filter: Vec<String>,
    /// How long such a command may take before it is ended and tried again [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = positive_duration, help_heading = "News")]
    pub on_event_timeout: Option<Duration>,
    /// Where an agent is woken up likewise: OpenClaw's http://HOST:PORT/hooks/wake
    #[arg(long, value_name = "URL", help_heading = "News")]
    pub wake_url: Option<String>,
    /// The variable that holds the token for it; the token is never stored
    #[arg(long, value_name = "NAME", requires = "wake_url", help_heading = "News")]
    pub wake_token_env: Option<String>,
    /// The session that is woken up, as OpenClaw's agents know theirs
    #[arg(long, value_name = "KEY", requires = "wake_url", help_heading = "News")]
    pub wake_session: Option<String>,
    /// How long background work is waited for after the answer
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h", help_heading = "Limits")]
    pub background_wait: Duration,
    /// If the id is in use, answer with that job instead of an error
    #[arg(long)]
    pub if_absent: bool,
    /// A mark to find the job by; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// Wait for the job's end, at most so long, and answer as wait does
    #[arg(long, value_name = "DURATION", value_parser = duration, num_args = 0..=1, require_equals = false)]
    pub wait: Option<Option<Duration>>,
    /// Play a recorded stream in place of claude: no key, CLI or network needed
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// How many times as fast as recorded the replay is; 0: without pauses
    #[arg(long, value_name = "FACTOR", default_value = "1", requires = "replay", value_parser = factor)]
    pub replay_speed: f64,
    /// Further arguments for claude, as they are
    #[arg(last = true, value_name = "CLAUDE ARGS")]
    pub extra_args: Vec<String>,
}

/// `--restart`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Restart {
    /// A claude that ended although the job is not finished is started again in its session.
    OnFailure,
    /// The job ends with its claude.
    No,
}

/// `--detach`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Detach {
    /// A scope where the restart of a service would end a session, else a session.
    Auto,
    /// A session.
    Session,
    /// A scope, or no job.
    Scope,
}
