//! State machine of a job's worker: `(state, time, input) -> effects`.
//!
//! Pure: it touches no file, process or clock, so that each pair of state and input can be tested
//! as a table. The verdict is reached in one place, [`verdict`].

mod attempt;
mod conclusion;
mod conversation;
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

use conversation::ConversationState;
use keep_alive::KeepAlive;
use phase::{
    DRAIN_GRACE, DRAIN_GRACE_WITH_LEFTOVERS, EXIT_GRACE, FOLLOW_UP_GRACE, INTERRUPT_GRACE,
    KILL_GRACE, LEAVE_GRACE, MAX_AUTH_FAILURES, REQUEST_GRACE, SAVE_INTERVAL, SWEEP_GRACE,
    StopReason, TERMINATE_GRACE, WorkerPhase,
};
use previous_attempts::PreviousAttempts;

use crate::job::{EventKind, Record, Status, Timestamp};
use crate::stream::Digest;
use crate::text::plural;

pub(crate) use attempt::FirstPrompt;
pub(crate) use post_mortem::{LoggedEvents, PostMortem};
pub(crate) use types::{
    Effect, Evidence, FailedDependency, Input, MAX_STDERR_BYTES, Now, TermSignal, WorkerStart,
};

/// Decides what a job's worker does; the worker carries the effects out.
#[derive(Debug)]
pub(crate) struct Supervisor {
    record: Record,
    first_prompt: FirstPrompt,
    conversation: ConversationState,
    keep_alive: KeepAlive,
    /// Whether `events.ndjson` has the start of this worker.
    is_start_logged: bool,
    /// Whether claude ran under this worker.
    launched: bool,
    /// When claude was started; `None` once the API has answered it.
    unanswered_since: Option<Timestamp>,
    /// Retries without progress in between.
    retries: u32,
    /// Whether the present silence has been reported.
    silence_warned: bool,
    /// When claude last wrote something or got input, on the monotonic clock.
    silent_since: Duration,
    /// The silence for which claude was stopped.
    stalled_for: Option<Duration>,
    /// A stop that was requested while claude was already ending. It takes effect if another
    /// attempt would follow.
    pending_stop: Option<StopReason>,
    /// Whether the API has accepted the login in this job.
    login_accepted: bool,
    /// Whether claude was restarted because the API refused its login, and has had no answer since.
    login_renewed: bool,
    /// Since when only recurring cron tasks have kept the job open, on the monotonic clock.
    recurring_since: Option<Duration>,
    turn_ended_at: Option<Timestamp>,
    dependency_error: Option<String>,
    /// A tool call that was allowed and that claude is expected to repeat: the tool and its input.
    allowed_call: Option<(String, Value)>,
    previous: PreviousAttempts,
    digest: Digest,
    phase: WorkerPhase,
    stop_reason: Option<StopReason>,
    /// When a requested `kill` stops waiting for the remaining processes and output, on the
    /// monotonic clock.
    kill_until: Option<Duration>,
    started: Duration,
    input_closed: bool,
    output_closed: bool,
    torn: bool,
    launch_error: Option<String>,
    unsaved: bool,
    saved_at: Option<Duration>,
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
            first_prompt,
            conversation: ConversationState::default(),
            keep_alive: KeepAlive::default(),
            is_start_logged: false,
            launched: false,
            unanswered_since: None,
            retries: 0,
            silence_warned: false,
            silent_since: now.mono,
            stalled_for: None,
            pending_stop: None,
            login_accepted: record.earlier.cost_usd.is_some_and(|usd| usd > 0.0),
            login_renewed: false,
            recurring_since: None,
            turn_ended_at: None,
            dependency_error: None,
            allowed_call: None,
            record,
            previous: PreviousAttempts::default(),
            phase: WorkerPhase::Starting,
            stop_reason: None,
            kill_until: None,
            started: now.mono,
            input_closed: false,
            output_closed: false,
            torn: false,
            launch_error: None,
            unsaved: false,
            saved_at: None,
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
        let phase = match self.phase {
            WorkerPhase::Waiting { .. }
            | WorkerPhase::Starting
            | WorkerPhase::Working
            | WorkerPhase::Sweeping
            | WorkerPhase::Over
            | WorkerPhase::Ending(_) => None,
            WorkerPhase::Holding { until }
            | WorkerPhase::FollowUp { until }
            | WorkerPhase::Awaiting { until }
            | WorkerPhase::Idle { until }
            | WorkerPhase::Backoff { until, .. }
            | WorkerPhase::Closing { until }
            | WorkerPhase::Stopping { until, .. }
            | WorkerPhase::Draining { until } => Some(until),
            WorkerPhase::Released { until } => until,
        };
        let unsaved = self.unsaved && !self.phase.is_over();
        let save = unsaved.then(|| self.saved_at.map_or(Duration::ZERO, |at| at + SAVE_INTERVAL));
        let limits = [self.timeout(), self.block_timeout(), self.silence()];
        limits.into_iter().chain([phase, save]).flatten().min()
    }

    /// Handles an input and returns the effects, to be carried out in this order.
    #[must_use]
    pub(crate) fn handle(&mut self, now: Now, input: Input<'_>) -> Vec<Effect> {
        self.now = now;
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
            Input::LogOpened { length } => self.record.log_start = length,
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
            Input::Swept { ended, left } => self.sweep_finished(ended, left),
            Input::SessionFile(file) => self.record.session_file = Some(file),
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
        self.launched = true;
        self.record.session_id = Some(session_id);
        self.record.was_admitted = true;
        self.record.was_idle = false;
        self.silent_since = self.now.mono;
        self.digest.retry_at = None;
        self.digest.own_messages = self.first_prompt.own_messages();
        self.unanswered_since = Some(self.now.wall);
        self.record.claude_pid = Some(pid);
        self.record.status = Status::Running;
        self.phase = WorkerPhase::Working;
        self.save();
        let silent = self.first_prompt.text.is_empty() && !self.first_prompt.prompt;
        if self.record.spec.keep_alive && silent {
            self.idle();
            if self.keep_alive.finishing {
                // The messages in the inbox come first.
                self.phase = WorkerPhase::Idle { until: self.now.mono };
            }
        }
        if self.stop_reason.is_some() {
            self.signal(TermSignal::Interrupt);
        }
    }

    fn launch_failed(&mut self, error: String) {
        self.log(EventKind::LaunchFailed { error: error.clone() });
        self.launch_error = Some(error);
        self.output_closed = true;
        self.drained();
    }

    fn tick(&mut self) {
        if self.timeout().is_some_and(|at| at <= self.now.mono) {
            self.log(EventKind::TimedOut);
            self.stop(StopReason::Timeout);
        }
        self.deny_expired_requests();
        self.check_silence();
        match self.phase {
            // The job continues, and so does its background work.
            WorkerPhase::Holding { until } if until <= self.now.mono && self.awaits_messages() => {
                self.await_next();
            }
            WorkerPhase::Holding { until } if until <= self.now.mono => {
                let what = match self.digest.outstanding() {
                    0 => "a recurring cron task".to_owned(),
                    tasks => plural(tasks, "background task"),
                };
                self.record.warn(format!("--background-wait ran out with {what} outstanding"));
                self.await_next();
            }
            WorkerPhase::FollowUp { until } if until <= self.now.mono => self.await_next(),
            WorkerPhase::Awaiting { until } if until <= self.now.mono => {
                let rested = self.turn_ended_at.unwrap_or(self.now.wall);
                self.digest.schedule.expire(self.now.wall, rested);
                if self.digest.schedule.next_due().is_none() {
                    self.digest.schedule.expire_unknown();
                }
                self.await_next();
            }
            WorkerPhase::Idle { until } if until <= self.now.mono => self.finish_now(),
            WorkerPhase::Released { until: Some(until) } if until <= self.now.mono => {
                self.deny_released_question();
            }
            WorkerPhase::Backoff { until, queues: false } if until <= self.now.mono => {
                self.phase = WorkerPhase::Starting;
                self.effects.push(Effect::Launch);
            }
            WorkerPhase::Backoff { until, queues: true } if until <= self.now.mono => {
                self.end_wait();
                self.phase = WorkerPhase::Waiting { since: self.now.mono };
                self.effects.push(Effect::EnterQueue);
            }
            WorkerPhase::Closing { until } if until <= self.now.mono => {
                self.record.warn("claude did not end by itself");
                self.signal(TermSignal::Terminate);
            }
            WorkerPhase::Stopping { by: TermSignal::Request, until } if until <= self.now.mono => {
                self.signal(TermSignal::Interrupt);
            }
            WorkerPhase::Stopping { by: TermSignal::Interrupt, until }
                if until <= self.now.mono =>
            {
                self.signal(TermSignal::Terminate);
            }
            WorkerPhase::Stopping { by: TermSignal::Terminate, until }
                if until <= self.now.mono =>
            {
                self.sweep();
            }
            WorkerPhase::Draining { until } if until <= self.now.mono => self.drained(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
