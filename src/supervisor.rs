//! State machine of a job's worker: `(state, time, input) -> effects`.
//!
//! Pure: it touches no file, process or clock, so that each pair of state and input can be tested
//! as a table. The verdict is reached in one place, [`verdict`].

mod attempt;
mod conclusion;
mod conversation;
mod freeze;
mod keep_alive;
mod phase;
mod post_mortem;
mod previous_attempts;
mod queueing;
mod recording;
mod release;
mod retry;
mod shutdown;
mod silence_timeout;
mod stream_events;
mod types;
mod verdict;
mod waiting;
mod worker_start;

use std::time::Duration;

use serde_json::Value;

use attempt::{AttemptState, StartFailure};
use conversation::ConversationState;
use freeze::FreezeState;
use keep_alive::KeepAlive;
use phase::{
    DRAIN_GRACE, DRAIN_GRACE_WITH_LEFTOVERS, EXIT_GRACE, FOLLOW_UP_GRACE, INTERRUPT_GRACE,
    KILL_GRACE, LEAVE_GRACE, MAX_AUTH_FAILURES, REQUEST_GRACE, SAVE_INTERVAL, SWEEP_GRACE,
    StopReason, TERMINATE_GRACE, WorkerPhase,
};
use previous_attempts::PreviousAttempts;
use recording::Recording;
use retry::Retries;
use shutdown::StopRequests;
use silence_timeout::Silence;
use waiting::BetweenTurns;

use crate::job::{EventKind, Record, Status};
use crate::stream::Digest;

pub(crate) use attempt::FirstPrompt;
pub(crate) use post_mortem::{LoggedEvents, PostMortem};
pub(crate) use types::{
    Effect, Evidence, FailedDependency, Input, MAX_STDERR_BYTES, Now, TermSignal, WorkerStart,
};

/// Decides what a job's worker does; the worker carries the effects out.
#[derive(Debug)]
pub(crate) struct Supervisor {
    record: Record,
    phase: WorkerPhase,
    /// What claude's output says.
    digest: Digest,
    conversation: ConversationState,
    first_prompt: FirstPrompt,
    attempt: AttemptState,
    previous: PreviousAttempts,
    /// Whether claude ran under this worker.
    has_launched: bool,
    between_turns: BetweenTurns,
    keep_alive: KeepAlive,
    retries: Retries,
    silence: Silence,
    stop: StopRequests,
    /// A tool call that was allowed and that claude is expected to repeat: the tool and its input.
    allowed_call: Option<(String, Value)>,
    recording: Recording,
    freeze: FreezeState,
    /// The time of the input that is being handled.
    now: Now,
    /// Effects of the input that is being handled.
    effects: Vec<Effect>,
}

impl Supervisor {
    /// Creates the supervisor of a job whose worker has started.
    pub(crate) fn new(record: Record, start: WorkerStart, now: Now) -> Self {
        let mut supervisor = Self::from_record(record, now);
        supervisor.begin_worker(start);
        supervisor
    }

    /// Creates a supervisor that knows only the record.
    fn from_record(record: Record, now: Now) -> Self {
        let first_prompt = FirstPrompt::for_record(&record);
        let mut supervisor = Self {
            digest: Digest::after_own_messages(first_prompt.own_messages()),
            phase: WorkerPhase::Starting,
            conversation: ConversationState::default(),
            first_prompt,
            attempt: AttemptState::beginning_at(now.mono),
            previous: PreviousAttempts::default(),
            has_launched: false,
            between_turns: BetweenTurns::default(),
            keep_alive: KeepAlive::default(),
            retries: Retries::for_record(&record),
            silence: Silence::beginning_at(now.mono),
            stop: StopRequests::default(),
            allowed_call: None,
            recording: Recording::default(),
            freeze: FreezeState::default(),
            record,
            now,
            effects: Vec::new(),
        };
        supervisor.expect_answered_call();
        supervisor
    }

    /// Returns the record as it should be on disk.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Returns the first prompt of the next attempt.
    pub(crate) fn first_prompt(&self) -> &FirstPrompt {
        &self.first_prompt
    }

    /// Returns when the supervisor needs an [`Input::Tick`], on the monotonic clock; `None` if not
    /// before another input.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let deadlines = [
            self.phase.until(),
            self.save_at(),
            self.timeout(),
            self.block_timeout(),
            self.silence(),
        ];
        self.freeze.on_worker_clock(deadlines.into_iter().flatten().min()?)
    }

    /// Handles an input and returns the effects, to be carried out in this order.
    #[must_use]
    pub(crate) fn handle(&mut self, now: Now, input: Input<'_>) -> Vec<Effect> {
        self.now = self.freeze.advance(now);
        self.handle_input(input);
        self.save_if_due();
        std::mem::take(&mut self.effects)
    }

    fn handle_input(&mut self, input: Input<'_>) {
        match input {
            Input::Queued(reason) => self.queued(reason),
            Input::Admitted => self.admitted(),
            Input::Held => {
                self.log_worker_start();
                self.hold_question();
            }
            Input::DependencyFailed(other) => self.dependency_failed(other),
            Input::LogOpened { length } => self.record.attempt.log_start = length,
            Input::Launched { pid, session_id, program, arguments } => {
                self.launched(pid, session_id, program, arguments);
            }
            Input::LaunchFailed(error) => self.launch_failed(error),
            Input::Line(line) => self.line(line),
            Input::Torn(line) => self.torn_line(line),
            Input::OutputClosed => self.output_closed(),
            Input::Exited { exit, stderr } => {
                self.log(EventKind::Exited { exit, stderr });
                self.claude_exited(exit);
            }
            Input::KillRequested => self.kill_requested(),
            Input::TerminateRequested => {
                self.log(EventKind::TerminateRequested);
                self.stop(StopReason::Terminate);
            }
            Input::Message { number, message } => self.handle_message(number, message),
            Input::Requeued { number, applied } => self.requeued(number, applied),
            Input::Frozen { number, stopped, running } => self.frozen(number, stopped, running),
            Input::FreezeSkipped { number, why } => self.freeze_skipped(number, why),
            Input::NotPaused => self.thaw(0),
            Input::Swept { ended, left } => self.sweep_finished(ended, left),
            Input::SessionFile(file) => self.record.session.file = Some(file),
            Input::LogIncomplete => self.log_incomplete(),
            Input::LogDamaged { file, what, length } => self.log_damaged(file, what, length),
            Input::WriteFailed { file, error } => self.write_failed(file, error),
            Input::AttemptEnded(evidence) => self.attempt_ended(&evidence),
            Input::InboxClosed { undelivered } => self.end_job(undelivered),
            Input::Tick => self.tick(),
        }
    }

    fn launched(&mut self, pid: i32, session_id: String, program: String, arguments: Vec<String>) {
        self.log_worker_start();
        let (program, arguments) = (Some(program), Some(arguments));
        self.log(EventKind::Launched { pid, program, arguments });
        self.has_launched = true;
        self.record.session.id = Some(session_id);
        self.record.attempt.was_admitted = true;
        self.record.progress.was_idle = false;
        self.silence.since = self.now.mono;
        self.digest.retry_at = None;
        self.digest.own_messages = self.first_prompt.own_messages();
        self.attempt.unanswered_since = Some(self.now.wall);
        self.record.worker.claude_pid = Some(pid);
        self.record.status = Status::Running;
        self.phase = WorkerPhase::Working;
        self.save();
        let silent = self.first_prompt.text.is_empty() && !self.first_prompt.prompt;
        if self.record.spec.keep_alive.enabled && silent {
            self.idle();
            if !self.keep_alive.may_get_messages() {
                // The messages in the inbox come first.
                self.phase = WorkerPhase::Idle { until: self.now.mono };
            }
        }
        if self.stop.reason.is_some() {
            self.signal(TermSignal::Interrupt);
        }
    }

    fn launch_failed(&mut self, error: String) {
        self.log(EventKind::LaunchFailed { error: error.clone() });
        self.attempt.start_failure = Some(StartFailure::Launch(error));
        self.attempt.output_closed = true;
        self.drained();
    }

    fn tick(&mut self) {
        if self.freeze.is_frozen() {
            return;
        }
        if self.timeout().is_some_and(|at| at <= self.now.mono) {
            self.log(EventKind::TimedOut);
            self.stop(StopReason::Timeout);
        }
        self.deny_expired_requests();
        self.check_silence();
        if self.phase.until().is_some_and(|at| at <= self.now.mono) {
            self.phase_expired();
        }
    }

    /// Chooses what follows when the time of the present phase has run out.
    fn phase_expired(&mut self) {
        match self.phase {
            WorkerPhase::Holding { .. } => self.background_wait_expired(),
            WorkerPhase::FollowUp { .. } => self.await_next(),
            WorkerPhase::Awaiting { .. } => self.wakeup_expired(),
            WorkerPhase::Idle { .. } => self.finish_now(),
            WorkerPhase::Released { .. } => self.deny_released_question(),
            WorkerPhase::Backoff { queues: false, .. } => {
                self.phase = WorkerPhase::Starting;
                self.effects.push(Effect::Relaunch);
            }
            WorkerPhase::Backoff { queues: true, .. } => {
                self.end_wait();
                self.phase = WorkerPhase::Waiting { since: self.now.mono };
                self.effects.push(Effect::EnterQueue);
            }
            WorkerPhase::Closing { .. } => {
                self.record.warn("claude did not end by itself");
                self.signal(TermSignal::Terminate);
            }
            WorkerPhase::Stopping { by: TermSignal::Request, .. } => {
                self.signal(TermSignal::Interrupt);
            }
            WorkerPhase::Stopping { by: TermSignal::Interrupt, .. } => {
                self.signal(TermSignal::Terminate);
            }
            WorkerPhase::Stopping { by: TermSignal::Terminate, .. } => self.sweep(),
            WorkerPhase::Draining { .. } => self.drained(),
            // Their time is not limited.
            WorkerPhase::Waiting { .. }
            | WorkerPhase::Starting
            | WorkerPhase::Working
            | WorkerPhase::Sweeping
            | WorkerPhase::Over
            | WorkerPhase::Ending(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
