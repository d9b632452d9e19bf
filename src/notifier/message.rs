//! The text of a notification for agents and people.

use crate::job::{Notification, NotifyEvent, Record};
use crate::store::{JobDir, addressed_from_anywhere};
use crate::text::{harmless, one_line};

/// Characters of the job's answer in a notification of its completion.
const MAX_ANSWER_CHARS: usize = 300;

/// Returns the text about an event of a job. The recipient may take it for an instruction: without
/// `--notify-answer` no word of it is the agent's.
pub(super) fn message(job: &JobDir, record: &Record, notification: &Notification) -> String {
    let id = &record.job_id;
    let (what, verb) = match notification.event {
        NotifyEvent::Blocked => ("waits for an answer".to_owned(), "status"),
        NotifyEvent::Completed => ("completed".to_owned(), "result"),
        NotifyEvent::Killed => ("was killed".to_owned(), "status"),
        NotifyEvent::Failed => match record.reason {
            Some(reason) => (format!("failed ({reason})"), "status"),
            None => ("failed".to_owned(), "status"),
        },
    };
    let command = addressed_from_anywhere(job.root(), format!("claudejob {verb} {id}"));
    let mut text = format!("claudejob: job {id} {what}. Run: {command}");
    if record.spec.notify.notify_answer
        && notification.event == NotifyEvent::Completed
        && let Some(outcome) = job.outcome()
        && outcome.attempt == record.attempt.number
    {
        let answer = one_line(&outcome.result.unwrap_or_default(), MAX_ANSWER_CHARS);
        if !answer.is_empty() {
            text += &format!("\nIts answer: {answer}");
        }
    }
    harmless(&text)
}
