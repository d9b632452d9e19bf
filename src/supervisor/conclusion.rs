//! The end of an attempt: another attempt, or the job's result.

use std::time::Duration;

use super::retry::Pause;
use super::verdict::ignored_rules;
use super::{Effect, Evidence, StopReason, Supervisor, WorkerPhase};
use crate::job::{EventKind, NotifyEvent, Outcome, Reason, UndeliveredMessage, Verdict};

/// Another attempt of the job.
enum NextAttempt {
    /// Claude of a job that is kept alive is restarted.
    Restart,
    /// The session is lost: the job begins with its prompt again.
    FreshSession,
    /// Claude could not be launched, and is launched again after this wait.
    Launch(Duration),
    /// The login was refused, and another claude may get a valid one.
    RenewedLogin,
    /// The failure was transient.
    Retry(Pause),
}

impl Supervisor {
    /// Reaches the verdict after an attempt, and begins another attempt or the end of the job.
    pub(super) fn attempt_ended(&mut self, evidence: &Evidence<'_>) {
        if let Some(StopReason::Release { number }) = self.stop.reason {
            self.stop.reason = self.stop.pending.take();
            if self.stop.reason.is_none() {
                self.effects.push(Effect::PrepareAttempt);
                self.released(number);
                return;
            }
        }
        let mut verdict = self.reach_verdict(evidence);
        let mut next = self.next_attempt_after(&verdict, evidence);
        if let Some(reason) = self.stop.pending.take()
            && next.is_some()
        {
            self.stop.reason = Some(reason);
            verdict = self.reach_verdict(evidence);
            next = self.next_attempt_after(&verdict, evidence);
        }
        let Some(next) = next else { return self.begin_end(verdict, evidence) };
        self.effects.push(Effect::PrepareAttempt);
        match next {
            NextAttempt::Restart => self.back_off(),
            NextAttempt::FreshSession => self.begin_fresh_session(),
            NextAttempt::Launch(wait) => self.retry_launch(wait),
            NextAttempt::RenewedLogin => self.renew_login(&verdict),
            NextAttempt::Retry(pause) => self.retry(&verdict, pause),
        }
    }

    /// Returns which attempt follows this verdict; `None` if it is final.
    fn next_attempt_after(
        &self,
        verdict: &Verdict,
        evidence: &Evidence<'_>,
    ) -> Option<NextAttempt> {
        if self.should_restart(verdict) {
            return Some(NextAttempt::Restart);
        }
        if self.needs_fresh_session(verdict) {
            return Some(NextAttempt::FreshSession);
        }
        if let Some(wait) = self.launch_retry_after(verdict) {
            return Some(NextAttempt::Launch(wait));
        }
        if self.renews_login(verdict, evidence) {
            return Some(NextAttempt::RenewedLogin);
        }
        self.retry_after(verdict).map(NextAttempt::Retry)
    }

    /// Begins the end of the job: no message is accepted any more.
    fn begin_end(&mut self, verdict: Verdict, evidence: &Evidence<'_>) {
        let verdict = self.final_verdict(verdict);
        self.note_unknown_cost();
        for rule in ignored_rules(evidence.stderr) {
            self.record.warn(rule);
        }
        self.phase = WorkerPhase::Ending(verdict);
        self.effects.push(Effect::CloseInbox);
    }

    /// Ends the job; these messages will not be delivered.
    pub(super) fn end_job(&mut self, undelivered: Vec<UndeliveredMessage>) {
        let WorkerPhase::Ending(verdict) = &self.phase else { return };
        let verdict = verdict.clone();
        self.phase = WorkerPhase::Over;
        self.warn_of_mcp_servers(true);
        for warning in self.closing_warnings(&verdict) {
            self.record.warn(warning);
        }
        self.follow_digest();
        self.note_denied_tools(&verdict);
        self.record.end(&verdict, self.now.wall);
        self.record.limit.rate_limited |=
            matches!(verdict.reason(), Some(Reason::RateLimit | Reason::Overloaded));
        self.record.ending.lost_connection =
            verdict.reason() == Some(Reason::ApiError) && self.lost_connection();
        let outcome = self.outcome().with_undelivered(undelivered);
        self.effects.push(Effect::End(Box::new(outcome)));
        self.log(EventKind::Finished { status: verdict.status(), reason: verdict.reason() });
        self.save();
        // After the record, which the notification describes.
        if let Some(event) = NotifyEvent::from_status(verdict.status()) {
            self.effects.push(Effect::RecordNotification(event));
        }
    }

    /// Returns the result of the job so far.
    pub(crate) fn outcome(&self) -> Outcome {
        let (digest, previous) = (&self.digest, &self.previous);
        let last = digest.last.as_ref();
        let (answer, partial) = self.answer_shown();
        let duration_ms = if digest.results > 0 {
            let before = previous.duration_ms.unwrap_or_default();
            Some(before.saturating_add(digest.duration_ms))
        } else {
            previous.duration_ms
        };
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
            duration_ms,
            usage: last.and_then(|last| last.usage.clone()),
            permission_denials: self.denials().cloned().collect(),
            structured_output: structured.clone(),
            ..Outcome::from_record(&self.record)
        }
    }
}
