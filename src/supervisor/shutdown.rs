//! Stopping claude, and what follows its exit: ending the remaining processes and reading the rest
//! of the output.

use std::time::Duration;

use super::keep_alive::Finish;
use super::{
    DRAIN_GRACE, DRAIN_GRACE_WITH_LEFTOVERS, EXIT_GRACE, Effect, KILL_GRACE, SWEEP_GRACE,
    StopReason, Supervisor, TermSignal, WorkerPhase,
};
use crate::job::{EventKind, Exit, Leftovers};

/// Requests to stop the job before claude has ended by itself.
#[derive(Debug, Default)]
pub(super) struct StopRequests {
    /// Why claude is being stopped.
    pub(super) reason: Option<StopReason>,
    /// A stop that was requested while claude was already ending. It takes effect if another
    /// attempt would follow.
    pub(super) pending: Option<StopReason>,
    /// When a requested `kill` stops waiting for the remaining processes and output, on the
    /// monotonic clock.
    pub(super) kill_until: Option<Duration>,
}

impl Supervisor {
    /// Returns how long claude may be silent after its input was closed. Within a turn this is as
    /// long as background work may take, for the turn that follows it.
    pub(super) fn exit_grace(&self) -> Duration {
        let works = self.digest.is_turn_open()
            || self.digest.is_follow_up_due()
            || self.digest.has_queued()
            || self.conversation.is_waiting();
        if works {
            EXIT_GRACE.max(Duration::from_millis(self.record.spec.limits.background_wait_ms))
        } else {
            EXIT_GRACE
        }
    }

    pub(super) fn close_input(&mut self) {
        self.attempt.input_closed = true;
        // A job that was asked to finish gets no further claude.
        if !self.keep_alive.may_get_messages() {
            self.keep_alive.finish = Finish::Certain;
        }
        self.phase =
            WorkerPhase::Closing { until: self.now.mono.saturating_add(self.exit_grace()) };
        self.log(EventKind::InputClosed);
        self.effects.push(Effect::CloseInput);
    }

    pub(super) fn output_closed(&mut self) {
        self.attempt.output_closed = true;
        self.keep_alive.exited_idle |= matches!(self.phase, WorkerPhase::Idle { .. });
        match self.phase {
            ref phase if phase.takes_input() => {
                // Without output claude is of no further use. Usually it has exited, too.
                self.effects.push(Effect::CloseInput);
                self.phase = WorkerPhase::Closing { until: self.now.mono + EXIT_GRACE };
            }
            WorkerPhase::Draining { .. } if self.record.ending.exit.is_some() => self.drained(),
            _ => {}
        }
    }

    pub(super) fn kill_requested(&mut self) {
        self.stop.kill_until.get_or_insert(self.now.mono.saturating_add(KILL_GRACE));
        self.log(EventKind::KillRequested);
        self.stop(StopReason::Kill);
    }

    /// Stops the job for this reason, unless its verdict is already certain.
    pub(super) fn stop(&mut self, reason: StopReason) {
        // Frozen processes react to no other signal.
        self.thaw(0);
        match self.phase {
            // The attempt is ending; the request only prevents another one.
            WorkerPhase::Sweeping | WorkerPhase::Draining { .. } => {
                return self.note_pending_stop(reason);
            }
            WorkerPhase::Over | WorkerPhase::Ending(_) => return,
            WorkerPhase::Starting => {}
            WorkerPhase::Backoff { .. }
            | WorkerPhase::Waiting { .. }
            | WorkerPhase::Released { .. } => {
                // No claude runs.
                self.end_wait();
                self.stop.reason = Some(reason);
                self.drained();
                return;
            }
            WorkerPhase::Stopping { .. } => {
                // Claude is already being stopped; only a kill changes the reason.
                match self.stop.reason {
                    Some(StopReason::Release { .. }) => self.stop.reason = Some(reason),
                    Some(_) if reason == StopReason::Kill => self.stop.reason = Some(reason),
                    Some(_) => {}
                    None => self.note_pending_stop(reason),
                }
                return;
            }
            WorkerPhase::Working
            | WorkerPhase::Holding { .. }
            | WorkerPhase::FollowUp { .. }
            | WorkerPhase::Awaiting { .. }
            | WorkerPhase::Idle { .. }
            | WorkerPhase::Closing { .. } => {
                let idle =
                    matches!(self.phase, WorkerPhase::Idle { .. }) || self.keep_alive.exited_idle;
                self.record.progress.was_idle = idle && !self.digest.is_turn_open();
                // After the last result the verdict is certain; the signal only makes claude exit
                // sooner.
                let is_certain = self.attempt.input_closed && self.digest.is_settled();
                self.signal(self.first_signal());
                if is_certain {
                    // The verdict may be a retry.
                    return self.note_pending_stop(reason);
                }
            }
        }
        self.stop.reason = Some(reason);
    }

    /// Notes a stop while claude is ending by itself. The verdict is certain, unless it is a retry.
    fn note_pending_stop(&mut self, reason: StopReason) {
        if self.stop.pending != Some(StopReason::Kill) {
            self.stop.pending = Some(reason);
        }
    }

    /// Returns the first step of stopping claude. A running turn is interrupted by a request,
    /// because claude then always reports its cost.
    fn first_signal(&self) -> TermSignal {
        let hears = !self.attempt.input_closed && !self.attempt.output_closed;
        if hears && self.digest.began && self.digest.is_turn_open() {
            TermSignal::Request
        } else {
            TermSignal::Interrupt
        }
    }

    pub(super) fn signal(&mut self, by: TermSignal) {
        self.phase = WorkerPhase::Stopping { by, until: self.now.mono + by.grace() };
        self.log(EventKind::Signalled { signal: by.name().to_owned() });
        self.effects.push(Effect::Signal(by));
    }

    pub(super) fn claude_exited(&mut self, exit: Exit) {
        self.record.ending.exit = Some(exit);
        self.keep_alive.exited_idle |= matches!(self.phase, WorkerPhase::Idle { .. });
        match self.phase {
            WorkerPhase::Sweeping
            | WorkerPhase::Over
            | WorkerPhase::Ending(_)
            | WorkerPhase::Backoff { .. }
            | WorkerPhase::Waiting { .. }
            | WorkerPhase::Released { .. } => {}
            WorkerPhase::Draining { .. } => {
                if self.attempt.output_closed {
                    self.drained();
                }
            }
            _ => {
                self.sweep();
            }
        }
    }

    /// Starts ending all processes of the job.
    pub(super) fn sweep(&mut self) {
        self.thaw(0);
        self.phase = WorkerPhase::Sweeping;
        self.effects.push(Effect::Sweep(self.within_kill(SWEEP_GRACE)));
    }

    /// Returns `grace`, limited to what remains for a requested `kill`.
    fn within_kill(&self, grace: Duration) -> Duration {
        self.stop.kill_until.map_or(grace, |until| grace.min(until.saturating_sub(self.now.mono)))
    }

    pub(super) fn sweep_finished(&mut self, ended: usize, left: Leftovers) {
        if ended + left.processes.len() > 0 {
            let left = left.processes.len();
            self.log(EventKind::Swept { ended, left });
        }
        let grace = if left.is_empty() { DRAIN_GRACE } else { DRAIN_GRACE_WITH_LEFTOVERS };
        self.record.record_leftovers(left);
        if self.attempt.output_closed && self.record.ending.exit.is_some() {
            self.drained();
        } else {
            self.phase = WorkerPhase::Draining { until: self.now.mono + self.within_kill(grace) };
        }
    }

    pub(super) fn drained(&mut self) {
        self.phase = WorkerPhase::Over;
        self.effects.push(Effect::Conclude);
    }

    pub(super) fn timeout(&self) -> Option<Duration> {
        let limit = self.record.spec.limits.timeout_ms?;
        let can_stop = match &self.phase {
            WorkerPhase::Backoff { .. } | WorkerPhase::Closing { .. } => true,
            WorkerPhase::Waiting { .. } => self.has_launched,
            phase => phase.takes_input(),
        };
        if !can_stop || self.stop.reason.is_some() {
            return None;
        }
        let earlier = &self.record.attempt.earlier;
        let spent = earlier.elapsed_ms.saturating_sub(earlier.untimed_ms);
        let left = limit.saturating_sub(spent);
        Some(self.attempt.started.saturating_add(Duration::from_millis(left)))
    }
}
