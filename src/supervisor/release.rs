//! Released questions: claude is stopped while a question waits, so that it holds no slot. The
//! answer starts another claude in the same session.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::{Effect, FirstPrompt, StopReason, Supervisor, WorkerPhase};
use crate::job::{Blocked, EventKind, Record, ReleasedQuestion, Status, allow_response};
use crate::stream::{Digest, Event};
use crate::text::{clip, from_json};

/// Text before an answer to a claude that was stopped meanwhile.
const ENDED_TEXT: &str = "You were ended while you waited for the user. ";
/// Text after the answer.
const CONTINUE_TEXT: &str = "Go on with the task where you left off. Background work, wake-ups and cron \
    tasks of yours are gone: start those anew that you still need.";
/// Characters of the input that names a tool call.
const MAX_INPUT_CHARS: usize = 2_000;

impl FirstPrompt {
    /// Returns a first prompt with the answer to the released question, if there is one.
    pub(super) fn with_answer(record: &Record) -> Option<Self> {
        let ReleasedQuestion { blocked, response, .. } = record.progress.released.as_ref()?;
        let text =
            format!("{ENDED_TEXT}{}\n\n{CONTINUE_TEXT}", answer_text(blocked, response.as_ref()?));
        Some(Self { text, ..Self::resume_only(record) })
    }
}

/// Returns an answer as text for claude.
fn answer_text(blocked: &Blocked, response: &Value) -> String {
    let tool = blocked.tool_name.as_deref().unwrap_or("a tool");
    let call = format!("{tool} {}", clip(&blocked.input, MAX_INPUT_CHARS));
    let is_question = blocked.kind == "question";
    if response["behavior"] != "allow" {
        let why = response["message"].as_str().unwrap_or_default();
        return if is_question {
            format!("Your question has no answer. {why}")
        } else {
            format!("The user does not allow this tool call: {call}\n\n{why}")
        };
    }
    if !is_question {
        return format!(
            "The user allows this tool call, which was not made: {call}\n\nMake the same call \
             again, with exactly the same input."
        );
    }
    let answers = response["updatedInput"]["answers"].as_object();
    let answers = answers.into_iter().flatten().map(|(question, answer)| {
        format!("Question: {question}\nAnswer: {}", answer.as_str().unwrap_or_default())
    });
    format!("Here is the answer.\n\n{}", answers.collect::<Vec<_>>().join("\n\n"))
}

impl Supervisor {
    /// Stops claude while it waits for an answer; the question stays open without it.
    pub(super) fn release(&mut self, number: u64) {
        let blocked = match self.digest.blocked() {
            Some(blocked) if self.accepts_messages() => blocked,
            _ => {
                let request_id = String::new();
                self.log(EventKind::AnswerRefused { number, request_id });
                return;
            }
        };
        // Claude repeats its other requests.
        let blocked = Blocked { released: true, others: Vec::new(), ..blocked };
        self.digest.leave_undecided();
        let log_start = self.record.attempt.log_start;
        self.record.progress.released =
            Some(ReleasedQuestion { blocked, log_start, response: None });
        self.log(EventKind::ReleaseRequested { number });
        self.stop(StopReason::Release { number });
    }

    /// Waits with the question after claude has exited.
    pub(super) fn released(&mut self, number: u64) {
        self.next_attempt();
        self.archive_attempt(Digest::default());
        self.conversation.forget_expected();
        self.stop.reason = None;
        self.silence.is_reported = false;
        self.hold_question();
        self.log(EventKind::Released { number });
        self.effects.push(Effect::LeaveQueue);
    }

    /// Waits for the answer to a released question.
    pub(super) fn hold_question(&mut self) {
        let Some(released) = &self.record.progress.released else { return };
        let limit = self.record.spec.ask.block_timeout_ms.map(Duration::from_millis);
        let until = limit.map(|limit| {
            self.now.mono.saturating_add(released.blocked.since.after(limit).since(self.now.wall))
        });
        self.phase = WorkerPhase::Released { until };
        self.record.status = Status::Blocked;
        self.save();
    }

    /// Starts claude again with the answer to the released question.
    pub(super) fn resume_with_answer(&mut self, number: u64, response: Value) {
        let Some(released) = &mut self.record.progress.released else { return };
        let request_id = released.blocked.request_id.clone();
        released.response = Some(response);
        self.expect_answered_call();
        self.first_prompt = FirstPrompt::with_answer(&self.record).unwrap_or_default();
        // The wait does not count as elapsed time.
        self.attempt.started = self.now.mono;
        self.record.status = Status::Running;
        self.phase = WorkerPhase::Waiting { since: self.now.mono };
        self.save();
        self.log(EventKind::Answered { number, request_id });
        self.effects.push(Effect::EnterQueue);
    }

    /// Whether this request is the released question.
    pub(super) fn is_released(&self, request_id: &str) -> bool {
        let waits = matches!(self.phase, WorkerPhase::Released { .. });
        let question = self.record.released_question();
        waits && question.is_some_and(|question| question.request_id == request_id)
    }

    /// Remembers the tool call that is allowed, in case the next claude repeats it.
    pub(super) fn expect_answered_call(&mut self) {
        let Some(ReleasedQuestion { blocked, response: Some(response), .. }) =
            &self.record.progress.released
        else {
            return;
        };
        if blocked.kind != "question" && response["behavior"] == "allow" {
            let tool = blocked.tool_name.clone().unwrap_or_default();
            self.allowed_call = Some((tool, response["updatedInput"].clone()));
        }
    }

    /// Returns the answer to a request that was allowed before claude repeated it.
    pub(super) fn answer_to(&mut self, event: &Event<'_>) -> Option<(String, Value)> {
        let Event::Request { request_id, tool_name, input, .. } = event else { return None };
        let (tool, call) = self.allowed_call.as_ref()?;
        if tool != tool_name || from_json::<Value>(input).ok().as_ref() != Some(call) {
            return None;
        }
        let (_, input) = self.allowed_call.take()?;
        Some((request_id.clone(), allow_response(&input, &BTreeMap::new())))
    }
}
