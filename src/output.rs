//! Prints answers, as JSON or as text.
//!
//! JSON goes to stdout, one document per call, errors included, so that callers that merge stdout
//! and stderr can parse it; only if stderr alone is a terminal, an error is there as well. Text goes
//! to a terminal, in colour unless `NO_COLOR` or `TERM` disable it. Characters that could harm a
//! terminal are escaped in both.

mod json;
mod layout;
mod live;
mod passage;
mod screen;
mod table;
mod text;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use clap::error::ErrorKind;
use serde::Serialize;

use crate::arguments::{CommonArgs, Format, format_of_unparsed, usage_error};
use crate::error::{Error, ExitStatus, NOT_FOUND};
use crate::job::JobId;
use crate::store::addressed;
use json::JsonForm;

pub(crate) use layout::{columns, fit, hanging, joined, pad, rows, wrapped, wrapped_prose};
pub(crate) use live::{LiveLine, job_line, live_word, now_text};
pub(crate) use passage::{passage_within, speaker_style};
pub(crate) use screen::Screen;
pub(crate) use table::{Cell, Column, Table};
pub(crate) use text::*;

/// A value as compact JSON.
pub(crate) trait Json {
    fn json(&self) -> serde_json::Result<String>;
}

impl<T: Serialize> Json for T {
    fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

/// An answer of a verb: JSON by serde, and text for people.
pub(crate) trait Answer: Json {
    /// Returns the answer as text, in colour and with a final line feed.
    fn text(&self) -> String;

    /// Returns the text with more columns; `None` if it is the same.
    fn wide(&self) -> Option<String> {
        None
    }

    /// Returns the text for `--quiet`: the answer alone. Without it, the ids are printed.
    fn quiet(&self) -> Option<String> {
        None
    }

    /// Returns the answer as Markdown.
    fn markdown(&self) -> Option<String> {
        None
    }

    /// Returns the ids of the jobs of the answer.
    fn ids(&self) -> Option<Vec<JobId>> {
        None
    }

    /// Returns text for stderr about failures that ids and the text for `--quiet` do not contain.
    fn failures(&self) -> String {
        String::new()
    }

    /// Returns bytes that are printed unchanged instead of the text, unless stdout is a terminal.
    fn raw(&self) -> Option<&[u8]> {
        None
    }

    /// Returns the exit status of a call with this answer.
    fn exit_status(&self) -> ExitStatus {
        ExitStatus::Done
    }
}

/// Where JSON answers are written.
#[derive(Clone, Default)]
pub(crate) enum Sink {
    #[default]
    Stdout,
    /// In memory, for a server of another protocol.
    Memory(Arc<MemorySink>),
}

/// An answer in memory.
#[derive(Default)]
pub(crate) struct MemorySink {
    bytes: Mutex<Vec<u8>>,
    is_error: AtomicBool,
}

impl MemorySink {
    /// Returns the answer as JSON text without a final line feed, and empties the sink.
    pub(crate) fn take(&self) -> String {
        let bytes = std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner));
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }

    /// Whether the answer is the error of a failed operation.
    pub(crate) fn is_error(&self) -> bool {
        self.is_error.load(Ordering::Relaxed)
    }
}

/// Prints the answers of a call.
pub(crate) struct Printer {
    format: Format,
    pretty: bool,
    sink: Sink,
    /// The jobs directory, if the call has `--jobs-dir`.
    jobs_dir: Option<PathBuf>,
}

/// Answer of a failed operation.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ErrorAnswer {
    /// The error as text.
    error: String,
    /// The stable code of the error.
    code: &'static str,
    /// What to do about the error.
    hint: Option<String>,
}

/// Answer for a job that does not exist.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct NotFoundAnswer<'a> {
    /// The job's id.
    job_id: &'a str,
    /// Always `not_found`.
    status: &'static str,
    /// The error as text.
    error: String,
    /// Always `not_found`.
    code: &'static str,
    /// The command to run next, for `sh`.
    hint: Option<String>,
}

/// Any answer of a call that failed.
#[cfg(test)]
pub(crate) struct AnyError;

#[cfg(test)]
impl schemars::JsonSchema for AnyError {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AnyError".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let any = [
            generator.subschema_for::<ErrorAnswer>(),
            generator.subschema_for::<NotFoundAnswer<'_>>(),
        ];
        schemars::json_schema!({ "anyOf": any })
    }
}

impl Printer {
    pub(crate) fn new(common: &CommonArgs, sink: Sink) -> Self {
        let jobs_dir = common.jobs_dir.as_deref().and_then(|path| std::path::absolute(path).ok());
        Self { format: common.output.format(), pretty: common.pretty, sink, jobs_dir }
    }

    /// Prints an error with its hint, and returns its exit status.
    pub(crate) fn error(&self, error: &Error, mut hint: Option<String>) -> ExitStatus {
        let status = error.exit_status();
        // The reader has closed stdout.
        if matches!(error, Error::Output(source) if source.kind() == io::ErrorKind::BrokenPipe) {
            return status;
        }
        let (text, code) = (error.to_string(), error.code());
        let is_usage = matches!(error, Error::Usage(_) | Error::Arguments { .. });
        if let (Some(jobs_dir), false) = (&self.jobs_dir, is_usage) {
            hint = hint.map(|hint| addressed(jobs_dir, hint));
        }
        let stdout_failed = matches!(error, Error::Output(_) | Error::StartNotReported(..));
        if stdout_failed || !self.format.is_json() {
            text::error(&text, hint.as_deref());
            return status;
        }
        match &self.sink {
            // The answer goes to a file or a pipe, and a person may watch.
            Sink::Stdout if io::stderr().is_terminal() && !io::stdout().is_terminal() => {
                text::error(&text, None);
            }
            Sink::Stdout => {}
            Sink::Memory(memory) => memory.is_error.store(true, Ordering::Relaxed),
        }
        if let Error::NotFound(job_id) = error {
            let status = NOT_FOUND;
            let _ = self.print_json(&NotFoundAnswer { job_id, status, error: text, code, hint });
        } else {
            let _ = self.print_json(&ErrorAnswer { error: text, code, hint });
        }
        status
    }

    /// Prints an answer and returns its exit status.
    pub(crate) fn print(&self, answer: &dyn Answer) -> Result<ExitStatus, Error> {
        match self.format {
            Format::Json | Format::Ndjson => self.print_json(answer)?,
            Format::Text => print_plain(answer)?,
            Format::Wide => match answer.wide() {
                Some(text) => print_text(&text)?,
                None => print_plain(answer)?,
            },
            Format::Markdown => match answer.markdown() {
                Some(text) => print_text(&text)?,
                None => print_plain(answer)?,
            },
            Format::Quiet if answer.raw().is_some() => print_plain(answer)?,
            Format::Ids => print_short(answer, None)?,
            Format::Quiet => print_short(answer, answer.quiet())?,
        }
        Ok(answer.exit_status())
    }

    /// Returns the line on which `wait` shows progress; `None` if stderr is not a terminal.
    pub(crate) fn live_line(&self) -> Option<LiveLine> {
        (self.format.is_text() && io::stderr().is_terminal() && !is_dumb()).then(LiveLine::default)
    }

    /// Whether text is printed on a terminal that can move its cursor.
    pub(crate) fn is_screen(&self) -> bool {
        self.format.is_text() && io::stdout().is_terminal() && !is_dumb()
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Whether answers are printed as JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.format.is_json()
    }

    /// Whether answers are text for people.
    pub(crate) fn is_text(&self) -> bool {
        self.format.is_text()
    }

    /// Returns the printer for arguments that could not be parsed.
    fn for_unparsed(args: &[OsString], sink: Sink) -> Self {
        let format = format_of_unparsed(args.iter().filter_map(|arg| arg.to_str()));
        Self { format, sink, ..Self::for_json() }
    }

    /// Returns a printer of JSON for a call without parsed options.
    pub(crate) fn for_json() -> Self {
        Self { format: Format::Json, pretty: false, sink: Sink::Stdout, jobs_dir: None }
    }

    /// Prints a value as JSON, whatever the options say.
    pub(crate) fn print_json(&self, value: &(impl Json + ?Sized)) -> Result<(), Error> {
        self.print_json_text(value.json())
    }

    fn print_json_text(&self, json: serde_json::Result<String>) -> Result<(), Error> {
        let form = match self.format {
            Format::Ndjson => JsonForm::Lines,
            _ if self.pretty => JsonForm::Pretty,
            _ => JsonForm::Compact,
        };
        let json = json::formatted(json.map_err(|error| Error::Output(error.into()))?, form);
        match &self.sink {
            Sink::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(json.as_bytes()).and_then(|()| out.flush()).map_err(Error::Output)
            }
            Sink::Memory(memory) => {
                let mut bytes = memory.bytes.lock().unwrap_or_else(PoisonError::into_inner);
                bytes.extend_from_slice(json.as_bytes());
                Ok(())
            }
        }
    }
}

/// Prints an answer for people, or unchanged if a program reads it that wants it so.
pub(crate) fn print_plain(answer: &dyn Answer) -> Result<(), Error> {
    match answer.raw() {
        Some(raw) if !io::stdout().is_terminal() => {
            let mut out = io::stdout().lock();
            out.write_all(raw).and_then(|()| out.flush()).map_err(Error::Output)
        }
        _ => print_text(&answer.text()),
    }
}

/// Whether the terminal cannot move its cursor.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|name| name == "dumb")
}

/// Prints the text for `--quiet`, or else the ids, and the failures to stderr.
fn print_short(answer: &dyn Answer, quiet: Option<String>) -> Result<(), Error> {
    let text = match (quiet, answer.ids()) {
        (Some(text), _) => text,
        (None, Some(ids)) => ids.iter().map(|id| format!("{id}\n")).collect(),
        (None, None) => answer.text(),
    };
    print_text(&text)?;
    print_note(&answer.failures());
    Ok(())
}

/// Prints text to stdout.
pub(crate) fn print_text(text: &str) -> Result<(), Error> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::Output)
}

/// Prints help, version or an error of the parser. `help` is the command that shows the help of the
/// verb.
pub(crate) fn usage(error: &clap::Error, args: &[OsString], help: &str, sink: Sink) -> ExitStatus {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitStatus::Done
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitStatus::Usage
        }
        _ => {
            let error = usage_error(error, help);
            Printer::for_unparsed(args, sink).error(&error, error.hint())
        }
    }
}

/// Refuses the arguments of a hidden verb, such as `--help`.
pub(crate) fn refuse_hidden_verb(name: &str) -> ExitStatus {
    let _ = writeln!(io::stderr(), "claudejob {name}: internal command, see claudejob --help");
    ExitStatus::Usage
}

/// Prints an error of a hidden verb.
pub(crate) fn print_hidden_error(error: &io::Error) -> ExitStatus {
    let _ = writeln!(io::stderr(), "claudejob: {error}");
    ExitStatus::Failed
}
