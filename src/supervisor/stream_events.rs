//! Handling of the events in claude's output.

use std::time::Duration;

use super::{
    Effect, FOLLOW_UP_GRACE, LEAVE_GRACE, MAX_AUTH_FAILURES, StopReason, Supervisor, TermSignal,
    WorkerPhase,
};
use crate::job::{EventKind, LimitMet, NotifyEvent, Status};
use crate::stream::{DigestChange, Event, LimitChange, Line, decode};
use crate::text::clip;

/// Decodes a line. If it is not UTF-8, decodes the line with replacement characters, which
/// `repaired` then owns.
pub(super) fn decode_line<'a>(
    line: &Line<'a>,
    repaired: &'a mut Option<String>,
) -> Option<Event<'a>> {
    if let Some(event) = decode(line.bytes) {
        return Some(event);
    }
    decode(repaired.insert(String::from_utf8_lossy(line.bytes).into_owned()).as_bytes())
}

impl Supervisor {
    /// Handles a line of output.
    pub(super) fn line(&mut self, line: Line<'_>) {
        let mut repaired = None;
        let event = decode_line(&line, &mut repaired);
        self.decoded_line(&line, event);
    }

    /// Handles a line of output that was decoded to this event.
    pub(super) fn decoded_line(&mut self, line: &Line<'_>, event: Option<Event<'_>>) {
        self.recording.is_unsaved = true;
        self.silence_started();
        let Some(mut event) = event else {
            if !line.bytes.is_empty() {
                // A damaged event of the agent is still activity of the agent.
                let spoken = memchr::memmem::find(line.bytes, br#""type":"assistant""#).is_some();
                self.digest.undecodable(spoken, self.now.wall);
            }
            return;
        };
        if let Event::Result(result) = &mut event {
            result.omitted = line.omitted();
        }
        let answer = self.answer_to(&event);
        let mut change = self.digest.apply(&event, self.now.wall);
        if answer.is_some() {
            change.blocked = None;
        }
        if let Event::Init { .. } = event {
            self.warn_of_mcp_servers(false);
        }
        self.changed(change);
        if let Some((request_id, response)) = answer {
            self.respond(0, request_id, response);
        }
    }

    /// Handles the text after the last line feed of the output.
    pub(super) fn torn_line(&mut self, line: Line<'_>) {
        // A complete event that only lacks its line feed is valid.
        self.attempt.torn = decode(line.bytes).is_none();
        self.line(line);
    }

    fn changed(&mut self, change: DigestChange) {
        let mut is_notable = change.limit.is_some()
            || change.turn_ended
            || change.blocked.is_some()
            || !change.unblocked.is_empty();
        is_notable |= self.messages_accepted(&change);
        match change.limit {
            Some(LimitChange::Met(error)) => self.rate_limited(error),
            Some(LimitChange::Over) => self.log(EventKind::RateLimitOver),
            None => {}
        }
        if self.digest.answered
            && let Some(since) = self.attempt.unanswered_since.take()
        {
            self.effects.push(Effect::Answered(since));
        }
        let is_blocked = change.blocked.is_some();
        if let Some(blocked) = change.blocked {
            self.asked(blocked.request_id.clone());
            let tool = blocked.tool_name.unwrap_or_default();
            self.log(EventKind::Blocked { request_id: blocked.request_id, tool });
        }
        for request_id in change.unblocked {
            self.request_closed(&request_id);
            self.log(EventKind::Unblocked { request_id });
        }
        if change.turn_ended {
            self.turn_ended();
        }
        if self.digest.is_turn_open() {
            self.mark_running();
        }
        self.update_blocked();
        if is_notable {
            self.save();
        }
        if is_blocked {
            self.effects.push(Effect::RecordNotification(NotifyEvent::Blocked));
        }
        if self.digest.auth_failures >= MAX_AUTH_FAILURES && self.stop.reason.is_none() {
            self.stop(StopReason::Auth);
        }
        self.advance_phase(change.turn_ended, change.is_activity);
    }

    /// Handles the messages that claude has accepted or refused. Returns whether claude has accepted
    /// one that was sent to it.
    fn messages_accepted(&mut self, change: &DigestChange) -> bool {
        // Claude may repeat messages that were not sent: they are no reason to save.
        let is_notable = match &change.accepted_message {
            Some(uuid) => self.message_accepted(uuid),
            None => false,
        };
        if let Some(uuid) = &change.completed_message {
            // Claude does not report a message as accepted that a hook refused within a turn.
            self.message_accepted(uuid);
        }
        if let Some(why) = &change.refused {
            self.record.warn(format!("a message was refused: {why}"));
        }
        if change.unacknowledged_rejection
            && let Some(uuid) = self.conversation.oldest_expected()
        {
            self.digest.start_new_request();
            self.message_accepted(&uuid);
        }
        is_notable
    }

    fn rate_limited(&mut self, error: String) {
        let (retry_at, model) = (self.digest.retry_at, self.digest.limited_model());
        self.log(EventKind::RateLimited { error, retry_at });
        if let Some(until) = retry_at {
            self.effects.push(Effect::Limited(LimitMet { until, model }));
        }
    }

    fn turn_ended(&mut self) {
        self.between_turns.since = Some(self.now.wall);
        self.keep_alive.restarts = 0;
        let Some(last) = self.digest.last.clone() else { return };
        let failure = self.failure_of_turn();
        if self.record.spec.keep_alive.enabled {
            self.record.progress.last_failure.clone_from(&failure);
        }
        let end = self.turn_end(&last, failure);
        let messages = end.messages.clone();
        self.effects.push(Effect::AppendTurn(end));
        // After the line of the turn: a program that waits for the message finds it there.
        for number in messages {
            self.effects.push(Effect::RemoveMessage(number));
        }
        self.log(EventKind::Turn { subtype: clip(&last.subtype, 60), is_error: last.is_error });
    }

    /// Marks a running job as blocked while it has an open question.
    fn update_blocked(&mut self) {
        if matches!(self.record.status, Status::Running | Status::Blocked) {
            let is_released = self.record.released_question().is_some();
            let is_blocked = is_released || self.digest.blocked().is_some();
            self.record.status = if is_blocked { Status::Blocked } else { Status::Running };
        }
    }

    /// Chooses the next phase after an event.
    fn advance_phase(&mut self, turn_ended: bool, is_activity: bool) {
        match self.phase {
            ref phase if phase.takes_input() => self.advance(turn_ended),
            WorkerPhase::Stopping { by: TermSignal::Request, until } if turn_ended => {
                // The cost is known: claude may exit.
                let until = until.min(self.now.mono + LEAVE_GRACE);
                self.phase = WorkerPhase::Stopping { by: TermSignal::Request, until };
                self.attempt.input_closed = true;
                self.effects.push(Effect::CloseInput);
            }
            WorkerPhase::Closing { .. } if is_activity => {
                let until = self.now.mono.saturating_add(self.exit_grace());
                self.phase = WorkerPhase::Closing { until };
            }
            _ => {}
        }
    }

    /// Chooses the next phase while claude takes input, which also decides whether stdin stays open.
    fn advance(&mut self, turn_ended: bool) {
        let idle = matches!(self.phase, WorkerPhase::Idle { .. });
        if self.digest.is_turn_open() || (self.digest.results == 0 && !idle) {
            self.phase = WorkerPhase::Working;
        } else if self.digest.outstanding() > 0 {
            // An idle job has already waited for it.
            if turn_ended || !(idle || matches!(self.phase, WorkerPhase::Holding { .. })) {
                let wait = Duration::from_millis(self.record.spec.limits.background_wait_ms);
                self.phase = WorkerPhase::Holding { until: self.now.mono + wait };
                let tasks = self.digest.outstanding();
                self.log(EventKind::BackgroundWait { tasks });
                self.save();
            }
        } else if self.digest.is_follow_up_due()
            || self.digest.has_queued()
            || self.conversation.is_waiting()
        {
            if !matches!(self.phase, WorkerPhase::FollowUp { .. }) {
                self.phase = WorkerPhase::FollowUp { until: self.now.mono + FOLLOW_UP_GRACE };
            }
        } else {
            self.await_next();
        }
    }

    /// Chooses the phase when no turn is open and none is about to begin: claude is kept for
    /// scheduled work or for messages, or its input is closed. Background work is not awaited any
    /// more.
    pub(super) fn await_next(&mut self) {
        // A failed turn is retried or ends the job, whatever it had scheduled.
        let failed = self.digest.last.as_ref().is_some_and(|last| last.is_error);
        if self.digest.schedule.is_pending() && !failed {
            let until = self.wakeup_deadline();
            if !matches!(self.phase, WorkerPhase::Awaiting { .. }) {
                let until = self.digest.schedule.next_due();
                self.log(EventKind::WakeupWait { until });
            }
            self.phase = WorkerPhase::Awaiting { until };
            if self.record.status == Status::Idle {
                self.record.status = Status::Running;
            }
            self.save();
        } else if self.awaits_messages() {
            self.idle();
        } else if let Some(until) = self.recurring_until() {
            if !matches!(self.phase, WorkerPhase::Holding { .. }) {
                self.log(EventKind::BackgroundWait { tasks: 0 });
            }
            self.phase = WorkerPhase::Holding { until };
            self.save();
        } else {
            self.close_input();
        }
    }

    /// Returns until when a recurring cron task, which never ends by itself, keeps the job open.
    /// `None` if there is no such task, or its time is over.
    fn recurring_until(&mut self) -> Option<Duration> {
        if !self.digest.schedule.recurs() {
            return None;
        }
        let since = *self.between_turns.recurring_since.get_or_insert(self.now.mono);
        let until = since + Duration::from_millis(self.record.spec.limits.background_wait_ms);
        if until > self.now.mono { Some(until) } else { None }
    }
}
