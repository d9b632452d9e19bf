//! Arguments that several verbs share.

mod format;
mod inputs;
mod run_options;
mod selection;
mod typed;
mod usage;
mod values;
mod variables;

use std::path::PathBuf;

use clap::Args;

use crate::error::Error;
use crate::job::JobId;

pub(crate) use format::{Format, OutputArgs, format_of_unparsed};
pub(crate) use inputs::{
    absolute, cwd, file_or_json, program, read_file, read_stdin, read_text, schema, text,
};
pub(crate) use run_options::RunOptions;
pub(crate) use selection::{FilterArgs, JobName, SelectorArgs};
pub(crate) use typed::Typed;
pub(crate) use usage::usage_error;
pub(crate) use values::{
    budget, bytes, duration, factor, group, label, notify_event, positive_duration, since, status,
};
pub(crate) use variables::{add_variable_name, without_empty_variables};

/// Maximum size of a message in bytes.
pub(crate) const MAX_MESSAGE_BYTES: usize = 10_000_000;

const GLOBAL: &str = "Global";

/// Full description of `--force-host`.
pub(crate) const FORCE_HOST: &str = "Treat live jobs of other machines as lost\n\nUse it only if \
    that machine is gone for good. In a jobs directory on a network file system, a live job of \
    another machine is left alone, because its lock may not be visible here. If that machine is \
    still running, a second claude may work in the same conversation.";

/// Options of every verb.
#[derive(Debug, Default, Args)]
pub(crate) struct CommonArgs {
    /// Set the jobs directory [default: $XDG_STATE_HOME/claudejob/jobs or ~/.local/state/…]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "CLAUDE_SKILL_JOBS_DIR",
        hide_env_values = true,
        hide_short_help = true,
        help_heading = GLOBAL
    )]
    pub jobs_dir: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
    /// Indent JSON
    #[arg(long, global = true, hide_short_help = true, help_heading = GLOBAL)]
    pub pretty: bool,
    /// Shorten the answer to N characters; 0: never
    ///
    /// The default is 8000 if a variable of the environment says that an agent makes the call, and
    /// else never.
    #[arg(
        long,
        global = true,
        value_name = "N",
        env = "CLAUDE_SKILL_MAX_CHARS",
        hide_env_values = true,
        value_parser = format::max_chars,
        hide_short_help = true,
        help_heading = GLOBAL
    )]
    pub max_chars: Option<usize>,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Whether the configuration file is used.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct ConfigArgs {
    /// Ignore the configuration file
    #[arg(long, global = true, hide_short_help = true, help_heading = GLOBAL)]
    pub no_config: bool,
}

/// Parses a job id from an argument.
pub(crate) fn parse_job_id(text: &str) -> Result<JobId, Error> {
    JobId::parse(text).map_err(|_| Error::InvalidJobId(text.to_owned()))
}

/// Parses several job ids.
pub(crate) fn parse_job_ids(texts: &[String]) -> Result<Vec<JobId>, Error> {
    texts.iter().map(|text| parse_job_id(text)).collect()
}

/// A message: text, stdin or a file.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct MessageArgs {
    /// Set the message; - reads it from stdin
    #[arg(short = 'p', long, value_name = "TEXT", allow_hyphen_values = true)]
    pub message: Option<String>,
    /// Read the message from a file
    #[arg(short = 'f', long, value_name = "FILE")]
    message_file: Option<PathBuf>,
}

impl MessageArgs {
    /// Reads the message; `None` if none was given.
    pub(crate) fn read(&self) -> Result<Option<String>, Error> {
        let message = match (&self.message, &self.message_file) {
            (Some(text), _) => read_text(text, MAX_MESSAGE_BYTES)?,
            (None, Some(file)) => read_file(file, MAX_MESSAGE_BYTES)?,
            (None, None) => return Ok(None),
        };
        check_message(message).map(Some)
    }
}

/// Reads the text of an answer, which is an argument or stdin (`-`). The newline at the end of a here
/// document is not part of it.
pub(crate) fn read_reply(arg: Option<String>) -> Result<Option<String>, Error> {
    let Some(arg) = arg else { return Ok(None) };
    let text = check_message(read_text(&arg, MAX_MESSAGE_BYTES)?)?;
    Ok(Some(if arg == "-" { text.trim_end_matches(['\r', '\n']).to_owned() } else { text }))
}

/// Checks a message and returns its text.
pub(crate) fn check_message(message: Vec<u8>) -> Result<String, Error> {
    if message.len() > MAX_MESSAGE_BYTES {
        return Err(Error::MessageTooLong(MAX_MESSAGE_BYTES));
    }
    let text = String::from_utf8(message)
        .map_err(|error| Error::PromptNotUtf8(error.utf8_error().valid_up_to()))?;
    if text.trim().is_empty() { Err(Error::EmptyMessage) } else { Ok(text) }
}
