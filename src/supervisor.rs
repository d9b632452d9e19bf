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

use crate::job::{Detached, Detachment, EventKind, Record, Status, Timestamp};
use crate::stream::{Digest, decode};
use crate::text::plural;

pub(crate) use attempt::FirstPrompt;
pub(crate) use post_mortem::{LoggedEvents, PostMortem};
pub(crate) use types::{
    Conclusion, Effect, Evidence, FailedDependency, Input, MAX_STDERR_BYTES, Now, TermSignal,
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
}

impl Supervisor {
    /// Creates the supervisor of a job whose worker started at `now`.
    pub(crate) fn new(mut record: Record, pid: i32, boot_id: Option<String>, now: Now) -> Self {
        record.pid = Some(pid);
        record.boot_id = boot_id;
        Self::from_record_at(record, now)
    }

    fn from_record_at(record: Record, now: Now) -> Self {
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
        };
        supervisor.expect_answered_call();
        supervisor
    }

    /// Returns the record as it should be on disk.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Sets the session of the next attempt, where it is known beforehand.
    pub(crate) fn expect_session(&mut self, session_id: String) {
        self.record.session_id = Some(session_id);
    }

    /// Sets the path of the file in which claude keeps the present session.
    pub(crate) fn set_session_file(&mut self, file: String) {
        self.record.session_file = Some(file);
    }

    /// Whether the job waits for its next attempt.
    pub(crate) fn is_backing_off(&self) -> bool {
        matches!(
            self.phase,
            WorkerPhase::Backoff { .. }
                | WorkerPhase::Waiting { .. }
                | WorkerPhase::Released { .. }
        )
    }

    /// Returns the first prompt of the next attempt.
    pub(crate) fn first_prompt(&self) -> &FirstPrompt {
        &self.first_prompt
    }

    /// Sets the offset in `output.log` at which the next attempt begins.
    pub(crate) fn set_log_start(&mut self, offset: u64) {
        self.record.log_start = offset;
    }

    /// Records that `output.log` lacks some of what claude wrote in this attempt.
    pub(crate) fn mark_log_incomplete(&mut self) {
        self.record.log_incomplete = true;
        self.unsaved = true;
    }

    /// Records how the worker was detached: `unit` is the systemd scope that was requested,
    /// `cgroup` the one in which the worker runs.
    pub(crate) fn detached(&mut self, unit: Option<&str>, cgroup: Option<String>) {
        let mut risks = self.record.detached.take().map(|asked| asked.risks).unwrap_or_default();
        let by = if cgroup.is_some() { Detachment::Scope } else { Detachment::Session };
        if let (Some(unit), None) = (unit, &cgroup) {
            risks.push(format!(
                "systemd did not move the job into {unit}: the job ends with the service that \
                 started it"
            ));
        }
        let unit = unit.filter(|_| cgroup.is_some()).map(str::to_owned);
        self.record.detached = Some(Detached { by, unit, cgroup, risks });
    }

    /// Warns that the requested memory limit does not exist.
    pub(crate) fn warn_of_missing_memory_limit(&mut self) {
        self.record.warn("--memory-max has no effect: the job's control group has no such limit");
    }

    /// Warns that a limit of the calling process may end the worker.
    pub(crate) fn warn(&mut self, warning: String) {
        self.record.warn(warning);
    }

    /// Raises the number of the last event to that of the last line in `events.ndjson`, which may
    /// be ahead of the record.
    pub(crate) fn raise_last_seq(&mut self, seq: u64) {
        self.record.last_seq = self.record.last_seq.max(seq);
    }

    /// Returns when the supervisor needs an [`Input::Tick`], on the monotonic clock; `None` if not
    /// before another input.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let phase = match self.phase {
            WorkerPhase::Waiting { .. }
            | WorkerPhase::Starting
            | WorkerPhase::Working
            | WorkerPhase::Sweeping
            | WorkerPhase::Over => None,
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
        let unsaved = self.unsaved && self.phase != WorkerPhase::Over;
        let save = unsaved.then(|| self.saved_at.map_or(Duration::ZERO, |at| at + SAVE_INTERVAL));
        let limits = [self.timeout(), self.block_timeout(), self.silence()];
        limits.into_iter().chain([phase, save]).flatten().min()
    }

    /// Handles an input and returns the effects, to be carried out in this order.
    #[must_use]
    pub(crate) fn handle(&mut self, now: Now, input: Input<'_>) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Queued(reason) => self.queued(reason, now, &mut effects),
            Input::Admitted => self.admitted(now, &mut effects),
            Input::Held => {
                self.log_worker_start(now, &mut effects);
                self.hold_question(now, &mut effects);
            }
            Input::DependencyFailed(other) => self.dependency_failed(other, now, &mut effects),
            Input::Launched { pid, program, arguments } => {
                self.log_worker_start(now, &mut effects);
                let (program, arguments) = (Some(program), Some(arguments));
                self.log(EventKind::Launched { pid, program, arguments }, now, &mut effects);
                self.launched(pid, now, &mut effects);
            }
            Input::LaunchFailed(error) => {
                self.log(EventKind::LaunchFailed { error: error.clone() }, now, &mut effects);
                self.launch_error = Some(error);
                self.output_closed = true;
                self.phase = WorkerPhase::Over;
                effects.push(Effect::Conclude);
            }
            Input::Line(line) => self.line(line, now, &mut effects, |_| {}),
            Input::Torn(line) => {
                // A complete event that only lacks its line feed is valid.
                self.torn = decode(line.bytes).is_none();
                self.line(line, now, &mut effects, |_| {});
            }
            Input::OutputClosed => self.output_closed(now, &mut effects),
            Input::Exited { exit, stderr } => {
                self.log(EventKind::Exited { exit, stderr }, now, &mut effects);
                self.claude_exited(exit, now, &mut effects);
            }
            Input::KillRequested => {
                self.kill_until.get_or_insert(now.mono.saturating_add(KILL_GRACE));
                self.log(EventKind::KillRequested, now, &mut effects);
                self.stop(StopReason::Kill, now, &mut effects);
            }
            Input::TerminateRequested => {
                self.log(EventKind::TerminateRequested, now, &mut effects);
                self.stop(StopReason::Terminate, now, &mut effects);
            }
            Input::Message { number, message } => {
                self.handle_message(number, message, now, &mut effects);
            }
            Input::Swept { ended, left } => self.sweep_finished(ended, left, now, &mut effects),
            Input::Damaged { file, what } => {
                self.record.warn(format!("{file} {what}"));
                let (file, what) = (file.to_owned(), what.to_owned());
                self.log(EventKind::Damaged { file, what }, now, &mut effects);
                self.unsaved = true;
            }
            Input::WriteFailed { file, error } => {
                self.record.warn(format!("{file} is incomplete: {error}"));
                let event = EventKind::WriteFailed { file: file.to_owned(), error };
                self.log(event, now, &mut effects);
                self.unsaved = true;
            }
            Input::Tick => self.tick(now, &mut effects),
        }
        self.save_if_due(now, &mut effects);
        effects
    }

    /// Logs the start of this worker, once.
    fn log_worker_start(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if std::mem::replace(&mut self.is_start_logged, true) {
            return;
        }
        let worker = self.record.pid.unwrap_or_default();
        self.log(EventKind::Started { pid: worker }, now, effects);
        if self.record.resumed {
            self.log(EventKind::Resumed, now, effects);
        } else if self.record.attempt > 1 {
            let (after, resumes) = (self.record.recovered_from, !self.first_prompt.prompt);
            self.log(EventKind::Recovered { after, resumes }, now, effects);
        }
    }

    fn launched(&mut self, pid: i32, now: Now, effects: &mut Vec<Effect>) {
        self.launched = true;
        self.record.was_admitted = true;
        self.record.was_idle = false;
        self.silent_since = now.mono;
        self.digest.retry_at = None;
        self.digest.own_messages = self.first_prompt.own_messages();
        self.unanswered_since = Some(now.wall);
        self.record.claude_pid = Some(pid);
        self.record.status = Status::Running;
        self.phase = WorkerPhase::Working;
        self.save(now, effects);
        let silent = self.first_prompt.text.is_empty() && !self.first_prompt.prompt;
        if self.record.spec.keep_alive && silent {
            self.idle(now, effects);
            if self.keep_alive.finishing {
                // The messages in the inbox come first.
                self.phase = WorkerPhase::Idle { until: now.mono };
            }
        }
        if self.stop_reason.is_some() {
            self.signal(TermSignal::Interrupt, now, effects);
        }
    }

    fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.timeout().is_some_and(|at| at <= now.mono) {
            self.log(EventKind::TimedOut, now, effects);
            self.stop(StopReason::Timeout, now, effects);
        }
        self.deny_expired_requests(now, effects);
        self.check_silence(now, effects);
        match self.phase {
            // The job continues, and so does its background work.
            WorkerPhase::Holding { until } if until <= now.mono && self.awaits_messages() => {
                self.await_next(now, effects);
            }
            WorkerPhase::Holding { until } if until <= now.mono => {
                let what = match self.digest.outstanding() {
                    0 => "a recurring cron task".to_owned(),
                    tasks => plural(tasks, "background task"),
                };
                self.record.warn(format!("--background-wait ran out with {what} outstanding"));
                self.await_next(now, effects);
            }
            WorkerPhase::FollowUp { until } if until <= now.mono => self.await_next(now, effects),
            WorkerPhase::Awaiting { until } if until <= now.mono => {
                let rested = self.turn_ended_at.unwrap_or(now.wall);
                self.digest.schedule.expire(now.wall, rested);
                if self.digest.schedule.next_due().is_none() {
                    self.digest.schedule.expire_unknown();
                }
                self.await_next(now, effects);
            }
            WorkerPhase::Idle { until } if until <= now.mono => self.finish_now(now, effects),
            WorkerPhase::Released { until: Some(until) } if until <= now.mono => {
                self.deny_released_question(now, effects);
            }
            WorkerPhase::Backoff { until, queues: false } if until <= now.mono => {
                self.phase = WorkerPhase::Starting;
                effects.push(Effect::Launch);
            }
            WorkerPhase::Backoff { until, queues: true } if until <= now.mono => {
                self.end_wait(now);
                self.phase = WorkerPhase::Waiting { since: now.mono };
                effects.push(Effect::EnterQueue);
            }
            WorkerPhase::Closing { until } if until <= now.mono => {
                self.record.warn("claude did not end by itself");
                self.signal(TermSignal::Terminate, now, effects);
            }
            WorkerPhase::Stopping { by: TermSignal::Request, until } if until <= now.mono => {
                self.signal(TermSignal::Interrupt, now, effects);
            }
            WorkerPhase::Stopping { by: TermSignal::Interrupt, until } if until <= now.mono => {
                self.signal(TermSignal::Terminate, now, effects);
            }
            WorkerPhase::Stopping { by: TermSignal::Terminate, until } if until <= now.mono => {
                self.sweep(now, effects);
            }
            WorkerPhase::Draining { until } if until <= now.mono => self.drained(effects),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
