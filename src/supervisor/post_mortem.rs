//! Examination of a lost job: how it ended, as its log and its events say.

use std::collections::BTreeSet;
use std::time::Duration;

use super::keep_alive::Finish;
use super::stream_events::decode_line;
use super::{Effect, Evidence, Now, StopReason, Supervisor, WorkerPhase};
use crate::job::{
    EventKind, EventLine, Exit, Outcome, Reason, Record, Status, Timestamp, UndeliveredMessage,
    Verdict,
};
use crate::stream::{Event, Line, UserMessage};

/// What the events of the last attempt say about its end.
#[derive(Debug, Default)]
pub(crate) struct LoggedEvents {
    exit: Option<Exit>,
    input_closed: bool,
    /// Claude could not be started, or a dependency had failed.
    not_launched: bool,
    /// Requests to stop the job.
    stops: BTreeSet<LoggedStop>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum LoggedStop {
    Kill,
    Terminate,
    Timeout,
    Stall,
}

impl LoggedEvents {
    /// Adds an event of this name; `exit` is how claude exited, if the event says that.
    pub(crate) fn add(&mut self, event: &str, exit: Option<Exit>) {
        let stop = match event {
            "kill_requested" => LoggedStop::Kill,
            "terminate_requested" => LoggedStop::Terminate,
            "timed_out" => LoggedStop::Timeout,
            "stalled" => LoggedStop::Stall,
            "input_closed" => return self.input_closed = true,
            "launch_failed" | "dependency_failed" => return self.not_launched = true,
            "exited" => return self.exit = exit,
            _ => return,
        };
        self.stops.insert(stop);
    }
}

/// Examination of a lost job. It reads the lines of the last attempt in `output.log`, which the
/// worker may not have judged.
#[derive(Debug)]
pub(crate) struct PostMortem {
    supervisor: Supervisor,
    elapsed_ms: Option<u64>,
    last_seq: u64,
    turn: u64,
    /// Whether the worker had recorded that the job is idle.
    was_idle: bool,
    accepted: Vec<String>,
    /// Number of these messages that were accepted by ended turns.
    done: usize,
}

impl PostMortem {
    /// Begins with the record of the job. `at` is the time of its last activity, `last_seq` the
    /// number of its last event if that is beyond the recorded one.
    pub(crate) fn new(record: Record, last_seq: u64, at: Timestamp) -> Self {
        let now = Now { mono: Duration::ZERO, wall: at };
        let elapsed_ms = record.times.elapsed_ms;
        let last_seq = record.last_seq.max(last_seq);
        let was_idle = record.status == Status::Idle;
        let mut supervisor = Supervisor::from_record(record, now);
        supervisor.phase = WorkerPhase::Working;
        let turn = supervisor.record.progress.ended_turns;
        let accepted = Vec::new();
        Self { supervisor, elapsed_ms, last_seq, turn, was_idle, accepted, done: 0 }
    }

    /// Adds the outcome of an earlier attempt.
    pub(crate) fn continue_from(&mut self, outcome: Outcome) {
        self.supervisor.continue_from(outcome);
    }

    /// Reads the next line of the log.
    pub(crate) fn line(&mut self, line: Line<'_>) {
        let mut repaired = None;
        let event = decode_line(&line, &mut repaired);
        match &event {
            Some(Event::User(UserMessage { replayed: Some(uuid), .. })) => {
                self.accepted.push(uuid.clone());
            }
            Some(Event::Result(_)) => self.done = self.accepted.len(),
            _ => {}
        }
        self.supervisor.decoded_line(&line, event);
        // No effect is carried out: the job has ended.
        self.supervisor.effects.clear();
    }

    /// Whether the log and the events lead to the result that was found. Each program of this user
    /// can write a result file, the agent too, so a job is completed only if its log says so.
    pub(crate) fn confirms(
        &mut self,
        found: &Outcome,
        witnessed: LoggedEvents,
        stderr: &str,
    ) -> bool {
        let supervisor = &mut self.supervisor;
        if witnessed.not_launched {
            return found.status == Status::Failed;
        }
        supervisor.record.ending.exit = witnessed.exit.or(supervisor.record.ending.exit);
        supervisor.attempt.input_closed |= witnessed.input_closed;
        supervisor.keep_alive.finish =
            if supervisor.record.spec.keep_alive.enabled && witnessed.input_closed {
                Finish::Certain
            } else {
                Finish::NotRequested
            };
        // A verdict that was reached before a stop request remains valid.
        let evidence = Evidence { stderr, ..Evidence::default() };
        let mut verdicts = vec![supervisor.reach_verdict(&evidence).status()];
        for stop in witnessed.stops {
            supervisor.stop.reason = Some(match stop {
                LoggedStop::Kill => StopReason::Kill,
                LoggedStop::Terminate => StopReason::Terminate,
                LoggedStop::Timeout => StopReason::Timeout,
                LoggedStop::Stall => StopReason::Stall { limit: supervisor.silence_allowed() },
            });
            verdicts.push(supervisor.reach_verdict(&evidence).status());
        }
        supervisor.stop.reason = None;
        if found.status != Status::Completed {
            // A refused login has no event of its own.
            return verdicts.contains(&found.status) || found.reason == Some(Reason::Auth);
        }
        let by_log = supervisor.digest.answer.as_ref().map(|answer| &answer.text);
        verdicts.contains(&Status::Completed) && by_log == found.result.as_ref()
    }

    /// Adds a warning to the record.
    pub(crate) fn warn(&mut self, warning: &str) {
        self.supervisor.record.warn(warning);
    }

    /// Returns the UUIDs of the messages that claude had accepted: those of ended turns, and those
    /// of the last one.
    pub(crate) fn taken_in(&self) -> (&[String], &[String]) {
        self.accepted.split_at(self.done)
    }

    /// Marks the last turn as open: a message was accepted, and no line ends its turn.
    pub(crate) fn mark_turn_open(&mut self) {
        self.supervisor.digest.mark_turn_open();
    }

    /// Reads the text after the last line feed.
    pub(crate) fn torn_line(&mut self, line: Line<'_>) {
        self.supervisor.torn_line(line);
        self.supervisor.effects.clear();
    }

    /// Reaches the verdict: that of `reached`, or of the log, or the one that was `asked` for, or
    /// that the worker died. Returns the final record, the result, and the events.
    pub(crate) fn conclude(
        self,
        reached: Option<Outcome>,
        asked: Option<Verdict>,
        boot_id: Option<&str>,
        undelivered: Vec<UndeliveredMessage>,
    ) -> (Record, Outcome, Vec<EventLine>) {
        let Self { mut supervisor, elapsed_ms, last_seq, turn, was_idle, .. } = self;
        // An accepted message that claude did not get means unfinished work.
        let by_log = if undelivered.is_empty() { supervisor.verdict_of_log() } else { None };
        // Without a launch since, the state is unchanged.
        supervisor.record.progress.was_idle |= supervisor.is_at_rest(was_idle);
        if let Some(reached) = &reached {
            supervisor.record.ending.exit = reached.exit;
        }
        let verdict = (reached.as_ref().and_then(Outcome::verdict))
            .or(by_log)
            .or(asked)
            .unwrap_or_else(|| supervisor.record.lost_verdict(boot_id));
        supervisor.note_unknown_cost();
        supervisor.warn_of_mcp_servers(true);
        for warning in supervisor.closing_warnings(&verdict) {
            supervisor.record.warn(warning);
        }
        if supervisor.digest.last_event_at.is_some() {
            supervisor.follow_digest();
        }
        // These values cannot be derived from the log.
        supervisor.record.times.elapsed_ms = elapsed_ms;
        supervisor.record.last_seq = last_seq;
        supervisor.record.progress.ended_turns = turn;
        supervisor.note_denied_tools(&verdict);
        supervisor.record.end(&verdict, supervisor.now.wall);
        supervisor.log(EventKind::Lost);
        let (status, reason) = (verdict.status(), verdict.reason());
        supervisor.log(EventKind::Finished { status, reason });
        let entries =
            std::mem::take(&mut supervisor.effects).into_iter().filter_map(|effect| match effect {
                Effect::Log(entry) => Some(entry),
                _ => None,
            });
        let entries = entries.collect();
        let outcome = reached.unwrap_or_else(|| supervisor.outcome());
        let outcome = outcome.with_undelivered(undelivered);
        (supervisor.record, outcome, entries)
    }
}

impl Supervisor {
    /// Whether a job that is kept alive was waiting for the next message.
    fn is_at_rest(&self, was_idle: bool) -> bool {
        let digest = &self.digest;
        // A log with a gap cannot show that the job became idle.
        let by_log = self.record.status == Status::Idle || digest.is_settled();
        let rests = if self.record.attempt.log_incomplete { was_idle } else { by_log };
        self.record.spec.keep_alive.enabled && !self.attempt.torn && !digest.is_turn_open() && rests
    }

    /// Returns the verdict that follows from the stream alone.
    fn verdict_of_log(&self) -> Option<Verdict> {
        // A job that is kept alive ends only on request.
        if !self.digest.is_settled() || self.attempt.torn || self.record.spec.keep_alive.enabled {
            return None;
        }
        // The missing part may have begun something that did not end.
        if self.record.attempt.log_incomplete {
            return None;
        }
        let verdict = self.stream_verdict(&Evidence::default())?;
        // An interrupted turn was being stopped by a kill or a shutdown; the log cannot tell by
        // which.
        let is_conclusive =
            !matches!(verdict.reason(), Some(Reason::Interrupted | Reason::NoResult));
        // The log does not show the end if another attempt was to follow.
        if is_conclusive && self.retry_after(&verdict).is_none() { Some(verdict) } else { None }
    }
}
