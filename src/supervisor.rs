//! What a job's worker does about what happens: `(state, time, input) -> effects`.
//!
//! Pure: no file, process or clock is touched here, so that every pair of state and input can be
//! tested as a table. The one place where a verdict is reached is [`verdict`].

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
    AUTH_FAILURES, DRAIN_GRACE, DRAIN_GRACE_LEFT, EXIT_GRACE, FOLLOW_UP_GRACE, INTERRUPT_GRACE,
    KILL_GRACE, LEAVE_GRACE, REQUEST_GRACE, SAVE_EVERY, SWEEP_GRACE, StopReason, TERMINATE_GRACE,
    WorkerPhase,
};
use previous_attempts::PreviousAttempts;

use crate::job::{Detached, Detachment, EventKind, Record, Status, Timestamp};
use crate::stream::{Digest, decode};
use crate::text::plural;

pub use attempt::FirstPrompt;
pub use post_mortem::{PostMortem, Witnessed, lost};
pub use types::{
    Conclusion, Effect, Evidence, FailedDependency, Input, Now, STDERR_READ, TermSignal,
};

/// A job's worker, without its hands.
#[derive(Debug)]
pub struct Supervisor {
    record: Record,
    opening: FirstPrompt,
    talk: ConversationState,
    keep_alive: KeepAlive,
    /// The journal tells of this worker.
    begun: bool,
    /// Claude ran under this worker.
    launched: bool,
    /// When claude was started, as long as the API has not answered it.
    unanswered_since: Option<Timestamp>,
    /// Retries so far without progress in between.
    retries: u32,
    /// A silence was told already.
    silence_told: bool,
    /// Since when claude is silent, on the monotonic clock.
    heard: Duration,
    /// The silence for which it was ended.
    stalled_for: Option<Duration>,
    /// What was asked for while claude was ending already: it counts if the job would go on.
    pending_stop: Option<StopReason>,
    /// The API has accepted the login in this job.
    login_accepted: bool,
    /// Claude was started anew because the API refused its login, and has not been answered since.
    login_renewed: bool,
    /// Since when nothing but recurring cron tasks holds the job, on the monotonic clock.
    recurring_since: Option<Duration>,
    /// When the last turn ended.
    turn_ended_at: Option<Timestamp>,
    dependency_error: Option<String>,
    /// A tool call that was allowed, and that claude is to make again: the tool and its input.
    allowed_call: Option<(String, Value)>,
    previous: PreviousAttempts,
    digest: Digest,
    phase: WorkerPhase,
    stop_reason: Option<StopReason>,
    /// When what is left of the job is left to itself, after a `kill` was asked for.
    kill_until: Option<Duration>,
    started: Duration,
    input_closed: bool,
    output_closed: bool,
    torn: bool,
    launch_error: Option<String>,
    unsaved: bool,
    saved: Option<Duration>,
}

impl Supervisor {
    /// The supervisor of the job of this record, whose worker began at `now`.
    pub fn new(mut record: Record, pid: i32, boot_id: Option<String>, now: Now) -> Self {
        record.pid = Some(pid);
        record.boot_id = boot_id;
        Self::of_record(record, now)
    }

    fn of_record(record: Record, now: Now) -> Self {
        let opening = FirstPrompt::of(&record);
        let mut supervisor = Self {
            digest: Digest::after_own_messages(opening.own_messages()),
            opening,
            talk: ConversationState::default(),
            keep_alive: KeepAlive::default(),
            begun: false,
            launched: false,
            unanswered_since: None,
            retries: 0,
            silence_told: false,
            heard: now.mono,
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
            saved: None,
        };
        supervisor.expect_answered_call();
        supervisor
    }

    /// The record as it should be on disk now.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The conversation that the coming attempt will have, where it is known beforehand.
    pub fn expect_session(&mut self, session_id: String) {
        self.record.session_id = Some(session_id);
    }

    /// Claude's file of the present conversation was seen.
    pub fn session_file_seen(&mut self, file: String) {
        self.record.session_file = Some(file);
    }

    /// Whether the next attempt is waited for.
    pub fn is_backing_off(&self) -> bool {
        matches!(
            self.phase,
            WorkerPhase::Backoff { .. }
                | WorkerPhase::Waiting { .. }
                | WorkerPhase::Released { .. }
        )
    }

    /// What the coming attempt opens with.
    pub fn opening(&self) -> &FirstPrompt {
        &self.opening
    }

    /// Where the coming attempt's part of `output.log` begins.
    pub fn log_starts_at(&mut self, offset: u64) {
        self.record.log_start = offset;
    }

    /// Some of what claude wrote in this attempt is missing in `output.log`.
    pub fn log_is_incomplete(&mut self) {
        self.record.log_incomplete = true;
        self.unsaved = true;
    }

    /// How the worker was detached, as it sees it itself: `unit` is the scope into which it was
    /// to be put, `cgroup` the one in which it found itself.
    pub fn detached(&mut self, unit: Option<&str>, cgroup: Option<String>) {
        let mut risks = self.record.detached.take().map(|asked| asked.risks).unwrap_or_default();
        let by = if cgroup.is_some() { Detachment::Scope } else { Detachment::Session };
        if let (Some(unit), None) = (unit, &cgroup) {
            risks.push(format!(
                "systemd did not move the job into {unit}: it ends with the service around it"
            ));
        }
        let unit = unit.filter(|_| cgroup.is_some()).map(str::to_owned);
        self.record.detached = Some(Detached { by, unit, cgroup, risks });
    }

    /// A limit to the memory was asked for, and there is none.
    pub fn memory_is_not_limited(&mut self) {
        self.record.warn("--memory-max has no effect: the job's control group has no such limit");
    }

    /// A limit of the caller may end the worker.
    pub fn is_limited(&mut self, warning: String) {
        self.record.warn(warning);
    }

    /// The number of the last line of `events.ndjson`, which may be beyond the one recorded.
    pub fn last_logged(&mut self, seq: u64) {
        self.record.last_seq = self.record.last_seq.max(seq);
    }

    /// When the supervisor wants a [`Input::Tick`], on the monotonic clock. `None`: not before
    /// something else happens.
    pub fn deadline(&self) -> Option<Duration> {
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
        let save = unsaved.then(|| self.saved.map_or(Duration::ZERO, |at| at + SAVE_EVERY));
        let limits = [self.timeout(), self.block_timeout(), self.silence()];
        limits.into_iter().chain([phase, save]).flatten().min()
    }

    /// Takes in what happened and says what is to be done about it, in this order.
    #[must_use]
    pub fn handle(&mut self, now: Now, input: Input<'_>) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Queued(obstacle) => self.queued(obstacle, now, &mut effects),
            Input::Admitted => self.admitted(now, &mut effects),
            Input::Held => {
                self.begin(now, &mut effects);
                self.hold_question(now, &mut effects);
            }
            Input::DependencyFailed(other) => self.dependency_failed(other, now, &mut effects),
            Input::Launched { pid, program, arguments } => {
                self.begin(now, &mut effects);
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
                // A whole event that only lacks its line feed is as good as any other.
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
            Input::Message { number, directive } => {
                self.handle_message(number, directive, now, &mut effects);
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
                let happening = EventKind::WriteFailed { file: file.to_owned(), error };
                self.log(happening, now, &mut effects);
                self.unsaved = true;
            }
            Input::Tick => self.tick(now, &mut effects),
        }
        self.save_if_due(now, &mut effects);
        effects
    }

    /// The first words of this worker's journal.
    fn begin(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let worker = self.record.pid.unwrap_or_default();
        self.log(EventKind::Started { pid: worker }, now, effects);
        if self.record.resumed {
            self.log(EventKind::Resumed, now, effects);
        } else if self.record.attempt > 1 {
            let (after, resumes) = (self.record.recovered_from, !self.opening.prompt);
            self.log(EventKind::Recovered { after, resumes }, now, effects);
        }
    }

    fn launched(&mut self, pid: i32, now: Now, effects: &mut Vec<Effect>) {
        self.launched = true;
        self.record.was_admitted = true;
        self.record.was_idle = false;
        self.heard = now.mono;
        self.digest.retry_at = None;
        self.digest.own_messages = self.opening.own_messages();
        self.unanswered_since = Some(now.wall);
        self.record.claude_pid = Some(pid);
        self.record.status = Status::Running;
        self.phase = WorkerPhase::Working;
        self.save(now, effects);
        let silent = self.opening.text.is_empty() && !self.opening.prompt;
        if self.record.spec.keep_alive && silent {
            self.idle(now, effects);
            if self.keep_alive.finishing {
                // Once what lies in the inbox was told, which is next.
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
        self.deny_what_nobody_answers(now, effects);
        self.check_silence(now, effects);
        match self.phase {
            // It goes on, and so does its background work.
            WorkerPhase::Holding { until } if until <= now.mono && self.awaits_messages() => {
                self.rest(now, effects);
            }
            WorkerPhase::Holding { until } if until <= now.mono => {
                let what = match self.digest.outstanding() {
                    0 => "a recurring cron task".to_owned(),
                    tasks => plural(tasks, "background task"),
                };
                self.record.warn(format!("--background-wait ran out with {what} outstanding"));
                self.rest(now, effects);
            }
            WorkerPhase::FollowUp { until } if until <= now.mono => self.rest(now, effects),
            WorkerPhase::Awaiting { until } if until <= now.mono => {
                let rested = self.turn_ended_at.unwrap_or(now.wall);
                self.digest.schedule.expire(now.wall, rested);
                if self.digest.schedule.next_due().is_none() {
                    self.digest.schedule.expire_unknown();
                }
                self.rest(now, effects);
            }
            WorkerPhase::Idle { until } if until <= now.mono => self.finish_now(now, effects),
            WorkerPhase::Released { until: Some(until) } if until <= now.mono => {
                self.nobody_answered(now, effects);
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
