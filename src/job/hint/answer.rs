//! The command that answers a request of the agent.

use super::full_status;
use crate::job::{Blocked, JobId, Question};
use crate::text::shell_quote;

/// Maximum length of a hint with labels. A longer one has their numbers.
const MAX_HINT_CHARS: usize = 500;
/// Maximum number of alternative labels in the comment of a hint.
const MAX_ALTERNATIVES: usize = 4;

/// Returns the command that answers a request with the first option of each question, or allows the
/// tool call.
pub(super) fn command(id: &JobId, blocked: &Blocked) -> String {
    let mut command = format!("claudejob answer {id}");
    if !blocked.others.is_empty() {
        command += &format!(" --request-id {}", shell_quote(&blocked.request_id));
    }
    if blocked.kind != "question" {
        return command + " --allow  # or: --deny";
    }
    match choices(&blocked.questions) {
        Some(choices) if command.len() + choices.len() <= MAX_HINT_CHARS => command + &choices,
        _ => command + &unnamed_choices(id, &blocked.questions),
    }
}

/// Returns options that answer questions whose labels or names cannot be written in a command: the
/// number of the first option of each, or a text if there are no options.
fn unnamed_choices(id: &JobId, questions: &[Question]) -> String {
    let has_options = questions.iter().all(|question| !question.options.is_empty());
    if has_options && !questions.is_empty() {
        let choices = " --choice 1".repeat(questions.len());
        format!("{choices}  # all options: {}", full_status(id))
    } else {
        format!(" --text 'Decide yourself.'  # the question: {}", full_status(id))
    }
}

/// Returns the `--choice` options that choose the first label of each question. The other labels of
/// a single question are in a comment. `None` if a question cannot be answered in this way.
fn choices(questions: &[Question]) -> Option<String> {
    if questions.is_empty() {
        return None;
    }
    let mut options = String::new();
    for question in questions {
        let label = &question.options.first()?.label;
        // A label that was shortened in the record is not a valid answer.
        let is_shortened = label.ends_with('…');
        if is_shortened || !question.options.iter().all(|option| is_printable(&option.label)) {
            return None;
        }
        let choice = match (questions, label.split_once('=')) {
            // `NAME=REST` would be parsed as the answer REST to the question NAME.
            ([only], Some((name, _))) if name == only.question || name == only.header => {
                return None;
            }
            ([_], _) => label.clone(),
            _ => format!("{}={label}", name(question, questions)?),
        };
        // A value with a leading dash would be parsed as an option.
        let separator = if choice.starts_with('-') { '=' } else { ' ' };
        options += &format!(" --choice{separator}{}", shell_quote(&choice));
    }
    if let [only] = questions {
        let mut others = Vec::new();
        for option in only.options.iter().skip(1).take(MAX_ALTERNATIVES) {
            others.push(shell_quote(&option.label));
        }
        if !others.is_empty() {
            options += &format!("  # or: {}", others.join(", "));
        }
    }
    Some(options)
}

fn is_printable(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}

/// Returns the name of one of several questions for `QUESTION=LABEL`. `None` if it has no unique
/// name.
fn name<'a>(question: &'a Question, all: &[Question]) -> Option<&'a str> {
    for name in [&question.question, &question.header] {
        let namesakes = all.iter().filter(|q| q.question == *name || q.header == *name).count();
        let is_whole = !name.ends_with('…');
        if namesakes == 1 && is_whole && is_printable(name) && !name.contains('=') {
            return Some(name);
        }
    }
    None
}
