//! How claude is brought to its end, and what is waited for after it: its last words, the processes
//! that it leaves, the rest of its output.

use std::time::Duration;

use super::{
    DRAIN_GRACE, DRAIN_GRACE_LEFT, EXIT_GRACE, Effect, Now, SWEEP_GRACE, StopReason, Supervisor,
    TermSignal, WorkerPhase,
};
use crate::job::{EventKind, Exit, Leftovers};

impl Supervisor {
    /// How long a claude whose input is closed may be silent: within a turn as long as background
    /// work may take, for the turn that follows on that.
    pub(super) fn exit_grace(&self) -> Duration {
        let works = self.digest.turn_open
            || self.digest.follow_up_due
            || self.digest.has_queued()
            || self.talk.is_waiting();
        if works {
            EXIT_GRACE.max(Duration::from_millis(self.record.spec.background_wait_ms))
        } else {
            EXIT_GRACE
        }
    }

    pub(super) fn close_input(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.input_closed = true;
        // Whoever asked for the end of a job that is kept alive is not given another claude.
        self.keep_alive.finished |= self.keep_alive.finishing;
        self.phase = WorkerPhase::Closing { until: now.mono.saturating_add(self.exit_grace()) };
        self.log(EventKind::InputClosed, now, effects);
        effects.push(Effect::CloseInput);
    }

    pub(super) fn output_closed(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.output_closed = true;
        self.keep_alive.went_away |= matches!(self.phase, WorkerPhase::Idle { .. });
        match self.phase {
            ref phase if phase.takes_input() => {
                // Nothing more can be learned from it. Usually it has ended, too.
                effects.push(Effect::CloseInput);
                self.phase = WorkerPhase::Closing { until: now.mono + EXIT_GRACE };
            }
            WorkerPhase::Draining { .. } if self.record.exit.is_some() => self.drained(effects),
            _ => {}
        }
    }

    /// The job shall end, for this cause, unless its verdict stands already.
    pub(super) fn stop(&mut self, cause: StopReason, now: Now, effects: &mut Vec<Effect>) {
        match self.phase {
            // Its end is under way; it is another attempt that is not to follow.
            WorkerPhase::Sweeping | WorkerPhase::Draining { .. } => {
                return self.note_pending_stop(cause);
            }
            WorkerPhase::Over => return,
            WorkerPhase::Starting => {}
            WorkerPhase::Backoff { .. }
            | WorkerPhase::Waiting { .. }
            | WorkerPhase::Released { .. } => {
                // Nothing runs that would have to be ended.
                self.end_wait(now);
                self.stop_reason = Some(cause);
                self.drained(effects);
                return;
            }
            WorkerPhase::Stopping { .. } => {
                // It is being ended already; but only a kill is for good.
                match self.stop_reason {
                    Some(StopReason::Release { .. }) => self.stop_reason = Some(cause),
                    Some(_) if cause == StopReason::Kill => self.stop_reason = Some(cause),
                    Some(_) => {}
                    None => self.note_pending_stop(cause),
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
                    matches!(self.phase, WorkerPhase::Idle { .. }) || self.keep_alive.went_away;
                self.record.was_idle = idle && !self.digest.turn_open;
                // Once the last result is there the verdict stands, and ending claude is only
                // a matter of haste.
                let stands = self.input_closed && self.digest.is_settled();
                self.signal(self.first_signal(), now, effects);
                if stands {
                    // Unless it is that the job is tried again.
                    return self.note_pending_stop(cause);
                }
            }
        }
        self.stop_reason = Some(cause);
    }

    /// Claude is ending by itself, and its verdict stands, unless that is to try again.
    fn note_pending_stop(&mut self, cause: StopReason) {
        if self.pending_stop != Some(StopReason::Kill) {
            self.pending_stop = Some(cause);
        }
    }

    /// How claude is asked to end first. A turn that is under way is interrupted by a request, upon
    /// which its cost is always reported.
    fn first_signal(&self) -> TermSignal {
        let hears = !self.input_closed && !self.output_closed;
        if hears && self.digest.began && self.digest.turn_open {
            TermSignal::Request
        } else {
            TermSignal::Interrupt
        }
    }

    pub(super) fn signal(&mut self, by: TermSignal, now: Now, effects: &mut Vec<Effect>) {
        self.phase = WorkerPhase::Stopping { by, until: now.mono + by.grace() };
        self.log(EventKind::Signalled { signal: by.name().to_owned() }, now, effects);
        effects.push(Effect::Signal(by));
    }

    pub(super) fn claude_exited(&mut self, exit: Exit, now: Now, effects: &mut Vec<Effect>) {
        self.record.exit = Some(exit);
        self.keep_alive.went_away |= matches!(self.phase, WorkerPhase::Idle { .. });
        match self.phase {
            WorkerPhase::Sweeping
            | WorkerPhase::Over
            | WorkerPhase::Backoff { .. }
            | WorkerPhase::Waiting { .. }
            | WorkerPhase::Released { .. } => {}
            WorkerPhase::Draining { .. } => {
                if self.output_closed {
                    self.drained(effects);
                }
            }
            _ => {
                self.sweep(now, effects);
            }
        }
    }

    /// Begins to end every process of the job.
    pub(super) fn sweep(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.phase = WorkerPhase::Sweeping;
        effects.push(Effect::Sweep(self.within_kill(SWEEP_GRACE, now)));
    }

    /// As much of this time as is left to a `kill`, if one was asked for.
    fn within_kill(&self, grace: Duration, now: Now) -> Duration {
        self.kill_until.map_or(grace, |until| grace.min(until.saturating_sub(now.mono)))
    }

    pub(super) fn sweep_finished(
        &mut self,
        ended: usize,
        left: Leftovers,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        if ended + left.processes.len() > 0 {
            let left = left.processes.len();
            self.log(EventKind::Swept { ended, left }, now, effects);
        }
        let grace = if left.is_empty() { DRAIN_GRACE } else { DRAIN_GRACE_LEFT };
        self.record.record_leftovers(left);
        if self.output_closed && self.record.exit.is_some() {
            self.drained(effects);
        } else {
            self.phase = WorkerPhase::Draining { until: now.mono + self.within_kill(grace, now) };
        }
    }

    pub(super) fn drained(&mut self, effects: &mut Vec<Effect>) {
        self.phase = WorkerPhase::Over;
        effects.push(Effect::Conclude);
    }

    pub(super) fn timeout(&self) -> Option<Duration> {
        let can_stop = match self.phase {
            WorkerPhase::Backoff { .. } | WorkerPhase::Closing { .. } => true,
            WorkerPhase::Waiting { .. } => self.launched,
            ref phase => phase.takes_input(),
        };
        let limit =
            self.record.spec.timeout_ms.filter(|_| can_stop && self.stop_reason.is_none())?;
        let earlier = &self.record.earlier;
        let spent = earlier.elapsed_ms.saturating_sub(earlier.untimed_ms);
        let left = limit.saturating_sub(spent);
        Some(self.started.saturating_add(Duration::from_millis(left)))
    }
}
