//! What claude says, and what follows from it.

use std::time::Duration;

use super::{
    AUTH_FAILURES, Effect, FOLLOW_UP_GRACE, LEAVE_GRACE, Now, StopReason, Supervisor, TermSignal,
    WorkerPhase,
};
use crate::job::{EventKind, LimitMet, NotifyEvent, Status};
use crate::stream::{DigestChange, Event, Line, decode, repair};
use crate::text::clip;

impl Supervisor {
    /// Takes in a line, of which `note` sees the event.
    pub(super) fn line(
        &mut self,
        line: Line<'_>,
        now: Now,
        effects: &mut Vec<Effect>,
        note: impl FnOnce(&Event<'_>),
    ) {
        self.unsaved = true;
        self.silence_started(now);
        let whole;
        let mut event = decode(line.bytes);
        if event.is_none() {
            whole = repair(line.bytes);
            event = whole.as_ref().and_then(|line| decode(line.as_bytes()));
        }
        let Some(mut event) = event else {
            if !line.bytes.is_empty() {
                // One of the agent's that is damaged is still a word of the agent.
                let spoken = memchr::memmem::find(line.bytes, br#""type":"assistant""#).is_some();
                self.digest.undecodable(spoken, now.wall);
            }
            return;
        };
        if let Event::Result(result) = &mut event {
            result.omitted = line.omitted();
        }
        note(&event);
        let answer = self.answer_to(&event);
        let mut change = self.digest.apply(&event, now.wall);
        if answer.is_some() {
            change.blocked = None;
        }
        if let Event::Init { .. } = event {
            self.warn_of_mcp_servers(false);
        }
        self.changed(change, now, effects);
        if let Some((request_id, response)) = answer {
            self.respond(0, request_id, response, now, effects);
        }
    }

    fn changed(&mut self, change: DigestChange, now: Now, effects: &mut Vec<Effect>) {
        let mut notable = change.rate_limited.is_some()
            || change.rate_limit_over
            || change.turn_ended
            || change.blocked.is_some()
            || !change.unblocked.is_empty();
        if let Some(uuid) = &change.taken_in {
            // Claude may repeat messages that nobody has sent: they are no reason to save.
            notable |= self.message_accepted(uuid, now, effects);
        }
        if let Some(uuid) = &change.heard {
            // One that a hook refused within a turn is not said to be taken in.
            self.message_accepted(uuid, now, effects);
        }
        if let Some(why) = &change.refused {
            self.record.warn(format!("a message was refused: {why}"));
        }
        if change.turn_ended {
            self.turn_ended_at = Some(now.wall);
        }
        if change.rejected_unheard
            && let Some(uuid) = self.talk.oldest_expected()
        {
            self.digest.asks_anew();
            self.message_accepted(&uuid, now, effects);
        }
        if let Some(error) = change.rate_limited {
            let retry_at = self.digest.retry_at;
            self.log(EventKind::RateLimited { error, retry_at }, now, effects);
            let model = self.digest.limited_model;
            effects.extend(retry_at.map(|until| Effect::Limited(LimitMet { until, model })));
        }
        if change.rate_limit_over {
            self.log(EventKind::RateLimitOver, now, effects);
        }
        if self.digest.answered {
            effects.extend(self.unanswered_since.take().map(Effect::Answered));
        }
        let mut announced = None;
        if let Some(blocked) = change.blocked {
            self.asked(blocked.request_id.clone(), now);
            let tool = blocked.tool_name.unwrap_or_default();
            let happening = EventKind::Blocked { request_id: blocked.request_id, tool };
            self.log(happening, now, effects);
            announced = Some(Effect::RecordNotification(NotifyEvent::Blocked));
        }
        for request_id in change.unblocked {
            self.request_closed(&request_id);
            self.log(EventKind::Unblocked { request_id }, now, effects);
        }
        if change.turn_ended {
            self.keep_alive.restarts = 0;
        }
        if change.turn_ended
            && let Some(last) = &self.digest.last
        {
            let last = last.clone();
            let failure = self.failure_of_turn();
            if self.record.spec.keep_alive {
                self.record.last_failure.clone_from(&failure);
            }
            let (subtype, is_error) = (clip(&last.subtype, 60), last.is_error);
            let end = self.turn_end(&last, failure, now);
            let over: Vec<Effect> =
                end.messages.iter().copied().map(Effect::RemoveMessage).collect();
            effects.push(Effect::AppendTurn(end));
            // After the line that tells of them: whoever waits for it finds it there.
            effects.extend(over);
            self.log(EventKind::Turn { subtype, is_error }, now, effects);
        }
        if self.digest.turn_open {
            self.mark_running();
        }
        if matches!(self.record.status, Status::Running | Status::Blocked) {
            let released = self.record.released_question().is_some();
            let blocked = released || self.digest.blocked().is_some();
            self.record.status = if blocked { Status::Blocked } else { Status::Running };
        }
        if notable {
            self.save(now, effects);
        }
        effects.extend(announced);
        if self.digest.auth_failures >= AUTH_FAILURES && self.stop_reason.is_none() {
            self.stop(StopReason::Auth, now, effects);
        }
        match self.phase {
            ref phase if phase.takes_input() => self.advance(change.turn_ended, now, effects),
            WorkerPhase::Stopping { by: TermSignal::Request, until } if change.turn_ended => {
                // The cost is told: it may go.
                let until = until.min(now.mono + LEAVE_GRACE);
                self.phase = WorkerPhase::Stopping { by: TermSignal::Request, until };
                self.input_closed = true;
                effects.push(Effect::CloseInput);
            }
            WorkerPhase::Closing { .. } if change.lively => {
                self.phase =
                    WorkerPhase::Closing { until: now.mono.saturating_add(self.exit_grace()) };
            }
            _ => {}
        }
    }

    /// Between turns: what is claude doing next, and does it need its stdin for that?
    fn advance(&mut self, turn_ended: bool, now: Now, effects: &mut Vec<Effect>) {
        let idle = matches!(self.phase, WorkerPhase::Idle { .. });
        if self.digest.turn_open || (self.digest.results == 0 && !idle) {
            self.phase = WorkerPhase::Working;
        } else if self.digest.outstanding() > 0 {
            // One that is idle has waited for it already.
            if turn_ended || !(idle || matches!(self.phase, WorkerPhase::Holding { .. })) {
                let wait = Duration::from_millis(self.record.spec.background_wait_ms);
                self.phase = WorkerPhase::Holding { until: now.mono + wait };
                let tasks = self.digest.outstanding();
                self.log(EventKind::BackgroundWait { tasks }, now, effects);
                self.save(now, effects);
            }
        } else if self.digest.follow_up_due || self.digest.has_queued() || self.talk.is_waiting() {
            if !matches!(self.phase, WorkerPhase::FollowUp { .. }) {
                self.phase = WorkerPhase::FollowUp { until: now.mono + FOLLOW_UP_GRACE };
            }
        } else {
            self.rest(now, effects);
        }
    }

    /// No turn is open, and none is about to begin at once: claude is kept for scheduled work, or
    /// for messages, or comes to its end. Background work is not waited for any more.
    pub(super) fn rest(&mut self, now: Now, effects: &mut Vec<Effect>) {
        // A turn that failed is tried again or ends the job, whatever it had scheduled.
        let failed = self.digest.last.as_ref().is_some_and(|last| last.is_error);
        if self.digest.schedule.is_pending() && !failed {
            let until = self.wakeup_deadline(now);
            if !matches!(self.phase, WorkerPhase::Awaiting { .. }) {
                let until = self.digest.schedule.next_due();
                self.log(EventKind::WakeupWait { until }, now, effects);
            }
            self.phase = WorkerPhase::Awaiting { until };
            if self.record.status == Status::Idle {
                self.record.status = Status::Running;
            }
            self.save(now, effects);
        } else if self.awaits_messages() {
            self.idle(now, effects);
        } else if let Some(until) = self.recurring_until(now) {
            if !matches!(self.phase, WorkerPhase::Holding { .. }) {
                self.log(EventKind::BackgroundWait { tasks: 0 }, now, effects);
            }
            self.phase = WorkerPhase::Holding { until };
            self.save(now, effects);
        } else {
            self.close_input(now, effects);
        }
    }

    /// Until when a recurring cron task holds the job, which never ends by itself. `None` if there
    /// is none, or it has held it for long enough.
    fn recurring_until(&mut self, now: Now) -> Option<Duration> {
        if !self.digest.schedule.recurs() {
            return None;
        }
        let since = *self.recurring_since.get_or_insert(now.mono);
        let until = since + Duration::from_millis(self.record.spec.background_wait_ms);
        if until > now.mono { Some(until) } else { None }
    }
}
