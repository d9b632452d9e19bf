//! `answer`: what an agent asked and waits for.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::seen::{Seen, look};
use super::send::{Recipient, live};
use super::watch::Watch;
use crate::error::Error;
use crate::job::{Blocked, Directive, JobId, Question, Record, Status, allowed, denied, questions};
use crate::store::{EVENTS, JobDir, OUTPUT, Store};
use crate::stream::from_json;

/// How long the worker may take to give the answer on.
const WORKER_TAKES: Duration = Duration::from_secs(5);
/// How long claude may take to end.
const CLAUDE_TAKES: Duration = Duration::from_secs(8);
/// What an agent is told where nobody says why.
const DENIED: &str = "The user does not want this. Find another way, or stop.";

/// What is answered.
#[derive(Debug, Default)]
pub struct Request {
    /// Which of several requests; `None` for the only one.
    pub request_id: Option<String>,
    /// Labels, one a question in order, or `QUESTION=LABEL`.
    pub choices: Vec<String>,
    /// Free text, for the questions that no choice answers.
    pub text: Option<String>,
    /// The tool may run.
    pub allow: bool,
    /// It may not, or the question is not answered.
    pub deny: bool,
    /// Why not.
    pub message: Option<String>,
    /// Claude is ended until the answer comes.
    pub release: bool,
}

impl Request {
    /// Whether no answer was given yet.
    pub fn says_nothing(&self) -> bool {
        self.choices.is_empty() && self.text.is_none() && !self.allow && !self.deny && !self.release
    }
}

/// The result of an answer.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AnswerAnswer {
    /// The job's id.
    pub job_id: JobId,
    /// Id of the request that was answered.
    pub request_id: String,
    /// Claude got this answer; false if another answer came first, or none was given.
    pub answered: bool,
    /// Claude was ended, and the question waits for an answer without it.
    pub released: bool,
    /// The job's status.
    pub status: Status,
    /// The command to run next, as `sh` takes it; null for a completed job.
    pub hint: Option<String>,
}

/// A request that waits for an answer, whole.
#[derive(Debug)]
pub struct Open {
    /// As the record shows it.
    pub blocked: Blocked,
    /// The tool's input.
    pub input: Value,
}

/// The request that is to be answered: the one named, or the only one.
pub fn open(store: &Store, id: &JobId, request_id: Option<&str>) -> Result<Open, Error> {
    let dir = live(store, id)?;
    let Seen { record, .. } = look(store, id)?;
    let nothing = || Error::NothingAsked(id.to_string(), "it asks nothing".to_owned());
    let blocked = record.blocked.clone().ok_or_else(nothing)?;
    let wanted = match request_id {
        Some(wanted) => wanted,
        None if blocked.others.is_empty() => &blocked.request_id,
        None => {
            let ids = [&[blocked.request_id], blocked.others.as_slice()].concat().join(", ");
            let why = format!("several requests wait: name one by --request-id ({ids})");
            return Err(Error::NothingAsked(id.to_string(), why));
        }
    };
    let is_open = *wanted == blocked.request_id || blocked.others.iter().any(|o| o == wanted);
    let found = is_open.then(|| find(&dir, &record, wanted)).flatten();
    found.ok_or_else(|| {
        Error::NothingAsked(id.to_string(), format!("it has no open request {wanted}"))
    })
}

/// Ends claude, so that the job holds no slot while its question waits.
fn release(store: &Store, id: &JobId, request_id: Option<&str>) -> Result<AnswerAnswer, Error> {
    let recipient = Recipient::find(store, id)?;
    let request_id = open(store, id, request_id)?.blocked.request_id;
    let released = tell(store, &recipient, &Directive::Release, "released", CLAUDE_TAKES)?;
    let seen = look(store, id)?;
    let (status, hint) = (seen.record.status, seen.hint());
    Ok(AnswerAnswer { job_id: id.clone(), request_id, answered: false, released, status, hint })
}

/// Answers it, and says whether claude was given this answer or there was another before it.
pub fn answer(store: &Store, id: &JobId, request: &Request) -> Result<AnswerAnswer, Error> {
    if request.release {
        return release(store, id, request.request_id.as_deref());
    }
    let recipient = Recipient::find(store, id)?;
    let Open { blocked, input } = open(store, id, request.request_id.as_deref())?;
    let response = if request.deny {
        denied(request.message.as_deref().unwrap_or(DENIED))
    } else if blocked.kind == "question" {
        if request.allow {
            return Err(wrong("a question is answered by --choice or --text"));
        }
        let asked = questions(&input.to_string());
        allowed(&input, &answers(&asked, request)?)
    } else if request.allow {
        allowed(&input, &BTreeMap::new())
    } else {
        return Err(wrong("a permission request is answered by --allow or --deny"));
    };
    let request_id = blocked.request_id;
    let directive = Directive::Answer { request_id: request_id.clone(), response };
    let answered = tell(store, &recipient, &directive, "answered", WORKER_TAKES)?;
    let seen = look(store, id)?;
    let (status, hint) = (seen.record.status, seen.hint());
    Ok(AnswerAnswer { job_id: id.clone(), request_id, answered, released: false, status, hint })
}

/// Tells the worker something about a request, and says whether its event says that it was `done`.
fn tell(
    store: &Store,
    recipient: &Recipient,
    directive: &Directive,
    done: &str,
    most: Duration,
) -> Result<bool, Error> {
    let dir = &recipient.dir;
    let mut watch = Watch::of_files(dir, &[EVENTS]);
    let from = dir.length(EVENTS);
    let number = recipient.post(store, directive)?;
    let until = Instant::now() + most;
    loop {
        let lives = dir.is_held().unwrap_or(false);
        if let Some(event) = outcome(dir, from, number) {
            return Ok(event == done);
        }
        if !lives || Instant::now() >= until {
            return Ok(false);
        }
        watch.add_end(0, dir);
        watch.next_until(Some(until));
    }
}

fn wrong(what: &str) -> Error {
    Error::WrongAnswer(what.to_owned())
}

/// The answer to each question.
fn answers(asked: &[Question], request: &Request) -> Result<BTreeMap<String, String>, Error> {
    let mut answers: BTreeMap<String, String> = BTreeMap::new();
    let mut give = |question: &Question, label: &str| -> Result<(), Error> {
        let label = match question.options.iter().find(|option| option.label == label) {
            Some(option) => option.label.clone(),
            None => {
                let labels: Vec<&str> =
                    question.options.iter().map(|option| option.label.as_str()).collect();
                let labels = labels.join(", ");
                return Err(wrong(&format!(
                    "{label:?} is no answer to {:?}: there are {labels}; --text says anything else",
                    question.question
                )));
            }
        };
        // Several labels of one question, where it allows that, are one answer.
        answers
            .entry(question.question.clone())
            .and_modify(|all| *all = format!("{all}, {label}"))
            .or_insert(label);
        Ok(())
    };
    let mut in_order = asked.iter();
    for choice in &request.choices {
        let named = choice.split_once('=').and_then(|(name, label)| {
            let question = asked.iter().find(|q| q.question == name || q.header == name)?;
            Some((question, label))
        });
        match (named, asked) {
            (Some((question, label)), _) => give(question, label)?,
            (None, [only]) => give(only, choice)?,
            (None, _) => match in_order.next() {
                Some(question) => give(question, choice)?,
                None => return Err(wrong("there are more choices than questions")),
            },
        }
    }
    for question in asked {
        if !answers.contains_key(&question.question) {
            let Some(text) = &request.text else {
                return Err(wrong(&format!("{:?} has no answer", question.question)));
            };
            answers.insert(question.question.clone(), text.clone());
        }
    }
    Ok(answers)
}

/// The request as claude made it, which the log has whole.
fn find(dir: &JobDir, record: &Record, request_id: &str) -> Option<Open> {
    let mut log = dir.open(OUTPUT).ok()??;
    let log_start = record.released.as_ref().map_or(record.log_start, |it| it.log_start);
    log.seek(SeekFrom::Start(log_start)).ok()?;
    let mut blocked = record.blocked.clone()?;
    let (mut log, mut line) = (BufReader::new(log), Vec::new());
    loop {
        line.clear();
        if log.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        if memchr::memmem::find(&line, request_id.as_bytes()).is_none() {
            continue;
        }
        if let Some(request) = made(&line, request_id) {
            let tool = request["tool_name"].as_str().unwrap_or_default();
            let kind = if tool == "AskUserQuestion" { "question" } else { "permission" };
            blocked.kind = kind.to_owned();
            blocked.request_id = request_id.to_owned();
            blocked.tool_name = Some(tool.to_owned());
            blocked.input = request["input"].to_string();
            blocked.questions = questions(&blocked.input);
            return Some(Open { blocked, input: request["input"].clone() });
        }
    }
}

/// The request of this id, if it is this line that makes it.
fn made(line: &[u8], request_id: &str) -> Option<Value> {
    // As leniently as the worker reads it: what it takes for a request can be answered.
    let mut event: Value = from_json(&String::from_utf8_lossy(line)).ok()?;
    let is_it = event["type"] == "control_request" && event["request_id"] == request_id;
    is_it.then(|| event["request"].take())
}

/// The event that says what the worker did with what it was told under this number.
fn outcome(dir: &JobDir, from: u64, number: u64) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        event: String,
        number: Option<u64>,
    }
    let mut events = dir.open(EVENTS).ok()??;
    events.seek(SeekFrom::Start(from)).ok()?;
    let lines = BufReader::new(events).lines().map_while(Result::ok);
    let ours = lines
        .filter_map(|line| serde_json::from_str::<Line>(&line).ok())
        .find(|line| line.number == Some(number) && line.event != "release_requested");
    ours.map(|line| line.event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Choice;

    fn question(text: &str, labels: &[&str]) -> Question {
        let option =
            |label: &&str| Choice { label: (*label).to_owned(), description: String::new() };
        Question {
            question: text.to_owned(),
            header: text.trim_end_matches('?').to_owned(),
            options: labels.iter().map(option).collect(),
            multi_select: false,
        }
    }

    fn given(asked: &[Question], choices: &[&str], text: Option<&str>) -> Result<String, String> {
        let request = Request {
            choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
            text: text.map(str::to_owned),
            ..Request::default()
        };
        let answers = answers(asked, &request).map_err(|error| error.to_string())?;
        Ok(answers.iter().map(|(q, a)| format!("{q}{a}")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_request_is_found_however_odd_its_text_is() {
        let line = |text: &[u8]| {
            let head =
                br#"{"type":"control_request","request_id":"r","request":{"input":{"text":""#;
            [&head[..], text, br#""}}}"#, b"\n"].concat()
        };
        for (text, read) in [
            (&b"fine"[..], "fine"),
            (br"cut \ud83d", "cut \u{fffd}"),
            (b"cut \xf0", "cut \u{fffd}"),
        ] {
            let request = made(&line(text), "r").unwrap();
            assert_eq!(request["input"]["text"], read);
            assert_eq!(made(&line(text), "q"), None);
        }
    }

    #[test]
    fn choices_answer_questions_in_order_or_by_name() {
        let db = question("db?", &["SQLite", "Postgres"]);
        let os = question("os?", &["Linux", "BSD"]);
        let both = [db.clone(), os];
        for (asked, choices, text, expected) in [
            (&both[..1], &["SQLite"][..], None, "db?SQLite"),
            (&both[..1], &["SQLite", "Postgres"], None, "db?SQLite, Postgres"),
            (&both[..1], &[], Some("files"), "db?files"),
            (&both[..], &["Postgres", "BSD"], None, "db?Postgres os?BSD"),
            (&both[..], &["os=BSD"], Some("files"), "db?files os?BSD"),
            (&both[..], &["os?=Linux", "db=SQLite"], None, "db?SQLite os?Linux"),
        ] {
            assert_eq!(given(asked, choices, text).as_deref(), Ok(expected), "{choices:?}");
        }
        let wrong = given(&[db], &["Oracle"], None).unwrap_err();
        assert!(wrong.contains("there are SQLite, Postgres"), "{wrong}");
        assert!(given(&both, &["SQLite"], None).unwrap_err().contains("\"os?\" has no answer"));
        assert!(given(&both, &["SQLite", "BSD", "x"], None).unwrap_err().contains("more choices"));
    }
}
