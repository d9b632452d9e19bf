//! Definition of the command line. [`requests`](crate::requests) interprets it.

mod run_options;
mod start;
mod values;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use run_options::RunOptions;
pub use start::{Detach, Restart, Start};
pub use values::duration;
use values::{by, label, since};

const ABOUT: &str = "Run Claude Code tasks as persistent, detached jobs

A job continues when its shell, terminal or caller is gone; its whole state is files. \
Output is JSON unless stdout is a terminal.";

const EXIT_CODES: &str = "Exit codes: 0 success, 1 failure, 2 invalid arguments, 3 the job was \
killed, 4 no such job, 5 the job waits for an answer, 75 temporary failure (try again later), \
124 the wait timed out.";

const SIDECAR: &str = "In: {\"type\":\"ping\"}, query {sessionId, prompt, cwd?, maxTurns?, \
maxBudgetUsd?, resumeSessionId?, permissionMode?, ask?, keepAlive?}, attach {sessionId, sinceOffset?, sinceLogOffset?}, \
stop {sessionId}, message {sessionId, text}, answer {sessionId, choices? | text? | allow? | deny?, \
message?, requestId?, release?}\n\
Out: ready, pong, agent_started, agent_event {event, offset}, agent_log {line, offset}, agent_stopped, agent_error, error\n\
A query for a session that has ended or is idle continues it.\n\
After the end of its input, the sidecar reports its sessions until each has ended or waits for its caller.";

/// The parsed command line.
#[derive(Debug, Parser)]
#[command(name = "claudejob", version, about = ABOUT, after_help = EXIT_CODES)]
#[command(max_term_width = 100, disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Cli {
    /// Options of every verb.
    #[command(flatten)]
    pub common: Common,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

impl Verb {
    /// Returns the texts for claude among the arguments: prompts, messages and answers.
    pub fn texts_for_claude(&self) -> Vec<&str> {
        let (words, message) = match self {
            Self::Start(start) => (&start.prompt, None),
            Self::Send(send) => (&send.message.message, None),
            Self::Resume(resume) => (&resume.message.message, None),
            Self::Answer(answer) => (&answer.text, answer.message.as_deref()),
            _ => return Vec::new(),
        };
        words.as_deref().into_iter().chain(message).collect()
    }
}

impl Cli {
    /// Parses the command line. For the most frequent verbs only the definition of the given verb
    /// is built, because building all of them takes longer than the rest of the call. Errors come
    /// from the complete parser.
    pub fn parse_args(args: &[OsString]) -> Result<Self, clap::Error> {
        if let Some(cli) = Self::parse_single_verb(args) {
            return Ok(cli);
        }
        let matches = without_empty_variables(Self::command()).try_get_matches_from(args);
        let matches = matches.map_err(|error| add_variable_name(error, args))?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut Self::command()))
    }

    fn parse_single_verb(args: &[OsString]) -> Option<Self> {
        let verb = match args.get(1)?.to_str()? {
            "start" => Start::augment_args(Command::new("start")),
            "status" => StatusArgs::augment_args(Command::new("status")),
            "result" => ResultArgs::augment_args(Command::new("result")),
            "logs" => Logs::augment_args(Command::new("logs")),
            "list" => List::augment_args(Command::new("list")),
            "wait" => Wait::augment_args(Command::new("wait")),
            "send" => Send::augment_args(Command::new("send")),
            "kill" => Kill::augment_args(Command::new("kill")),
            _ => return None,
        };
        let command = Common::augment_args(Command::new("claudejob").subcommand(verb));
        let command = without_empty_variables(command.disable_version_flag(true));
        let matches = command.try_get_matches_from(args).ok()?;
        Self::from_arg_matches(&matches).ok()
    }
}

/// Makes a command treat an empty environment variable as unset.
fn without_empty_variables(command: Command) -> Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let unset = |arg: Arg| match arg.get_env() {
        Some(name) if is_empty(name) => arg.env(Resettable::Reset),
        _ => arg,
    };
    command.mut_args(unset).mut_subcommands(without_empty_variables)
}

/// Adds the name of the environment variable to an error if the invalid value came from one. The
/// parser names only the flag, which the caller did not use.
fn add_variable_name(mut error: clap::Error, args: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let flag = argument.strip_prefix("--").and_then(|rest| rest.split([' ', '=', '[']).next());
    let Some(flag) = flag else { return error };
    let is_flag = |arg: &OsString| {
        let rest = arg.to_str().and_then(|arg| arg.strip_prefix("--")?.strip_prefix(flag));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    if args.iter().take_while(|arg| *arg != "--").any(is_flag) {
        return error;
    }
    let command = Cli::command();
    let commands = [&command].into_iter().chain(command.get_subcommands());
    let definition =
        commands.flat_map(Command::get_arguments).find(|arg| arg.get_long() == Some(flag));
    if let Some(name) = definition.and_then(Arg::get_env) {
        let both = format!("{} ({argument})", name.display());
        error.insert(ContextKind::InvalidArg, ContextValue::String(both));
    }
    error
}

const GLOBAL: &str = "Global options";

/// Options of every verb.
#[derive(Debug, Args)]
pub struct Common {
    /// Set the jobs directory [default: $XDG_STATE_HOME/claudejob/jobs or ~/.local/state/…]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "CLAUDE_SKILL_JOBS_DIR",
        hide_env_values = true,
        help_heading = GLOBAL
    )]
    pub jobs_dir: Option<PathBuf>,
    /// Print JSON even on a terminal
    #[arg(long, global = true, conflicts_with = "plain", help_heading = GLOBAL)]
    pub json: bool,
    /// Print text even if stdout is not a terminal
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub plain: bool,
    /// Indent JSON
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub pretty: bool,
}

/// The verb of a call.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Start a job and return at once
    Start(Box<Start>),
    /// Show a job's status
    Status(StatusArgs),
    /// Show what a job's agent said and did
    Logs(Logs),
    /// Print the workers' events as JSON lines
    Events(Events),
    /// Show a job's result
    Result(ResultArgs),
    /// List live and recently ended jobs
    List(List),
    /// Show statistics: number of jobs, success rate, cost, time
    Stats(Stats),
    /// Export jobs as one HTML page
    Export(Export),
    /// Wait until jobs have ended
    Wait(Wait),
    /// Kill a job and all its processes
    #[command(after_help = "Example: claudejob kill fix-login\n\nExit codes: 0 the job was \
        killed, 1 it ended in another way, 4 no such job.")]
    Kill(Kill),
    /// Answer a question or permission request of a blocked job
    Answer(Answer),
    /// Send a message to a live job
    Send(Send),
    /// Interrupt the current turn of a job
    #[command(after_help = "Example: claudejob interrupt fix-login")]
    Interrupt(OneJob),
    /// Finish a job that is kept alive
    #[command(after_help = "Example: claudejob finish helper")]
    Finish(OneJob),
    /// Continue the conversation of a job that has ended
    Resume(Resume),
    /// Continue jobs that lost their host, worker or claude
    Recover(Recover),
    /// Serve a parent program over JSON lines on stdin and stdout
    #[command(after_help = SIDECAR)]
    Sidecar,
    /// Check whether jobs can run here
    Doctor(Doctor),
    /// Deliver undelivered notifications again
    Redeliver(Redeliver),
    /// Remove jobs that have ended
    Clean(Clean),
    /// Run a demo job; needs no API key, CLI or network
    Demo(Demo),
}

/// A job's id, as an argument or an option.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct JobIdArgs {
    /// The job's id
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Select the job by id
    #[arg(long = "job-id", value_name = "ID")]
    pub job_id: Option<String>,
}

impl JobIdArgs {
    /// Returns the given id.
    pub fn into_id(self) -> String {
        self.id.or(self.job_id).unwrap_or_default()
    }
}

/// Arguments of a verb with one job.
#[derive(Debug, Args)]
pub struct OneJob {
    /// The job.
    #[command(flatten)]
    pub target: JobIdArgs,
}

/// `kill`.
#[derive(Debug, Args)]
pub struct Kill {
    /// The job.
    #[command(flatten)]
    pub target: JobIdArgs,
    /// Treat live jobs of other machines as lost
    #[arg(long, long_help = FORCE_HOST)]
    pub force_host: bool,
}

/// Full description of `--force-host`.
const FORCE_HOST: &str = "Treat live jobs of other machines as lost\n\nUse it only if that \
    machine is gone for good. In a jobs directory on a network file system, a live job of another \
    machine is left alone, because its lock may not be visible here. If that machine is still \
    running, a second claude may work in the same conversation.";

/// `recover`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob recover fix-login\n  claudejob recover --all\n\n\
    Claude continues its conversation, or gets the prompt again if it had none yet. A job that \
    failed because its dependency was interrupted waits for that job again. Jobs that were \
    killed, ended by themselves or were started with --no-recover are not changed. The \
    environment is the caller's, because none was stored.")]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(false))]
pub struct Recover {
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
pub struct Redeliver {
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
pub struct Clean {
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

/// `status`.
#[derive(Debug, Args)]
#[command(after_help = "Example: claudejob status fix-login")]
pub struct StatusArgs {
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
pub struct Events {
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

/// `answer`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob answer fix-login --choice Postgres\n  \
    claudejob answer fix-login --text \"Neither, use a file\"\n  \
    claudejob answer fix-login --deny --message \"Not outside the repository\"\n\n\
    Without an answer, on a terminal, it shows the request and prompts for the answer.")]
pub struct Answer {
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
pub struct Send {
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
pub struct Message {
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
pub struct Resume {
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

/// `logs`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob logs fix-login --follow\n  \
    claudejob logs fix-login --since-offset 0 --max-bytes 20000\n  \
    claudejob logs fix-login --merged    with the lines of stderr, in order")]
pub struct Logs {
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
pub struct ResultArgs {
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
pub struct List {
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
pub enum Sort {
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
pub struct Stats {
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
pub enum GroupByArg {
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
pub enum Since {
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
pub struct Export {
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

/// `wait`.
#[derive(Debug, Args)]
#[command(after_help = "Example: claudejob wait fix-login --timeout 10m\n\nExit codes: 0 all \
    completed, 1 one failed, 3 one was killed, 4 no such job, 5 one waits for an answer, 75 one \
    failed temporarily (try again later), 124 the wait timed out. With several jobs the first of \
    4, 3, 1, 75, 5, 0 applies.")]
pub struct Wait {
    /// Ids of the jobs
    #[arg(value_name = "ID", required_unless_present = "job_id")]
    pub ids: Vec<String>,
    /// The id of a job (repeatable)
    #[arg(long, value_name = "ID")]
    pub job_id: Vec<String>,
    /// Wait until one of the jobs has ended
    #[arg(long)]
    pub any: bool,
    /// Keep waiting while a job is blocked
    #[arg(long)]
    pub through_blocked: bool,
    /// Wait at most for this time, such as 10m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// `demo`.
#[derive(Debug, Args)]
#[command(after_help = "Example: claudejob demo --real \"Say hello\"")]
pub struct Demo {
    /// Run the installed claude with this prompt
    #[arg(long, value_name = "PROMPT", allow_hyphen_values = true)]
    pub real: Option<String>,
}

/// `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Example: claudejob doctor\n\n\
    It changes nothing. Exit codes: 0 no errors, possibly warnings; 1 errors.")]
pub struct Doctor {
    /// Set the path of the claude CLI [default: search PATH]
    #[arg(long, value_name = "PATH", env = "CLAUDE_SKILL_CLAUDE", hide_env_values = true)]
    pub claude: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn single_verb_parser_equals_complete_parser() {
        for line in [
            "claudejob start --prompt x --after a,b --max-parallel 3 --json",
            "claudejob status a --jobs-dir /j",
            "claudejob status --job-id a --full",
            "claudejob wait a b --any --timeout 5s",
            "claudejob list --status running,failed --sort cost",
            "claudejob logs a --tail 3",
            "claudejob kill a",
            "claudejob send a --message hi --wait",
            "claudejob result a --pretty",
        ] {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let complete = Cli::try_parse_from(&args).unwrap();
            let single = Cli::parse_single_verb(&args).unwrap();
            assert_eq!(format!("{single:?}"), format!("{complete:?}"), "{line}");
        }
        for line in ["claudejob status", "claudejob wait a --timeout x", "claudejob list --help"] {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert!(
                Cli::parse_single_verb(&args).is_none() && Cli::parse_args(&args).is_err(),
                "{line}"
            );
        }
    }

    #[test]
    fn help_lines_are_at_most_60_characters() {
        let command = Cli::command();
        for command in [&command].into_iter().chain(command.get_subcommands()) {
            let about = command.get_about().map(ToString::to_string);
            let helps = command.get_arguments().filter_map(Arg::get_help).map(ToString::to_string);
            for help in about.into_iter().chain(helps) {
                let line = help.split(['\n', '[']).next().unwrap_or_default();
                assert!(line.chars().count() <= 60, "{}: {line}", command.get_name());
            }
        }
    }

    #[test]
    fn accepts_prompt_with_leading_dashes() {
        let cli = Cli::try_parse_from(["claudejob", "start", "--prompt", "--help me", "--", "-x"]);
        let Verb::Start(start) = cli.unwrap().verb else { panic!() };
        assert_eq!(start.prompt.as_deref(), Some("--help me"));
        assert_eq!(start.extra_args, ["-x"]);
    }

    #[test]
    fn wait_duration_is_optional() {
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
