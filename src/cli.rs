//! The command line: what may be said, and nothing of what it means.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::{Args, Parser, Subcommand};

const ABOUT: &str = "Runs coding tasks given to Claude Code as persistent, detached jobs.

A job goes on when the shell, the terminal or the caller is gone; all of it is files. \
Answers are JSON where stdout is no terminal.";

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 bad usage, 3 the job was killed, \
4 no such job, 5 the job waits for an answer, 124 the wait's time ran out.";

const SIDECAR: &str = "In: {\"type\":\"ping\"}, query {sessionId, prompt, cwd?, maxTurns?, \
maxBudgetUsd?, resumeSessionId?, permissionMode?, ask?, keepAlive?}, attach {sessionId, sinceOffset?, sinceLogOffset?}, \
stop {sessionId}, message {sessionId, text}, answer {sessionId, choices? | text? | allow? | deny?, \
message?, requestId?}\n\
Out: ready, pong, agent_started, agent_event {event, offset}, agent_log {line, offset}, agent_stopped, agent_error, error";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "claudejob", version, about = ABOUT, after_help = EXIT_CODES)]
#[command(max_term_width = 100, disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Cli {
    /// What holds for every verb.
    #[command(flatten)]
    pub common: Common,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of every verb.
#[derive(Debug, Args)]
pub struct Common {
    /// Where the jobs are [default: $XDG_STATE_HOME/claudejob/jobs or ~/.local/state/…]
    #[arg(long, global = true, value_name = "DIR", env = "CLAUDE_SKILL_JOBS_DIR")]
    pub jobs_dir: Option<PathBuf>,
    /// Answer in JSON also on a terminal
    #[arg(long, global = true, conflicts_with = "plain")]
    pub json: bool,
    /// Answer in text for people also where stdout is no terminal
    #[arg(long, global = true)]
    pub plain: bool,
    /// Indent the JSON
    #[arg(long, global = true)]
    pub pretty: bool,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Start a job and answer at once
    Start(Box<Start>),
    /// How a job stands
    Status(StatusOf),
    /// What a job's agent said and did
    Logs(Logs),
    /// What the workers did and saw, one JSON document a line
    Events(Events),
    /// A job's verdict and answer
    Result(ResultOf),
    /// The jobs: every live one and those that ended last
    List(List),
    /// What the jobs came to: how many, how they ended, cost, time
    Stats(Stats),
    /// Write jobs into one HTML page, to read and to hand on
    Export(Export),
    /// Wait until jobs have ended
    Wait(Wait),
    /// End a job with all its processes
    Kill(OneJob),
    /// Answer what a blocked job asks
    Answer(Answer),
    /// Tell a running job something
    Send(Send),
    /// Stop the turn of a running job
    Interrupt(OneJob),
    /// End a job that is kept alive, as completed
    Finish(OneJob),
    /// Go on with a job that has ended, in the same conversation
    Resume(Resume),
    /// Go on with jobs whose host, worker or claude went away
    Recover(Recover),
    /// Jobs for a program that embeds this one: JSON lines over stdin and stdout
    #[command(after_help = SIDECAR)]
    Sidecar,
    /// Whether jobs can be run here, and what to do about what stands in the way
    Doctor(Doctor),
    /// Tell again what could not be told (--on-event, --wake-url)
    Redeliver(Redeliver),
    /// Remove jobs that have ended
    Clean(Clean),
    /// See a whole job at work, without key, CLI or network
    Demo(Demo),
}

/// A job's id, in either way of giving it.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Target {
    /// The job's id
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// The job's id
    #[arg(long = "job-id", value_name = "ID")]
    pub job_id: Option<String>,
}

impl Target {
    /// The id that was given.
    pub fn into_id(self) -> String {
        self.id.or(self.job_id).unwrap_or_default()
    }
}

/// A verb about one job.
#[derive(Debug, Args)]
#[command(after_help = "Example: claudejob status fix-login")]
pub struct OneJob {
    /// Which.
    #[command(flatten)]
    pub target: Target,
}

/// `start`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: claudejob start fix-login --cwd ~/app --prompt \"Fix the login test\"\n\
    \nThe environment is passed on to claude, and nothing of it is stored."
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
    /// The model
    #[arg(long, value_name = "MODEL", env = "CLAUDE_SKILL_MODEL", hide_env_values = true)]
    pub model: Option<String>,
    /// The path of the claude CLI [default: found on PATH or where its installers put it]
    #[arg(long, value_name = "PATH", env = "CLAUDE_SKILL_CLAUDE", hide_env_values = true)]
    pub claude: Option<PathBuf>,
    /// What claude may do unasked: default, acceptEdits, plan, bypassPermissions, …
    #[arg(long, value_name = "MODE", default_value = "bypassPermissions")]
    pub permission_mode: String,
    /// Tools that need no permission, such as Read or "Bash(git *)"; repeatable
    #[arg(long, value_name = "TOOL", value_delimiter = ',')]
    pub allowed_tools: Vec<String>,
    /// Tools that are denied; repeatable
    #[arg(long, value_name = "TOOL", value_delimiter = ',')]
    pub disallowed_tools: Vec<String>,
    /// A further folder that tools may use; repeatable
    #[arg(long, value_name = "DIR")]
    pub add_dir: Vec<PathBuf>,
    /// Text added to claude's system prompt
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub append_system_prompt: Option<String>,
    /// Turns after which claude stops
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_turns: Option<u32>,
    /// US dollars after which claude stops
    #[arg(long, value_name = "USD", value_parser = dollars)]
    pub max_budget_usd: Option<f64>,
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
    /// How hard the model thinks: low, medium, high, …
    #[arg(long, value_name = "LEVEL")]
    pub effort: Option<String>,
    /// The model to fall back on when the first is overloaded
    #[arg(long, value_name = "MODEL")]
    pub fallback_model: Option<String>,
    /// A denied tool makes the job fail
    #[arg(long)]
    pub fail_on_denial: bool,
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
    /// How long the job may take, such as 90s, 10m or 2h
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Limits")]
    pub timeout: Option<Duration>,
    /// End it after so long without a word from claude [default: never]
    #[arg(long, value_name = "DURATION", value_parser = positive_duration, help_heading = "Limits")]
    pub stall_timeout: Option<Duration>,
    /// The same while a tool is at work
    #[arg(long, value_name = "DURATION", value_parser = positive_duration, default_value = "1h", requires = "stall_timeout", help_heading = "Limits")]
    pub tool_timeout: Duration,
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
    /// Time between the starts of two claudes, which race for the same login file
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
    /// The longest wait for the end of a limit; beyond it the job fails
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

/// `recover`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob recover fix-login\n  claudejob recover --all\n\n\
    Claude goes on with its conversation, or gets the prompt again if there is none yet. Jobs \
    that were killed, have ended, or were started with --no-recover stay as they are. The \
    environment is the caller's: none was stored.")]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(false))]
pub struct Recover {
    /// The job's id
    #[arg(value_name = "ID", group = "which")]
    pub id: Option<String>,
    /// The job's id
    #[arg(long, value_name = "ID", group = "which")]
    pub job_id: Option<String>,
    /// Every job that was cut off
    #[arg(long, group = "which")]
    pub all: bool,
    /// What keeps the job apart from the caller: a session, a systemd scope, or what is needed
    #[arg(long, value_name = "HOW", default_value = "auto", value_enum)]
    pub detach: Detach,
}

/// `redeliver`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob redeliver\n  claudejob redeliver fix-login\n\n\
    claudejob list --undelivered shows what was not told, and why.")]
#[command(group = clap::ArgGroup::new("told").multiple(false))]
pub struct Redeliver {
    /// The job's id [default: every job]
    #[arg(value_name = "ID", group = "told")]
    pub id: Option<String>,
    /// The job's id
    #[arg(long, value_name = "ID", group = "told")]
    pub job_id: Option<String>,
}

/// `clean`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  claudejob clean --dry-run\n  claudejob clean --keep 0 --older-than 7d\n  \
    claudejob clean --label project=app\n\n\
    Never a job that is live, or of which somebody was not told (list --undelivered)."
)]
pub struct Clean {
    /// Only these jobs
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Only this job; repeatable
    #[arg(long, value_name = "ID")]
    pub job_id: Vec<String>,
    /// Leave the N that ended last [default: 50, and 0 where jobs are chosen otherwise]
    #[arg(long, value_name = "N")]
    pub keep: Option<usize>,
    /// Only jobs that ended longer ago
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub older_than: Option<Duration>,
    /// Only jobs with this label; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// Show what would go, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `status`.
#[derive(Debug, Args)]
#[command(after_help = "Example: claudejob status fix-login")]
pub struct StatusOf {
    /// Which.
    #[command(flatten)]
    pub target: Target,
    /// Show what it asks in full
    #[arg(long)]
    pub full: bool,
}

/// `events`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob events fix-login --since 12\n  \
    claudejob events --all --follow    watches every job, also those that are made later")]
#[command(group = clap::ArgGroup::new("whose").required(true).multiple(false))]
pub struct Events {
    /// The job's id
    #[arg(value_name = "ID", group = "whose")]
    pub id: Option<String>,
    /// The job's id
    #[arg(long, value_name = "ID", group = "whose")]
    pub job_id: Option<String>,
    /// Those of every job
    #[arg(long, group = "whose")]
    pub all: bool,
    /// Only events with a higher number
    #[arg(long, value_name = "SEQ")]
    pub since: Option<u64>,
    /// Go on as they come: of one job to its end, of all for ever
    #[arg(long)]
    pub follow: bool,
}

/// `answer`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob answer fix-login --choice Postgres\n  \
    claudejob answer fix-login --text \"Neither: a file will do\"\n  \
    claudejob answer fix-login --deny --message \"Not outside the repository\"\n\n\
    Without an answer it shows, on a terminal, what is asked and lets you choose.")]
pub struct Answer {
    /// Which.
    #[command(flatten)]
    pub target: Target,
    /// The label of an answer that is offered, or QUESTION=LABEL; repeatable, one a question
    #[arg(long, value_name = "LABEL", conflicts_with_all = ["allow", "deny"])]
    pub choice: Vec<String>,
    /// An answer in your own words
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["allow", "deny"], allow_hyphen_values = true)]
    pub text: Option<String>,
    /// Let the tool run
    #[arg(long, conflicts_with = "deny")]
    pub allow: bool,
    /// Do not let the tool run, or leave the question without an answer
    #[arg(long)]
    pub deny: bool,
    /// Why not, for the agent
    #[arg(long, value_name = "WHY", requires = "deny", allow_hyphen_values = true)]
    pub message: Option<String>,
    /// Which request, where several wait
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
}

/// `send`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  claudejob send fix-login --message \"Leave the API as it is\"\n  \
    claudejob send fix-login --message \"Which test failed?\" --wait 5m\n\n\
    A message during a turn is taken into it: there is then one answer to both."
)]
pub struct Send {
    /// Which.
    #[command(flatten)]
    pub target: Target,
    /// What to say.
    #[command(flatten)]
    pub message: Message,
    /// Show what the agent says until the end of that turn
    #[arg(long, conflicts_with = "wait")]
    pub follow: bool,
    /// Wait for the answer of the turn that takes it in, at most so long
    #[arg(long, value_name = "DURATION", value_parser = duration, num_args = 0..=1, require_equals = false)]
    pub wait: Option<Option<Duration>>,
}

/// A message, in one of the ways of giving it.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct Message {
    /// What to say; - reads it from stdin
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub message: Option<String>,
    /// A file that says it
    #[arg(long, value_name = "FILE")]
    pub message_file: Option<PathBuf>,
}

/// `resume`.
#[derive(Debug, Args)]
#[command(after_help = "Example: claudejob resume fix-login --message \"Now the logout test\"\n\n\
    It is another attempt of the same job: history, turns and cost add up. Messages that were not \
    delivered before come first.")]
pub struct Resume {
    /// Which.
    #[command(flatten)]
    pub target: Target,
    /// What to say.
    #[command(flatten)]
    pub message: Message,
    /// What keeps the job apart from the caller: a session, a systemd scope, or what is needed
    #[arg(long, value_name = "HOW", default_value = "auto", value_enum)]
    pub detach: Detach,
}

/// `logs`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob logs fix-login --follow\n  \
    claudejob logs fix-login --since-offset 0 --max-bytes 20000")]
pub struct Logs {
    /// Which.
    #[command(flatten)]
    pub target: Target,
    /// The last N things to read
    #[arg(long, value_name = "N", default_value_t = 50, conflicts_with = "since_offset")]
    pub tail: usize,
    /// What came from this byte of the log on; take nextOffset of the answer for the next call
    #[arg(long, value_name = "N")]
    pub since_offset: Option<u64>,
    /// Bytes of the log to take in at most (a whole line at least)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_bytes: Option<u64>,
    /// Claude's stream as it is (NDJSON)
    #[arg(long, conflicts_with = "stderr")]
    pub raw: bool,
    /// What claude wrote to stderr
    #[arg(long)]
    pub stderr: bool,
    /// Go on until the job has ended
    #[arg(long, short)]
    pub follow: bool,
}

/// `result`.
#[derive(Debug, Args)]
#[command(after_help = "Example: claudejob result fix-login")]
pub struct ResultOf {
    /// Which.
    #[command(flatten)]
    pub target: Target,
    /// Everything, however long
    #[arg(long)]
    pub full: bool,
}

/// `list`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob list --status failed --label project=app\n  \
    claudejob list --since 24h --sort cost --limit 5    the dearest of the last day\n\n\
    Jobs that lack what the list is sorted by come last, also with --reverse.")]
pub struct List {
    /// Every job, not just the live ones and the 20 that ended last
    #[arg(long)]
    pub all: bool,
    /// Only jobs of this status; repeatable
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    pub status: Vec<String>,
    /// Only jobs with this label; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// Only jobs of which somebody could not be told (--on-event, --wake-url)
    #[arg(long)]
    pub undelivered: bool,
    /// Only jobs of this group
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub group: Option<String>,
    /// Only jobs started within this duration (2h, 7d), or since this time (2026-11-20T21:45:12Z)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// The first N of them only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// What comes first
    #[arg(long, value_name = "BY", value_enum, default_value = "started")]
    pub sort: Sort,
    /// The other way round
    #[arg(long)]
    pub reverse: bool,
}

/// `--sort`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Sort {
    /// What started last.
    Started,
    /// What ended last.
    Ended,
    /// What cost most.
    Cost,
    /// What took most turns.
    Turns,
    /// What is live, in the order of a job's life.
    Status,
    /// The first of the alphabet.
    Id,
}

/// `stats`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob stats --since 7d\n  \
    claudejob stats --by label:project --since 2026-11-01\n\nDays are those of UTC.")]
pub struct Stats {
    /// What makes the groups: day, model, group, status or label:KEY
    #[arg(long, value_name = "WHAT", value_parser = by, default_value = "day")]
    pub by: By,
    /// Only jobs that were asked for since: 12h, 7d, 2026-11-20 or 2026-11-20T21:45:00Z
    #[arg(long, value_name = "WHEN", value_parser = since)]
    pub since: Option<Since>,
    /// Only jobs with this label; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// Every group, however long the answer becomes
    #[arg(long)]
    pub all: bool,
}

/// `--by`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// The day.
    Day,
    /// The model.
    Model,
    /// `--group`.
    Group,
    /// How they stand.
    Status,
    /// A label's value.
    Label(String),
}

/// `--since`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So long before now.
    Ago(Duration),
    /// This time.
    At(DateTime<Utc>),
}

/// `export`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob export --html jobs.html --since 7d\n  \
    claudejob export --html fix-login.html fix-login\n\n\
    The page needs nothing but a browser. It holds prompts, answers and what tools gave back: \
    look at it before you hand it on.")]
pub struct Export {
    /// The jobs' ids [default: every job]
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// A job's id; repeatable
    #[arg(long, value_name = "ID")]
    pub job_id: Vec<String>,
    /// The file to make or to replace
    #[arg(long, value_name = "FILE", required = true)]
    pub html: PathBuf,
    /// Only jobs with this label; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// Only jobs that were asked for since: 12h, 7d, 2026-11-20 or 2026-11-20T21:45:00Z
    #[arg(long, value_name = "WHEN", value_parser = since)]
    pub since: Option<Since>,
}

/// `wait`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: claudejob wait fix-login --timeout 10m\n\nExit codes: 0 all completed, \
    1 one failed, 3 one was killed, 124 the time ran out."
)]
pub struct Wait {
    /// The jobs' ids
    #[arg(value_name = "ID", required_unless_present = "job_id")]
    pub ids: Vec<String>,
    /// A job's id; repeatable
    #[arg(long, value_name = "ID")]
    pub job_id: Vec<String>,
    /// Until one of them has ended
    #[arg(long)]
    pub any: bool,
    /// Go on waiting where a job asks something and waits for an answer
    #[arg(long)]
    pub through_blocked: bool,
    /// Wait at most so long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// `demo`.
#[derive(Debug, Args)]
#[command(after_help = "Example: claudejob demo --real \"Say hello\"")]
pub struct Demo {
    /// Take the installed claude and this prompt instead of the recording
    #[arg(long, value_name = "PROMPT", allow_hyphen_values = true)]
    pub real: Option<String>,
}

/// `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Example: claudejob doctor\n\n\
    It changes nothing. Exit codes: 0 no errors, though there may be warnings; 1 errors.")]
pub struct Doctor {
    /// The path of the claude CLI [default: found on PATH or where its installers put it]
    #[arg(long, value_name = "PATH", env = "CLAUDE_SKILL_CLAUDE", hide_env_values = true)]
    pub claude: Option<PathBuf>,
}

/// A duration: `90s`, `10m`, `1h 30m`, `500ms`, or a bare number of seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    let positive = duration(text).map(|duration| Some(duration).filter(|d| !d.is_zero()));
    positive?.ok_or_else(|| "a duration above 0".to_owned())
}

/// A number of bytes: `800M`, `2G`, or without a letter.
fn bytes(text: &str) -> Result<u64, String> {
    let (digits, unit) = text.split_at(text.trim_end_matches(|c: char| !c.is_ascii_digit()).len());
    let factor = match unit.to_ascii_uppercase().trim_end_matches('B') {
        "" => Some(1),
        "K" => Some(1 << 10),
        "M" => Some(1 << 20),
        "G" => Some(1 << 30),
        "T" => Some(1 << 40),
        _ => None,
    };
    let bytes = digits.parse().ok().zip(factor).and_then(|(n, by): (u64, u64)| n.checked_mul(by));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| "bytes, such as 800M or 2G".to_owned())
}

/// An amount over a time: `20/day`, `1.50/hour`, `100/30d`.
fn budget(text: &str) -> Result<(f64, Duration), String> {
    let wanted = || "an amount and a time, such as 20/day, 1.50/hour or 100/30d".to_owned();
    let (usd, time) = text.split_once('/').ok_or_else(wanted)?;
    let time = match time {
        "hour" => "1h",
        "day" => "1d",
        "week" => "7d",
        "month" => "30d",
        other => other,
    };
    let usd = dollars(usd).map_err(|_| wanted())?;
    let time = positive_duration(time).map_err(|_| wanted())?;
    Ok((usd, time))
}

fn group(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let good = (1..=40).contains(&text.len())
        && text.chars().all(fits)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let wanted = "a letter or digit, then at most 39 letters, digits, '_' or '-'";
    if good { Ok(text.to_owned()) } else { Err(wanted.to_owned()) }
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(ago) = duration(text) {
        return Ok(Since::Ago(ago));
    }
    let day = || text.parse().ok().map(|day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc());
    let time = || DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc());
    let at = time().or_else(day).map(Since::At);
    at.ok_or_else(|| "a duration (12h, 7d), a day (2026-11-20) or an RFC 3339 time".to_owned())
}

fn by(text: &str) -> Result<By, String> {
    match text {
        "day" => Ok(By::Day),
        "model" => Ok(By::Model),
        "group" => Ok(By::Group),
        "status" => Ok(By::Status),
        _ => match text.strip_prefix("label:") {
            Some(key) if !key.is_empty() => Ok(By::Label(key.to_owned())),
            _ => Err("day, model, group, status or label:KEY".to_owned()),
        },
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && key.len() <= 64 && value.len() <= 256 => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err("a label is KEY=VALUE, of at most 64 and 256 bytes".to_owned()),
    }
}

fn dollars(text: &str) -> Result<f64, String> {
    let amount = text.parse().ok().filter(|usd: &f64| usd.is_finite() && *usd > 0.0);
    amount.ok_or_else(|| "an amount of US dollars above 0".to_owned())
}

fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor: &f64| factor.is_finite() && *factor >= 0.0);
    factor.ok_or_else(|| "a number from 0 up".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("soon").is_err());
        assert!(duration("-1s").is_err());
    }

    #[test]
    fn amounts_are_read_as_people_write_them() {
        assert_eq!(bytes("800M"), Ok(800 << 20));
        assert_eq!(bytes("2GB"), Ok(2 << 30));
        assert_eq!(bytes("5"), Ok(5));
        for bad in ["", "G", "0", "2X", "-1", "1.5G"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        assert_eq!(budget("20/day"), Ok((20.0, Duration::from_secs(86_400))));
        assert_eq!(budget("1.5/90m"), Ok((1.5, Duration::from_secs(5_400))));
        for bad in ["20", "20/", "/day", "0/day", "x/day", "20/0s"] {
            assert!(budget(bad).is_err(), "{bad}");
        }
        assert!(group("my-app_2").is_ok());
        for bad in ["", "-", "a.b", "ä", "a b", &"a".repeat(41)] {
            assert!(group(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_point_in_time_is_said_in_three_ways() {
        let at = |text: &str| Ok(Since::At(text.parse().unwrap()));
        assert_eq!(since("7d"), Ok(Since::Ago(Duration::from_secs(604_800))));
        assert_eq!(since("2026-11-20"), at("2026-11-20T00:00:00Z"));
        assert_eq!(since("2026-11-20T23:45:00+02:00"), at("2026-11-20T21:45:00Z"));
        assert!(since("yesterday").is_err());
        assert_eq!(by("label:a"), Ok(By::Label("a".to_owned())));
        assert!(by("label:").is_err());
    }

    #[test]
    fn a_prompt_may_begin_with_dashes() {
        let cli = Cli::try_parse_from(["claudejob", "start", "--prompt", "--help me", "--", "-x"]);
        let Verb::Start(start) = cli.unwrap().verb else { panic!() };
        assert_eq!(start.prompt.as_deref(), Some("--help me"));
        assert_eq!(start.extra_args, ["-x"]);
    }

    #[test]
    fn wait_takes_a_duration_or_none() {
        for (args, expected) in [
            (vec!["--prompt", "x"], None),
            (vec!["--prompt", "x", "--wait"], Some(None)),
            (vec!["--wait", "5s", "--prompt", "x"], Some(Some(Duration::from_secs(5)))),
        ] {
            let cli = Cli::try_parse_from(["claudejob", "start"].into_iter().chain(args));
            let Verb::Start(start) = cli.unwrap().verb else { panic!() };
            assert_eq!(start.wait, expected);
        }
    }
}
