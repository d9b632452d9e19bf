//! `answer`: answers a question or a permission request that an agent waits for.

mod dialog;
mod matching;
mod tool_call;

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Call;
use super::observe::observe;
use super::recipient::{Recipient, live_job_dir};
use super::watch::Watch;
use crate::arguments::{JobName, read_reply};
use crate::error::{Error, ExitStatus};
use crate::job::{
    Blocked, InboxMessage, JobId, Record, Status, allow_response, denied_by_person, full_status,
    parse_questions,
};
use crate::output::{Answer, BOLD, columns, painted, print_text, rows, short_path};
use crate::screen::Picker;
use crate::store::{EVENTS, JobDir, OUTPUT, Store, addressed};
use crate::stream::{Event, decode};
use crate::text::from_json;
pub(super) use dialog::{Dialog, DialogStep};
use matching::match_answers;
use tool_call::{Place, description};

/// Time limit for the worker to pass the answer on.
const WORKER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a file that may be out of date is read again.
const STALE_READ_INTERVAL: Duration = Duration::from_millis(200);
/// Time limit for claude to exit.
const CLAUDE_EXIT_TIMEOUT: Duration = Duration::from_secs(8);

/// Arguments of `answer`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob answer fix-login --choice Postgres\n  \
    claudejob answer fix-login --text \"Neither, use a file\"\n  \
    claudejob answer fix-login --deny --message \"Not outside the repository\"\n\n\
    Without an answer, on a terminal, it shows the request and prompts for the answer.")]
pub(crate) struct AnswerArgs {
    #[command(flatten)]
    target: JobName,
    #[command(flatten)]
    pub reply: Reply,
}

/// An answer to a request of the agent.
#[derive(Debug, Default, Args)]
pub(crate) struct Reply {
    /// Choose an option by label or number (repeatable)
    ///
    /// QUESTION=LABEL chooses for one of several questions.
    #[arg(long = "choice", value_name = "LABEL", conflicts_with_all = ["allow", "deny"])]
    pub choices: Vec<String>,
    /// Answer with free text; - reads it from stdin
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["allow", "deny"], allow_hyphen_values = true)]
    pub text: Option<String>,
    /// Allow the tool call
    #[arg(long, conflicts_with = "deny")]
    pub allow: bool,
    /// Deny the tool call, or decline the question
    #[arg(long)]
    pub deny: bool,
    /// Tell the agent why (with --deny); - reads stdin
    // clap takes no option for missing that another one excludes.
    #[arg(long, value_name = "TEXT", requires = "deny", allow_hyphen_values = true)]
    #[arg(conflicts_with_all = ["choices", "text", "allow"])]
    pub message: Option<String>,
    /// Stop claude and free the slot until the answer arrives
    #[arg(long, conflicts_with_all = ["choices", "text", "allow", "deny"])]
    pub release: bool,
    /// Select one of several open requests
    #[arg(long, value_name = "REQUEST")]
    pub request_id: Option<String>,
}

impl AnswerArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        let id = call.job(&store, &self.target)?;
        if self.reply.is_empty() {
            let open = open(&store, &id, self.reply.request_id.as_deref())?;
            if call.printer.is_json() || !call.is_by_person() {
                let why = "no answer given: use --choice, --text, --allow or --deny";
                return Err(Error::Usage(why.to_owned()));
            }
            return ask(call, &store, &id, open);
        }
        call.print(&answer(&store, &id, &self.reply.with_texts()?)?)
    }
}

/// Asks on the terminal for the answer to a request, and sends it. Sends nothing if the input ends.
fn ask(call: &Call, store: &Store, id: &JobId, open: OpenRequest) -> Result<ExitStatus, Error> {
    let mut dialog = begin_dialog(store, id, open)?;
    print_text(&format!("{}{}", heading(id), dialog.text()))?;
    let mut lines = io::stdin().lock().lines();
    while let Some(Ok(line)) = lines.next() {
        match dialog.feed(&line) {
            DialogStep::Ask(text) => print_text(&text)?,
            DialogStep::Answer(response) => {
                return call.print(&respond(store, id, dialog.request_id(), response)?);
            }
        }
    }
    print_text("\n")?;
    Ok(ExitStatus::Left)
}

/// Returns the line above the dialog about a job's request.
pub(super) fn heading(id: &JobId) -> String {
    format!("job {} asks\n", painted(BOLD, id.as_str()))
}

/// Begins the dialog about a request of the job.
pub(super) fn begin_dialog(store: &Store, id: &JobId, open: OpenRequest) -> Result<Dialog, Error> {
    // The terminal also shows the text around the difference.
    let description = describe(store, id, &open, rows().saturating_sub(6))?;
    Ok(Dialog::new(open, description, columns()))
}

/// Returns the choices for a request of the job. What a tool call would do is described in at most
/// `rows` lines.
pub(super) fn picker(
    store: &Store,
    id: &JobId,
    open: OpenRequest,
    rows: usize,
) -> Result<Picker, Error> {
    let description = if open.blocked.questions.is_empty() {
        describe(store, id, &open, rows)?
    } else {
        String::new()
    };
    let OpenRequest { blocked, input } = open;
    Ok(Picker::new(blocked.request_id, input, blocked.questions, description))
}

/// Returns what a tool call would do; a difference of files in at most `rows` lines.
fn describe(store: &Store, id: &JobId, open: &OpenRequest, rows: usize) -> Result<String, Error> {
    let cwd = short_path(&observe(store, id)?.record.spec.cwd);
    let full = addressed(store.root(), full_status(id));
    Ok(description(open, &Place { cwd: &cwd, max_lines: rows.max(4), full: &full }))
}

impl Reply {
    fn is_empty(&self) -> bool {
        self.choices.is_empty() && self.text.is_none() && !self.allow && !self.deny && !self.release
    }

    /// Checks the text or the message, and reads `-` from stdin.
    fn with_texts(self) -> Result<Self, Error> {
        let (text, message) = (read_reply(self.text)?, read_reply(self.message)?);
        Ok(Self { text, message, ..self })
    }
}

/// The result of an answer.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct AnswerAnswer {
    /// The job's id.
    pub job_id: JobId,
    /// Id of the request that was answered.
    pub request_id: String,
    /// Claude received this answer; false if another answer came first, or none was given.
    pub answered: bool,
    /// Claude was ended, and the question remains open.
    pub released: bool,
    /// The job's status.
    pub status: Status,
    /// The command to run next, as `sh` takes it; null for a completed job.
    pub hint: Option<String>,
}

impl Answer for AnswerAnswer {
    fn text(&self) -> String {
        let id = painted(BOLD, self.job_id.as_str());
        if self.released {
            format!(
                "Job {id} was released: it waits for the answer without claude and without a slot.\n"
            )
        } else if self.answered {
            format!("Job {id} was answered and is {}.\n", self.status)
        } else {
            format!("Job {id} no longer waits for this answer and is {}.\n", self.status)
        }
    }

    fn exit_status(&self) -> ExitStatus {
        if self.answered || self.released { ExitStatus::Done } else { ExitStatus::Failed }
    }
}

/// A request that waits for an answer, with the complete input.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    /// The request as shown in the record.
    pub blocked: Blocked,
    /// The tool's complete input.
    pub input: Value,
}

/// Returns the open request with this id, or the only open one.
pub(crate) fn open(
    store: &Store,
    id: &JobId,
    request_id: Option<&str>,
) -> Result<OpenRequest, Error> {
    let dir = live_job_dir(store, id)?;
    let record = observe(store, id)?.record;
    let Some(blocked) = &record.blocked else {
        return Err(Error::NothingAsked(id.to_string(), "it has no open request".to_owned()));
    };
    let wanted = match request_id {
        Some(wanted) => wanted,
        None if blocked.others.is_empty() => &blocked.request_id,
        None => {
            let ids = format!("{}, {}", blocked.request_id, blocked.others.join(", "));
            let why = format!("several requests are open: choose one with --request-id ({ids})");
            return Err(Error::NothingAsked(id.to_string(), why));
        }
    };
    let is_open = *wanted == blocked.request_id || blocked.others.iter().any(|o| o == wanted);
    if is_open && let Some(request) = read_request(&dir, &record, wanted) {
        return Ok(request);
    }
    Err(Error::NothingAsked(id.to_string(), format!("it has no open request {wanted}")))
}

/// Ends claude, so that the job occupies no slot while its question is open.
fn release(store: &Store, id: &JobId, request_id: Option<&str>) -> Result<AnswerAnswer, Error> {
    let recipient = Recipient::find(store, id)?;
    let request_id = open(store, id, request_id)?.blocked.request_id;
    let released =
        send_to_worker(store, &recipient, &InboxMessage::Release, "released", CLAUDE_EXIT_TIMEOUT)?;
    let observed = observe(store, id)?;
    let (status, hint) = (observed.record.status, observed.hint());
    Ok(AnswerAnswer { job_id: id.clone(), request_id, answered: false, released, status, hint })
}

/// Answers the request. The result says whether claude received this answer or an earlier one.
pub(crate) fn answer(store: &Store, id: &JobId, request: &Reply) -> Result<AnswerAnswer, Error> {
    if request.release {
        return release(store, id, request.request_id.as_deref());
    }
    // Read first, so that the answer never reaches a later job with the same id.
    let recipient = Recipient::find(store, id)?;
    let OpenRequest { blocked, input } = open(store, id, request.request_id.as_deref())?;
    let response = if request.deny {
        denied_by_person(request.message.as_deref().unwrap_or_default())
    } else if blocked.kind == "question" {
        if request.allow {
            return Err(wrong_answer(id, "answer a question with --choice or --text".to_owned()));
        }
        let asked = parse_questions(&input.to_string());
        let answers = match_answers(&asked, request).map_err(|why| wrong_answer(id, why))?;
        allow_response(&input, &answers)
    } else if request.allow {
        allow_response(&input, &BTreeMap::new())
    } else {
        let why = "answer a permission request with --allow or --deny";
        return Err(wrong_answer(id, why.to_owned()));
    };
    respond_to(store, &recipient, &blocked.request_id, response)
}

/// Sends a response to a request. The result says whether claude received this one.
pub(super) fn respond(
    store: &Store,
    id: &JobId,
    request_id: &str,
    response: Value,
) -> Result<AnswerAnswer, Error> {
    respond_to(store, &Recipient::find(store, id)?, request_id, response)
}

fn respond_to(
    store: &Store,
    recipient: &Recipient,
    request_id: &str,
    response: Value,
) -> Result<AnswerAnswer, Error> {
    let (id, request_id) = (recipient.dir.id(), request_id.to_owned());
    let message = InboxMessage::Answer { request_id: request_id.clone(), response };
    let answered = send_to_worker(store, recipient, &message, "answered", WORKER_TIMEOUT)?;
    let observed = observe(store, id)?;
    let (status, hint) = (observed.record.status, observed.hint());
    Ok(AnswerAnswer { job_id: id.clone(), request_id, answered, released: false, status, hint })
}

/// Sends a message about a request to the worker, and returns whether the worker's event is
/// `expected_event`.
fn send_to_worker(
    store: &Store,
    recipient: &Recipient,
    message: &InboxMessage,
    expected_event: &str,
    timeout: Duration,
) -> Result<bool, Error> {
    let dir = &recipient.dir;
    let mut watch = Watch::for_files(dir, &[EVENTS]);
    let from = dir.length(EVENTS);
    let number = recipient.post(store, message)?;
    // Such a worker may look for messages every 5 s only.
    let mut until = Instant::now() + timeout + dir.max_staleness();
    loop {
        let is_live = dir.may_live();
        if !is_live {
            until = until.min(Instant::now() + dir.max_staleness());
        }
        if let Some(event) = find_event(dir, from, number) {
            return Ok(event == expected_event);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        if is_live {
            watch.add_end(0, dir);
            watch.next_until(Some(until));
        } else {
            thread::sleep(STALE_READ_INTERVAL);
        }
    }
}

fn wrong_answer(id: &JobId, why: String) -> Error {
    Error::WrongAnswer { id: id.to_string(), why }
}

/// Reads a request from the log, which contains it completely.
fn read_request(dir: &JobDir, record: &Record, request_id: &str) -> Option<OpenRequest> {
    let log_start =
        record.progress.released.as_ref().map_or(record.attempt.log_start, |it| it.log_start);
    let mut blocked = record.blocked.clone()?;
    let mut lines = dir.lines(OUTPUT, log_start, u64::MAX)?;
    loop {
        let line = lines.read_line().ok()??.bytes;
        if memchr::memmem::find(line, request_id.as_bytes()).is_none() {
            continue;
        }
        if let Some((tool, input)) = parse_request(line, request_id) {
            let kind = if tool == "AskUserQuestion" { "question" } else { "permission" };
            blocked.kind = kind.to_owned();
            blocked.request_id = request_id.to_owned();
            blocked.tool_name = Some(tool);
            blocked.input = input.to_string();
            blocked.questions = parse_questions(&blocked.input);
            return Some(OpenRequest { blocked, input });
        }
    }
}

/// Returns the tool and its input if the line of the log is the request with this id.
fn parse_request(line: &[u8], request_id: &str) -> Option<(String, Value)> {
    // Parsed as the worker parses it: a request that the worker accepts can be answered.
    let line = String::from_utf8_lossy(line);
    match decode(line.as_bytes())? {
        Event::Request { request_id: id, tool_name, input, .. } if id == request_id => {
            Some((tool_name, from_json(input).ok()?))
        }
        _ => None,
    }
}

/// Returns the name of the worker's event about the message with this number.
fn find_event(dir: &JobDir, from: u64, number: u64) -> Option<String> {
    #[derive(Deserialize)]
    struct MessageEvent {
        event: String,
        number: Option<u64>,
    }
    for line in dir.json_lines::<MessageEvent>(EVENTS, from) {
        if line.number == Some(number) && line.event != "release_requested" {
            return Some(line.event);
        }
    }
    None
}

#[cfg(test)]
fn request_of(tool: &str, input: Value) -> OpenRequest {
    let questions = parse_questions(&input.to_string());
    let blocked = Blocked {
        kind: String::new(),
        request_id: "r".to_owned(),
        tool_name: Some(tool.to_owned()),
        input: input.to_string(),
        questions,
        others: Vec::new(),
        since: crate::job::Timestamp::parse("2026-11-26T12:57:03.204Z").unwrap(),
        released: false,
    };
    OpenRequest { blocked, input }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn finds_requests_with_invalid_text() {
        let line = |text: &[u8]| {
            let head =
                br#"{"type":"control_request","request_id":"r","request":{"subtype":"can_use_tool","input":{"text":""#;
            [&head[..], text, br#""}}}"#, b"\n"].concat()
        };
        for (text, read) in [
            (&b"fine"[..], "fine"),
            (br"cut \ud83d", "cut \u{fffd}"),
            (b"cut \xf0", "cut \u{fffd}"),
        ] {
            let (_, input) = parse_request(&line(text), "r").unwrap();
            assert_eq!(input["text"], read);
            assert_eq!(parse_request(&line(text), "q"), None);
        }
    }
}
