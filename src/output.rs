//! Prints answers, as JSON or as text.
//!
//! JSON goes to stdout, one document per call, errors included, so that callers that merge stdout
//! and stderr can parse it. Text goes to a terminal, in colour unless `NO_COLOR` or `TERM` disable
//! it. Characters that could harm a terminal are escaped in both.

mod text;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::error::ErrorKind;
use serde::Serialize;

use crate::cli::Common;
use crate::commands::answer::{self, AnswerAnswer, OpenRequest};
use crate::commands::clean::CleanAnswer;
use crate::commands::demo::DemoEvent;
use crate::commands::doctor::DoctorAnswer;
use crate::commands::events::JobEvent;
use crate::commands::export::ExportAnswer;
use crate::commands::kill::KillAnswer;
use crate::commands::list::ListAnswer;
use crate::commands::logs::LogsAnswer;
use crate::commands::recover::{RecoverAllAnswer, Recovered};
use crate::commands::redeliver::RedeliverAnswer;
use crate::commands::result::ResultAnswer;
use crate::commands::send::{FinishAnswer, InterruptAnswer, SendAnswer};
use crate::commands::sidecar::SidecarEvent;
use crate::commands::start::StartAnswer;
use crate::commands::stats::StatsAnswer;
use crate::commands::status::StatusAnswer;
use crate::commands::wait::{WaitAnswer, Waited};
use crate::error::{Error, ExitStatus, NOT_FOUND};
use crate::store::addressed;
use crate::text::{harmless, is_harmful};

use text::LiveLine;

/// Prints the answers of a call.
pub(crate) struct Printer {
    json: bool,
    pretty: bool,
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
    /// Selects JSON if stdout is not a terminal, unless the options say otherwise.
    pub(crate) fn new(common: &Common) -> Self {
        let json = common.json || (!common.plain && !io::stdout().is_terminal());
        let jobs_dir = common.jobs_dir.as_deref().and_then(|path| std::path::absolute(path).ok());
        Self { json, pretty: common.pretty, jobs_dir }
    }

    /// Prints an error and returns its exit status.
    pub(crate) fn error(&self, error: &Error) -> ExitStatus {
        let status = error.exit_status();
        // The reader has closed stdout.
        if matches!(error, Error::Output(source) if source.kind() == io::ErrorKind::BrokenPipe) {
            return status;
        }
        let (text, code, mut hint) = (error.to_string(), error.code(), error.hint());
        if let (Some(jobs_dir), false) = (&self.jobs_dir, matches!(error, Error::Usage(_))) {
            hint = hint.map(|hint| addressed(jobs_dir, hint));
        }
        let stdout_failed = matches!(error, Error::Output(_) | Error::StartNotReported(..));
        if stdout_failed || !self.json {
            text::error(&text, hint.as_deref());
        } else if let Error::NotFound(job_id) = error {
            let status = NOT_FOUND;
            let _ = self.json(&NotFoundAnswer { job_id, status, error: text, code, hint });
        } else {
            let _ = self.json(&ErrorAnswer { error: text, code, hint });
        }
        status
    }

    /// `start`.
    pub(crate) fn start(&self, answer: &StartAnswer) -> Result<ExitStatus, Error> {
        self.put(answer, || text::start(answer)).map_err(|error| match error {
            Error::Output(source) => Error::StartNotReported(
                answer.job_id.to_string(),
                answer.status.to_string(),
                source,
            ),
            error => error,
        })?;
        Ok(ExitStatus::Done)
    }

    /// `status`.
    pub(crate) fn status(&self, answer: &StatusAnswer) -> Result<ExitStatus, Error> {
        self.put(answer, || text::status(answer))?;
        Ok(ExitStatus::Done)
    }

    /// `result`.
    pub(crate) fn result(&self, answer: &ResultAnswer) -> Result<ExitStatus, Error> {
        self.put(answer, || text::result(answer))?;
        Ok(ExitStatus::Done)
    }

    /// `list`.
    pub(crate) fn list(&self, answer: &ListAnswer) -> Result<ExitStatus, Error> {
        self.put(answer, || text::list(answer))?;
        Ok(ExitStatus::Done)
    }

    /// `stats`.
    pub(crate) fn stats(&self, answer: &StatsAnswer) -> Result<ExitStatus, Error> {
        self.put(answer, || text::stats(answer))?;
        Ok(ExitStatus::Done)
    }

    /// `export`.
    pub(crate) fn export(&self, answer: &ExportAnswer) -> Result<ExitStatus, Error> {
        self.put(answer, || text::export(answer))?;
        Ok(ExitStatus::Done)
    }

    /// `kill`.
    pub(crate) fn kill(&self, answer: &KillAnswer) -> Result<ExitStatus, Error> {
        self.put(answer, || text::kill(answer))?;
        Ok(if answer.killed { ExitStatus::Done } else { ExitStatus::Failed })
    }

    /// Shows the open request and reads the answer from the terminal.
    pub(crate) fn read_answer(
        &self,
        open: &OpenRequest,
        request: &mut answer::AnswerRequest,
    ) -> Result<(), Error> {
        if self.json || !io::stdin().is_terminal() {
            let why = "no answer given: use --choice, --text, --allow or --deny";
            return Err(Error::Usage(why.to_owned()));
        }
        let mut line = String::new();
        let mut read = |prompt: &str| -> Result<String, Error> {
            write_text(prompt)?;
            line.clear();
            io::stdin().read_line(&mut line).map_err(Error::Output)?;
            Ok(line.trim().to_owned())
        };
        if open.blocked.kind != "question" {
            let reply = read(&text::permission(open))?;
            request.allow = matches!(reply.as_str(), "y" | "yes");
            request.deny = !request.allow;
            return Ok(());
        }
        for question in &open.blocked.questions {
            let reply = read(&text::question(question))?;
            let chosen =
                reply.parse().ok().and_then(|n: usize| question.options.get(n.wrapping_sub(1)));
            match chosen {
                Some(option) => {
                    request.choices.push(format!("{}={}", question.question, option.label));
                }
                None => request.text = Some(reply),
            }
        }
        Ok(())
    }

    /// Prints a line of `sidecar`. Returns false if the reader has closed stdout.
    pub(crate) fn sidecar_line(event: &SidecarEvent) -> bool {
        Self::for_json().json(event).is_ok()
    }

    /// Prints an event, always as JSON. Returns false if the reader has closed stdout.
    pub(crate) fn event(&self, event: &JobEvent) -> bool {
        self.json(event).is_ok()
    }

    /// `answer`.
    pub(crate) fn answer(&self, answer: &AnswerAnswer) -> Result<ExitStatus, Error> {
        self.put(answer, || text::answer(answer))?;
        Ok(if answer.answered || answer.released { ExitStatus::Done } else { ExitStatus::Failed })
    }

    /// `send`.
    pub(crate) fn send(&self, answer: &SendAnswer) -> Result<ExitStatus, Error> {
        self.put(answer, || text::send(answer))?;
        Ok(match &answer.turn {
            Some(None) if answer.status.is_live() => ExitStatus::TimedOut,
            Some(None) => ExitStatus::Failed,
            Some(Some(turn)) if turn.is_error => ExitStatus::Failed,
            _ => ExitStatus::Done,
        })
    }

    /// `finish`.
    pub(crate) fn finish(&self, answer: &FinishAnswer) -> Result<ExitStatus, Error> {
        self.put(answer, || text::finish(answer))?;
        Ok(ExitStatus::Done)
    }

    /// `send --follow`, whose text has been printed already.
    pub(crate) fn send_followed(&self, answer: &SendAnswer) -> Result<ExitStatus, Error> {
        if self.json {
            return self.send(answer);
        }
        let failed = !matches!(&answer.turn, Some(Some(turn)) if !turn.is_error);
        Ok(if failed { ExitStatus::Failed } else { ExitStatus::Done })
    }

    /// `interrupt`.
    pub(crate) fn interrupt(&self, answer: &InterruptAnswer) -> Result<ExitStatus, Error> {
        self.put(answer, || text::interrupt(answer))?;
        Ok(if answer.interrupted { ExitStatus::Done } else { ExitStatus::Failed })
    }

    /// `recover` of one job, and `resume`.
    pub(crate) fn recover(&self, answer: &Recovered) -> Result<ExitStatus, Error> {
        self.put(answer, || text::recovered(answer))?;
        Ok(ExitStatus::Done)
    }

    /// `recover` of all jobs.
    pub(crate) fn recover_all(&self, answer: &RecoverAllAnswer) -> Result<ExitStatus, Error> {
        self.put(answer, || text::recovered_all(answer))?;
        Ok(if answer.failed.is_empty() { ExitStatus::Done } else { ExitStatus::Failed })
    }

    /// `redeliver`.
    pub(crate) fn redeliver(&self, answer: &RedeliverAnswer) -> Result<ExitStatus, Error> {
        self.put(answer, || text::redelivered(answer))?;
        Ok(if answer.failed.is_empty() { ExitStatus::Done } else { ExitStatus::Failed })
    }

    /// `clean`.
    pub(crate) fn clean(&self, answer: &CleanAnswer) -> Result<ExitStatus, Error> {
        self.put(answer, || text::cleaned(answer))?;
        Ok(if answer.left.is_empty() { ExitStatus::Done } else { ExitStatus::Failed })
    }

    /// `wait`.
    pub(crate) fn wait(&self, answer: &WaitAnswer) -> Result<(), Error> {
        self.put(answer, || {
            let texts = answer.jobs.iter().map(|job| match job {
                Waited::Ended(result) => text::result(result),
                Waited::Live(status) => text::status(status),
                Waited::Short(short) => text::short_result(short),
                Waited::Unreadable(job) => text::unreadable_job(job),
            });
            texts.collect::<Vec<_>>().join("\n")
        })
    }

    /// `logs`.
    pub(crate) fn logs(&self, answer: &LogsAnswer) -> Result<ExitStatus, Error> {
        if self.json {
            self.json(answer)?;
        } else {
            self.log_text(answer)?;
        }
        Ok(ExitStatus::Done)
    }

    /// Prints a part of `logs --follow`. Returns false if the reader has closed stdout.
    pub(crate) fn log_part(&self, answer: &LogsAnswer) -> bool {
        let written = if self.json && answer.bytes.is_empty() {
            self.json(answer)
        } else {
            self.log_text(answer)
        };
        written.is_ok()
    }

    /// `doctor`.
    pub(crate) fn doctor(&self, answer: &DoctorAnswer) -> Result<ExitStatus, Error> {
        self.put(answer, || text::doctor(answer))?;
        Ok(if answer.ok { ExitStatus::Done } else { ExitStatus::Failed })
    }

    /// Prints a scene of `demo`. Returns false if the reader has closed stdout.
    pub(crate) fn scene(&self, scene: &DemoEvent<'_>) -> bool {
        let written = match (scene, self.json) {
            (DemoEvent::Started(answer), true) => self.json(answer),
            (DemoEvent::LogGrew(answer), true) => self.json(answer),
            (DemoEvent::Ended(answer), true) => self.json(answer),
            (DemoEvent::LogGrew(answer), false) => self.log_text(answer),
            (scene, false) => write_text(&text::scene(scene)),
        };
        written.is_ok()
    }

    /// Returns the line on which `wait` shows progress; `None` if stderr is not a terminal.
    pub(crate) fn live_line(&self) -> Option<LiveLine> {
        (!self.json && io::stderr().is_terminal()).then(LiveLine::default)
    }

    /// Returns a printer of JSON for a call without parsed options.
    fn for_json() -> Self {
        Self { json: true, pretty: false, jobs_dir: None }
    }

    fn put(&self, answer: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Error> {
        if self.json { self.json(answer) } else { write_text(&text()) }
    }

    fn json(&self, answer: &impl Serialize) -> Result<(), Error> {
        // Serialize into the output directly, so that a long list is never held as text.
        let mut out = io::BufWriter::with_capacity(32 << 10, io::stdout().lock());
        let written = if self.pretty {
            let formatter = Harmless(serde_json::ser::PrettyFormatter::new());
            answer.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))
        } else {
            let formatter = Harmless(serde_json::ser::CompactFormatter);
            answer.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))
        };
        let written = written.map_err(io::Error::from).and_then(|()| out.write_all(b"\n"));
        written.and_then(|()| out.flush()).map_err(Error::Output)
    }

    /// Prints log text. The raw stream is for programs and stays unchanged unless stdout is a
    /// terminal; stderr is for people and is always made harmless.
    fn log_text(&self, answer: &LogsAnswer) -> Result<(), Error> {
        if !answer.is_raw || io::stdout().is_terminal() {
            return write_text(&text::logs(answer));
        }
        let mut out = io::stdout().lock();
        out.write_all(&answer.bytes).and_then(|()| out.flush()).map_err(Error::Output)
    }
}

/// A JSON formatter that escapes characters that could harm a terminal.
struct Harmless<F>(F);

impl<F: serde_json::ser::Formatter> serde_json::ser::Formatter for Harmless<F> {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        text: &str,
    ) -> io::Result<()> {
        if !text.contains(is_harmful) {
            return out.write_all(text.as_bytes());
        }
        out.write_all(escape(text.to_owned()).as_bytes())
    }
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }
    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }
    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }
    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }
    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }
    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }
    fn end_object_key<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_key(out)
    }
    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }
    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}

/// Escapes every character of a JSON text that could harm a terminal. Such characters occur only
/// inside strings, where the escape has the same meaning.
fn escape(json: String) -> String {
    if !json.contains(is_harmful) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if is_harmful(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

fn write_text(text: &str) -> Result<(), Error> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::Output)
}

/// Prints help, version or an error of the parser.
pub(crate) fn usage(error: &clap::Error) -> ExitStatus {
    let is_help = matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if is_help || io::stdout().is_terminal() {
        let text = error.to_string();
        let _ = if text.contains(is_harmful) {
            io::stderr().write_all(harmless(&text).as_bytes())
        } else {
            error.print()
        };
    } else {
        let text = error.to_string();
        let (message, _) = text.split_once("\n\n").unwrap_or((&text, ""));
        let message = message.strip_prefix("error: ").unwrap_or(message);
        let error = Error::Usage(crate::text::one_line(message, 1_000));
        Printer::for_json().error(&error);
    }
    let is_success = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if is_success { ExitStatus::Done } else { ExitStatus::Usage }
}

/// Prints an error of a hidden verb.
pub(crate) fn print_hidden_error(error: &io::Error) -> ExitStatus {
    let _ = writeln!(io::stderr(), "claudejob: {error}");
    ExitStatus::Failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_escapes_control_characters() {
        let text = "\u{7f}\u{9b}2J\u{202e}ok\u{e0041}\u{2028}";
        let escaped = escape(serde_json::to_string(text).unwrap());
        assert!(escaped.is_ascii(), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
    }
}
