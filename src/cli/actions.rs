//! Arguments of the verbs that act on jobs.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::values::{duration, label};
use super::{Detach, FORCE_HOST, JobIdArgs, RunOptions};

/// `kill`.
#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// The job.
    #[command(flatten)]
    pub target: JobIdArgs,
    /// Treat live jobs of other machines as lost
    #[arg(long, long_help = FORCE_HOST)]
    pub force_host: bool,
}

/// `recover`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob recover fix-login\n  claudejob recover --all\n\n\
    Claude continues its conversation, or gets the prompt again if it had none yet. A job that \
    failed because its dependency was interrupted waits for that job again. Jobs that were \
    killed, ended by themselves or were started with --no-recover are not changed. The \
    environment is the caller's, because none was stored.")]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(false))]
pub(crate) struct Recover {
    /// The job's id
    #[arg(value_name = "ID", group = "which")]
    pub id: Option<String>,
    /// Select the job by id
    #[arg(long, value_name = "ID", group = "which")]
    pub job_id: Option<String>,
    /// Recover every interrupted job and the jobs that need it
    #[arg(long, group = "which")]
    pub all: bool,
    /// Select how the job is detached from the caller
    #[arg(long, value_name = "HOW", default_value = "auto", value_enum)]
    pub detach: Detach,
    /// Treat live jobs of other machines as lost
    #[arg(long, long_help = FORCE_HOST)]
    pub force_host: bool,
}

/// `redeliver`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob redeliver\n  claudejob redeliver fix-login\n\n\
    claudejob list --undelivered shows the notifications and the errors.")]
#[command(group = clap::ArgGroup::new("job").multiple(false))]
pub(crate) struct Redeliver {
    /// The job's id [default: every job]
    #[arg(value_name = "ID", group = "job")]
    pub id: Option<String>,
    /// Select the job by id
    #[arg(long, value_name = "ID", group = "job")]
    pub job_id: Option<String>,
}

/// `clean`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  claudejob clean --dry-run\n  claudejob clean --keep 0 --older-than 7d\n  \
    claudejob clean --label project=app\n\n\
    It never removes a job that is live, that a queued job waits for, or that has undelivered \
    notifications (list --undelivered)."
)]
pub(crate) struct Clean {
    /// Consider only these jobs
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Consider only this job (repeatable)
    #[arg(long, value_name = "ID")]
    pub job_id: Vec<String>,
    /// Keep the N jobs that ended last [default: 50; 0 with a filter]
    #[arg(long, value_name = "N")]
    pub keep: Option<usize>,
    /// Consider only jobs that ended longer ago, such as 7d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub older_than: Option<Duration>,
    /// Select jobs with this label (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// Show what would be removed, without removing it
    #[arg(long)]
    pub dry_run: bool,
    /// Treat live jobs of other machines as lost
    #[arg(long, long_help = FORCE_HOST)]
    pub force_host: bool,
}

/// `answer`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob answer fix-login --choice Postgres\n  \
    claudejob answer fix-login --text \"Neither, use a file\"\n  \
    claudejob answer fix-login --deny --message \"Not outside the repository\"\n\n\
    Without an answer, on a terminal, it shows the request and prompts for the answer.")]
pub(crate) struct Answer {
    /// The job.
    #[command(flatten)]
    pub target: JobIdArgs,
    /// Choose an option, as LABEL or QUESTION=LABEL (repeatable)
    #[arg(long, value_name = "LABEL", conflicts_with_all = ["allow", "deny"])]
    pub choice: Vec<String>,
    /// Answer with free text
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["allow", "deny"], allow_hyphen_values = true)]
    pub text: Option<String>,
    /// Allow the tool call
    #[arg(long, conflicts_with = "deny")]
    pub allow: bool,
    /// Deny the tool call, or decline the question
    #[arg(long)]
    pub deny: bool,
    /// Tell the agent why (with --deny)
    #[arg(long, value_name = "TEXT", requires = "deny", allow_hyphen_values = true)]
    pub message: Option<String>,
    /// Stop claude and free the slot until the answer arrives
    #[arg(long, conflicts_with_all = ["choice", "text", "allow", "deny"])]
    pub release: bool,
    /// Select one of several open requests
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
}

/// `send`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  claudejob send fix-login --message \"Leave the API as it is\"\n  \
    claudejob send fix-login --message \"Which test failed?\" --wait 5m\n\n\
    A message during a turn becomes part of that turn, which has one answer."
)]
pub(crate) struct Send {
    /// The job.
    #[command(flatten)]
    pub target: JobIdArgs,
    /// The message.
    #[command(flatten)]
    pub message: Message,
    /// Show the agent's output until the end of that turn
    #[arg(long, conflicts_with = "wait")]
    pub follow: bool,
    /// Wait for the answer, at most for DURATION
    #[arg(long, value_name = "DURATION", value_parser = duration, num_args = 0..=1, require_equals = false)]
    pub wait: Option<Option<Duration>>,
}

/// A message: text, stdin or a file.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Message {
    /// Set the message; - reads it from stdin
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub message: Option<String>,
    /// Read the message from a file
    #[arg(long, value_name = "FILE")]
    pub message_file: Option<PathBuf>,
}

/// `resume`.
#[derive(Debug, Args)]
#[command(after_help = "Example: claudejob resume fix-login --message \"Now the logout test\"\n\n\
    It starts another attempt of the same job: log, turns and cost accumulate. Messages that \
    were not delivered before come first. The given options replace those of the job, for later \
    attempts as well.")]
pub(crate) struct Resume {
    /// The job.
    #[command(flatten)]
    pub target: JobIdArgs,
    /// The message.
    #[command(flatten)]
    pub message: Message,
    /// Options that replace those of the job.
    #[command(flatten)]
    pub run: RunOptions,
    /// Select how the job is detached from the caller
    #[arg(long, value_name = "HOW", default_value = "auto", value_enum)]
    pub detach: Detach,
}
