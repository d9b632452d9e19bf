//! Questions of the agent, and the answers to its requests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::text::{clip, from_json};

/// Number of questions and of options that are stored of a request; the CLI allows four of each.
const MAX_STORED: usize = 10;

/// A question of the agent (`AskUserQuestion`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Question {
    /// The question; `--choice QUESTION=LABEL` names it.
    pub question: String,
    /// Its subject in a word or two.
    pub header: String,
    /// The suggested answers; `--text` gives any other.
    pub options: Vec<Choice>,
    /// Several answers can be chosen.
    pub multi_select: bool,
}

/// A suggested answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Choice {
    /// Its name, for `--choice LABEL`.
    pub label: String,
    /// Its explanation.
    pub description: String,
}

/// Parses the questions in the input of an `AskUserQuestion`.
pub(crate) fn parse_questions(input: &str) -> Vec<Question> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Input {
        questions: Vec<Question>,
    }
    from_json::<Input>(input).unwrap_or_default().questions
}

impl Question {
    /// Returns the question with its texts truncated to a readable size.
    pub(crate) fn truncated(&self) -> Self {
        let mut options = Vec::new();
        for option in self.options.iter().take(MAX_STORED) {
            let label = clip(&option.label, 100);
            options.push(Choice { label, description: clip(&option.description, 200) });
        }
        Self {
            question: clip(&self.question, 400),
            header: clip(&self.header, 60),
            options,
            multi_select: self.multi_select,
        }
    }
}

/// Returns the first questions, with their texts truncated to a readable size.
pub(crate) fn truncate_all(questions: &[Question]) -> Vec<Question> {
    questions.iter().take(MAX_STORED).map(Question::truncated).collect()
}

/// Returns the permission with these answers, in the format of claude's control protocol.
pub(crate) fn allow_response(input: &Value, answers: &BTreeMap<String, String>) -> Value {
    let mut input = input.clone();
    if !answers.is_empty() {
        input["answers"] = json!(answers);
    }
    json!({"behavior": "allow", "updatedInput": input})
}

/// Returns the denial of a person, in the same format. The reason may be empty.
pub(crate) fn denied_by_person(reason: &str) -> Value {
    const NO_REASON: &str = "The user does not want this. Find another way, or stop.";
    denied(if reason.is_empty() { NO_REASON } else { reason })
}

/// Returns the denial with the reason for the agent, in the same format.
pub(crate) fn denied(why: &str) -> Value {
    json!({"behavior": "deny", "message": why})
}
