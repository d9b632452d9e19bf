//! The command line: what may be said, and nothing of what it means.

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

const ABOUT: &str = "Runs coding tasks given to Claude Code as persistent, detached jobs.

A job goes on when the shell, the terminal or the caller is gone; all of it is files. \
Answers are JSON where stdout is no terminal.";

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 bad usage, 3 the job was killed, \
4 no such job, 5 the job waits for an answer, 75 may be repeated later, 124 the wait's time ran \
out.";

const SIDECAR: &str = "In: {\"type\":\"ping\"}, query {sessionId, prompt, cwd?, maxTurns?, \
maxBudgetUsd?, resumeSessionId?, permissionMode?, ask?, keepAlive?}, attach {sessionId, sinceOffset?, sinceLogOffset?}, \
stop {sessionId}, message {sessionId, text}, answer {sessionId, choices? | text? | allow? | deny?, \
message?, requestId?, release?}\n\
Out: ready, pong, agent_started, agent_event {event, offset}, agent_log {line, offset}, agent_stopped, agent_error, error\n\
A query for a session that has ended or is idle continues it\n\
After the end of its input it reports its sessions until each has ended or waits for its caller";

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

impl Verb {
    /// What is to be said to claude, as the arguments have it.
    pub fn words_for_claude(&self) -> Vec<&str> {
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
    /// The command line, parsed: of the verbs that are called most only the one that is meant, so
    /// that the definitions of all others cost nothing. Whatever is wrong with it is said by the
    /// whole parser, which knows them all.
    pub fn of(args: &[OsString]) -> Result<Self, clap::Error> {
        if let Some(cli) = Self::of_one_verb(args) {
            return Ok(cli);
        }
        let matches = without_empty_variables(Self::command()).try_get_matches_from(args);
        let matches = matches.map_err(|error| naming_variable(error, args))?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut Self::command()))
    }

    fn of_one_verb(args: &[OsString]) -> Option<Self> {
        let verb = match args.get(1)?.to_str()? {
            "start" => Start::augment_args(Command::new("start")),
            "status" => StatusOf::augment_args(Command::new("status")),
            "result" => ResultOf::augment_args(Command::new("result")),
            "logs" => Logs::augment_args(Command::new("logs")),
            "list" => List::augment_args(Command::new("list")),
            "wait" => Wait::augment_args(Command::new("wait")),
            "send" => Send::augment_args(Command::new("send")),
            "kill" => Kill::augment_args(Command::new("kill")),
            _ => return None,
        };
        let whole = Common::augment_args(Command::new("claudejob").subcommand(verb));
        let whole = without_empty_variables(whole.disable_version_flag(true));
        let matches = whole.try_get_matches_from(args).ok()?;
        Self::from_arg_matches(&matches).ok()
    }
}

/// The same command, to which a variable that is empty counts as unset.
fn without_empty_variables(command: Command) -> Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let unset = |arg: Arg| match arg.get_env() {
        Some(name) if is_empty(name) => arg.env(Resettable::Reset),
        _ => arg,
    };
    command.mut_args(unset).mut_subcommands(without_empty_variables)
}

/// The error, which names the variable where a value came from one: the parser itself names only
/// the flag, which nobody gave.
fn naming_variable(mut error: clap::Error, args: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(said)) = error.get(ContextKind::InvalidArg) else { return error };
    let flag = said.strip_prefix("--").and_then(|said| said.split([' ', '=', '[']).next());
    let Some(flag) = flag else { return error };
    let gives = |arg: &OsString| {
        let behind = arg.to_str().and_then(|arg| arg.strip_prefix("--")?.strip_prefix(flag));
        behind.is_some_and(|behind| behind.is_empty() || behind.starts_with('='))
    };
    if args.iter().take_while(|arg| *arg != "--").any(gives) {
        return error;
    }
    let whole = Cli::command();
    let commands = [&whole].into_iter().chain(whole.get_subcommands());
    let meant = commands.flat_map(Command::get_arguments).find(|arg| arg.get_long() == Some(flag));
    if let Some(name) = meant.and_then(Arg::get_env) {
        let both = format!("{} ({said})", name.display());
        error.insert(ContextKind::InvalidArg, ContextValue::String(both));
    }
    error
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
    #[command(after_help = "Example: claudejob kill fix-login\n\nExit codes: 0 it is killed, \
        1 it has ended otherwise, 4 no such job.")]
    Kill(Kill),
    /// Answer what a blocked job asks
    Answer(Answer),
    /// Tell a running job something
    Send(Send),
    /// Stop the turn of a running job
    #[command(after_help = "Example: claudejob interrupt fix-login")]
    Interrupt(OneJob),
    /// End a job that is kept alive, as completed
    #[command(after_help = "Example: claudejob finish helper")]
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
#[derive(Clone, Debug, Args)]
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
pub struct OneJob {
    /// Which.
    #[command(flatten)]
    pub target: Target,
}

/// `kill`.
#[derive(Debug, Args)]
pub struct Kill {
    /// Which.
    #[command(flatten)]
    pub target: Target,
    /// Take over jobs of a machine that is gone for good
    #[arg(long, long_help = FORCE_HOST)]
    pub force_host: bool,
}

/// What `--force-host` does, in full.
const FORCE_HOST: &str = "Take over jobs of a machine that is gone for good\n\nIn a jobs directory \
    on a network file system, a live job of another machine is left alone, because its lock may \
    not reach here. With this option it counts as lost. If that machine still runs, a second \
    claude may work in the same conversation.";

/// `recover`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob recover fix-login\n  claudejob recover --all\n\n\
    Claude goes on with its conversation, or gets the prompt again if there is none yet. What \
    failed with a job that it waited for, and that was cut off, waits for it again. Jobs \
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
    /// Every job that was cut off, and those that failed with it
    #[arg(long, group = "which")]
    pub all: bool,
    /// What keeps the job apart from the caller: a session, a systemd scope, or what is needed
    #[arg(long, value_name = "HOW", default_value = "auto", value_enum)]
    pub detach: Detach,
    /// Take over jobs of a machine that is gone for good
    #[arg(long, long_help = FORCE_HOST)]
    pub force_host: bool,
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
    Never a job that is live, that a queued one waits for, or of which somebody was not told \
    (list --undelivered)."
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
    /// Take over jobs of a machine that is gone for good
    #[arg(long, long_help = FORCE_HOST)]
    pub force_host: bool,
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
    /// Take over jobs of a machine that is gone for good
    #[arg(long, long_help = FORCE_HOST)]
    pub force_host: bool,
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
    /// End claude until the answer comes: the job holds no slot meanwhile
    #[arg(long, conflicts_with_all = ["choice", "text", "allow", "deny"])]
    pub release: bool,
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
    delivered before come first. Options that are given replace the job's own, also for later \
    attempts.")]
pub struct Resume {
    /// Which.
    #[command(flatten)]
    pub target: Target,
    /// What to say.
    #[command(flatten)]
    pub message: Message,
    /// What replaces the job's own.
    #[command(flatten)]
    pub run: RunOptions,
    /// What keeps the job apart from the caller: a session, a systemd scope, or what is needed
    #[arg(long, value_name = "HOW", default_value = "auto", value_enum)]
    pub detach: Detach,
}

/// `logs`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob logs fix-login --follow\n  \
    claudejob logs fix-login --since-offset 0 --max-bytes 20000\n  \
    claudejob logs fix-login --merged    what it wrote to stderr as well, in its place")]
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
    /// Both streams of claude in the order in which they came, lines of stderr marked by !
    #[arg(long, conflicts_with = "stderr")]
    pub merged: bool,
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
    1 one failed, 3 one was killed, 4 no such job, 5 one waits for an answer, 75 one failed but may \
    be repeated later, 124 the time ran out; of several the first of 4, 3, 1, 75, 5, 0."
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn one_verb_alone_is_understood_as_among_all() {
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
            let whole = Cli::try_parse_from(&args).unwrap();
            let alone = Cli::of_one_verb(&args).unwrap();
            assert_eq!(format!("{alone:?}"), format!("{whole:?}"), "{line}");
        }
        for line in ["claudejob status", "claudejob wait a --timeout x", "claudejob list --help"] {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert!(Cli::of_one_verb(&args).is_none() && Cli::of(&args).is_err(), "{line}");
        }
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
