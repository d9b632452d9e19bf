//! Jobs that are kept alive between turns, and restarts of claude.

use std::time::Duration;

use super::{FirstPrompt, Supervisor, WorkerPhase};
use crate::job::{EventKind, Reason, Status, Verdict, milliseconds};
use crate::stream::Digest;

/// Wait before the first restart. It doubles up to [`MAX_BACKOFF`].
const BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// State of a job that is kept alive, besides its record.
#[derive(Debug, Default)]
pub(super) struct KeepAlive {
    pub(super) finish: Finish,
    /// Restarts without a completed turn in between.
    pub(super) restarts: u32,
    /// This claude exited while it was idle.
    pub(super) exited_idle: bool,
}

/// Whether a job that is kept alive is to end by itself.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Finish {
    #[default]
    NotRequested,
    /// No more messages will come: the next result is the last.
    Requested,
    /// The job was idle when its input was closed: each message has its answer.
    Certain,
}

impl KeepAlive {
    pub(super) fn may_get_messages(&self) -> bool {
        self.finish == Finish::NotRequested
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finish == Finish::Certain
    }
}

impl Supervisor {
    /// Whether the job waits for messages after a result.
    pub(super) fn awaits_messages(&self) -> bool {
        self.record.spec.keep_alive.enabled && self.keep_alive.may_get_messages()
    }

    /// Waits for the next message.
    pub(super) fn idle(&mut self) {
        if matches!(self.phase, WorkerPhase::Idle { .. }) {
            return;
        }
        let wait = Duration::from_millis(self.record.spec.keep_alive.idle_timeout_ms);
        self.phase = WorkerPhase::Idle { until: self.now.mono.saturating_add(wait) };
        self.record.status = Status::Idle;
        self.log(EventKind::Idle);
        self.save();
    }

    /// Marks an idle job as running.
    pub(super) fn mark_running(&mut self) {
        if self.record.status == Status::Idle {
            self.record.status = Status::Running;
            self.recording.is_unsaved = true;
        }
    }

    /// Finishes the job: at once if it is idle, else after the next result.
    pub(super) fn finish(&mut self) {
        self.log(EventKind::FinishRequested);
        if self.keep_alive.may_get_messages() {
            self.keep_alive.finish = Finish::Requested;
        }
        if matches!(self.phase, WorkerPhase::Idle { .. }) {
            self.finish_now();
        }
    }

    pub(super) fn finish_now(&mut self) {
        self.keep_alive.finish = Finish::Certain;
        self.record.status = Status::Running;
        self.close_input();
        // The caller of `finish` can see what the job waits for.
        self.save();
    }

    /// Whether claude is restarted instead of this verdict.
    pub(super) fn should_restart(&self, verdict: &Verdict) -> bool {
        // If claude was idle, the verdict on its last turn does not matter, unless claude exited
        // because of it.
        let exited_idle = self.keep_alive.exited_idle
            && self
                .record
                .ending
                .exit
                .is_some_and(|exit| exit.code == Some(0) || exit.signal().is_some());
        let has_died = *verdict == Verdict::Completed
            || verdict.reason() == Some(Reason::NoResult)
            || exited_idle;
        self.record.spec.keep_alive.enabled
            && has_died
            && self.stop.reason.is_none()
            && self.record.session.id.is_some()
            && self.may_restart()
    }

    /// Whether the options of the job allow another restart.
    pub(super) fn may_restart(&self) -> bool {
        let spec = &self.record.spec;
        spec.keep_alive.restart
            && !self.keep_alive.is_finished()
            && self.keep_alive.restarts < spec.keep_alive.max_restarts
    }

    /// Returns the wait before the next restart.
    pub(super) fn restart_pause(&self) -> Duration {
        BACKOFF.saturating_mul(1 << self.keep_alive.restarts.min(6)).min(MAX_BACKOFF)
    }

    /// Begins the wait before a restart.
    pub(super) fn back_off(&mut self) {
        let wait = self.restart_pause();
        self.keep_alive.restarts += 1;
        let cut_off = self.digest.is_turn_open();
        self.keep_alive.exited_idle = false;
        self.next_attempt();
        let began = self.record.session.began;
        self.record.status = Status::Running;
        self.record.progress.was_idle = began && !cut_off;
        self.first_prompt = match (began, cut_off) {
            (false, _) => FirstPrompt::with_prompt(&self.record, ""),
            // A turn that had begun is continued; other messages are in the inbox.
            (true, true) => FirstPrompt::interrupted(&self.record),
            (true, false) => FirstPrompt::resume_only(&self.record),
        };
        if let Some(prompt) = FirstPrompt::with_answer(&self.record) {
            self.first_prompt = prompt;
        }
        self.archive_attempt(Digest::default());
        self.conversation.forget_expected();
        self.phase = WorkerPhase::Backoff { until: self.now.mono + wait, queues: false };
        self.log(EventKind::Restarting { after_ms: milliseconds(wait) });
        self.save();
    }
}
