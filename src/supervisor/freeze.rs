//! Frozen jobs: `pause --stop` stops all processes of a job, and `unpause` continues them.

use std::time::Duration;

use super::{Effect, Now, Supervisor, WorkerPhase};
use crate::job::{EventKind, FreezeSkip, WaitKind, WaitingFor, milliseconds, unpause};

/// The supervisor's clock, which stands still while the job's processes are frozen: no time limit
/// counts that time. The worker's clock goes on.
#[derive(Debug, Default)]
pub(super) struct FreezeState {
    /// Since when they are frozen, on the worker's clock.
    since: Option<Duration>,
    /// How long they were frozen before.
    total: Duration,
    /// The present time on the worker's clock.
    worker_now: Duration,
}

impl FreezeState {
    /// Takes the worker's present time, and returns the supervisor's.
    pub(super) fn advance(&mut self, now: Now) -> Now {
        self.worker_now = now.mono;
        let mono = self.since.unwrap_or(now.mono).saturating_sub(self.total);
        Now { mono, ..now }
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.since.is_some()
    }

    /// Converts a time of the supervisor's clock to the worker's; `None` if it does not come before
    /// the processes continue.
    pub(super) fn on_worker_clock(&self, at: Duration) -> Option<Duration> {
        if self.is_frozen() { None } else { Some(at.saturating_add(self.total)) }
    }
}

impl Supervisor {
    /// Handles a request to freeze the job. While claude is being started it stays in the inbox.
    pub(super) fn freeze_requested(&mut self, number: u64) {
        let skip = match &self.phase {
            WorkerPhase::Starting => return,
            phase if phase.takes_input() => None,
            WorkerPhase::Closing { .. } if self.freeze.is_frozen() => None,
            WorkerPhase::Waiting { .. }
            | WorkerPhase::Backoff { .. }
            | WorkerPhase::Released { .. } => Some(FreezeSkip::NoClaude),
            _ => Some(FreezeSkip::Ending),
        };
        match skip {
            Some(why) => self.freeze_skipped(number, why),
            None => self.effects.push(Effect::Freeze(number)),
        }
    }

    pub(super) fn freeze_skipped(&mut self, number: u64, why: FreezeSkip) {
        self.log(EventKind::FreezeSkipped { number, why });
        self.effects.push(Effect::RemoveMessage(number));
    }

    /// Handles that the job's processes were stopped.
    pub(super) fn frozen(&mut self, number: u64, stopped: usize, running: usize) {
        if !self.phase.takes_input() && !matches!(self.phase, WorkerPhase::Closing { .. }) {
            // Claude has ended meanwhile.
            self.effects.push(Effect::Thaw);
            return self.freeze_skipped(number, FreezeSkip::Ending);
        }
        if !self.freeze.is_frozen() {
            self.freeze.since = Some(self.freeze.worker_now);
            self.record.times.frozen_at = Some(self.now.wall);
        }
        if running == 1 {
            self.record.warn("1 process could not be frozen");
        } else if running > 1 {
            self.record.warn(format!("{running} processes could not be frozen"));
        }
        self.save();
        self.log(EventKind::Frozen { number, processes: stopped });
        self.effects.push(Effect::RemoveMessage(number));
        self.effects.push(Effect::CheckPause);
    }

    /// Handles a request to let the processes continue.
    pub(super) fn thaw_requested(&mut self, number: u64) {
        self.effects.push(Effect::RemoveMessage(number));
        if self.freeze.is_frozen() {
            self.thaw(number);
        } else {
            self.log(EventKind::Thawed { number, frozen_ms: 0 });
        }
    }

    /// Lets the processes continue, if they are frozen.
    pub(super) fn thaw(&mut self, number: u64) {
        let Some(since) = self.freeze.since.take() else { return };
        let frozen = self.freeze.worker_now.saturating_sub(since);
        self.freeze.total += frozen;
        self.record.times.frozen_at = None;
        self.effects.push(Effect::Thaw);
        self.save();
        self.log(EventKind::Thawed { number, frozen_ms: milliseconds(frozen) });
    }

    /// Returns the wait of a frozen job.
    pub(super) fn frozen_wait(&self) -> Option<WaitingFor> {
        let at = self.record.times.frozen_at?;
        let why = format!(
            "it is frozen since {} UTC; its connection to the API may be lost",
            at.time_of_day()
        );
        let hint = Some(unpause(&self.record.job_id));
        Some(WaitingFor { hint, ..WaitingFor::new(WaitKind::Paused, None, why) })
    }
}
