//! Definition of the command line. [`requests`](crate::requests) interprets it.

mod actions;
mod queries;
mod run_options;
mod start;
mod values;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

pub(crate) use actions::*;
pub(crate) use queries::*;
pub(crate) use run_options::RunOptions;
pub(crate) use start::{Detach, Restart, Start};
pub(crate) use values::duration;

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
pub(crate) struct Cli {
    /// Options of every verb.
    #[command(flatten)]
    pub common: Common,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

impl Verb {
    /// Returns the texts for claude among the arguments: prompts, messages and answers.
    pub(crate) fn texts_for_claude(&self) -> Vec<&str> {
        let (text, message) = match self {
            Self::Start(start) => (&start.prompt, None),
            Self::Send(send) => (&send.message.message, None),
            Self::Resume(resume) => (&resume.message.message, None),
            Self::Answer(answer) => (&answer.text, answer.message.as_deref()),
            _ => return Vec::new(),
        };
        text.as_deref().into_iter().chain(message).collect()
    }
}

impl Cli {
    /// Parses the command line. For the most frequent verbs only the definition of the given verb
    /// is built, because building all of them takes longer than the rest of the call. Errors come
    /// from the complete parser.
    pub(crate) fn parse_args(args: &[OsString]) -> Result<Self, clap::Error> {
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

/// Full description of `--force-host`.
const FORCE_HOST: &str = "Treat live jobs of other machines as lost\n\nUse it only if that \
    machine is gone for good. In a jobs directory on a network file system, a live job of another \
    machine is left alone, because its lock may not be visible here. If that machine is still \
    running, a second claude may work in the same conversation.";

/// Options of every verb.
#[derive(Debug, Args)]
pub(crate) struct Common {
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
pub(crate) enum Verb {
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
pub(crate) struct JobIdArgs {
    /// The job's id
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Select the job by id
    #[arg(long = "job-id", value_name = "ID")]
    pub job_id: Option<String>,
}

impl JobIdArgs {
    /// Returns the given id.
    pub(crate) fn into_id(self) -> String {
        self.id.or(self.job_id).unwrap_or_default()
    }
}

/// Arguments of a verb with one job.
#[derive(Debug, Args)]
pub(crate) struct OneJob {
    /// The job.
    #[command(flatten)]
    pub target: JobIdArgs,
}

/// `wait`.
#[derive(Debug, Args)]
#[command(after_help = "Example: claudejob wait fix-login --timeout 10m\n\nExit codes: 0 all \
    completed, 1 one failed, 3 one was killed, 4 no such job, 5 one waits for an answer, 75 one \
    failed temporarily (try again later), 124 the wait timed out. With several jobs the first of \
    4, 3, 1, 75, 5, 0 applies.")]
pub(crate) struct Wait {
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
pub(crate) struct Demo {
    /// Run the installed claude with this prompt
    #[arg(long, value_name = "PROMPT", allow_hyphen_values = true)]
    pub real: Option<String>,
}

/// `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Example: claudejob doctor\n\n\
    It changes nothing. Exit codes: 0 no errors, possibly warnings; 1 errors.")]
pub(crate) struct Doctor {
    /// Set the path of the claude CLI [default: search PATH]
    #[arg(long, value_name = "PATH", env = "CLAUDE_SKILL_CLAUDE", hide_env_values = true)]
    pub claude: Option<PathBuf>,
}

#[cfg(test)]
mod tests;
