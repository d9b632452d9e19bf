//! Messages to a running job, answers to requests of claude, and the end of each turn.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::verdict::is_aborted;
use super::{Effect, FOLLOW_UP_GRACE, Supervisor, WorkerPhase};
use crate::job::{EventKind, InboxMessage, Status, TurnEnd, TurnFailure, denied};
use crate::stream::TurnResult;
use crate::stream::transcript::error_of;
use crate::text::{clip, sum_usd};

/// Characters of an answer in a line of `turns.ndjson`.
const MAX_ANSWER_CHARS: usize = 256 << 10;

/// Warning in the record when a request was denied after the timeout.
const DENIED_WARNING: &str = "a request was denied because nobody answered within --block-timeout";
/// Answer to the agent in that case.
const NO_ANSWER_TEXT: &str =
    "Nobody is there to answer. Decide yourself, or do without, and say so.";

/// Messages that were sent to claude, and open requests of claude.
#[derive(Debug, Default)]
pub(super) struct ConversationState {
    /// Messages that were sent and not yet accepted: number by UUID.
    expected: BTreeMap<String, u64>,
    /// Messages that were accepted since the last result.
    taken: Vec<u64>,
    /// When each open request arrived, on the monotonic clock.
    asked: Vec<(String, Duration)>,
}

impl ConversationState {
    /// Forgets messages that were not accepted: they are sent again.
    pub(super) fn forget_expected(&mut self) {
        self.expected.clear();
        self.asked.clear();
    }

    /// Restores the messages that an earlier worker set aside: claude has accepted them in a turn
    /// that has not ended.
    pub(super) fn restore_accepted(&mut self, numbers: Vec<u64>) {
        self.taken = numbers;
    }

    /// Returns the UUID of the oldest message that claude has not accepted.
    pub(super) fn oldest_expected(&self) -> Option<String> {
        let oldest = self.expected.iter().min_by_key(|(_, number)| **number);
        oldest.map(|(uuid, _)| uuid.clone())
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.expected.is_empty()
    }
}

impl Supervisor {
    /// Handles a message from the inbox. It stays there if it cannot be handled now.
    pub(super) fn handle_message(&mut self, number: u64, message: Result<InboxMessage, String>) {
        match message {
            Err(error) => {
                let error = clip(&error, 200);
                self.record.warn(format!("message {number} could not be read: {error}"));
                self.log(EventKind::MessageRefused { number, error });
                self.recording.is_unsaved = true;
                self.effects.push(Effect::RemoveMessage(number));
            }
            Ok(InboxMessage::Interrupt) => {
                self.effects.push(Effect::RemoveMessage(number));
                if self.accepts_messages() && self.digest.is_turn_open() {
                    self.log(EventKind::InterruptRequested);
                    self.effects.push(Effect::Interrupt(number));
                } else {
                    let error = "no turn is running".to_owned();
                    self.log(EventKind::MessageRefused { number, error });
                }
            }
            Ok(InboxMessage::Finish) => {
                self.effects.push(Effect::RemoveMessage(number));
                self.finish();
            }
            Ok(InboxMessage::Freeze) => self.freeze_requested(number),
            Ok(InboxMessage::Thaw) => self.thaw_requested(number),
            Ok(InboxMessage::Requeue(change)) => self.requeue(number, change),
            Ok(InboxMessage::Release) => {
                self.effects.push(Effect::RemoveMessage(number));
                self.release(number);
            }
            Ok(InboxMessage::Answer { request_id, response }) => {
                self.effects.push(Effect::RemoveMessage(number));
                if self.is_released(&request_id) {
                    self.resume_with_answer(number, response);
                } else if self.accepts_messages() && self.digest.awaits_answer(&request_id) {
                    self.respond(number, request_id, response);
                } else {
                    self.log(EventKind::AnswerRefused { number, request_id });
                }
            }
            Ok(InboxMessage::Message { uuid, text }) => {
                if self.accepts_messages() {
                    self.send_message(number, uuid, text);
                }
            }
        }
    }

    fn send_message(&mut self, number: u64, uuid: String, text: String) {
        // The silence before this message does not count: claude had no input.
        self.silence_started();
        self.log(EventKind::MessageSent { number });
        self.conversation.expected.insert(uuid.clone(), number);
        self.effects.push(Effect::SendMessage { uuid, text });
        self.mark_running();
        // Between turns claude should begin one now; the wait for that is bounded.
        let is_between_turns = match self.phase {
            WorkerPhase::Idle { .. } => true,
            WorkerPhase::Working | WorkerPhase::FollowUp { .. } | WorkerPhase::Awaiting { .. } => {
                self.digest.results > 0
            }
            _ => false,
        };
        if is_between_turns && !self.digest.is_turn_open() {
            self.phase = WorkerPhase::FollowUp { until: self.now.mono + FOLLOW_UP_GRACE };
        }
    }

    pub(super) fn respond(&mut self, number: u64, request_id: String, response: Value) {
        self.silence_started();
        self.digest.remove_request(&request_id);
        self.request_closed(&request_id);
        self.record.status =
            if self.digest.blocked().is_some() { Status::Blocked } else { Status::Running };
        // The record first: a program that waits for the event reads the record next.
        self.save();
        self.log(EventKind::Answered { number, request_id: request_id.clone() });
        self.effects.push(Effect::Respond { request_id, response });
    }

    /// Remembers when a request of claude arrived.
    pub(super) fn asked(&mut self, request_id: String) {
        self.conversation.asked.push((request_id, self.now.mono));
    }

    /// Forgets a request that was answered or cancelled.
    pub(super) fn request_closed(&mut self, request_id: &str) {
        self.conversation.asked.retain(|(asked, _)| asked != request_id);
    }

    /// Returns when the oldest open request is to be denied.
    pub(super) fn block_timeout(&self) -> Option<Duration> {
        let (_, at) = self.next_denial()?;
        Some(at)
    }

    /// Returns the oldest open request, and when it is to be denied.
    fn next_denial(&self) -> Option<(&str, Duration)> {
        let limit = Duration::from_millis(self.record.spec.ask.block_timeout_ms?);
        if !self.accepts_messages() {
            return None;
        }
        let mut asked = self.conversation.asked.iter();
        let (request_id, since) = asked.find(|(id, _)| self.digest.awaits_answer(id))?;
        Some((request_id, since.saturating_add(limit)))
    }

    pub(super) fn deny_expired_requests(&mut self) {
        while let Some((request_id, at)) = self.next_denial() {
            if at > self.now.mono {
                return;
            }
            let request_id = request_id.to_owned();
            self.record.warn(DENIED_WARNING);
            self.respond(0, request_id, denied(NO_ANSWER_TEXT));
        }
    }

    /// Denies the released question, which nobody has answered in time.
    pub(super) fn deny_released_question(&mut self) {
        self.record.warn(DENIED_WARNING);
        self.resume_with_answer(0, denied(NO_ANSWER_TEXT));
    }

    pub(super) fn accepts_messages(&self) -> bool {
        self.phase.takes_input()
            && !self.attempt.input_closed
            && !self.attempt.output_closed
            && self.stop.reason.is_none()
    }

    /// Handles that claude accepted the message of this UUID. Returns whether it was expected.
    pub(super) fn message_accepted(&mut self, uuid: &str) -> bool {
        let Some(number) = self.conversation.expected.remove(uuid) else { return false };
        self.conversation.taken.push(number);
        self.log(EventKind::MessageTaken { number });
        self.effects.push(Effect::SetAside(number));
        true
    }

    /// Returns the line of `turns.ndjson` for the turn that has just ended; `failure` is the
    /// failure of that turn alone.
    pub(super) fn turn_end(&mut self, last: &TurnResult, failure: Option<TurnFailure>) -> TurnEnd {
        self.record.progress.ended_turns += 1;
        let costs = [self.record.attempt.earlier.cost_usd, self.digest.spent_usd];
        let is_error = last.is_error || failure.is_some();
        let said = match failure {
            // Claude calls a turn without an answer, or without the model, a success.
            Some(failure) if !last.is_error => Some(failure.error),
            _ if last.is_error || last.subtype != "success" => Some(error_of(last)),
            _ => last.result.clone(),
        };
        TurnEnd {
            turn: self.record.progress.ended_turns,
            at: self.now.wall,
            attempt: self.record.attempt.number,
            messages: std::mem::take(&mut self.conversation.taken),
            is_error,
            interrupted: is_aborted(last),
            result: said.map(|text| clip(&text, MAX_ANSWER_CHARS)),
            duration_ms: Some(last.duration_ms),
            session_id: last.session_id.clone(),
            cost_usd: sum_usd(costs),
        }
    }
}
