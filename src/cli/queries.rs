//! Arguments of the verbs that show jobs.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;

use super::values::{by, label, since};
use super::{FORCE_HOST, JobIdArgs};

/// `status`.
#[derive(Debug, Args)]
#[command(after_help = "Example: claudejob status fix-login")]
pub(crate) struct StatusArgs {
    /// The job.
    #[command(flatten)]
    pub target: JobIdArgs,
    /// Show the whole open request
    #[arg(long)]
    pub full: bool,
    /// Treat live jobs of other machines as lost
    #[arg(long, long_help = FORCE_HOST)]
    pub force_host: bool,
}

/// `events`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob events fix-login --since 12\n  \
    claudejob events --all --follow    follow every job, including new ones")]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(false))]
pub(crate) struct Events {
    /// The job's id
    #[arg(value_name = "ID", group = "which")]
    pub id: Option<String>,
    /// Select the job by id
    #[arg(long, value_name = "ID", group = "which")]
    pub job_id: Option<String>,
    /// Print the events of every job
    #[arg(long, group = "which")]
    pub all: bool,
    /// Print only events with a higher number
    #[arg(long, value_name = "SEQ")]
    pub since: Option<u64>,
    /// Print new events until the job has ended, or forever (--all)
    #[arg(long)]
    pub follow: bool,
}

/// `logs`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob logs fix-login --follow\n  \
    claudejob logs fix-login --since-offset 0 --max-bytes 20000\n  \
    claudejob logs fix-login --merged    with the lines of stderr, in order")]
pub(crate) struct Logs {
    /// The job.
    #[command(flatten)]
    pub target: JobIdArgs,
    /// Show the last N entries
    #[arg(long, value_name = "N", default_value_t = 50, conflicts_with = "since_offset")]
    pub tail: usize,
    /// Start at this byte of the log (nextOffset of the last call)
    #[arg(long, value_name = "N")]
    pub since_offset: Option<u64>,
    /// Read at most N bytes of the log, but at least one line
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_bytes: Option<u64>,
    /// Print claude's stream unchanged (NDJSON)
    #[arg(long, conflicts_with = "stderr")]
    pub raw: bool,
    /// Print claude's stderr
    #[arg(long)]
    pub stderr: bool,
    /// Show stdout and stderr in order; ! marks stderr
    #[arg(long, conflicts_with = "stderr")]
    pub merged: bool,
    /// Print new output until the job has ended
    #[arg(long, short)]
    pub follow: bool,
}

/// `result`.
#[derive(Debug, Args)]
#[command(after_help = "Example: claudejob result fix-login")]
pub(crate) struct ResultArgs {
    /// The job.
    #[command(flatten)]
    pub target: JobIdArgs,
    /// Do not shorten the result
    #[arg(long)]
    pub full: bool,
}

/// `list`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob list --status failed --label project=app\n  \
    claudejob list --since 24h --sort cost --limit 5    most expensive of the last day\n\n\
    Jobs without a value in the sort column come last, with --reverse as well.")]
pub(crate) struct List {
    /// List every job, not just the live and last 20 ended ones
    #[arg(long)]
    pub all: bool,
    /// Select jobs with this status (repeatable)
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    pub status: Vec<String>,
    /// Select jobs with this label (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// Select jobs with undelivered notifications
    #[arg(long)]
    pub undelivered: bool,
    /// Select jobs of this group
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub group: Option<String>,
    /// Select jobs started since: 2h, 7d or an RFC 3339 time
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// List at most N jobs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Sort the jobs
    #[arg(long, value_name = "BY", value_enum, default_value = "started")]
    pub sort: Sort,
    /// Reverse the order
    #[arg(long)]
    pub reverse: bool,
}

/// `--sort`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Sort {
    /// Latest start first
    Started,
    /// Latest end first
    Ended,
    /// Highest cost first
    Cost,
    /// Most turns first
    Turns,
    /// Live jobs first, in the order of a job's life
    Status,
    /// Alphabetical order
    Id,
}

/// `stats`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob stats --since 7d\n  \
    claudejob stats --by label:project --since 2026-11-01\n\nDays are in UTC.")]
pub(crate) struct Stats {
    /// Group by day, model, group, status or label:KEY
    #[arg(long, value_name = "WHAT", value_parser = by, default_value = "day")]
    pub by: GroupByArg,
    /// Select jobs requested since: 7d, 2026-11-20 or RFC 3339
    #[arg(long, value_name = "WHEN", value_parser = since)]
    pub since: Option<Since>,
    /// Select jobs with this label (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// Show every group
    #[arg(long)]
    pub all: bool,
}

/// `--by`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GroupByArg {
    /// By day, in UTC.
    Day,
    Model,
    Group,
    Status,
    /// By the value of this label.
    Label(String),
}

/// `--since`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// Duration before now.
    Ago(Duration),
    /// Point in time.
    At(DateTime<Utc>),
}

/// `export`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob export --html jobs.html --since 7d\n  \
    claudejob export --html fix-login.html fix-login\n\n\
    The page needs only a browser. It contains prompts, answers and tool output: check it before \
    you share it.")]
pub(crate) struct Export {
    /// Ids of the jobs [default: every job]
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// The id of a job (repeatable)
    #[arg(long, value_name = "ID")]
    pub job_id: Vec<String>,
    /// Write the page to this file
    #[arg(long, value_name = "FILE", required = true)]
    pub html: PathBuf,
    /// Select jobs with this label (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// Select jobs requested since: 7d, 2026-11-20 or RFC 3339
    #[arg(long, value_name = "WHEN", value_parser = since)]
    pub since: Option<Since>,
}
