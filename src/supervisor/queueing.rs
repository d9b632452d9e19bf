//! Queueing: waiting for the start time, for dependencies, and for a slot.

use super::{Effect, FailedDependency, Now, Supervisor, WorkerPhase};
use crate::job::{EventKind, Status, WaitReason, milliseconds};

impl Supervisor {
    pub(super) fn queued(&mut self, reason: WaitReason, now: Now, effects: &mut Vec<Effect>) {
        if !matches!(self.phase, WorkerPhase::Waiting { .. }) {
            self.phase = WorkerPhase::Waiting { since: now.mono };
        }
        self.log_worker_start(now, effects);
        self.record.status = Status::Queued;
        self.log(EventKind::Queued { waits_for: reason }, now, effects);
        self.save(now, effects);
    }

    pub(super) fn admitted(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if matches!(self.phase, WorkerPhase::Waiting { .. }) {
            self.end_wait(now);
            if !self.launched {
                // The wait before the first attempt does not count as elapsed time.
                self.started = now.mono;
            }
            if self.record.status == Status::Queued {
                self.log(EventKind::Admitted, now, effects);
                self.record.status = Status::Starting;
            }
        }
        self.phase = WorkerPhase::Starting;
        effects.push(Effect::Launch);
    }

    /// Ends a wait and adds it to the record.
    pub(super) fn end_wait(&mut self, now: Now) {
        let (since, sum) = match self.phase {
            WorkerPhase::Waiting { since } => (since, &mut self.record.queued_ms),
            // The pause began with the attempt that is to be admitted.
            WorkerPhase::Backoff { queues: true, .. } => {
                (self.started, &mut self.record.limited_ms)
            }
            _ => return,
        };
        *sum = sum.saturating_add(milliseconds(now.mono.saturating_sub(since)));
    }

    pub(super) fn dependency_failed(
        &mut self,
        FailedDependency { error, cut_off }: FailedDependency,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        if !matches!(self.phase, WorkerPhase::Waiting { .. }) {
            return;
        }
        self.end_wait(now);
        self.log(EventKind::DependencyFailed { error: error.clone() }, now, effects);
        self.dependency_error = Some(error);
        self.record.dependency_cut_off = cut_off;
        // The record comes before the result, in case the worker dies in between.
        self.save(now, effects);
        self.drained(effects);
    }
}
