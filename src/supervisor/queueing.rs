//! Queueing: waiting for the start time, for dependencies, and for a slot.

use super::{Effect, FailedDependency, StartFailure, Supervisor, WorkerPhase};
use crate::job::{AppliedTo, EventKind, QueueChange, Status, WaitReason, milliseconds};

impl Supervisor {
    pub(super) fn queued(&mut self, reason: WaitReason) {
        if !matches!(self.phase, WorkerPhase::Waiting { .. }) {
            self.phase = WorkerPhase::Waiting { since: self.now.mono };
        }
        self.log_worker_start();
        self.record.status = Status::Queued;
        self.log(EventKind::Queued { waits_for: reason });
        self.save();
    }

    pub(super) fn admitted(&mut self) {
        if matches!(self.phase, WorkerPhase::Waiting { .. }) {
            self.end_wait();
            if !self.has_launched {
                // The wait before the first attempt does not count as elapsed time.
                self.attempt.started = self.now.mono;
            }
            if self.record.status == Status::Queued {
                self.log(EventKind::Admitted);
                self.record.status = Status::Starting;
            }
        }
        self.phase = WorkerPhase::Starting;
        self.effects.push(Effect::Launch);
    }

    /// Ends a wait and adds it to the record.
    pub(super) fn end_wait(&mut self) {
        let (since, sum) = match self.phase {
            WorkerPhase::Waiting { since } => (since, &mut self.record.times.queued_ms),
            // The pause began with the attempt that is to be admitted.
            WorkerPhase::Backoff { queues: true, .. } => {
                (self.attempt.started, &mut self.record.times.limited_ms)
            }
            _ => return,
        };
        *sum = sum.saturating_add(milliseconds(self.now.mono.saturating_sub(since)));
    }

    /// Changes the conditions of admission. The message stays until the queue has the change.
    pub(super) fn requeue(&mut self, number: u64, change: QueueChange) {
        change.apply(&mut self.record.spec.queue_options);
        self.save();
        self.effects.push(Effect::Requeue(number));
    }

    /// Reports that a change of the conditions applies.
    pub(super) fn requeued(&mut self, number: u64, applied: AppliedTo) {
        self.log(EventKind::Updated { number, applied });
        self.effects.push(Effect::RemoveMessage(number));
    }

    pub(super) fn dependency_failed(
        &mut self,
        FailedDependency { error, cut_off }: FailedDependency,
    ) {
        if !matches!(self.phase, WorkerPhase::Waiting { .. }) {
            return;
        }
        self.end_wait();
        self.log(EventKind::DependencyFailed { error: error.clone() });
        self.attempt.start_failure = Some(StartFailure::Dependency(error));
        self.record.ending.dependency_cut_off = cut_off;
        // The record comes before the result, in case the worker dies in between.
        self.save();
        self.drained();
    }
}
