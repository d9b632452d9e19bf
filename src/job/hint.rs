//! The command to run next, for a job of each status.

use super::{Blocked, EndState, JobId, Question, Reason, Record, Status, Timestamp};
use crate::text::shell_quote;

/// Maximum length of a hint. A longer one is replaced by a command that shows the details.
const MAX_HINT_CHARS: usize = 500;
/// Maximum number of alternative labels in the comment of a hint.
const MAX_ALTERNATIVES: usize = 4;

/// The facts about a job that decide which command comes next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HintFacts<'a> {
    pub job_id: &'a JobId,
    pub end_state: EndState,
    /// End of a limit for which the job did not wait.
    pub resumable_at: Option<Timestamp>,
    /// The request that waits for an answer.
    pub blocked: Option<&'a Blocked>,
}

/// Returns a command that runs unchanged in `sh`: it ends the wait, continues the job or shows why
/// it failed. A comment after ` # ` explains it or names an alternative. `None` for a completed
/// job.
pub(crate) fn hint(facts: &HintFacts<'_>) -> Option<String> {
    let id = facts.job_id;
    match facts.end_state.status {
        Status::Completed => None,
        Status::Queued | Status::Starting | Status::Running => Some(format!("claudejob wait {id}")),
        Status::Blocked => Some(match facts.blocked {
            Some(blocked) => answer(id, blocked),
            None => full_status(id),
        }),
        Status::Idle => Some(format!(
            "claudejob result {id}  # or: claudejob send {id} --message TEXT, \
             claudejob finish {id}"
        )),
        Status::Killed if facts.end_state.is_resumable() => Some(format!("claudejob resume {id}")),
        Status::Killed => Some(format!("claudejob logs {id}")),
        Status::Failed => Some(after_failure(facts)),
    }
}

/// Returns a command that lets a paused or frozen job continue.
pub(crate) fn unpause(id: &JobId) -> String {
    format!("claudejob unpause {id}")
}

/// Returns a command that shows a job's whole request.
pub(crate) fn full_status(id: &JobId) -> String {
    format!("claudejob status {id} --full")
}

fn after_failure(facts: &HintFacts<'_>) -> String {
    let id = facts.job_id;
    let reason = facts.end_state.reason;
    let is_recoverable = facts.end_state.is_recoverable();
    match reason {
        Some(Reason::Auth) if is_recoverable => {
            return format!("claudejob recover {id}  # after logging in: run claude and /login");
        }
        Some(Reason::DependencyFailed) if is_recoverable => {
            return "claudejob recover --all  # continues the job it waits for, then this job"
                .to_owned();
        }
        _ if is_recoverable => return format!("claudejob recover {id}"),
        Some(Reason::LaunchFailed | Reason::ClaudeRefused) => {
            return format!("claudejob logs {id} --stderr  # fix the cause and start a new job");
        }
        Some(Reason::PromptTooLong) => {
            return format!(
                "claudejob logs {id}  # shorten the prompt or its files and start a new job"
            );
        }
        Some(Reason::PromptRejected) => {
            return format!("claudejob logs {id}  # change the prompt and start a new job");
        }
        _ if !facts.end_state.is_resumable() => return format!("claudejob logs {id}"),
        _ => {}
    }
    let when = match (reason, facts.resumable_at) {
        (Some(Reason::RateLimit), Some(at)) => format!("  # after {at}"),
        (Some(Reason::RateLimit), None) => "  # after the limit has ended".to_owned(),
        (Some(Reason::McpFailed), _) => "  # when its MCP servers work again".to_owned(),
        (Some(Reason::Overloaded), _) => "  # in a few minutes".to_owned(),
        (Some(Reason::Auth), _) => "  # after logging in: run claude and /login".to_owned(),
        (Some(Reason::DependencyFailed), _) => {
            "  # after the job it waits for has completed".to_owned()
        }
        _ => String::new(),
    };
    format!("claudejob resume {id}{when}")
}

/// Returns the command that answers a request with its first label, or allows the tool call.
fn answer(id: &JobId, blocked: &Blocked) -> String {
    let mut command = format!("claudejob answer {id}");
    if !blocked.others.is_empty() {
        command += &format!(" --request-id {}", shell_quote(&blocked.request_id));
    }
    if blocked.kind != "question" {
        return command + " --allow  # or: --deny";
    }
    match choices(&blocked.questions) {
        Some(choices) if command.len() + choices.len() <= MAX_HINT_CHARS => command + &choices,
        _ => full_status(id),
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

impl Record {
    /// Returns the command to run next. See [`hint`].
    pub(crate) fn hint(&self) -> Option<String> {
        if self.times.frozen_at.is_some() {
            return Some(unpause(&self.job_id));
        }
        hint(&HintFacts {
            job_id: &self.job_id,
            end_state: self.end_state(),
            resumable_at: self.limit.resumable_at,
            blocked: self.blocked.as_ref(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Choice, Spec, Verdict};

    fn record() -> Record {
        let at = Timestamp::from_epoch_ms(1_795_204_010_000).unwrap();
        Record::new(JobId::parse("a").unwrap(), Spec::default(), "work".to_owned(), at)
    }

    fn question(text: &str, header: &str, labels: &[&str]) -> Question {
        let option =
            |label: &&str| Choice { label: (*label).to_owned(), description: String::new() };
        Question {
            question: text.to_owned(),
            header: header.to_owned(),
            options: labels.iter().map(option).collect(),
            multi_select: false,
        }
    }

    fn blocked(kind: &str, questions: Vec<Question>, others: &[&str]) -> String {
        let mut record = record();
        record.status = Status::Blocked;
        record.blocked = Some(Blocked {
            kind: kind.to_owned(),
            request_id: "r 1".to_owned(),
            tool_name: None,
            input: String::new(),
            questions,
            others: others.iter().map(|id| (*id).to_owned()).collect(),
            since: Timestamp::from_epoch_ms(0).unwrap(),
            released: false,
        });
        record.hint().unwrap()
    }

    #[test]
    fn every_status_but_completed_has_a_hint() {
        for status in Status::ALL {
            let hint = Record { status, ..record() }.hint();
            assert_eq!(hint.is_none(), status == Status::Completed, "{status}");
        }
        for reason in Reason::ALL {
            for version in [0, crate::job::FORMAT_VERSION, 99] {
                let mut record = record();
                record.end(&Verdict::failed(reason, "x"), record.times.started_at.unwrap());
                record.version = version;
                let hint = record.hint().unwrap();
                let ours = version == crate::job::FORMAT_VERSION;
                assert!(ours || hint.contains("claudejob logs a"), "{reason} {version}: {hint}");
            }
        }
    }

    #[test]
    fn failures_have_a_next_command() {
        let at = record().times.started_at;
        for (reason, resumable_at, hint) in [
            (Reason::Auth, None, "claudejob recover a  # after logging in: run claude and /login"),
            (Reason::WakeupMissed, None, "claudejob recover a"),
            (Reason::WorkerDied, None, "claudejob recover a"),
            (Reason::RateLimit, at, "claudejob resume a  # after 2026-11-20T19:46:50.000Z"),
            (Reason::RateLimit, None, "claudejob resume a  # after the limit has ended"),
            (Reason::MaxTurns, None, "claudejob resume a"),
        ] {
            let mut record = record();
            record.end(&Verdict::failed(reason, "x"), record.times.started_at.unwrap());
            record.limit.resumable_at = resumable_at;
            assert_eq!(record.hint().as_deref(), Some(hint), "{reason}");
        }
    }

    #[test]
    fn answers_with_the_first_label() {
        let db = || question("Which db?", "db", &["It's SQLite", "Postgres"]);
        let os = || question("Which os?", "os", &["Linux"]);
        for (questions, hint) in [
            (vec![db()], "claudejob answer a --choice 'It'\\''s SQLite'  # or: 'Postgres'"),
            (
                vec![db(), os()],
                "claudejob answer a --choice 'Which db?=It'\\''s SQLite' \
                 --choice 'Which os?=Linux'",
            ),
            (vec![question("?", "", &["-x"])], "claudejob answer a --choice='-x'"),
            (vec![question("a=b?", "h", &["h=1"])], "claudejob status a --full"),
            (vec![question("?", "", &[])], "claudejob status a --full"),
            (vec![question("?", "", &["a", "b\nreboot"])], "claudejob status a --full"),
            (vec![question("?", "", &["cut…"])], "claudejob status a --full"),
            (
                vec![question("a=b?", "x", &["1"]), question("c", "x", &["2"])],
                "claudejob status a --full",
            ),
            (vec![], "claudejob status a --full"),
        ] {
            assert_eq!(blocked("question", questions, &[]), hint);
        }
        assert_eq!(blocked("permission", vec![], &[]), "claudejob answer a --allow  # or: --deny");
        assert_eq!(
            blocked("permission", vec![], &["r2"]),
            "claudejob answer a --request-id 'r 1' --allow  # or: --deny"
        );
    }
}
