//! `run`: starts a job and follows it to its end.

mod editor;
mod follower;

use std::io::{self, IsTerminal};

use clap::Args;
use nix::sys::signal::Signal;

use super::Call;
use super::start::{JobOptions, MAX_PROMPT_BYTES, StartAnswer, shorten_help, start};
use super::watch::{NOTE_TIMEOUT, Notice, Watch, exit_status_for};
use crate::arguments::{parse_job_id, read_stdin, read_text};
use crate::error::{Error, ExitStatus};
use crate::output::{BOLD, painted, print_text, push_warning, short_path};
use crate::process::{self, AwaitedSignals};
use crate::store::Store;
use crate::text::{harmless, shell_quote};

use editor::PromptFile;
pub(super) use follower::Follower;

/// Signals that do not end the command at once.
const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  claudejob run \"Fix the failing test\"\n  \
    claudejob run -C ~/app -f task.md --max-budget-usd 2\n\n\
    Ctrl-C leaves the job running; pressed twice, it kills the job. Output and exit code at the end \
    are those of claudejob wait; in addition 129, 130, 143: this command got a signal.",
    mut_arg("prompt", |arg| arg.hide(true)),
    mut_args(shorten_help)
)]
pub(crate) struct RunArgs {
    /// The prompt; - reads stdin [default: stdin or editor]
    #[arg(value_name = "PROMPT", conflicts_with_all = ["prompt", "prompt_file"])]
    pub text: Option<String>,
    /// Further words: a prompt that was not quoted.
    #[arg(value_name = "WORDS", hide = true)]
    pub words: Vec<String>,
    /// Name the job [default: made from the time]
    #[arg(short, long, alias = "job-id", value_name = "ID", help_heading = "Job")]
    name: Option<String>,
    #[command(flatten)]
    pub job: JobOptions,
    /// Do not let the agent ask questions
    ///
    /// On a terminal it may ask, and you answer there.
    #[arg(long, conflicts_with = "ask", help_heading = "Session")]
    no_ask: bool,
    /// Kill the job if this command gets a signal
    ///
    /// For scripts whose caller cancels them by a signal, such as CI.
    #[arg(long, help_heading = "Job")]
    kill_on_signal: bool,
}

impl RunArgs {
    pub(crate) fn run(mut self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let (prompt, edited) = self.read_prompt(call)?;
        let asks_in_place = call.is_by_person() && call.printer.is_text();
        if self.no_ask || asks_in_place {
            self.job.set_ask(!self.no_ask);
        }
        let id = match &self.name {
            Some(name) => Some(parse_job_id(name)?),
            None => None,
        };
        let request = self.job.into_request(id, prompt)?;
        // From here on signals wait until the job can be named, or killed.
        let signals = AwaitedSignals::keep(&SIGNALS).map_err(Error::Signals)?;
        process::reap_in_background();
        let started = start(&store, request, &call.env)?;
        if let Some(file) = edited {
            file.remove();
        }
        let mut follower = Follower::new(call, &store, started.job_id.clone(), asks_in_place);
        if self.kill_on_signal {
            follower.kill_on_signal(signals);
        } else {
            follower.heed(signals);
        }
        let printed = print_first_lines(call, &store, &started);
        printed.and_then(|()| follower.run()).map_err(|error| match error {
            // The reader has gone, and the job continues.
            Error::Output(source) => Error::StartNotReported(started.job_id.to_string(), source),
            error => error,
        })
    }

    /// Reads the prompt from the arguments, from stdin, or with an editor, whose file is returned,
    /// too.
    fn read_prompt(&self, call: &Call) -> Result<(Vec<u8>, Option<PromptFile>), Error> {
        if let (Some(first), [_, ..]) = (&self.text, self.words.as_slice()) {
            let prompt = format!("{first} {}", self.words.join(" "));
            return Err(Error::PromptNotQuoted(shell_quote(&prompt)));
        }
        if let Some(text) = &self.text {
            return Ok((read_text(text, MAX_PROMPT_BYTES)?, None));
        }
        if let Some(prompt) = self.job.read_prompt()? {
            return Ok((prompt, None));
        }
        if !io::stdin().is_terminal() {
            return Ok((read_stdin(MAX_PROMPT_BYTES)?, None));
        }
        if !call.is_by_person() {
            return Err(Error::NoPrompt("run"));
        }
        let (prompt, file) = editor::read_prompt(&call.env)?;
        Ok((prompt, Some(file)))
    }

    /// Returns the prompt among the arguments.
    pub(crate) fn texts(&self) -> Vec<&str> {
        let mut texts: Vec<&str> = self.words.iter().map(String::as_str).collect();
        texts.extend(self.text.as_deref());
        texts.extend(self.job.prompt.as_deref());
        texts
    }
}

/// Prints the lines above the conversation: the job, where and with which permissions it runs, and
/// the warnings of its start.
fn print_first_lines(call: &Call, store: &Store, started: &StartAnswer) -> Result<(), Error> {
    if !call.printer.is_text() {
        return Ok(());
    }
    let id = painted(BOLD, started.job_id.as_str());
    let spec = store.job(&started.job_id).load()?.spec;
    let mode = &spec.options.permission_mode;
    let meaning = match mode.as_str() {
        "bypassPermissions" => ": claude asks for no permission",
        "acceptEdits" => ": edits are allowed",
        _ => "",
    };
    let rest = harmless(&format!(" · {} · {mode}{meaning}", short_path(&spec.cwd)));
    let mut text = format!("job {id}{}\n", rest);
    for warning in &started.warnings {
        push_warning(&mut text, warning);
    }
    print_text(&text)
}
