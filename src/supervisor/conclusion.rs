//! The end of an attempt: another attempt, or the job's result.

use super::verdict::ignored_rules;
use super::{Conclusion, Effect, Evidence, Now, StopReason, Supervisor, WorkerPhase};
use crate::job::{EventKind, NotifyEvent, Outcome, Reason, UndeliveredMessage, Verdict};

impl Supervisor {
    /// Reaches the verdict after an attempt. `evidence` is what the attempt left besides its
    /// stream.
    ///
    /// `undelivered` returns the messages that will not be delivered. It is called only once it is
    /// certain that the job has ended.
    pub(crate) fn conclude(
        &mut self,
        now: Now,
        evidence: &Evidence<'_>,
        undelivered: impl FnOnce() -> Vec<UndeliveredMessage>,
    ) -> (Conclusion, Vec<Effect>) {
        let mut effects = Vec::new();
        if let Some(StopReason::Release { number }) = self.stop_reason {
            self.stop_reason = self.pending_stop.take();
            if self.stop_reason.is_none() {
                self.released(number, now, &mut effects);
                return (Conclusion::NextAttempt, effects);
            }
        }
        let mut verdict = self.reach_verdict(evidence);
        if let Some(cause) = self.pending_stop.take()
            && self.has_next_attempt(&verdict, evidence, now)
        {
            self.stop_reason = Some(cause);
            verdict = self.reach_verdict(evidence);
        }
        if self.should_restart(&verdict) {
            self.back_off(now, &mut effects);
            return (Conclusion::NextAttempt, effects);
        }
        if self.needs_fresh_session(&verdict) {
            self.begin_fresh_session(now, &mut effects);
            return (Conclusion::NextAttempt, effects);
        }
        if let Some(pause) = self.launch_retry_after(&verdict, now) {
            self.retry_launch(pause, now, &mut effects);
            return (Conclusion::NextAttempt, effects);
        }
        if self.renews_login(&verdict, evidence) {
            self.renew_login(&verdict, now, &mut effects);
            return (Conclusion::NextAttempt, effects);
        }
        if let Some(pause) = self.retry_after(&verdict, now) {
            self.retry(&verdict, pause, now, &mut effects);
            return (Conclusion::NextAttempt, effects);
        }
        let verdict = self.final_verdict(verdict, now);
        let undelivered = undelivered();
        self.note_unknown_cost();
        for rule in ignored_rules(evidence.stderr) {
            self.record.warn(rule);
        }
        self.warn_of_mcp_servers(true);
        for warning in self.closing_warnings(&verdict) {
            self.record.warn(warning);
        }
        self.follow_digest(now);
        self.record.end(&verdict, now.wall);
        self.record.rate_limited |=
            matches!(verdict.reason(), Some(Reason::RateLimit | Reason::Overloaded));
        self.record.lost_connection =
            verdict.reason() == Some(Reason::ApiError) && self.lost_connection();
        self.phase = WorkerPhase::Over;
        let event = EventKind::Finished { status: verdict.status(), reason: verdict.reason() };
        self.log(event, now, &mut effects);
        self.save(now, &mut effects);
        // After the record, which the notification describes.
        effects.extend(NotifyEvent::from_status(verdict.status()).map(Effect::RecordNotification));
        let outcome = self.outcome().with_undelivered(undelivered);
        (Conclusion::Ended(Box::new(outcome)), effects)
    }

    /// Whether another attempt follows this verdict.
    fn has_next_attempt(&self, verdict: &Verdict, evidence: &Evidence<'_>, now: Now) -> bool {
        self.should_restart(verdict)
            || self.needs_fresh_session(verdict)
            || self.launch_retry_after(verdict, now).is_some()
            || self.renews_login(verdict, evidence)
            || self.retry_after(verdict, now).is_some()
    }

    /// Returns the result of the job so far.
    pub(crate) fn outcome(&self) -> Outcome {
        let (digest, previous) = (&self.digest, &self.previous);
        let last = digest.last.as_ref();
        let (answer, partial) = self.answer_shown();
        let duration = (digest.results > 0).then_some(digest.duration_ms);
        let structured = match (last, &digest.structured_output) {
            (Some(_), None) if digest.has_new_request => &None,
            (_, None) => &previous.structured_output,
            (_, present) => present,
        };
        let has_answer = answer.is_some() && !partial;
        Outcome {
            previous_result: if has_answer { None } else { previous.previous.clone() },
            result_omitted_bytes: answer.as_ref().map_or(0, |answer| answer.omitted),
            result: answer.map(|answer| answer.text),
            partial,
            duration_ms: [previous.duration_ms, duration]
                .into_iter()
                .flatten()
                .reduce(u64::saturating_add),
            usage: last.and_then(|last| last.usage.clone()),
            permission_denials: self.denials().cloned().collect(),
            structured_output: structured.clone(),
            ..Outcome::from_record(&self.record)
        }
    }
}
