//! The end of a job that was left without its worker, from what it left.

use std::time::Duration;

use super::{Evidence, Input, Now, StopReason, Supervisor, WorkerPhase};
use crate::job::{
    EventKind, EventLine, Exit, Outcome, Reason, Record, Status, Timestamp, UndeliveredMessage,
    Verdict,
};
use crate::stream::{Event, Line};

/// The verdict on a job that is recorded as live, but has no worker any more, where its log does
/// not tell a better one.
pub fn lost(record: &Record, boot_id: Option<&str>) -> Verdict {
    match (record.boot_id.as_deref(), boot_id) {
        (Some(then), Some(now)) if then != now => {
            Verdict::failed(Reason::HostRestarted, "the machine restarted while the job was live")
        }
        _ => {
            let worker = record.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            Verdict::failed(
                Reason::WorkerDied,
                format!("the job's worker{worker} died without a verdict"),
            )
        }
    }
}

/// What the events of the last attempt tell of its end, beside the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Witnessed {
    /// A kill was asked for.
    pub killed: bool,
    /// The worker was told to shut down.
    pub terminated: bool,
    /// The job's time ran out.
    pub timed_out: bool,
    /// Claude was silent for too long.
    pub stalled: bool,
    /// Claude's stdin was closed.
    pub input_closed: bool,
    /// Claude could not be started, or a job that this one waited for had failed.
    pub not_launched: bool,
    /// How claude ended.
    pub exit: Option<Exit>,
}

/// An inquiry into a lost job. It is told the lines of the last attempt's part of `output.log`,
/// which the worker may have had no time to judge.
#[derive(Debug)]
pub struct PostMortem {
    supervisor: Supervisor,
    now: Now,
    elapsed_ms: Option<u64>,
    last_seq: u64,
    turn: u64,
    /// The worker had recorded that it waits for the next message.
    was_idle: bool,
    taken_in: Vec<String>,
    /// So many of them were taken in by turns that have ended.
    done: usize,
}

impl PostMortem {
    /// Into the job of this record, of which the last sign of life is from `at`, and whose last
    /// event has the number `last_seq` if that is beyond the one recorded.
    pub fn new(record: Record, last_seq: u64, at: Timestamp) -> Self {
        let now = Now { mono: Duration::ZERO, wall: at };
        let elapsed_ms = record.elapsed_ms;
        let last_seq = record.last_seq.max(last_seq);
        let was_idle = record.status == Status::Idle;
        let mut supervisor = Supervisor::of_record(record, now);
        supervisor.phase = WorkerPhase::Working;
        let turn = supervisor.record.ended_turns;
        let taken_in = Vec::new();
        Self { supervisor, now, elapsed_ms, last_seq, turn, was_idle, taken_in, done: 0 }
    }

    /// What an earlier attempt had come to.
    pub fn continue_from(&mut self, outcome: Outcome) {
        self.supervisor.continue_from(outcome);
    }

    /// The next line of the log.
    pub fn line(&mut self, line: Line<'_>) {
        let (taken_in, done) = (&mut self.taken_in, &mut self.done);
        let note = |event: &Event<'_>| match event {
            Event::User { replayed: Some(uuid), .. } => taken_in.push(uuid.clone()),
            Event::Result(_) => *done = taken_in.len(),
            _ => {}
        };
        // Nothing is done any more about what claude said.
        self.supervisor.line(line, self.now, &mut Vec::new(), note);
    }

    /// Whether a result that was found follows from the log and the events by the verdict function.
    /// Anybody who can write files of this user can write one, the agent too; a job is completed
    /// only if its log says so.
    pub fn confirms(&mut self, found: &Outcome, witnessed: Witnessed, stderr: &str) -> bool {
        let supervisor = &mut self.supervisor;
        if witnessed.not_launched {
            return found.status == Status::Failed;
        }
        supervisor.record.exit = witnessed.exit.or(supervisor.record.exit);
        supervisor.input_closed |= witnessed.input_closed;
        supervisor.keep_alive.finished =
            supervisor.record.spec.keep_alive && witnessed.input_closed;
        let causes = [
            (witnessed.killed, StopReason::Kill),
            (witnessed.terminated, StopReason::Terminate),
            (witnessed.timed_out, StopReason::Timeout),
            (witnessed.stalled, StopReason::Stall),
        ];
        // What was reached before the end was asked for stands.
        let evidence = Evidence { stderr, ..Evidence::default() };
        let without = supervisor.reach_verdict(&evidence);
        let mut verdicts = vec![without.status()];
        for (asked, cause) in causes {
            if asked {
                supervisor.stop_reason = Some(cause);
                verdicts.push(supervisor.reach_verdict(&evidence).status());
            }
        }
        supervisor.stop_reason = None;
        if found.status != Status::Completed {
            // A refused login has no event of its own.
            return verdicts.contains(&found.status) || found.reason == Some(Reason::Auth);
        }
        let told = supervisor.digest.answer.as_ref().map(|answer| &answer.text);
        verdicts.contains(&Status::Completed) && told == found.result.as_ref()
    }

    /// What the log's reader should know although it is no failure.
    pub fn warn(&mut self, warning: &str) {
        self.supervisor.record.warn(warning);
    }

    /// The UUIDs of the messages that claude had taken in: those of turns that have ended, and
    /// those of the last one.
    pub fn taken_in(&self) -> (&[String], &[String]) {
        self.taken_in.split_at(self.done)
    }

    /// A message was taken in, and no line tells of the end of its turn.
    pub fn turn_is_open(&mut self) {
        self.supervisor.digest.turn_open = true;
    }

    /// What stands behind the last line feed.
    pub fn torn_line(&mut self, line: Line<'_>) {
        let _ = self.supervisor.handle(self.now, Input::Torn(line));
    }

    /// The verdict: the one that `reached` says, or what the log tells, or what was `asked` for,
    /// or that the worker went away. Gives the record and the result as they are to be written,
    /// and the events.
    pub fn conclude(
        self,
        reached: Option<Outcome>,
        asked: Option<Verdict>,
        boot_id: Option<&str>,
        undelivered: Vec<UndeliveredMessage>,
    ) -> (Record, Outcome, Vec<EventLine>) {
        let Self { mut supervisor, now, elapsed_ms, last_seq, turn, was_idle, .. } = self;
        // A message that was not taken in was accepted: there is more to be done.
        let told = supervisor.verdict_of_log(now).filter(|_| undelivered.is_empty());
        // Where no claude was launched since, it is as it was.
        supervisor.record.was_idle |= supervisor.is_at_rest(was_idle);
        if let Some(reached) = &reached {
            supervisor.record.exit = reached.exit;
        }
        let verdict = (reached.as_ref().and_then(Outcome::verdict))
            .or(told)
            .or(asked)
            .unwrap_or_else(|| lost(&supervisor.record, boot_id));
        supervisor.note_unknown_cost();
        supervisor.warn_of_mcp_servers(true);
        for warning in supervisor.closing_warnings(&verdict) {
            supervisor.record.warn(warning);
        }
        if supervisor.digest.last_event_at.is_some() {
            supervisor.follow_digest(now);
        }
        // What the worker had known of itself is not to be learned from the log.
        supervisor.record.elapsed_ms = elapsed_ms;
        supervisor.record.last_seq = last_seq;
        supervisor.record.ended_turns = turn;
        let mut effects = Vec::new();
        supervisor.record.end(&verdict, now.wall);
        supervisor.log(EventKind::Lost, now, &mut effects);
        let (status, reason) = (verdict.status(), verdict.reason());
        supervisor.log(EventKind::Finished { status, reason }, now, &mut effects);
        let entries = effects.into_iter().filter_map(|effect| match effect {
            super::Effect::Log(entry) => Some(entry),
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
        // A log with a gap cannot tell that it became so.
        let told = self.record.status == Status::Idle || digest.is_settled();
        let rests = if self.record.log_incomplete { was_idle } else { told };
        self.record.spec.keep_alive && !self.torn && !digest.turn_open && rests
    }

    /// What the stream alone tells of the job's end.
    fn verdict_of_log(&self, now: Now) -> Option<Verdict> {
        // One that is kept alive ends when somebody says so.
        if !self.digest.is_settled() || self.torn || self.record.spec.keep_alive {
            return None;
        }
        // What is missing may have begun something that did not end.
        if self.record.log_incomplete {
            return None;
        }
        let verdict = self.of_stream(&Evidence::default())?;
        // An interrupted turn was about to be ended, by a kill or a shutdown: by which, the log
        // cannot tell.
        let telling = !matches!(verdict.reason(), Some(Reason::Interrupted | Reason::NoResult));
        // Nor does it tell the end where another attempt was to follow.
        (telling && self.retry_after(&verdict, now).is_none()).then_some(verdict)
    }
}
