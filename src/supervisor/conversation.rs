//! What a job is told while it runs, and what it says at the end of each turn.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::{Effect, FOLLOW_UP_GRACE, Now, Supervisor, WorkerPhase};
use crate::job::{EventKind, InboxMessage, Status, TurnEnd, TurnFailure, denied};
use crate::stream::TurnResult;
use crate::stream::transcript::error_of;
use crate::text::{clip, sum_usd};

/// Characters of an answer that a line of `turns.ndjson` keeps.
const ANSWER_KEPT: usize = 256 << 10;

/// What claude is told where nobody answers it in time.
const DENIED: &str = "a request was denied because nobody answered within --block-timeout";
/// What the agent is told then.
const NOBODY: &str = "Nobody is there to answer. Decide yourself, or do without, and say so.";

/// Messages on their way into claude.
#[derive(Debug, Default)]
pub(super) struct ConversationState {
    /// Given to claude and not yet taken in, by their UUID.
    expected: BTreeMap<String, u64>,
    /// Taken in since the last result.
    taken: Vec<u64>,
    /// When each open request was made, on the monotonic clock.
    asked: Vec<(String, Duration)>,
}

impl ConversationState {
    /// What claude has not taken in will be told anew.
    pub(super) fn forget_expected(&mut self) {
        self.expected.clear();
        self.asked.clear();
    }

    /// The UUID of the message that was given to claude first, of those not taken in.
    pub(super) fn oldest_expected(&self) -> Option<String> {
        let oldest = self.expected.iter().min_by_key(|(_, number)| **number);
        oldest.map(|(uuid, _)| uuid.clone())
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.expected.is_empty()
    }
}

impl Supervisor {
    /// Somebody tells the job something. What is not acted upon stays in the inbox.
    pub(super) fn handle_message(
        &mut self,
        number: u64,
        directive: Result<InboxMessage, String>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        match directive {
            Err(error) => {
                let error = clip(&error, 200);
                self.record.warn(format!("message {number} could not be read: {error}"));
                self.log(EventKind::MessageRefused { number, error }, now, effects);
                self.unsaved = true;
                effects.push(Effect::RemoveMessage(number));
            }
            Ok(InboxMessage::Interrupt) => {
                effects.push(Effect::RemoveMessage(number));
                if self.accepts_messages() && self.digest.turn_open {
                    self.log(EventKind::InterruptRequested, now, effects);
                    effects.push(Effect::Interrupt(number));
                }
            }
            Ok(InboxMessage::Finish) => {
                effects.push(Effect::RemoveMessage(number));
                self.finish(now, effects);
            }
            Ok(InboxMessage::Release) => {
                effects.push(Effect::RemoveMessage(number));
                self.release(number, now, effects);
            }
            Ok(InboxMessage::Answer { request_id, response }) => {
                effects.push(Effect::RemoveMessage(number));
                if self.is_released(&request_id) {
                    self.go_on_with(number, response, now, effects);
                } else if self.accepts_messages() && self.digest.awaits_answer(&request_id) {
                    self.respond(number, request_id, response, now, effects);
                } else {
                    self.log(EventKind::AnswerRefused { number, request_id }, now, effects);
                }
            }
            Ok(InboxMessage::Message { uuid, text }) if self.accepts_messages() => {
                // What claude was silent for before that, it was asked nothing.
                self.silence_started(now);
                self.log(EventKind::MessageSent { number }, now, effects);
                self.talk.expected.insert(uuid.clone(), number);
                effects.push(Effect::SendMessage { uuid, text });
                // Between turns claude is about to begin one; should it not, it is not waited for.
                let idle = matches!(self.phase, WorkerPhase::Idle { .. });
                self.mark_running();
                let between = idle
                    || matches!(
                        self.phase,
                        WorkerPhase::Working
                            | WorkerPhase::FollowUp { .. }
                            | WorkerPhase::Awaiting { .. }
                    );
                if between && !self.digest.turn_open && (idle || self.digest.results > 0) {
                    self.phase = WorkerPhase::FollowUp { until: now.mono + FOLLOW_UP_GRACE };
                }
            }
            Ok(InboxMessage::Message { .. }) => {}
        }
    }

    pub(super) fn respond(
        &mut self,
        number: u64,
        request_id: String,
        response: Value,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        self.silence_started(now);
        self.digest.answered(&request_id);
        self.request_closed(&request_id);
        self.record.status =
            if self.digest.blocked().is_some() { Status::Blocked } else { Status::Running };
        // The record first: whoever waits for the event looks at it next.
        self.save(now, effects);
        self.log(EventKind::Answered { number, request_id: request_id.clone() }, now, effects);
        effects.push(Effect::Respond { request_id, response });
    }

    /// Claude asks something and waits.
    pub(super) fn asked(&mut self, request_id: String, now: Now) {
        self.talk.asked.push((request_id, now.mono));
    }

    /// It has its answer, or was taken back.
    pub(super) fn request_closed(&mut self, request_id: &str) {
        self.talk.asked.retain(|(asked, _)| asked != request_id);
    }

    /// When the request that has waited longest is to be denied.
    pub(super) fn block_timeout(&self) -> Option<Duration> {
        let limit = Duration::from_millis(self.record.spec.block_timeout_ms?);
        let open = self.talk.asked.iter().find(|(id, _)| self.digest.awaits_answer(id));
        open.filter(|_| self.accepts_messages()).map(|(_, since)| since.saturating_add(limit))
    }

    pub(super) fn deny_what_nobody_answers(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while self.block_timeout().is_some_and(|at| at <= now.mono) {
            let Some(open) = self.talk.asked.iter().find(|(id, _)| self.digest.awaits_answer(id))
            else {
                return;
            };
            let request_id = open.0.clone();
            self.record.warn(DENIED);
            self.respond(0, request_id, denied(NOBODY), now, effects);
        }
    }

    /// Nobody has answered the question that waits without a claude.
    pub(super) fn nobody_answered(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.record.warn(DENIED);
        self.go_on_with(0, denied(NOBODY), now, effects);
    }

    /// Whether claude still reads its stdin.
    pub(super) fn accepts_messages(&self) -> bool {
        self.phase.takes_input()
            && !self.input_closed
            && !self.output_closed
            && self.stop_reason.is_none()
    }

    /// Claude has taken in the message of this UUID; says whether that was expected.
    pub(super) fn message_accepted(
        &mut self,
        uuid: &str,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(number) = self.talk.expected.remove(uuid) else { return false };
        self.talk.taken.push(number);
        self.log(EventKind::MessageTaken { number }, now, effects);
        effects.push(Effect::SetAside(number));
        true
    }

    /// Messages of these numbers were taken in before, by a turn that has not ended.
    pub fn has_taken_in(&mut self, numbers: Vec<u64>) {
        self.talk.taken = numbers;
    }

    /// The line of the turn that has just ended; `failure` is how it failed, taken by itself.
    pub(super) fn turn_end(
        &mut self,
        last: &TurnResult,
        failure: Option<TurnFailure>,
        now: Now,
    ) -> TurnEnd {
        self.record.ended_turns += 1;
        let aborted = |why: &String| why.starts_with("aborted");
        let costs = [self.record.earlier.cost_usd, self.digest.spent_usd];
        let is_error = last.is_error || failure.is_some();
        let said = match failure {
            // A turn without an answer, or one that the model was not asked for, is a success to
            // claude.
            Some(failure) if !last.is_error => Some(failure.error),
            _ if last.is_error || last.subtype != "success" => Some(error_of(last)),
            _ => last.result.clone(),
        };
        TurnEnd {
            turn: self.record.ended_turns,
            at: now.wall,
            attempt: self.record.attempt,
            messages: std::mem::take(&mut self.talk.taken),
            is_error,
            interrupted: last.terminal_reason.as_ref().is_some_and(aborted),
            result: said.map(|text| clip(&text, ANSWER_KEPT)),
            duration_ms: Some(last.duration_ms),
            session_id: last.session_id.clone(),
            cost_usd: sum_usd(costs),
        }
    }
}
