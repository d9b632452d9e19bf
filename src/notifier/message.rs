//! The text of a notification for agents and people.

use crate::job::{Notification, NotifyEvent, Record, Status};
use crate::store::{JobDir, addressed_from_anywhere};
use crate::text::{harmless, one_line};

/// Characters of the job's answer in a notification of its completion.
const MAX_ANSWER_CHARS: usize = 300;

/// Returns the text about an event of a job. The recipient may take it for an instruction: without
/// `--notify-answer` no word of it is the agent's.
pub(super) fn message(job: &JobDir, record: &Record, notification: &Notification) -> String {
    let id = &record.job_id;
    let is_present = NotifyEvent::from_status(record.status) == Some(notification.event);
    let what = if is_present { present(record) } else { past(record, notification.event) };
    let verb = if record.status == Status::Completed { "result" } else { "status" };
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

fn present(record: &Record) -> String {
    match (record.status, record.reason) {
        (Status::Blocked, _) => "waits for an answer".to_owned(),
        (Status::Killed, _) => "was killed".to_owned(),
        (Status::Failed, Some(reason)) => format!("failed ({reason})"),
        (status, _) => status.to_string(),
    }
}

/// Describes an event that is over: the recipient could not be reached before the job was answered
/// or resumed. The record has no reason for it any more.
fn past(record: &Record, event: NotifyEvent) -> String {
    let what = match event {
        NotifyEvent::Blocked => "waited for an answer",
        NotifyEvent::Completed => "completed",
        NotifyEvent::Failed => "failed",
        NotifyEvent::Killed => "was killed",
    };
    format!("{what}; its status is {} now", record.status)
}
