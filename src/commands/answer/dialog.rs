//! The dialog in which a person answers a request of the agent. Pure: lines in, texts out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use super::OpenRequest;
use crate::job::{Question, allow_response, denied_by_person};
use crate::output::{BOLD, DIM, hanging, pad, painted, wrapped};
use crate::text::{harmless, one_line};

/// The least width of the description of an option, in columns.
const MIN_DESCRIPTION: usize = 20;

/// What the dialog does after a line.
#[derive(Debug, PartialEq)]
pub(in crate::commands) enum DialogStep {
    /// Shows this text and waits for another line.
    Ask(String),
    /// The answer is complete: the response in the format of claude's control protocol.
    Answer(Value),
}

/// A dialog about one request.
#[derive(Debug)]
pub(in crate::commands) struct Dialog {
    /// Id of the request.
    request_id: String,
    input: Value,
    state: DialogState,
    /// Width at which questions are wrapped, in columns.
    width: usize,
}

#[derive(Debug)]
enum DialogState {
    /// A question is asked; the answers are those to the questions before it.
    Question { questions: Vec<Question>, answers: BTreeMap<String, String>, current: usize },
    /// The person may allow or deny the tool call, which is described.
    Permission { description: String },
    /// The person has denied the tool call and may say why.
    Reason,
}

impl Dialog {
    /// Begins a dialog. `description` says what a tool call would do.
    pub(in crate::commands) fn new(open: OpenRequest, description: String, width: usize) -> Self {
        let questions = open.blocked.questions;
        let state = if questions.is_empty() {
            DialogState::Permission { description }
        } else {
            DialogState::Question { questions, answers: BTreeMap::new(), current: 0 }
        };
        Self { request_id: open.blocked.request_id, input: open.input, state, width }
    }

    pub(in crate::commands) fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Returns the text that asks for the next line.
    pub(in crate::commands) fn text(&self) -> String {
        match &self.state {
            DialogState::Permission { description } => {
                format!("{description}Allow it? [y]es / [n]o: ")
            }
            DialogState::Reason => "Why not? (Enter: no reason): ".to_owned(),
            DialogState::Question { questions, current, .. } => {
                let mut text = String::new();
                if questions.len() > 1 {
                    let of = format!("{} of {}", current + 1, questions.len());
                    let _ = writeln!(text, "{}", painted(DIM, &of));
                }
                text + &question_text(&questions[*current], self.width)
            }
        }
    }

    /// Takes the next line.
    pub(in crate::commands) fn feed(&mut self, line: &str) -> DialogStep {
        let line = line.trim();
        match &mut self.state {
            DialogState::Permission { .. } => match line.to_lowercase().as_str() {
                "y" | "yes" => DialogStep::Answer(allow_response(&self.input, &BTreeMap::new())),
                "n" | "no" => {
                    self.state = DialogState::Reason;
                    DialogStep::Ask(self.text())
                }
                _ => match reason_of_denial(line) {
                    Some(reason) => DialogStep::Answer(denied_by_person(reason)),
                    None => DialogStep::Ask("y, n, or \"no, REASON\": ".to_owned()),
                },
            },
            DialogState::Reason => DialogStep::Answer(denied_by_person(line)),
            DialogState::Question { questions, answers, current } => {
                let question = &questions[*current];
                let Some(answer) = chosen(question, line) else {
                    return DialogStep::Ask(again(question, line));
                };
                answers.insert(question.question.clone(), answer);
                *current += 1;
                if *current < questions.len() {
                    return DialogStep::Ask(self.text());
                }
                DialogStep::Answer(allow_response(&self.input, answers))
            }
        }
    }
}

fn question_text(question: &Question, columns: usize) -> String {
    let asked = painted(BOLD, &harmless(&question.question));
    let mut text = hanging(&asked, 0, columns) + "\n";
    let mut labels = Vec::new();
    for option in &question.options {
        labels.push(harmless(&one_line(&option.label, 100)));
    }
    let width = labels.iter().map(|label| label.width()).max().unwrap_or(0);
    for (n, (label, option)) in labels.iter().zip(&question.options).enumerate() {
        let mark = format!("  {}  {}  ", n + 1, pad(label, width, false));
        let rest = columns.saturating_sub(mark.width()).max(MIN_DESCRIPTION);
        let description = wrapped(&harmless(&one_line(&option.description, 200)), rest);
        let indent = format!("\n{}", " ".repeat(mark.width()));
        let _ = writeln!(text, "{mark}{}", description.join(&indent));
    }
    text + match (question.options.is_empty(), question.multi_select) {
        (true, _) => "Your own text: ",
        (false, false) => "Number, label or your own text: ",
        (false, true) => "Numbers such as 1,2, labels or your own text: ",
    }
}

/// Returns the lines that a question accepts, as a sentence.
fn accepted(question: &Question) -> String {
    let labels = if question.multi_select { "labels" } else { "a label" };
    match question.options.len() {
        0 => "a text".to_owned(),
        1 => format!("1, {labels}, or text"),
        2 => format!("1 or 2, {labels}, or text"),
        count => format!("1 to {count}, {labels}, or text"),
    }
}

/// Returns the text that asks for another answer than `line`.
fn again(question: &Question, line: &str) -> String {
    let accepted = accepted(question);
    match line {
        "" => format!("{accepted}: "),
        _ => format!("{line} is no choice; {accepted}: "),
    }
}

/// Returns the reason in a line such as `no, not outside the repository`.
fn reason_of_denial(line: &str) -> Option<&str> {
    let (word, reason) = line.split_once(',')?;
    let says_no = matches!(word.trim().to_lowercase().as_str(), "n" | "no");
    let reason = reason.trim();
    if says_no && !reason.is_empty() { Some(reason) } else { None }
}

/// Returns the answer to a question that a line gives: labels or a text. A line of numbers alone is
/// never a text, since it is probably a mistyped choice.
fn chosen(question: &Question, line: &str) -> Option<String> {
    if let Some(label) = choice(question, line) {
        return Some(label.to_owned());
    }
    if question.multi_select && line.contains(',') {
        let labels: Option<Vec<&str>> =
            line.split(',').map(|part| choice(question, part.trim())).collect();
        if let Some(labels) = labels {
            return Some(labels.join(", "));
        }
    }
    let is_text = line.contains(|c: char| !c.is_ascii_digit() && c != ',' && c != ' ');
    if is_text || (question.options.is_empty() && !line.is_empty()) {
        return Some(line.to_owned());
    }
    None
}

/// Returns the label of an option, given by its label in upper or lower case or by its number.
pub(super) fn choice<'a>(question: &'a Question, text: &str) -> Option<&'a str> {
    let options = &question.options;
    let is_same = |label: &str| label.to_lowercase() == text.to_lowercase();
    let option = options
        .iter()
        .find(|option| option.label == text)
        .or_else(|| options.iter().find(|option| is_same(&option.label)))
        .or_else(|| options.get(text.parse::<usize>().ok()?.checked_sub(1)?))?;
    Some(&option.label)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::commands::answer::request_of;

    fn question(text: &str, multi_select: bool) -> Value {
        let options = json!([{"label": "Postgres", "description": "what the tests use today, with all features"}, {"label": "SQLite"}]);
        json!({"question": text, "header": "h", "options": options, "multiSelect": multi_select})
    }

    fn dialog(questions: &[Value]) -> Dialog {
        let tool = if questions.is_empty() { "Bash" } else { "AskUserQuestion" };
        Dialog::new(request_of(tool, json!({ "questions": questions })), String::new(), 40)
    }

    fn answers(dialog: &mut Dialog, lines: &[&str]) -> Value {
        for line in lines {
            if let DialogStep::Answer(response) = dialog.feed(line) {
                return response;
            }
        }
        panic!("no answer")
    }

    #[test]
    fn takes_numbers_labels_and_text() {
        for (multi, lines, expected) in [
            (false, &["1"][..], "Postgres"),
            (false, &[" sqlite "], "SQLite"),
            (false, &["", "0", "3", "1,2", "2"], "SQLite"),
            (false, &["neither, use 3 files"], "neither, use 3 files"),
            (true, &["1, 2"], "Postgres, SQLite"),
            (true, &["1,3", "sqlite,1"], "SQLite, Postgres"),
            (true, &["2"], "SQLite"),
        ] {
            let response = answers(&mut dialog(&[question("db?", multi)]), lines);
            assert_eq!(response["updatedInput"]["answers"]["db?"], expected, "{lines:?}");
        }
        let DialogStep::Ask(again) = dialog(&[question("db?", false)]).feed("7") else { panic!() };
        assert_eq!(again, "7 is no choice; 1 or 2, a label, or text: ");
    }

    #[test]
    fn takes_a_reason_together_with_a_no() {
        for (lines, message) in [
            (&["no, that is my data"][..], "that is my data"),
            (&["N ,  not here"], "not here"),
            (&["nonsense, yes", "no,", "y, go on", "n", "later"], "later"),
        ] {
            let response = answers(&mut dialog(&[]), lines);
            assert_eq!(response["behavior"], "deny", "{lines:?}");
            assert_eq!(response["message"], message, "{lines:?}");
        }
    }

    #[test]
    fn asks_questions_one_after_the_other() {
        let mut dialog = dialog(&[question("a?", false), question("b?", false)]);
        assert!(dialog.text().contains("1 of 2"), "{}", dialog.text());
        let DialogStep::Ask(next) = dialog.feed("1") else { panic!() };
        assert!(next.contains("2 of 2") && next.contains("b?"), "{next}");
        let response = answers(&mut dialog, &["own text"]);
        assert_eq!(
            response["updatedInput"]["answers"],
            json!({"a?": "Postgres", "b?": "own text"})
        );
    }

    #[test]
    fn wraps_questions_between_words() {
        let long = "Which of the databases do you want to use?";
        let text = dialog(&[question(long, false)]).text();
        let text = anstream::adapter::strip_str(&text).to_string();
        let first: Vec<&str> = text.lines().take(5).collect();
        assert_eq!(
            first,
            [
                "Which of the databases do you want to",
                "  use?",
                "  1  Postgres  what the tests use today,",
                "               with all features",
                "  2  SQLite    ",
            ]
        );
    }

    #[test]
    fn asks_for_the_reason_of_a_denial() {
        assert_eq!(answers(&mut dialog(&[]), &["maybe", "YES"])["behavior"], "allow");
        for why in ["", "not here"] {
            let response = answers(&mut dialog(&[]), &["N", why]);
            assert_eq!(response, denied_by_person(why));
        }
    }
}
