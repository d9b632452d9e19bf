//! Waiting for its turn: for its time, for other jobs, for a slot.

use super::{Effect, FailedDependency, Now, Phase, Supervisor};
use crate::job::{Happening, Obstacle, Status, milliseconds};

impl Supervisor {
    pub(super) fn queued(&mut self, obstacle: Obstacle, now: Now, effects: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Waiting { .. }) {
            self.phase = Phase::Waiting { since: now.mono };
        }
        self.begin(now, effects);
        self.record.status = Status::Queued;
        self.log(Happening::Queued { waits_for: obstacle }, now, effects);
        self.save(now, effects);
    }

    pub(super) fn admitted(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Waiting { .. }) {
            self.leave_line(now);
            if !self.launched {
                // What it waited before its first attempt is nothing that it took.
                self.started = now.mono;
            }
            if self.record.status == Status::Queued {
                self.log(Happening::Admitted, now, effects);
                self.record.status = Status::Starting;
            }
        }
        self.phase = Phase::Starting;
        effects.push(Effect::Launch);
    }

    /// What it waited is over, and counted.
    pub(super) fn leave_line(&mut self, now: Now) {
        let (since, sum) = match self.phase {
            Phase::Waiting { since } => (since, &mut self.record.queued_ms),
            // The pause is where an attempt begins that is to be let in.
            Phase::Backoff { queues: true, .. } => (self.started, &mut self.record.limited_ms),
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
        if !matches!(self.phase, Phase::Waiting { .. }) {
            return;
        }
        self.leave_line(now);
        self.log(Happening::DependencyFailed { error: error.clone() }, now, effects);
        self.dependency_error = Some(error);
        self.record.dependency_cut_off = cut_off;
        // Before the result tells of the end, should we die between the two.
        self.save(now, effects);
        self.all_is_in(effects);
    }
}
