//! Which answers the choices and the text of a call give to an agent's questions.

use std::collections::BTreeMap;

use super::Reply;
use super::dialog::choice;
use crate::job::Question;

/// Matches the choices and the text with the questions. Returns the answers by question, or why
/// they do not match.
pub(super) fn match_answers(
    asked: &[Question],
    request: &Reply,
) -> Result<BTreeMap<String, String>, String> {
    let mut answers: BTreeMap<String, String> = BTreeMap::new();
    let mut unnamed = asked.iter();
    for choice in &request.choices {
        let (question, label) = match (named_question(asked, choice), asked) {
            (Some(named), _) => named,
            (None, [only]) => (only, choice.as_str()),
            (None, _) => match unnamed.next() {
                Some(question) => (question, choice.as_str()),
                None => return Err("there are more choices than questions".to_owned()),
            },
        };
        let label = check_choice(question, label)?;
        // Several labels of a multiple-choice question are joined to one answer.
        match answers.get_mut(&question.question) {
            Some(all) => *all = format!("{all}, {label}"),
            None => {
                answers.insert(question.question.clone(), label.to_owned());
            }
        }
    }
    if request.text.is_some() && asked.iter().all(|it| answers.contains_key(&it.question)) {
        return Err("the choices answer every question: leave out the text".to_owned());
    }
    for question in asked {
        if !answers.contains_key(&question.question) {
            let Some(text) = &request.text else {
                return Err(format!("{:?} has no answer", question.question));
            };
            answers.insert(question.question.clone(), text.clone());
        }
    }
    Ok(answers)
}

/// Returns the question that a choice of the form QUESTION=LABEL names, and the label.
fn named_question<'a>(asked: &'a [Question], choice: &'a str) -> Option<(&'a Question, &'a str)> {
    let (name, label) = choice.split_once('=')?;
    let question = asked.iter().find(|q| q.question == name || q.header == name)?;
    Some((question, label))
}

/// Returns the label of the option that is given by label or number.
fn check_choice<'a>(question: &'a Question, text: &str) -> Result<&'a str, String> {
    if let Some(label) = choice(question, text) {
        return Ok(label);
    }
    let labels: Vec<&str> = question.options.iter().map(|option| option.label.as_str()).collect();
    Err(format!(
        "{text:?} is not a choice of {:?}: choose one of {}, or use --text",
        question.question,
        labels.join(", ")
    ))
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

    fn answers_for(
        asked: &[Question],
        choices: &[&str],
        text: Option<&str>,
    ) -> Result<String, String> {
        let request = Reply {
            choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
            text: text.map(str::to_owned),
            ..Reply::default()
        };
        let answers = match_answers(asked, &request)?;
        Ok(answers.iter().map(|(q, a)| format!("{q}{a}")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn matches_choices_in_order_or_by_name() {
        let db = question("db?", &["SQLite", "Postgres"]);
        let os = question("os?", &["Linux", "BSD"]);
        let both = [db.clone(), os];
        for (asked, choices, text, expected) in [
            (&both[..1], &["SQLite"][..], None, "db?SQLite"),
            (&both[..1], &["sqlite"], None, "db?SQLite"),
            (&both[..1], &["2"], None, "db?Postgres"),
            (&both[..1], &["SQLite", "Postgres"], None, "db?SQLite, Postgres"),
            (&both[..1], &[], Some("files"), "db?files"),
            (&both[..], &["Postgres", "BSD"], None, "db?Postgres os?BSD"),
            (&both[..], &["os=BSD"], Some("files"), "db?files os?BSD"),
            (&both[..], &["os?=Linux", "db=SQLite"], None, "db?SQLite os?Linux"),
        ] {
            assert_eq!(answers_for(asked, choices, text).as_deref(), Ok(expected), "{choices:?}");
        }
        let wrong = answers_for(&[db], &["Oracle"], None).unwrap_err();
        assert!(wrong.contains("choose one of SQLite, Postgres"), "{wrong}");
        let unused = answers_for(&both[..1], &["SQLite"], Some("files")).unwrap_err();
        assert!(unused.contains("leave out the text"), "{unused}");
        assert!(
            answers_for(&both, &["SQLite"], None).unwrap_err().contains("\"os?\" has no answer")
        );
        assert!(
            answers_for(&both, &["SQLite", "BSD", "x"], None).unwrap_err().contains("more choices")
        );
    }
}
