//! How claude is brought to its end, and what is waited for after it: its last words, the processes
//! that it leaves, the rest of its output.

use std::time::Duration;

use super::{
    Cause, DRAIN_GRACE, DRAIN_GRACE_LEFT, EXIT_GRACE, Effect, Now, Phase, SWEEP_GRACE, Stop,
    Supervisor,
};
use crate::job::{Exit, Happening, Leftovers};

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
        self.kept.finished |= self.kept.finishing;
        self.phase = Phase::Closing { until: now.mono.saturating_add(self.exit_grace()) };
        self.log(Happening::InputClosed, now, effects);
        effects.push(Effect::CloseInput);
    }

    pub(super) fn output_closed(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.output_closed = true;
        self.kept.went_away |= matches!(self.phase, Phase::Idle { .. });
        match self.phase {
            ref phase if phase.takes_input() => {
                // Nothing more can be learned from it. Usually it has ended, too.
                effects.push(Effect::CloseInput);
                self.phase = Phase::Closing { until: now.mono + EXIT_GRACE };
            }
            Phase::Draining { .. } if self.record.exit.is_some() => self.all_is_in(effects),
            _ => {}
        }
    }

    /// The job shall end, for this cause, unless its verdict stands already.
    pub(super) fn stop(&mut self, cause: Cause, now: Now, effects: &mut Vec<Effect>) {
        match self.phase {
            // Its end is under way; it is another attempt that is not to follow.
            Phase::Sweeping | Phase::Draining { .. } => return self.note_late(cause),
            Phase::Over => return,
            Phase::Starting => {}
            Phase::Backoff { .. } | Phase::Waiting { .. } | Phase::Released { .. } => {
                // Nothing runs that would have to be ended.
                self.leave_line(now);
                self.cause = Some(cause);
                self.all_is_in(effects);
                return;
            }
            Phase::Stopping { .. } => {
                // It is being ended already; but only a kill is for good.
                match self.cause {
                    Some(Cause::Release { .. }) => self.cause = Some(cause),
                    Some(_) if cause == Cause::Kill => self.cause = Some(cause),
                    Some(_) => {}
                    None => self.note_late(cause),
                }
                return;
            }
            Phase::Working
            | Phase::Holding { .. }
            | Phase::FollowUp { .. }
            | Phase::Awaiting { .. }
            | Phase::Idle { .. }
            | Phase::Closing { .. } => {
                let idle = matches!(self.phase, Phase::Idle { .. }) || self.kept.went_away;
                self.record.at_rest = idle && !self.digest.turn_open;
                // Once the last result is there the verdict stands, and ending claude is only
                // a matter of haste.
                let stands = self.input_closed && self.digest.settled();
                self.signal(self.first_step(), now, effects);
                if stands {
                    // Unless it is that the job is tried again.
                    return self.note_late(cause);
                }
            }
        }
        self.cause = Some(cause);
    }

    /// Claude is ending by itself, and its verdict stands, unless that is to try again.
    fn note_late(&mut self, cause: Cause) {
        if self.late_cause != Some(Cause::Kill) {
            self.late_cause = Some(cause);
        }
    }

    /// How claude is asked to end first. A turn that is under way is interrupted by a request, upon
    /// which its cost is always reported.
    fn first_step(&self) -> Stop {
        let hears = !self.input_closed && !self.output_closed;
        if hears && self.digest.began && self.digest.turn_open {
            Stop::Request
        } else {
            Stop::Interrupt
        }
    }

    pub(super) fn signal(&mut self, by: Stop, now: Now, effects: &mut Vec<Effect>) {
        self.phase = Phase::Stopping { by, until: now.mono + by.grace() };
        self.log(Happening::Signalled { signal: by.name().to_owned() }, now, effects);
        effects.push(Effect::Signal(by));
    }

    pub(super) fn exited(&mut self, exit: Exit, now: Now, effects: &mut Vec<Effect>) {
        self.record.exit = Some(exit);
        self.kept.went_away |= matches!(self.phase, Phase::Idle { .. });
        match self.phase {
            Phase::Sweeping
            | Phase::Over
            | Phase::Backoff { .. }
            | Phase::Waiting { .. }
            | Phase::Released { .. } => {}
            Phase::Draining { .. } => {
                if self.output_closed {
                    self.all_is_in(effects);
                }
            }
            _ => {
                self.sweep(now, effects);
            }
        }
    }

    /// Begins to end every process of the job.
    pub(super) fn sweep(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.phase = Phase::Sweeping;
        effects.push(Effect::Sweep(self.within_kill(SWEEP_GRACE, now)));
    }

    /// As much of this time as is left to a `kill`, if one was asked for.
    fn within_kill(&self, grace: Duration, now: Now) -> Duration {
        self.kill_until.map_or(grace, |until| grace.min(until.saturating_sub(now.mono)))
    }

    pub(super) fn swept(
        &mut self,
        ended: usize,
        left: Leftovers,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        if ended + left.processes.len() > 0 {
            let left = left.processes.len();
            self.log(Happening::Swept { ended, left }, now, effects);
        }
        let grace = if left.is_empty() { DRAIN_GRACE } else { DRAIN_GRACE_LEFT };
        self.record.note_left(left);
        if self.output_closed && self.record.exit.is_some() {
            self.all_is_in(effects);
        } else {
            self.phase = Phase::Draining { until: now.mono + self.within_kill(grace, now) };
        }
    }

    pub(super) fn all_is_in(&mut self, effects: &mut Vec<Effect>) {
        self.phase = Phase::Over;
        effects.push(Effect::Conclude);
    }

    pub(super) fn timeout(&self) -> Option<Duration> {
        let can_stop = match self.phase {
            Phase::Backoff { .. } | Phase::Closing { .. } => true,
            Phase::Waiting { .. } => self.launched,
            ref phase => phase.takes_input(),
        };
        let limit = self.record.spec.timeout_ms.filter(|_| can_stop && self.cause.is_none())?;
        let earlier = &self.record.earlier;
        let spent = earlier.elapsed_ms.saturating_sub(earlier.untimed_ms);
        let left = limit.saturating_sub(spent);
        Some(self.started.saturating_add(Duration::from_millis(left)))
    }
}
