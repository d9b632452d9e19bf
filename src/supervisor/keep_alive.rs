//! Jobs that are kept alive between their turns, and claudes that are started again.

use std::time::Duration;

use super::{Effect, FirstPrompt, Now, Supervisor, WorkerPhase};
use crate::job::{EventKind, Exit, Reason, Status, Verdict, milliseconds};
use crate::stream::Digest;

/// How long the first restart waits; each further one twice as long, up to [`BACKOFF_MOST`].
const BACKOFF: Duration = Duration::from_secs(1);
/// How long a restart waits at most.
const BACKOFF_MOST: Duration = Duration::from_secs(60);

/// What is known of a job that is kept alive, beside its record.
#[derive(Debug, Default)]
pub(super) struct KeepAlive {
    /// Nothing more will be asked: the next result is the last.
    pub(super) finishing: bool,
    /// It was idle when its input was closed: all that was asked has its answer.
    pub(super) finished: bool,
    /// Restarts without a completed turn in between.
    pub(super) restarts: u32,
    /// This claude went away while it was idle.
    pub(super) went_away: bool,
}

impl Supervisor {
    /// Whether the job waits for more after a result.
    pub(super) fn awaits_messages(&self) -> bool {
        self.record.spec.keep_alive && !self.keep_alive.finishing
    }

    /// A turn has its result, and nothing more is to be done now.
    pub(super) fn idle(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if matches!(self.phase, WorkerPhase::Idle { .. }) {
            return;
        }
        let wait = Duration::from_millis(self.record.spec.idle_timeout_ms);
        self.phase = WorkerPhase::Idle { until: now.mono.saturating_add(wait) };
        self.record.status = Status::Idle;
        self.log(EventKind::Idle, now, effects);
        self.save(now, effects);
    }

    /// One that was idle has something to do.
    pub(super) fn mark_running(&mut self) {
        if self.record.status == Status::Idle {
            self.record.status = Status::Running;
            self.unsaved = true;
        }
    }

    /// Nothing more will be asked: at once if nothing is going on, else after the next result.
    pub(super) fn finish(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.log(EventKind::FinishRequested, now, effects);
        self.keep_alive.finishing = true;
        if matches!(self.phase, WorkerPhase::Idle { .. }) {
            self.finish_now(now, effects);
        }
    }

    pub(super) fn finish_now(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.keep_alive.finishing = true;
        self.keep_alive.finished = true;
        self.record.status = Status::Running;
        self.close_input(now, effects);
        // Whoever asked for the end sees what it waits for.
        self.save(now, effects);
    }

    /// Whether claude is to be started again instead of this verdict.
    pub(super) fn restarts(&self, verdict: &Verdict) -> bool {
        let spec = &self.record.spec;
        let ended_well = |exit: Exit| exit.code == Some(0) || exit.signal().is_some();
        // Of one that was idle the last turn's verdict says nothing, unless it ended over it.
        let went_away = self.keep_alive.went_away && self.record.exit.is_some_and(ended_well);
        let died = matches!(verdict, Verdict::Completed)
            || matches!(verdict.reason(), Some(Reason::NoResult))
            || went_away;
        let wanted = spec.keep_alive && died;
        wanted
            && self.stop_reason.is_none()
            && self.record.session_id.is_some()
            && self.may_restart()
    }

    /// Whether the job's options allow one more restart.
    pub(super) fn may_restart(&self) -> bool {
        let spec = &self.record.spec;
        spec.restart && !self.keep_alive.finished && self.keep_alive.restarts < spec.max_restarts
    }

    /// How long the next restart waits.
    pub(super) fn restart_pause(&self) -> Duration {
        BACKOFF.saturating_mul(1 << self.keep_alive.restarts.min(6)).min(BACKOFF_MOST)
    }

    /// Waits a while before the next attempt.
    pub(super) fn back_off(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let wait = self.restart_pause();
        self.keep_alive.restarts += 1;
        let cut_off = self.digest.turn_open;
        self.keep_alive.went_away = false;
        self.next_attempt(now);
        let began = self.record.session_began;
        self.record.status = Status::Running;
        self.record.was_idle = began && !cut_off;
        self.opening = match (began, cut_off) {
            (false, _) => FirstPrompt::with_prompt(&self.record, ""),
            // A turn that had begun is gone on with; what had not begun lies in the inbox.
            (true, true) => FirstPrompt::interrupted(&self.record),
            (true, false) => FirstPrompt::silent(&self.record),
        };
        if let Some(opening) = FirstPrompt::with_answer(&self.record) {
            self.opening = opening;
        }
        self.archive_attempt(Digest::default(), now);
        self.talk.forget_expected();
        self.phase = WorkerPhase::Backoff { until: now.mono + wait, queues: false };
        self.log(EventKind::Restarting { after_ms: milliseconds(wait) }, now, effects);
        self.save(now, effects);
    }
}
