//! Retries after transient failures: a limit, an overloaded API, an API error, a crash.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::{
    AttemptState, Effect, Evidence, FirstPrompt, StartFailure, StopReason, Supervisor, WorkerPhase,
};
use crate::job::{
    EventKind, Exit, LimitMet, Reason, Record, Status, Timestamp, Verdict, milliseconds,
};
use crate::stream::{Digest, reset_time};

/// The first pause. Each further one is twice as long.
const BACKOFF: Duration = Duration::from_secs(5);
/// Attempts after the end of a limit are spread over this time.
const MAX_JITTER: Duration = Duration::from_millis(300);

/// Prompt that continues a session after a failed request.
const RETRY_TEXT: &str = "Your last request failed on the way to the model or at it, not by anything \
    you did. Look at what is already done, then go on with the task where you left off. Do not \
    start over. Background work, wake-ups and cron tasks of yours are gone: start those anew that \
    you still need.";

/// Attempts after transient failures, and of renewing the login.
#[derive(Debug)]
pub(super) struct Retries {
    /// Number of retries without progress in between.
    pub(super) count: u32,
    /// Whether the API has accepted the login in this job.
    pub(super) login_accepted: bool,
    /// Whether claude was restarted because the API refused its login, and has had no answer since.
    pub(super) login_renewed: bool,
}

impl Retries {
    pub(super) fn for_record(record: &Record) -> Self {
        let login_accepted = record.attempt.earlier.cost_usd.is_some_and(|usd| usd > 0.0);
        Self { count: 0, login_accepted, login_renewed: false }
    }
}

/// A wait before another attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    wait: Duration,
    /// Whether it lasts until the end of a limit, as the API reports it.
    of_limit: bool,
}

impl Supervisor {
    /// Returns the pause before another attempt; `None` if there is no further one.
    pub(super) fn retry_after(&self, verdict: &Verdict) -> Option<Pause> {
        let spec = &self.record.spec;
        if self.stop.reason.is_some() || spec.keep_alive.enabled || !self.may_pass(verdict) {
            return None;
        }
        if verdict.reason() == Some(Reason::RateLimit)
            && !spec.retry.no_wait_for_reset
            && let Some(reset) = self.limit_ends()
        {
            // A wait for a known end after some progress is not a failed attempt.
            let allowed = self.retries.count < spec.retry.retries
                || (spec.retry.retries > 0 && self.progressed());
            let wait = reset.since(self.now.wall);
            let max_wait = Duration::from_millis(spec.retry.max_wait_ms);
            let pause = Pause { wait: wait + MAX_JITTER.mul_f64(self.jitter()), of_limit: true };
            return if allowed && wait <= max_wait { Some(pause) } else { None };
        }
        if self.retries.count >= spec.retry.retries {
            return None;
        }
        Some(self.backoff_pause(self.retries.count))
    }

    /// Returns the end of the limit if it is in the future: as its event says, or else its
    /// sentence.
    fn limit_ends(&self) -> Option<Timestamp> {
        let reset = match self.digest.resets_at() {
            Some(reset) => reset,
            None => reset_time(&self.digest.last.as_ref()?.sentence()?, self.now.wall)?,
        };
        if reset > self.now.wall { Some(reset) } else { None }
    }

    /// Returns the pause after this number of failed attempts.
    fn backoff_pause(&self, retries: u32) -> Pause {
        let doubled = BACKOFF.saturating_mul(1 << retries.min(16));
        let max_wait = Duration::from_millis(self.record.spec.retry.max_backoff_ms);
        let wait = doubled.mul_f64(0.75 + self.jitter() / 2.0).min(max_wait);
        Pause { wait, of_limit: false }
    }

    fn may_pass(&self, verdict: &Verdict) -> bool {
        match verdict.reason() {
            Some(Reason::RateLimit | Reason::Overloaded) => true,
            Some(Reason::ApiError) => {
                let status = self.digest.last.as_ref().and_then(|last| last.api_error_status);
                status.is_some_and(|status| (500..600).contains(&status)) || self.lost_connection()
            }
            Some(Reason::NoResult | Reason::WakeupMissed) => {
                self.record.ending.exit.is_some_and(crashed)
            }
            // Before the worker has logged its start, the caller gets the error and can correct the
            // cause.
            // A preparation of the job's directory that failed would fail again.
            Some(Reason::LaunchFailed) => {
                self.recording.is_start_logged && self.attempt.start_failure.is_some()
            }
            _ => false,
        }
    }

    /// Whether the last turn failed because the API gave no answer: the connection was refused or
    /// reset, or the host was not found.
    pub(super) fn lost_connection(&self) -> bool {
        let Some(last) = &self.digest.last else { return false };
        if !last.is_error || last.api_error_status.is_some() {
            return false;
        }
        match self.digest.cli_error.as_deref() {
            Some("server_error") => true,
            // The reason is the same for a malformed answer; 2.1.197 does not give it.
            None | Some("unknown") => last.terminal_reason.as_deref() == Some("api_error"),
            // Such as `max_output_tokens`, or `invalid_request` if the model refuses.
            Some(_) => false,
        }
    }

    /// Whether a refused login is retried with a fresh claude: the API accepted it before in this
    /// job, or the stored login was replaced meanwhile, as another claude does when it renews the
    /// login.
    pub(super) fn renews_login(&self, verdict: &Verdict, evidence: &Evidence<'_>) -> bool {
        let by_refusal = matches!(self.stop.reason, None | Some(StopReason::Auth));
        if !by_refusal || verdict.reason() != Some(Reason::Auth) || self.keep_alive.is_finished() {
            return false;
        }
        let may_work = self.retries.login_accepted || evidence.login_changed;
        self.digest.answered || (may_work && !self.retries.login_renewed)
    }

    pub(super) fn renew_login(&mut self, verdict: &Verdict) {
        self.stop.reason = None;
        self.retries.login_renewed = true;
        let pause = self.backoff_pause(0);
        // This does not count as one of the retries that the caller allowed.
        let retries = self.retries.count;
        self.keep_alive.exited_idle = false;
        self.retry(verdict, pause);
        self.retries.count = retries;
    }

    /// Returns the wait before claude is launched again after a failed launch, as happens during an
    /// update; `None` for any other verdict, or if there is no further attempt.
    pub(super) fn launch_retry_after(&self, verdict: &Verdict) -> Option<Duration> {
        if verdict.reason() != Some(Reason::LaunchFailed) || self.stop.reason.is_some() {
            return None;
        }
        if !self.record.spec.keep_alive.enabled {
            let pause = self.retry_after(verdict)?;
            return Some(pause.wait);
        }
        if self.may_pass(verdict) && self.may_restart() { Some(self.restart_pause()) } else { None }
    }

    /// Begins the wait before another launch with the same first prompt.
    pub(super) fn retry_launch(&mut self, wait: Duration) {
        let keeps_slot = self.record.spec.keep_alive.enabled;
        if keeps_slot {
            self.keep_alive.restarts += 1;
        } else {
            self.retries.count += 1;
        }
        if let Some(StartFailure::Launch(error)) = self.attempt.start_failure.take() {
            self.record.warn(error);
        }
        let resumed = self.record.attempt.resumed;
        self.next_attempt();
        self.record.attempt.resumed = resumed;
        self.record.status = Status::Running;
        self.digest = Digest::waiting(false, self.now.wall.after(wait));
        self.attempt = AttemptState::beginning_at(self.now.mono);
        self.phase =
            WorkerPhase::Backoff { until: self.now.mono.saturating_add(wait), queues: !keeps_slot };
        let after_ms = milliseconds(wait);
        if keeps_slot {
            self.log(EventKind::Restarting { after_ms });
        } else {
            let after = Some(Reason::LaunchFailed);
            self.log(EventKind::Retrying { after, after_ms });
            self.effects.push(Effect::LeaveQueue);
        }
        self.save();
    }

    /// Whether the model has answered in this attempt.
    fn progressed(&self) -> bool {
        self.digest.answered
    }

    /// Returns a number from 0 to 1 that differs between jobs and attempts.
    fn jitter(&self) -> f64 {
        let mut hasher = DefaultHasher::new();
        (&self.record.job_id, self.record.attempt.number).hash(&mut hasher);
        (hasher.finish() % 1_000) as f64 / 1_000.0
    }

    /// Begins the wait before the next attempt, and prepares the record for it.
    pub(super) fn retry(&mut self, verdict: &Verdict, Pause { wait, of_limit }: Pause) {
        let limited = matches!(verdict.reason(), Some(Reason::RateLimit | Reason::Overloaded));
        let futile = !(of_limit && self.progressed());
        self.retries.count = if futile { self.retries.count + 1 } else { 0 };
        let crashed = matches!(verdict.reason(), Some(Reason::NoResult | Reason::WakeupMissed));
        self.next_attempt();
        self.record.status = Status::Running;
        self.first_prompt = match (self.record.session.began, crashed) {
            (false, _) => FirstPrompt::with_prompt(&self.record, ""),
            (true, true) => FirstPrompt::interrupted(&self.record),
            (true, false) => FirstPrompt {
                text: RETRY_TEXT.to_owned(),
                ..FirstPrompt::resume_only(&self.record)
            },
        };
        if let Some(prompt) = FirstPrompt::with_answer(&self.record) {
            self.first_prompt = prompt;
        }
        let retry_at = self.now.wall.after(wait);
        let model = self.digest.limited_model();
        self.archive_attempt(Digest::waiting(limited, retry_at));
        self.conversation.forget_expected();
        self.silence.is_reported = false;
        self.phase =
            WorkerPhase::Backoff { until: self.now.mono.saturating_add(wait), queues: true };
        let after = verdict.reason();
        self.log(EventKind::Retrying { after, after_ms: milliseconds(wait) });
        // Before the slot is free: the next job would meet the same limit.
        if limited {
            self.effects.push(Effect::Limited(LimitMet { until: retry_at, model }));
        }
        self.effects.push(Effect::LeaveQueue);
        self.save();
    }

    /// Adds the number of attempts to the verdict, and the end of a limit that is not awaited.
    pub(super) fn final_verdict(&mut self, verdict: Verdict) -> Verdict {
        let tried = self.retries.count > 0 && self.stop.reason.is_none() && self.may_pass(&verdict);
        let verdict = match verdict {
            Verdict::Failed { reason, error } if tried => {
                Verdict::failed(reason, format!("{error} ({} attempts)", self.retries.count + 1))
            }
            verdict => verdict,
        };
        match (verdict, self.limit_ends()) {
            (Verdict::Failed { reason: Reason::RateLimit, error }, Some(reset)) => {
                self.record.limit.resumable_at = Some(reset);
                let error = format!("{error} (the limit ends at {reset}: resume the job then)");
                Verdict::failed(Reason::RateLimit, error)
            }
            (verdict, _) => verdict,
        }
    }
}

/// Whether claude ended otherwise than with a successful exit.
fn crashed(exit: Exit) -> bool {
    exit.code != Some(0)
}
