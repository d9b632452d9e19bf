//! The command line: global options and the list of verbs.

mod run_call;

use std::ffi::OsString;

use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::arguments::{CommonArgs, Format, Typed, add_variable_name, without_empty_variables};
use crate::commands::Call;
use crate::commands::answer::AnswerArgs;
use crate::commands::attach::AttachArgs;
use crate::commands::clean::{CleanArgs, RmArgs};
use crate::commands::completions::CompletionsArgs;
use crate::commands::demo::DemoArgs;
use crate::commands::diff::DiffArgs;
use crate::commands::doctor::DoctorArgs;
use crate::commands::events::EventsArgs;
use crate::commands::export::ExportArgs;
use crate::commands::finish::FinishArgs;
use crate::commands::interrupt::InterruptArgs;
use crate::commands::kill::KillArgs;
use crate::commands::list::ListArgs;
use crate::commands::logs::LogsArgs;
use crate::commands::mcp::McpArgs;
use crate::commands::open::OpenArgs;
use crate::commands::pause::PauseArgs;
use crate::commands::recover::RecoverArgs;
use crate::commands::redeliver::RedeliverArgs;
use crate::commands::rerun::RerunArgs;
use crate::commands::result::ResultArgs;
use crate::commands::resume::ResumeArgs;
use crate::commands::run::RunArgs;
use crate::commands::send::SendArgs;
use crate::commands::setup::SetupArgs;
use crate::commands::sidecar::SidecarArgs;
use crate::commands::start::StartArgs;
use crate::commands::stats::StatsArgs;
use crate::commands::status::StatusArgs;
use crate::commands::top::TopArgs;
use crate::commands::unpause::UnpauseArgs;
use crate::commands::update::UpdateArgs;
use crate::commands::wait::WaitArgs;
use crate::config::{Defaults, UserConfig};
use crate::error::{Error, ExitStatus};
use crate::store::set_configured_root;

use run_call::call_in_memory;
pub(crate) use run_call::run_call;

const ABOUT: &str = "Run Claude Code tasks as persistent, detached jobs

A job continues when its shell, terminal or caller is gone; its whole state is files. \
Output is JSON unless stdout is a terminal.";

const AFTER_HELP: &str = "Examples:
  claudejob run \"Fix the failing test\"
  claudejob start fix-login -C ~/app -p \"Fix the login test\"
  claudejob logs -f fix-login

Exit codes: 0 success, 1 failure, 2 invalid arguments, 3 the job was \
killed, 4 no such job, 5 the job waits for an answer, 75 temporary failure (try again later), \
124 the wait timed out, 129, 130 or 143 run or wait was left by a signal.";

/// The verbs in the groups and the order in which the help lists them.
pub(crate) const GROUPS: [(&str, &[&str]); 5] = [
    ("Start", &["run", "start", "rerun", "resume", "recover"]),
    (
        "Look",
        &["list", "top", "status", "logs", "result", "diff", "wait", "events", "stats", "export"],
    ),
    ("Talk", &["attach", "open", "answer", "send", "interrupt", "finish"]),
    ("Control", &["kill", "pause", "unpause", "update", "clean", "rm"]),
    ("Set up", &["doctor", "setup", "demo", "redeliver", "mcp", "sidecar", "completions", "help"]),
];

/// The verbs whose options the configuration file sets.
const CONFIGURED: [&str; 3] = ["run", "start", "doctor"];

/// Width of the column of verbs in the help.
const VERB_WIDTH: usize = 14;

/// The parsed command line.
#[derive(Debug, Parser)]
#[command(name = "claudejob", version, about = ABOUT, after_help = AFTER_HELP)]
#[command(max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Options of every verb.
    #[command(flatten)]
    pub common: CommonArgs,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

impl Verb {
    /// Runs the verb, which prints its answer, and returns the exit status.
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        match self {
            Self::Run(args) => args.run(call),
            Self::Start(args) => args.run(call),
            Self::Rerun(args) => args.run(call),
            Self::Resume(args) => args.run(call),
            Self::Recover(args) => args.run(call),
            Self::List(args) => args.run(call),
            Self::Top(args) => args.run(call),
            Self::Status(args) => args.run(call),
            Self::Logs(args) => args.run(call),
            Self::Result(args) => args.run(call),
            Self::Diff(args) => args.run(call),
            Self::Wait(args) => args.run(call),
            Self::Events(args) => args.run(call),
            Self::Stats(args) => args.run(call),
            Self::Export(args) => args.run(call),
            Self::Attach(args) => args.run(call),
            Self::Open(args) => args.run(call),
            Self::Answer(args) => args.run(call),
            Self::Send(args) => args.run(call),
            Self::Interrupt(args) => args.run(call),
            Self::Finish(args) => args.run(call),
            Self::Kill(args) => args.run(call),
            Self::Pause(args) => args.run(call),
            Self::Unpause(args) => args.run(call),
            Self::Update(args) => args.run(call),
            Self::Clean(args) => args.run(call),
            Self::Rm(args) => args.run(call),
            Self::Doctor(args) => args.run(call),
            Self::Setup(args) => args.run(call),
            Self::Demo(args) => args.run(call),
            Self::Redeliver(args) => args.run(call),
            Self::Mcp(args) => args.run(call, call_in_memory),
            Self::Sidecar(args) => args.run(call),
            Self::Completions(args) => args.run(),
        }
    }

    /// Returns the given profile, if the verb is one of [`CONFIGURED`].
    fn profile(&self) -> Option<Option<&str>> {
        match self {
            Self::Run(run) => Some(run.job.run.profile.as_deref()),
            Self::Start(start) => Some(start.job.run.profile.as_deref()),
            Self::Doctor(doctor) => Some(doctor.profile.as_deref()),
            _ => None,
        }
    }

    /// Whether answers of the verb have this format.
    pub(crate) fn has_format(&self, format: Format) -> bool {
        let names_jobs = matches!(
            self,
            Self::Run(_)
                | Self::Start(_)
                | Self::Rerun(_)
                | Self::Resume(_)
                | Self::Recover(_)
                | Self::List(_)
                | Self::Result(_)
                | Self::Wait(_)
                | Self::Kill(_)
                | Self::Pause(_)
                | Self::Unpause(_)
                | Self::Update(_)
                | Self::Clean(_)
                | Self::Rm(_)
        );
        match format {
            Format::Text | Format::Wide | Format::Json | Format::Ndjson => true,
            Format::Ids => names_jobs,
            Format::Quiet => names_jobs || matches!(self, Self::Status(_) | Self::Logs(_)),
            Format::Markdown => matches!(self, Self::Run(_) | Self::Result(_) | Self::Wait(_)),
        }
    }

    /// Returns the texts for claude among the arguments: prompts, messages and answers.
    pub(crate) fn texts_for_claude(&self) -> Vec<&str> {
        let (text, message) = match self {
            Self::Run(run) => return run.texts(),
            Self::Start(start) => (&start.job.prompt, None),
            Self::Rerun(rerun) => (&rerun.prompt, None),
            Self::Send(send) => (&send.message.message, send.text.as_deref()),
            Self::Resume(resume) => (&resume.message.message, None),
            Self::Answer(answer) => (&answer.reply.text, answer.reply.message.as_deref()),
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
        Self::parse_with(args, &Defaults::default())
            .map_err(|error| add_variable_name(error, args, &Self::command()))
    }

    /// Reads the configuration file, and adds its options to the arguments.
    pub(crate) fn configure(&mut self, args: &[OsString]) -> Result<UserConfig, Error> {
        let loaded = UserConfig::load();
        // The hints are for calls without `--no-config`.
        if let Ok(config) = &loaded
            && let Some(root) = &config.jobs_dir
        {
            set_configured_root(root.clone());
        }
        // A shell evaluates the output of `completions`, which must not be an error.
        if self.common.config.no_config || matches!(self.verb, Verb::Completions(_)) {
            return Ok(UserConfig::default());
        }
        let config = loaded?;
        if let Some(profile) = self.verb.profile() {
            let defaults = config.defaults(profile)?;
            if !defaults.is_empty() {
                *self = Self::parse_with(args, &defaults)
                    .map_err(|error| config.refused(&defaults, &error))?;
            }
        }
        if self.common.jobs_dir.is_none() {
            self.common.jobs_dir = config.jobs_dir.clone();
        }
        Ok(config)
    }

    /// Parses the command line, with the configured defaults of the verbs that take them.
    fn parse_with(args: &[OsString], defaults: &Defaults) -> Result<Self, clap::Error> {
        if let Some(cli) = Self::parse_single_verb(args, defaults) {
            return Ok(cli);
        }
        let command = with_groups(Self::command()).mut_subcommands(|verb| with(defaults, verb));
        let command = without_empty_variables(command);
        let mut matches = command.try_get_matches_from(help_of_help(args))?;
        Self::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut Self::command()))
    }

    /// Returns the command that shows the help of the verb among these arguments.
    pub(crate) fn help_command(args: &[OsString]) -> String {
        match Self::verb_name(args) {
            Some(verb) => format!("claudejob {verb} --help"),
            None => "claudejob --help".to_owned(),
        }
    }

    /// Returns the verb among these arguments; `None` without one, and for `help`.
    pub(crate) fn verb_name(args: &[OsString]) -> Option<String> {
        let mut command = Self::command();
        command.build();
        let words: Vec<String> =
            args.iter().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
        let typed = Typed::parse(&command, &words);
        // The program itself, or the verb `help`.
        if typed.command.has_subcommands() {
            return None;
        }
        Some(typed.command.get_name().to_owned())
    }

    fn parse_single_verb(args: &[OsString], defaults: &Defaults) -> Option<Self> {
        let verb = match args.get(1)?.to_str()? {
            "run" => RunArgs::augment_args(Command::new("run")),
            "start" => StartArgs::augment_args(Command::new("start")),
            "status" => StatusArgs::augment_args(Command::new("status")),
            "result" => ResultArgs::augment_args(Command::new("result")),
            "logs" | "tail" => LogsArgs::augment_args(Command::new("logs").alias("tail")),
            "list" | "ls" | "ps" => {
                ListArgs::augment_args(Command::new("list").aliases(["ls", "ps"]))
            }
            "wait" => WaitArgs::augment_args(Command::new("wait")),
            "send" => SendArgs::augment_args(Command::new("send")),
            "kill" | "stop" => KillArgs::augment_args(Command::new("kill").alias("stop")),
            _ => return None,
        };
        let verb = with(defaults, verb);
        let command = CommonArgs::augment_args(Command::new("claudejob").subcommand(verb));
        let command = without_empty_variables(command.disable_version_flag(true));
        let mut matches = command.try_get_matches_from(args).ok()?;
        Self::from_arg_matches_mut(&mut matches).ok()
    }
}

/// Replaces `help --help` by `help help`: clap takes what follows `help` for a verb.
fn help_of_help(args: &[OsString]) -> Vec<OsString> {
    let mut args = args.to_vec();
    if let [_, verb, option] = args.as_mut_slice()
        && *verb == "help"
        && (*option == "--help" || *option == "-h")
    {
        *option = "help".into();
    }
    args
}

/// Sets the defaults of a verb that takes them.
fn with(defaults: &Defaults, verb: Command) -> Command {
    if CONFIGURED.contains(&verb.get_name()) { defaults.apply(verb) } else { verb }
}

/// Lists the verbs in groups in the help: clap has headings for options alone.
fn with_groups(command: Command) -> Command {
    let styles = command.get_styles();
    let (header, literal) = (*styles.get_header(), *styles.get_literal());
    let mut verbs = String::new();
    for (group, names) in GROUPS {
        verbs.push_str(&format!("{header}{group}:{header:#}\n"));
        for name in names {
            let (mut label, mut about) =
                ((*name).to_owned(), "Print the help of a command".to_owned());
            if let Some(verb) = command.find_subcommand(name) {
                for alias in verb.get_visible_aliases() {
                    label.push_str(&format!(", {alias}"));
                }
                about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            }
            verbs.push_str(&format!("  {literal}{label:VERB_WIDTH$}{literal:#} {about}\n"));
        }
        verbs.push('\n');
    }
    let options = format!("{header}Options:{header:#}");
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{verbs}{options}\n{{options}}{{after-help}}"
    ))
}

/// The verb of a call.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a job and follow it to its end
    Run(Box<RunArgs>),
    /// Start a job and return at once
    Start(Box<StartArgs>),
    /// Start a new job with the request of another
    Rerun(RerunArgs),
    /// Continue the conversations of jobs that have ended
    Resume(ResumeArgs),
    /// Continue jobs that lost their host, worker or claude
    Recover(RecoverArgs),
    /// List live and recently ended jobs
    #[command(visible_aliases = ["ls", "ps"])]
    List(ListArgs),
    /// Watch the jobs live, and act on them by keys
    Top(TopArgs),
    /// Show a job's status
    Status(StatusArgs),
    /// Show what jobs' agents said and did
    #[command(visible_alias = "tail")]
    Logs(LogsArgs),
    /// Show jobs' results
    Result(ResultArgs),
    /// Show what a job changed
    Diff(DiffArgs),
    /// Wait until jobs have ended
    Wait(WaitArgs),
    /// Print the workers' events as JSON lines
    Events(EventsArgs),
    /// Show statistics: number of jobs, success rate, cost, time
    Stats(StatsArgs),
    /// Export jobs as one HTML page
    Export(ExportArgs),
    /// Follow a job, and talk to it at a terminal
    Attach(AttachArgs),
    /// Continue a job's session in the interactive claude
    Open(OpenArgs),
    /// Answer a question or permission request of a blocked job
    Answer(AnswerArgs),
    /// Send a message to a live job
    Send(SendArgs),
    /// Interrupt the current turn of a job
    Interrupt(InterruptArgs),
    /// Finish a job that is kept alive
    Finish(FinishArgs),
    /// Kill jobs and all their processes
    #[command(visible_alias = "stop")]
    Kill(KillArgs),
    /// Hold queued jobs back
    Pause(PauseArgs),
    /// Let paused jobs continue
    Unpause(UnpauseArgs),
    /// Change the priority or slots of queued jobs
    Update(UpdateArgs),
    /// Remove jobs that have ended
    Clean(CleanArgs),
    /// Remove the given ended jobs
    Rm(RmArgs),
    /// Check whether jobs can run here
    Doctor(DoctorArgs),
    /// Set another program up to use claudejob
    Setup(SetupArgs),
    /// Run a demo job; needs no API key, CLI or network
    Demo(DemoArgs),
    /// Deliver undelivered notifications again
    Redeliver(RedeliverArgs),
    /// Serve Claude Code and other MCP clients over stdio
    Mcp(McpArgs),
    /// Serve a parent program over JSON lines on stdin and stdout
    Sidecar(SidecarArgs),
    /// Print a shell completion script
    Completions(CompletionsArgs),
}

#[cfg(test)]
mod tests;
