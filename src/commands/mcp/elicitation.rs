//! Forms that show the question or the permission request of a blocked job to the client's user.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::connection::{ClientRequest, McpConnection, lock, task_id_of};
use crate::commands::answer::{self, OpenRequest};
use crate::commands::observe::observe;
use crate::job::{JobId, Question, allow_response, denied_by_person};
use crate::text::{harmless, one_line};

/// Maximum length of the message of a form.
const MAX_MESSAGE_CHARS: usize = 1_500;
/// Maximum length of the label of an option in a form.
const MAX_LABEL_CHARS: usize = 200;
/// Title of the field for free text.
const OTHER: &str = "Another answer";

/// The form about the open request of a job.
pub(super) struct OpenForm {
    pub job_id: JobId,
    open: OpenRequest,
    cwd: String,
}

/// Returns whether the key of a form is that of a form about this job.
pub(super) fn is_of_job(key: &str, id: &JobId) -> bool {
    key.split_once('/').is_some_and(|(job, _)| job == id.as_str())
}

impl OpenForm {
    /// Returns the form; `None` if the job asks nothing, or the user has declined to answer.
    pub(super) fn of(connection: &McpConnection, id: &JobId) -> Option<Self> {
        let store = connection.store().ok()?;
        let record = observe(&store, id).ok()?.record;
        let request_id = record.blocked?.request_id;
        let open = answer::open(&store, id, Some(&request_id)).ok()?;
        let form = Self { job_id: id.clone(), open, cwd: record.spec.cwd };
        if lock(&connection.declined).contains(&form.key()) { None } else { Some(form) }
    }

    /// Returns the name of the form: the job and its request.
    pub(super) fn key(&self) -> String {
        format!("{}/{}", self.job_id, self.open.blocked.request_id)
    }

    fn is_question(&self) -> bool {
        self.open.blocked.kind == "question"
    }

    /// Returns the parameters of the request that shows the form.
    pub(super) fn params(&self) -> Value {
        let blocked = &self.open.blocked;
        let mut properties = Map::new();
        let (message, required) = if self.is_question() {
            for (index, question) in blocked.questions.iter().enumerate() {
                add_question(&mut properties, index, question, blocked.questions.len() > 1);
            }
            let message = match blocked.questions.as_slice() {
                [question] => format!("Job {} asks: {}", self.job_id, question.question),
                questions => format!("Job {} asks {} questions", self.job_id, questions.len()),
            };
            (message, json!([]))
        } else {
            properties.insert(
                "decision".to_owned(),
                json!({ "type": "string", "title": "Decision", "enum": ["allow", "deny"] }),
            );
            properties.insert(
                "reason".to_owned(),
                json!({ "type": "string", "title": "Reason for the agent, if denied" }),
            );
            let tool = blocked.tool_name.as_deref().unwrap_or("a tool");
            let message = format!(
                "Job {} in {} asks for the permission to use {tool}: {}",
                self.job_id, self.cwd, blocked.input
            );
            (message, json!(["decision"]))
        };
        let message = shown(&message, MAX_MESSAGE_CHARS);
        json!({
            "message": message,
            "requestedSchema": {
                "type": "object",
                "properties": properties,
                "required": required,
            },
        })
    }

    /// Returns the request for input, by its key.
    pub(super) fn input_requests(&self) -> Value {
        let request = json!({ "method": "elicitation/create", "params": self.params() });
        let mut requests = Map::new();
        requests.insert(self.key(), request);
        Value::Object(requests)
    }

    /// Returns the result by which the client shows the form, and then repeats its request.
    pub(super) fn input_required(&self, ids: &[JobId]) -> Value {
        json!({
            "resultType": "input_required",
            "inputRequests": self.input_requests(),
            "requestState": task_id_of(ids),
        })
    }

    /// Sends the answer of the client's user to the job. Returns false if there is none: the request
    /// remains open, and nothing is denied.
    pub(super) fn respond(&self, connection: &McpConnection, response: &Value) -> bool {
        let answered = match response["action"].as_str() {
            Some("accept") => self.answer_in(&response["content"]),
            _ => None,
        };
        let Some(answer) = answered else {
            lock(&connection.declined).insert(self.key());
            return false;
        };
        let request_id = &self.open.blocked.request_id;
        if let Ok(store) = connection.store()
            && let Ok(given) = answer::respond(&store, &self.job_id, request_id, answer)
            && given.answered
        {
            return true;
        }
        // Answered elsewhere, or ended, which the wait finds out. Else the next form would fail, too.
        let is_open =
            Self::of(connection, &self.job_id).is_some_and(|form| form.key() == self.key());
        if is_open {
            lock(&connection.declined).insert(self.key());
        }
        !is_open
    }

    /// Returns the answer in a filled form, in the format of claude; `None` if it is incomplete.
    fn answer_in(&self, content: &Value) -> Option<Value> {
        if self.is_question() {
            let mut answers = BTreeMap::new();
            for (index, question) in self.open.blocked.questions.iter().enumerate() {
                let answer = question_answer(content, index, question)?;
                answers.insert(question.question.clone(), answer);
            }
            return Some(allow_response(&self.open.input, &answers));
        }
        match content["decision"].as_str() {
            Some("allow") => Some(allow_response(&self.open.input, &BTreeMap::new())),
            Some("deny") => {
                let reason = content["reason"].as_str().unwrap_or_default().trim();
                Some(denied_by_person(reason))
            }
            _ => None,
        }
    }
}

/// Adds the fields of a question: a choice, and free text. One of several questions is part of the
/// description.
fn add_question(
    properties: &mut Map<String, Value>,
    index: usize,
    question: &Question,
    is_one_of_several: bool,
) {
    let number = index + 1;
    let mut labels = Vec::new();
    for option in &question.options {
        let label = shown(&option.label, MAX_LABEL_CHARS);
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    let mut about = Vec::new();
    if is_one_of_several {
        about.push(question.question.clone());
    }
    for option in &question.options {
        if !option.description.is_empty() {
            about.push(format!("{}: {}", option.label, option.description));
        }
    }
    let about = shown(&about.join(" · "), MAX_MESSAGE_CHARS);
    let header = shown(&question.header, MAX_LABEL_CHARS);
    let title = if header.is_empty() { "Answer" } else { header.as_str() };
    if !labels.is_empty() {
        let choice = json!({ "type": "string", "enum": labels });
        let mut choice = if question.multi_select {
            json!({ "type": "array", "items": choice })
        } else {
            choice
        };
        choice["title"] = json!(title);
        choice["description"] = json!(&about);
        properties.insert(format!("answer{number}"), choice);
    }
    let other =
        if is_one_of_several { format!("{title}: another answer") } else { OTHER.to_owned() };
    let mut other = json!({ "type": "string", "title": other });
    if labels.is_empty() {
        other["title"] = json!(title);
        other["description"] = json!(about);
    }
    properties.insert(other_field(number), other);
}

/// Returns the name of the field for free text. Clients show the fields in the order of their names.
fn other_field(number: usize) -> String {
    format!("answer{number}other")
}

/// Returns the answer to a question in a filled form.
fn question_answer(content: &Value, index: usize, question: &Question) -> Option<String> {
    let number = index + 1;
    let mut answers: Vec<&str> = Vec::new();
    match &content[format!("answer{number}")] {
        Value::String(label) => answers.push(label_of(question, label)),
        Value::Array(labels) => {
            for label in labels {
                answers.extend(label.as_str().map(|label| label_of(question, label)));
            }
        }
        _ => {}
    }
    answers.extend(content[other_field(number)].as_str());
    answers.retain(|answer| !answer.trim().is_empty());
    if answers.is_empty() { None } else { Some(answers.join(", ")) }
}

/// Returns the label of the option that the form shows as `text`.
fn label_of<'a>(question: &'a Question, text: &'a str) -> &'a str {
    for option in &question.options {
        if shown(&option.label, MAX_LABEL_CHARS) == text {
            return &option.label;
        }
    }
    text
}

/// Returns an agent's text as a form shows it: one line, and nothing that could control a terminal.
fn shown(text: &str, max_chars: usize) -> String {
    harmless(&one_line(text, max_chars))
}

impl McpConnection {
    /// Sends the answers of the client's user to the jobs that asked.
    pub(super) fn apply_responses(&self, request: &ClientRequest, ids: &[JobId]) {
        let Some(Value::Object(responses)) = request.params.get("inputResponses") else { return };
        for id in ids {
            if let Some(form) = OpenForm::of(self, id)
                && let Some(response) = responses.get(&form.key())
            {
                form.respond(self, response);
            }
        }
    }
}
