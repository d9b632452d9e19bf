//! What an agent asks, and what it may be answered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::text::clip;

/// Questions and options that are kept of a request; the CLI allows four of each.
const KEPT: usize = 10;

/// A question of the agent (`AskUserQuestion`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Question {
    /// The question; `--choice QUESTION=LABEL` names it.
    pub question: String,
    /// Its subject in a word or two.
    pub header: String,
    /// The answers that are offered; `--text` gives any other.
    pub options: Vec<Choice>,
    /// Several of the answers can be chosen.
    pub multi_select: bool,
}

/// One of the answers that are offered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Choice {
    /// Its name, for `--choice LABEL`.
    pub label: String,
    /// Its explanation.
    pub description: String,
}

/// The questions in the input of an `AskUserQuestion`.
pub fn questions(input: &str) -> Vec<Question> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Input {
        questions: Vec<Question>,
    }
    serde_json::from_str::<Input>(input).unwrap_or_default().questions
}

impl Question {
    /// The same, at a readable size.
    pub fn shortened(&self) -> Self {
        let option = |option: &Choice| Choice {
            label: clip(&option.label, 100),
            description: clip(&option.description, 200),
        };
        Self {
            question: clip(&self.question, 400),
            header: clip(&self.header, 60),
            options: self.options.iter().take(KEPT).map(option).collect(),
            multi_select: self.multi_select,
        }
    }
}

/// At most so many questions, at a readable size.
pub fn shortened(questions: &[Question]) -> Vec<Question> {
    questions.iter().take(KEPT).map(Question::shortened).collect()
}

/// What claude is answered, as its control protocol has it.
pub fn allowed(input: &Value, answers: &BTreeMap<String, String>) -> Value {
    let mut input = input.clone();
    if !answers.is_empty() {
        input["answers"] = json!(answers);
    }
    json!({"behavior": "allow", "updatedInput": input})
}

/// A refusal, with the reason that the agent is told.
pub fn denied(why: &str) -> Value {
    json!({"behavior": "deny", "message": why})
}
