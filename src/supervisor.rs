//! What a job's worker does about what happens: `(state, time, input) -> effects`.
//!
//! Pure: no file, process or clock is touched here, so that every pair of state and input can be
//! tested as a table. The one place where a verdict is reached is [`verdict`].

mod attempt;
mod conversation;
mod keep_alive;
mod post_mortem;
mod previous_attempts;
mod queueing;
mod release;
mod retry;
mod shutdown;
mod silence_timeout;
mod stream_events;
mod types;
mod verdict;
mod waiting;

use std::time::Duration;

use conversation::ConversationState;
use serde_json::Value;

use keep_alive::KeepAlive;
use previous_attempts::PreviousAttempts;
use verdict::ignored_rules;

use crate::job::{
    Detached, Detachment, EventKind, EventLine, NotifyEvent, Outcome, Reason, Record, Status,
    Timestamp, UndeliveredMessage, Verdict,
};
use crate::stream::{Digest, decode};
use crate::text::{plural, sum_usd};

pub use attempt::FirstPrompt;
pub use post_mortem::{PostMortem, Witnessed, lost};
pub use types::{
    Conclusion, Effect, Evidence, FailedDependency, Input, Now, STDERR_READ, TermSignal,
};

/// How long claude gets to end its turn after an `interrupt` request, upon which it reports its
/// cost.
const REQUEST_GRACE: Duration = Duration::from_millis(1_500);
/// How long it may take to end by itself once its turn was interrupted.
const LEAVE_GRACE: Duration = Duration::from_millis(700);
/// How long it then gets after SIGINT, which keeps its session and mostly reports the cost.
const INTERRUPT_GRACE: Duration = Duration::from_secs(2);
/// How long it then gets after SIGTERM.
const TERMINATE_GRACE: Duration = Duration::from_secs(1);
/// How long a silent claude may take to end once its input is closed. It stops background work
/// 5 s after a result, so this is longer.
const EXIT_GRACE: Duration = Duration::from_secs(10);
/// How long claude may take to begin the turn that follows finished background work.
const FOLLOW_UP_GRACE: Duration = Duration::from_secs(10);
/// How long the output may stay open after the last process ended.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// The same where one is left that may hold it.
const DRAIN_GRACE_LEFT: Duration = Duration::from_millis(100);
/// How long the end of the job's processes may take after they were sent SIGKILL.
const SWEEP_GRACE: Duration = Duration::from_secs(5);
/// How long both may take from the request of a `kill` on, which answers within 8 s. It gives
/// SIGKILL 2 s after the whole ladder of signals.
const KILL_GRACE: Duration = Duration::from_millis(6_500);
/// How often mere progress is written to the record.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// So many refused logins in a row are final. The CLI alone would go on for minutes.
const AUTH_FAILURES: u32 = 3;

/// Where the worker stands. `until` is on the monotonic clock.
#[derive(Debug, PartialEq)]
enum WorkerPhase {
    /// It is not its turn yet.
    Waiting { since: Duration },
    /// Claude is being started.
    Starting,
    /// A turn is under way.
    Working,
    /// A result came, but background work is outstanding: stdin stays open.
    Holding { until: Duration },
    /// The background work ended: claude is about to take another turn.
    FollowUp { until: Duration },
    /// A wake-up or cron task that the agent scheduled is to come: stdin stays open.
    Awaiting { until: Duration },
    /// A turn has its result, and the next message is waited for.
    Idle { until: Duration },
    /// Claude went away, and is started again then: at once, or when it is its turn.
    Backoff { until: Duration, queues: bool },
    /// Claude was ended while it asked something; the answer is waited for.
    Released { until: Option<Duration> },
    /// Stdin is closed: claude is expected to end.
    Closing { until: Duration },
    /// A signal was sent.
    Stopping { by: TermSignal, until: Duration },
    /// What is left is being ended.
    Sweeping,
    /// Nothing is left; the rest of the output is read.
    Draining { until: Duration },
    /// The verdict can be reached, or was.
    Over,
}

impl WorkerPhase {
    /// Whether claude runs and can be given something: its stdin is open.
    fn takes_input(&self) -> bool {
        matches!(
            self,
            Self::Working
                | Self::Holding { .. }
                | Self::FollowUp { .. }
                | Self::Awaiting { .. }
                | Self::Idle { .. }
        )
    }
}

/// Why the job is being ended before claude ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopReason {
    Kill,
    Terminate,
    Timeout,
    Stall,
    Auth,
    /// Its question waits without a claude, as the message of this number asked.
    Release {
        number: u64,
    },
}

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

    /// Reaches the verdict. `evidence` is what the attempt left besides its stream.
    ///
    /// `undelivered` is asked, once it is certain that the job has ended, for the messages that
    /// nobody will deliver any more.
    pub fn conclude(
        &mut self,
        now: Now,
        evidence: &Evidence<'_>,
        undelivered: impl FnOnce() -> Vec<UndeliveredMessage>,
    ) -> (Conclusion, Vec<Effect>) {
        let mut effects = Vec::new();
        if let Some(StopReason::Release { number }) = self.stop_reason {
            self.stop_reason = self.pending_stop.take();
            if self.stop_reason.is_none() {
                self.released(number, now, &mut effects);
                return (Conclusion::NextAttempt, effects);
            }
        }
        let mut verdict = self.reach_verdict(evidence);
        if let Some(cause) = self.pending_stop.take()
            && self.has_next_attempt(&verdict, evidence, now)
        {
            self.stop_reason = Some(cause);
            verdict = self.reach_verdict(evidence);
        }
        if self.restarts(&verdict) {
            self.back_off(now, &mut effects);
            return (Conclusion::NextAttempt, effects);
        }
        if self.needs_fresh_session(&verdict) {
            self.begin_fresh_session(now, &mut effects);
            return (Conclusion::NextAttempt, effects);
        }
        if let Some(pause) = self.launches_again(&verdict, now) {
            self.launch_again(pause, now, &mut effects);
            return (Conclusion::NextAttempt, effects);
        }
        if self.renews_login(&verdict, evidence) {
            self.renew_login(&verdict, now, &mut effects);
            return (Conclusion::NextAttempt, effects);
        }
        if let Some(pause) = self.retry_after(&verdict, now) {
            self.retry(&verdict, pause, now, &mut effects);
            return (Conclusion::NextAttempt, effects);
        }
        let verdict = self.last_word(verdict, now);
        let undelivered = undelivered();
        self.note_unknown_cost();
        for rule in ignored_rules(evidence.stderr) {
            self.record.warn(rule);
        }
        self.warn_of_mcp_servers(true);
        for warning in self.closing_warnings(&verdict) {
            self.record.warn(warning);
        }
        self.follow_digest(now);
        self.record.end(&verdict, now.wall);
        self.record.rate_limited |=
            matches!(verdict.reason(), Some(Reason::RateLimit | Reason::Overloaded));
        self.record.lost_connection =
            verdict.reason() == Some(Reason::ApiError) && self.lost_connection();
        self.phase = WorkerPhase::Over;
        let happening = EventKind::Finished { status: verdict.status(), reason: verdict.reason() };
        self.log(happening, now, &mut effects);
        self.save(now, &mut effects);
        // After the record, which it tells of.
        effects.extend(NotifyEvent::from_status(verdict.status()).map(Effect::RecordNotification));
        let outcome = self.outcome().with_undelivered(undelivered);
        (Conclusion::Ended(Box::new(outcome)), effects)
    }

    /// Whether there is another attempt after this verdict.
    fn has_next_attempt(&self, verdict: &Verdict, evidence: &Evidence<'_>, now: Now) -> bool {
        self.restarts(verdict)
            || self.needs_fresh_session(verdict)
            || self.launches_again(verdict, now).is_some()
            || self.renews_login(verdict, evidence)
            || self.retry_after(verdict, now).is_some()
    }

    /// What the job has come to so far.
    pub fn outcome(&self) -> Outcome {
        let (digest, past) = (&self.digest, &self.previous);
        let last = digest.last.as_ref();
        let (answer, partial) = self.answer_shown();
        let duration = (digest.results > 0).then_some(digest.duration_ms);
        let structured = match (last, &digest.structured_output) {
            (Some(_), None) if digest.asked_anew => &None,
            (_, None) => &past.structured_output,
            (_, told) => told,
        };
        let has_answer = answer.is_some() && !partial;
        Outcome {
            previous_result: if has_answer { None } else { past.previous.clone() },
            result_omitted_bytes: answer.as_ref().map_or(0, |answer| answer.omitted),
            result: answer.map(|answer| answer.text),
            partial,
            duration_ms: [past.duration_ms, duration]
                .into_iter()
                .flatten()
                .reduce(u64::saturating_add),
            usage: last.and_then(|last| last.usage.clone()),
            permission_denials: self.denials().cloned().collect(),
            structured_output: structured.clone(),
            ..Outcome::from_record(&self.record)
        }
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

    fn log(&mut self, happening: EventKind, now: Now, effects: &mut Vec<Effect>) {
        self.record.last_seq += 1;
        effects.push(Effect::Log(EventLine {
            seq: self.record.last_seq,
            at: now.wall,
            attempt: self.record.attempt,
            kind: happening,
        }));
    }

    fn save(&mut self, now: Now, effects: &mut Vec<Effect>) {
        // After the end the record says how it ended, not what was heard last.
        if self.phase != WorkerPhase::Over {
            self.follow_digest(now);
        }
        self.unsaved = false;
        self.saved = Some(now.mono);
        effects.push(Effect::Save);
    }

    fn save_if_due(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let due = self.saved.is_none_or(|at| now.mono >= at + SAVE_EVERY);
        if self.unsaved && due && self.phase != WorkerPhase::Over {
            self.save(now, effects);
        }
    }

    /// Brings the record up to what was heard.
    fn follow_digest(&mut self, now: Now) {
        let (digest, record) = (&self.digest, &mut self.record);
        if digest.session_id.is_some() {
            record.session_id.clone_from(&digest.session_id);
        }
        if digest.model.is_some() {
            record.model.clone_from(&digest.model);
        }
        record.session_began |= digest.began;
        record.denied = record.earlier.denied.saturating_add(digest.denials.len() as u64);
        record.num_turns = record.earlier.turns + digest.num_turns();
        record.cost_usd = sum_usd([record.earlier.cost_usd, digest.spent_usd]);
        // What it waits before its first attempt is nothing that it takes.
        let began = if self.launched { self.started } else { now.mono };
        let took = u64::try_from(now.mono.saturating_sub(began).as_millis());
        record.elapsed_ms = Some(record.earlier.elapsed_ms + took.unwrap_or(u64::MAX / 2));
        record.rate_limited = digest.rate_limited;
        record.retry_at = digest.retry_at;
        record.last_event_at = digest.last_event_at.or(record.last_event_at);
        record.activity = digest.activity();
        if digest.answered && record.released.as_ref().is_some_and(|it| it.response.is_some()) {
            record.released = None;
        }
        record.blocked = digest.blocked().or(record.released_question().cloned());
        let waiting_for = self.waiting_for(now);
        if waiting_for.is_some() {
            self.record.activity = None;
        }
        self.record.waiting_for = waiting_for;
    }

    /// Closes the record of the present attempt and makes it that of the next.
    fn next_attempt(&mut self, now: Now) {
        self.follow_digest(now);
        self.note_unknown_cost();
        self.record.begin_attempt();
    }

    /// Notes that some of what was spent is in no result, if that may be.
    fn note_unknown_cost(&mut self) {
        let has_gap = self.digest.began && (self.torn || self.record.log_incomplete);
        if self.digest.cost_is_lower_bound() || has_gap {
            self.record.cost_is_lower_bound = true;
            let attempt = self.record.attempt;
            self.record.warn(format!(
                "the cost is a lower bound: attempt {attempt} ended without a result of its last \
                 requests"
            ));
        }
    }
}

#[cfg(test)]
mod tests;
